"""What of a network can be converted, and what becomes of each node, without calibration data.

Every pass of the front end runs, with any quantiser where data would choose one. What is refused is then
supposed to stay on the host, and the rest is looked at again, until nothing is left to refuse.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import Problem, SnncError, UnsupportedError, Where
from snnc.ir import Model, Node, Value, clone, constant
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.canonical.keep_on_host import why_not_hosted
from snnc.passes.quantise.insert_quantisers import Choice
from snnc.pipeline import Instrument, PassRecord, run_pipeline
from snnc.pipeline.contract import Pass

__all__ = ["AnyChoice", "Event", "Fate", "Survey", "survey"]

_ROUNDS = 12
#: Passes that clean up: what disappears in them is folded into something else, or was never needed.
_FOLDING = frozenset(
    {
        "drop-dead-code", "evaluate-constants", "fold-batch-norm", "fold-constants", "fold-shapes",
        "inline-functions", "lift-constants", "remove-identity", "resolve-padding", "freeze-defaults",
    }
)  # fmt: skip

#: What a node is called while another takes its name.
_REPLACED = re.compile(r"\.replaced(_\d+)?$")
#: Functions whose results never are negative, and what hands that on from its operands.
_POSITIVE = frozenset(
    {
        "Abs", "Exp", "HardSigmoid", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid", "Softmax",
        "Softplus", "Sqrt",
    }
)  # fmt: skip
_HANDS_ON = LAYOUT_OPS | {
    "Add", "AveragePool", "GlobalAveragePool", "MatMul", "MaxPool", "ReduceMax", "ReduceMean", "ReduceSum",
}  # fmt: skip
#: Integer operators whose float network is what has to be converted: on the host they help nobody.
_NOT_SUPPOSED = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"})
Status = Literal["supported", "folded", "host", "unsupported"]


class AnyChoice(Mapping[str, Choice]):
    """A quantiser for whatever tensor is asked for: what data would choose makes no difference here.

    Args:
        model: The source: what never is negative in it gets a code without a sign, and so can divide.
    """

    def __init__(self, model: Model | None = None) -> None:
        self._positive = _never_negative(model) if model is not None else frozenset()

    def __getitem__(self, name: str) -> Choice:
        signed = name not in self._positive
        return Choice(CodeBook(8, 4, signed=signed), np.asarray(2.0**-6, dtype=np.float32))

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class Event:
    """What a pass did at a node.

    Attributes:
        pass_name: The pass.
        kind: ``rewritten``, ``removed``, ``left alone`` or ``refused``.
        text: The rule, or why nothing was done.
        into: Names of the nodes that stand in its place.
    """

    pass_name: str
    kind: str
    text: str
    into: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fate:
    """What becomes of a node of the source.

    Attributes:
        node: Its name.
        op: Its operator.
        status: ``supported``, ``folded`` away, on the ``host`` as asked for, or ``unsupported``.
        detail: The pass that took it, what it became, or why it is refused.
        events: What the passes did, in order.
        became: What stands for it in the end: operators, with the code of a neuron.
    """

    node: str
    op: str
    status: Status
    detail: str
    events: tuple[Event, ...] = ()
    became: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """The outcome.

    Attributes:
        fates: One entry a node of the source, in its order.
        problems: What cannot be converted, in that order.
        flags: Values of ``--allow-host`` that would leave nothing to refuse; empty if there are none.
        error: The first refusal, or None.
    """

    fates: tuple[Fate, ...]
    problems: tuple[Problem, ...]
    flags: tuple[str, ...]
    error: SnncError | None

    @property
    def remedy(self) -> str | None:
        """The flags as they are written on the command line."""
        if not self.flags:
            return None
        return " ".join(f"--allow-host {shlex.quote(flag)}" for flag in self.flags)

    def refusal(self) -> UnsupportedError | None:
        """Return one error that lists everything that cannot be converted, or None."""
        if self.error is None or not self.problems:
            return None
        code = self.error.code if isinstance(self.error, UnsupportedError) else "SNN462"
        hints = [self.error.hint] if self.error.hint else []
        if self.remedy is not None:
            hints.append(f"to keep them in float on the host, declared and billed: {self.remedy}")
        count = len(self.problems)
        return UnsupportedError(
            code,
            f"{count} part{'s' if count > 1 else ''} of the model cannot be converted",
            where=self.error.where,
            problems=self.problems,
            hint="; ".join(hints) or None,
        )


def survey(
    model: Model,
    steps: Callable[[tuple[str, ...]], Sequence[Pass]],
    allowed: tuple[str, ...] = (),
    instruments: Sequence[Instrument] = (),
) -> Survey:
    """Find out what of a network can be converted.

    Args:
        model: The source; not changed.
        steps: Makes the pipeline, given what stays on the host.
        allowed: What the user lets stay on the host.
        instruments: Observers of every run.
    """
    source = {node.name or "": node for node in _named(model)}
    problems: dict[tuple[str | None, str], Problem] = {}
    supposed: list[str] = []
    helpless: set[str | None] = set()
    first: SnncError | None = None
    history = _History(list(source))
    for _ in range(_ROUNDS):
        history = _History(list(source))
        copy = clone(model)
        try:
            run_pipeline(copy, steps((*allowed, *supposed)), instruments=[history, *instruments])
        except UnsupportedError as error:
            history.look(copy)
            first = first or error
            found = error.problems or (Problem(error.message, error.where),)
            meant = [_in_source(problem, copy, source) for problem in found]
            problems.update({(p.where.node, p.message): p for p in meant})
            helpless |= {problem.where.node for problem in meant if problem.where.node in supposed}
            more = [
                name
                for problem in meant
                if (name := problem.where.node) is not None
                and name in source
                and name not in supposed
                and source[name].op_type not in _NOT_SUPPOSED
                and why_not_hosted(source[name]) is None
            ]
            if not more or any(problem.where.node not in source for problem in meant):
                break
            supposed += dict.fromkeys(more)
            if any(why_not_hosted(source[p.where.node or ""]) is not None for p in meant):
                # What can never stay on the host ends the search; all the rest of it is known by now.
                break
        else:
            history.look(copy)
            break
    order = {name: place for place, name in enumerate(source)}
    listed = sorted(problems.values(), key=lambda problem: order.get(problem.where.node or "", len(order)))
    hosted = [problem.where.node for problem in listed if problem.where.node in supposed]
    # A flag that does not help is not offered.
    complete = all(problem.where.node in {*supposed} - helpless for problem in listed)
    flags = _flags([name for name in hosted if name], source) if complete else ()
    fates = tuple(history.fate(node, listed, supposed) for node in source.values())
    return Survey(fates, tuple(listed), flags, first)


def _never_negative(model: Model) -> frozenset[str]:
    """Return the names of values that are functions, or sums, of what never is negative."""
    found: set[str] = set()
    for node in model.graph:
        read = [value for value in node.inputs if value is not None]
        if (
            node.op_type in _POSITIVE
            or _is_square(node)
            or (
                node.op_type in _HANDS_ON
                and read
                and all(value.name in found or _is_positive(value) for value in read)
                and any(value.name in found for value in read)
            )
        ):
            found |= {value.name for value in node.outputs if value.name}
    return frozenset(found)


def _is_square(node: Node) -> bool:
    """Whether a node multiplies a value by itself, or takes it to a constant power that is even."""
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    power = constant(node.inputs[1]) if node.op_type == "Pow" else None
    return power is not None and bool(np.all(power % 2 == 0))


def _is_positive(value: Value) -> bool:
    """Whether a constant, or the integers of a layout, may stand beside what never is negative."""
    held = constant(value)
    return held is not None and (held.dtype.kind in "iub" or bool(np.all(held >= 0)))


def _named(model: Model) -> list[Node]:
    """Return the nodes of the main graph; a node without a name is called like its first output."""
    nodes = list(clone(model).graph)
    taken = {node.name for node in nodes if node.name}
    for node in nodes:
        if not node.name:
            stem = next((value.name for value in node.outputs if value.name), None) or node.op_type
            name, count = stem, 0
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            node.name = name
            taken.add(name)
    return nodes


def _in_source(problem: Problem, model: Model, source: Mapping[str, Node]) -> Problem:
    """Name the node of the source that a problem is about, where a pass has renamed it."""
    name = problem.where.node
    if name is None or name in source:
        return problem
    node = next((entry for entry in model.graph if entry.name == name), None)
    origin = node.metadata_props.get("snnc.source") if node is not None else None
    return Problem(problem.message, Where(node=origin)) if origin in source else problem


def _flags(names: Sequence[str], source: Mapping[str, Node]) -> tuple[str, ...]:
    """Return operators where all of their nodes are meant, and there are several; else names of nodes."""
    names = list(dict.fromkeys(names))
    meant = Counter(source[name].op_type for name in names)
    there = Counter(node.op_type for node in source.values())
    whole = {op for op, count in meant.items() if count > 1 and count == there[op]}
    flags = [source[name].op_type if source[name].op_type in whole else name for name in names]
    return tuple(dict.fromkeys(flags))


@dataclass
class _History(Instrument):
    """Remembers what every pass did, and when each node of the source disappeared."""

    source: list[str]
    records: list[PassRecord] = field(default_factory=list)
    gone: dict[str, PassRecord] = field(default_factory=dict)
    final: dict[str, Node] = field(default_factory=dict)
    heirs: dict[str, list[Node]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Take note of one pass."""
        self.records.append(record)
        if not record.changed:
            return
        alive = {node.name for node in model.graph}
        for name in self.source:
            if name not in alive:
                self.gone.setdefault(name, record)
            else:
                self.gone.pop(name, None)
        self.look(model)

    def look(self, model: Model) -> None:
        """Remember the graph as it is now."""
        self.final = {node.name or "": node for node in model.graph}
        self.heirs = {}
        for node in model.graph:
            name, origin = node.name or "", node.metadata_props.get("snnc.source")
            if origin and origin != name and name not in self.source:
                self.origins.setdefault(name, origin)
            if origin and (root := self._root(origin)) != name:
                self.heirs.setdefault(root, []).append(node)

    def _root(self, name: str) -> str:
        """Follow where a node stems from, back to the source."""
        seen = set()
        name = _REPLACED.sub("", name)
        while name not in self.source and name in self.origins and name not in seen:
            seen.add(name)
            name = _REPLACED.sub("", self.origins[name])
        return name

    def events(self, name: str) -> list[Event]:
        """Return what the passes did at a node."""
        found = []
        for record in self.records:
            for rewrite in record.rewrites:
                note = f"{rewrite.rule}{f': {rewrite.note}' if rewrite.note else ''}"
                if name in rewrite.removed:
                    found.append(Event(record.name, "rewritten", note, rewrite.added))
                elif name in rewrite.added:
                    found.append(Event(record.name, "rewritten", note, (name,)))
            found += [
                Event(record.name, "left alone", entry.reason)
                for entry in record.not_matched
                if entry.node == name
            ]
            named = any(name in rewrite.removed for rewrite in record.rewrites)
            if self.gone.get(name) is record and not named:
                found.append(
                    Event(record.name, "removed", record.rewrites[0].rule if record.rewrites else "")
                )
        return found

    def fate(self, node: Node, problems: Sequence[Problem], supposed: Sequence[str]) -> Fate:
        """Say what became of a node of the source."""
        name = node.name or ""
        op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        events = self.events(name)
        refused = next((problem for problem in problems if problem.where.node == name), None)
        if refused is not None:
            events.append(Event("", "refused", refused.message))
            return Fate(name, op, "unsupported", refused.message, tuple(events))
        now = self.final.get(name)
        heirs = self.heirs.get(name, [])
        if any(is_sealed(entry) for entry in (now, *heirs)) and name not in supposed:
            return Fate(name, op, "host", "it stays in float, as asked for", tuple(events))
        record = self.gone.get(name)
        into = [entry for event in events if event.kind == "rewritten" for entry in event.into]
        stands = [*([now] if now is not None else []), *heirs]
        stands += [self.final[entry] for entry in into if entry in self.final]
        became = tuple(dict.fromkeys(describe(entry) for entry in stands))
        if not stands and record is not None and record.name in _FOLDING:
            return Fate(name, op, "folded", record.name, tuple(events))
        detail = record.name if now is None and record is not None else ", ".join(became)
        return Fate(name, op, "supported", detail, tuple(events), became)


def describe(node: Node) -> str:
    """Return what a node is: its operator, and its code where it is a neuron."""
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    if "timesteps" not in node.attributes:
        return op
    held = {name: node.attributes[name].value for name in ("timesteps", "groups", "signed")}
    return f"{op} T={held['timesteps']} G={held['groups']}{' signed' if held['signed'] else ''}"
