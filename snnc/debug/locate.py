"""Naming the tensor, the node and the rewrite with which two successive states begin to differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snnc.debug.compare import CompareReport, Row
from snnc.debug.steps import Step
from snnc.ir import Model, Node
from snnc.pipeline import Rewrite

__all__ = ["Place", "locate"]

#: From this SQNR on, in dB, two float tensors are the same up to rounding.
_SAME = 80.0
#: A tensor that loses that much against what its node reads, in dB, and is worse than _POOR, is suspect.
_DROP = 6.0
_POOR = 20.0


@dataclass(frozen=True)
class Place:
    """Where two states begin to differ.

    Attributes:
        tensor: The first tensor, in graph order, that differs more than it may.
        node: The node that gives it.
        operator: What the node is.
        text: By how much it differs.
        rewrite: The rewrite of the pass that made or changed the node, as far as the pass tells.
    """

    tensor: str
    node: str | None
    operator: str | None
    text: str
    rewrite: Rewrite | None


def locate(report: CompareReport, model: Model, step: Step, *, float_only: bool) -> Place | None:
    """Find the place.

    Args:
        report: The state before compared with the state after the pass.
        model: The model after the pass.
        step: The pass.
        float_only: Whether neither state is coded, so that equal means equal up to rounding.
    """
    makers = {value.name: node for node in model.graph for value in node.outputs if value.name}
    exact = step.semantics == "exact" or float_only
    row = _first(report) if exact and (report.bits or float_only) else _steepest(report, makers)
    if row is None:
        return None
    node = makers.get(row.tensor)
    known = {each.tensor for each in report.rows} - {row.tensor}
    names = _between(node, known, makers) if node is not None else []
    return Place(
        row.tensor,
        None if node is None else node.name,
        None if node is None else node.op_type,
        _text(row),
        _rewrite(step, names),
    )


def spoiled(report: CompareReport, model: Model, limit: float) -> Row | None:
    """Return the first row whose SQNR is below a limit while what its node reads is good, or None.

    Args:
        report: The state before compared with the state after a pass.
        model: The model after the pass.
        limit: In dB.
    """
    makers = {value.name: node for node in model.graph for value in node.outputs if value.name}
    return next(
        (row for drop, row in _drops(report, makers) if drop >= _DROP and _decibel(row) < limit), None
    )


def _first(report: CompareReport) -> Row | None:
    """Return the first row that differs: in a code, or by more than rounding."""
    for row in report.rows:
        decibel = row.distance.decibel
        low = row.distance.noise > 0 and (decibel is None or decibel < _SAME)
        if row.differs if report.bits else low:
            return row
    return None


def _steepest(report: CompareReport, makers: Mapping[str, Node]) -> Row | None:
    """Return the first row that is poor and much worse than what its node reads, else the steepest drop."""
    drops = _drops(report, makers)
    for drop, row in drops:
        if drop >= _DROP and _decibel(row) < _POOR:
            return row
    steepest = max(drops, key=lambda each: each[0], default=None)
    return steepest[1] if steepest is not None and steepest[0] > 0 else None


def _drops(report: CompareReport, makers: Mapping[str, Node]) -> list[tuple[float, Row]]:
    """Return how much worse each row is than the worst of what its node reads, in dB."""
    quality = {row.tensor: _decibel(row) for row in report.rows}
    drops = []
    for row in report.rows:
        node = makers.get(row.tensor)
        sources = _sources(node, quality, makers) if node is not None else []
        best = min((quality[name] for name in sources), default=_SAME)
        drops.append((best - quality[row.tensor], row))
    return drops


def _decibel(row: Row) -> float:
    if row.distance.noise == 0:
        return _SAME
    return min(_SAME, row.distance.decibel) if row.distance.decibel is not None else -_SAME


def _sources(node: Node, quality: Mapping[str, float], makers: Mapping[str, Node]) -> list[str]:
    """Return the nearest compared tensors that a node reads, through nodes that are not compared."""
    return [name for name in _walk(node, quality, makers)[1] if name in quality]


def _between(node: Node, known: set[str], makers: Mapping[str, Node]) -> list[str]:
    """Return the names of a node, of what lies between it and compared tensors, and of their values."""
    names: list[str] = []
    for each in _walk(node, dict.fromkeys(known, 0.0), makers)[0]:
        names.append(each.name or "")
        names += [value.name or "" for value in each.outputs]
        names += [value.name or "" for value in each.inputs if value is not None and value.is_initializer()]
    return names


def _walk(node: Node, known: Mapping[str, float], makers: Mapping[str, Node]) -> tuple[list[Node], list[str]]:
    """Go up from a node until compared tensors; return the nodes on the way and the tensors at the ends."""
    nodes, ends = [node], []
    seen = {id(node)}
    for current in nodes:
        for value in current.inputs:
            name = value.name or "" if value is not None else ""
            maker = makers.get(name)
            if name in known:
                ends.append(name)
            elif maker is not None and id(maker) not in seen:
                seen.add(id(maker))
                nodes.append(maker)
    return nodes, ends


def _rewrite(step: Step, names: list[str]) -> Rewrite | None:
    """Return the rewrite of a pass that speaks of one of these nodes; the only one, if there is one."""
    for name in names:
        for rewrite in step.rewrites:
            if name and name in (*rewrite.added, *rewrite.removed):
                return rewrite
    return step.rewrites[0] if len(step.rewrites) == 1 else None


def _text(row: Row) -> str:
    parts = []
    if row.codes is not None and row.codes.mismatches:
        parts.append(f"{row.codes.mismatches} of {row.codes.elements} codes differ")
        if row.codes.first is not None:
            index, expected, found = row.codes.first
            parts.append(f"the first at {list(index)}: {expected:g} before, {found:g} after")
    if row.distance.noise > 0:
        parts.append(f"largest error {row.distance.largest_error:.4g}")
        if row.distance.decibel is not None:
            parts.append(f"SQNR {row.distance.decibel:.1f} dB")
    return ", ".join(parts)
