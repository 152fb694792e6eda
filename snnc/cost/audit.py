"""Auditing the claim "multiplication-free between encoder and readout" on a converted graph.

Operations count as what their ``ai.snnc`` definition says (semantics 6.2): a body that divides instead of
scaling a threshold is an equivalent executor. A product with a constant counts as the shift-adds it lowers
to. Whatever is not known to be free of multiplications is a finding: the audit fails closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from snnc.ir import AI_SNNC, Model, Node, Value, constant
from snnc.ops import LAYOUT, OPS, function_for

__all__ = ["ARITHMETIC", "AuditReport", "AuditRow", "audit"]

Kind = Literal["additions", "shifts", "shift-adds", "comparisons", "roots", "layout", "host", "finding"]

#: What each op of the spike dialect computes with, by its definition.
ARITHMETIC: Mapping[str, Kind] = {
    "SpikeConv": "additions",
    "SpikeMatMul": "additions",
    "SpikeMatMulHeld": "additions",
    "SpikeSum": "additions",
    "SpikeSumPool": "additions",
    "Charge": "additions",
    "CodeSlice": "layout",
    "SpikePad": "layout",
    "MembraneAdd": "additions",
    "MembraneSum": "additions",
    "MembraneSumPool": "additions",
    "MembraneScale": "shift-adds",
    "MembraneRound": "shifts",
    "MembraneMaxPool": "comparisons",
    "SpikeMaxPool": "comparisons",
    "MembraneMax": "comparisons",
    "ExpGIF": "comparisons",
    "ExpGIFGain": "shift-adds",
    "NormPotential": "shift-adds",
    "NormGain": "roots",
    "FixedPointEncode": "host",
    "HostConv": "host",
    "HostMatMul": "host",
    "Encode": "host",
    "Readout": "host",
}
_SYNAPSES = frozenset({"SpikeConv", "SpikeMatMul", "SpikeMatMulHeld"})
_NEURONS = frozenset({"ExpGIF", "ExpGIFGain", "Encode"})
_KEEPS_SPIKES = frozenset({"SpikeSum", "SpikeSumPool", "CodeSlice", "SpikeMaxPool", "SpikePad"})


@dataclass(frozen=True)
class AuditRow:
    """One node.

    Attributes:
        node: Its name.
        op: Its operator, with domain.
        kind: What it computes with.
        note: Details, or what is wrong.
    """

    node: str
    op: str
    kind: Kind
    note: str = ""


@dataclass(frozen=True)
class AuditReport:
    """The outcome of an audit.

    Attributes:
        rows: One row a node, in graph order.
    """

    rows: tuple[AuditRow, ...]

    @property
    def findings(self) -> tuple[AuditRow, ...]:
        """Nodes between encoder and readout that multiply, divide, or are not known not to."""
        return tuple(row for row in self.rows if row.kind == "finding")

    @property
    def host(self) -> tuple[AuditRow, ...]:
        """Nodes on the host: declared, and billed as multiply-accumulates where they multiply."""
        return tuple(row for row in self.rows if row.kind == "host")

    @property
    def clean(self) -> bool:
        """Whether the network is multiplication-free between encoder and readout."""
        return not self.findings

    def counts(self) -> dict[str, int]:
        """Number of nodes of each kind."""
        result: dict[str, int] = {}
        for row in self.rows:
            result[row.kind] = result.get(row.kind, 0) + 1
        return dict(sorted(result.items()))


def audit(model: Model) -> AuditReport:
    """Audit a model of the spike dialect.

    Args:
        model: The model, with or without function bodies; bodies that are present must be the definitions.

    Returns:
        One row a node; ``clean`` is the claim.
    """
    host = {id(value) for value in model.graph.inputs}
    rows = []
    for node in model.graph:
        row = _own(node) if node.domain == AI_SNNC else _standard(node, host)
        rows.append(row)
        if row.kind == "host" and node.domain != AI_SNNC:
            host |= {id(value) for value in node.outputs}
    return AuditReport((*rows, *_foreign_bodies(model)))


def _row(node: Node, kind: Kind, note: str = "") -> AuditRow:
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return AuditRow(node.name or "", op, kind, note)


def _own(node: Node) -> AuditRow:
    kind = ARITHMETIC.get(node.op_type)
    if kind is None:
        return _row(node, "finding", "this op is not of the spike dialect")
    if node.op_type in _SYNAPSES:
        if not _carries_spikes(node.inputs[0]):
            return _row(node, "finding", "its data input carries no spikes: a product of multi-bit values")
        if node.op_type != "SpikeMatMulHeld" and constant(node.inputs[1]) is None:
            return _row(node, "finding", "its weights are not constant")
    if node.op_type == "MembraneScale":
        factor = constant(node.inputs[1])
        if factor is None:
            return _row(node, "finding", "its multiplier is computed at run time")
        magnitudes = np.abs(factor.astype(np.int64))
        if bool(np.all((magnitudes & (magnitudes - 1)) == 0)):
            return _row(node, "shifts")
    return _row(node, kind)


def _standard(node: Node, host: set[int]) -> AuditRow:
    inputs = [value for value in node.inputs if value is not None and constant(value) is None]
    if inputs and all(id(value) in host for value in inputs):
        return _row(node, "host", "elementwise or layout, in front of the encoder")
    if _moves(node):
        return _row(node, "layout")
    return _row(node, "finding", "a standard operator on spikes or membranes")


def _moves(node: Node) -> bool:
    """Whether a standard operator only moves elements; the registry also lists arithmetic on shapes."""
    return node.domain == "" and node.op_type in LAYOUT and LAYOUT[node.op_type].moves != "none"


def _carries_spikes(value: Value | None) -> bool:
    while value is not None:
        node = value.producer()
        if node is None:
            return False
        if node.domain == AI_SNNC and node.op_type in _NEURONS:
            return True
        moves = _moves(node)
        if not moves and not (node.domain == AI_SNNC and node.op_type in _KEEPS_SPIKES):
            return False
        if moves and node.op_type == "Concat":
            return all(_carries_spikes(part) for part in node.inputs)
        value = node.inputs[0]
    return False


def _foreign_bodies(model: Model) -> list[AuditRow]:
    """Function bodies that are not those of the registry: onnxruntime would run something else."""
    opset = model.graph.opset_imports.get("", 17)
    found = []
    for (domain, name, _), function in model.functions.items():
        if domain != AI_SNNC or name not in OPS:
            found.append(AuditRow(name, f"{domain}::{name}", "finding", "a function that is not ours"))
            continue
        ours = function_for(OPS[name], opset)
        if _shape_of(function) != _shape_of(ours):
            found.append(AuditRow(name, f"{domain}::{name}", "finding", "its body is not the definition"))
    return found


def _shape_of(function: Any) -> list[tuple[Any, ...]]:
    """Operators, attributes and wiring of a function body, for comparison."""
    numbers: dict[int, int] = {}
    result: list[tuple[Any, ...]] = []
    for value in function.inputs:
        numbers[id(value)] = len(numbers)
    for node in function.all_nodes():
        wires = tuple(
            numbers.setdefault(id(value), len(numbers)) if value is not None else -1 for value in node.inputs
        )
        outs = tuple(numbers.setdefault(id(value), len(numbers)) for value in node.outputs)
        plain = sorted(
            (name, attr.ref_attr_name if attr.is_ref() else _plain(attr))
            for name, attr in node.attributes.items()
        )
        result.append((node.domain, node.op_type, wires, outs, tuple(plain)))
    return result


def _plain(attr: Any) -> str:
    value = attr.value
    if hasattr(value, "numpy"):
        array = value.numpy()
        return f"{array.dtype}{array.shape}{array.tobytes().hex()}"
    return "graph" if hasattr(value, "inputs") else repr(value)
