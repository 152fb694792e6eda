"""Pass ``keep-tail-on-host``: what a classifier does to its logits stays behind the readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import DataType, Model, Node, Value, constant, consumers_of
from snnc.ir.hosting import BEHIND_THE_READOUT, declared, is_sealed, seal
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.canonical.tail_functions import (
    ABOVE_ZERO,
    BOUNDS,
    KERNELS,
    TAIL_FUNCTIONS,
    WRITTEN,
    drop_guard,
    guard_of,
    write_function,
)
from snnc.passes.editing import Editor, is_output, is_standard, only_consumer
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["KeepTailOnHost"]

_TAILS = (
    "Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK", "LpNormalization", *TAIL_FUNCTIONS,
)  # fmt: skip
_MAY_FOLLOW = ("Cast", "Clip", "Concat", *LAYOUT_OPS)
#: May stand between what bounds a value and what reads it, with a constant.
_ARITHMETIC = ("Add", "Sub", "Mul", "Div")
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
#: May follow with constants: boxes of detectors and actions of policies are scaled, masks are compared.
_WITH_CONSTANTS = (*_ARITHMETIC, *_COMPARISONS, "Where", "Neg", "Not")
#: Kept in front of a cast to integers only: elsewhere they are quantisers.
_ROUNDING = ("Round", "Floor", "Ceil")
_LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "RNN", "GRU", "LSTM", "If", "Loop", "Scan")
#: What may give an output that no layer leads to: it moves floats, or acts on each with exact rounding.
_GIVES = ("Identity", "Concat", "Where", "Neg", "Abs", "Clip", "Add", "Sub", "Mul", "Div", *LAYOUT_OPS)


@dataclass(frozen=True)
class KeepTailOnHost:
    """Seal Softmax, ArgMax and the like where nothing but outputs of the graph comes after them.

    The spiking network ends in its readout, which gives floats to whoever reads them. What an exported
    classifier adds there, probabilities or the place of the largest, is no part of the network's neurons:
    the host computes it from the readout, declared and billed.

    An output that no layer of weights leads to, such as a learned deviation repeated for each sample or a
    mask given back, has no neurons either.

    Matches: Softmax and its logarithm, LogSoftmax, Hardmax, ArgMax, ArgMin, TopK, LpNormalization, the
        functions of `TAIL_FUNCTIONS` and casts to other float types whose results reach outputs of the graph
        only, directly, by each other, or by casts, Clip, arithmetic and comparisons with constants, squares,
        Concat and ops that move elements. Bounds in front of such a function. Casts to integers and
        comparisons with constants that end in integers, with bounds and rounding in front of them. What gives
        an output of floats from the inputs alone without a layer, if another output has one.
    Leaves alone: those that the network goes on with, such as the softmax of attention; logarithms and roots
        whose argument no function bounds; functions that a code follows closely, as Relu and Gelu; gates.
    Keeps: names, values.
    """

    name: ClassVar[str] = "keep-tail-on-host"
    requires: ClassVar[frozenset[str]] = frozenset({"no-functions", "types-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Seal; see the class."""
        editor = Editor(model)
        for node in _without_layers(model):
            _keep(editor, node)
        _drop_guards(editor, model)
        computed, tail, kept = _of_samples(model), _Tail(), set[Node]()
        for node in reversed(list(model.graph)):
            behind = [tail.of(value) for value in node.outputs]
            if not all(each.ends for each in behind) or not any(
                id(value) in computed for value in node.inputs
            ):
                continue
            if not _may_be_kept(node, tail):
                continue
            # The casts and moves behind it read floats of the host, so they stay there, too.
            followers = _behind(node, kept)
            written = write_function(editor, node) if is_standard(node, *WRITTEN) else [node]
            for entry in [*followers, *(written or [node])]:
                kept.add(entry)
                if not is_sealed(entry):
                    _keep(editor, entry)
        return editor.result()


def _keep(editor: Editor, node: Node) -> None:
    op = node.op_type
    node.metadata_props.setdefault("snnc.source", node.name or "")
    seal(node, BEHIND_THE_READOUT)
    editor.adopt(node)
    editor.record("keep behind the readout", note=f"{op} {node.name!r} gives floats to whoever reads them")


def _without_layers(model: Model) -> list[Node]:
    """Return the nodes that give outputs of floats which depend on no layer, if other outputs do on some."""
    layered: set[int] = set()
    unknown: set[int] = set()
    for node in model.graph:
        results, reads = {id(value) for value in node.outputs}, {id(value) for value in node.inputs}
        if node.op_type in _LAYERS or reads & layered:
            layered |= results
        if node.domain not in ("", "ai.onnx") or reads & unknown:
            unknown |= results
    outputs = [value for value in model.graph.outputs if value.dtype == DataType.FLOAT]
    if not any(id(value) in layered for value in outputs):
        return []
    outputs = [value for value in outputs if id(value) not in layered | unknown and not value.uses()]
    found = [value.producer() for value in outputs]
    return [node for node in found if node is not None and is_standard(node, *_GIVES)]


def _of_samples(model: Model) -> set[int]:
    """Return the values, by id, that are no constants, repeated or not: they hang on what the inputs hold."""
    found = {id(value) for value in model.graph.inputs}
    for node in model.graph:
        shape = node.op_type in ("Shape", "Size")
        if not shape and any(id(value) in found for value in node.inputs if value is not None):
            found |= {id(value) for value in node.outputs}
    return found


@dataclass(frozen=True)
class _Behind:
    """What comes behind a value.

    Attributes:
        ends: Whether it is an output, and whatever reads it leads to outputs by what the host can do there.
        whole: Whether all that comes behind it is integers or truth values.
        function: Whether the host computes one of `KERNELS` behind it.
        integers: Whether the host makes integers of floats behind it, which are outputs.
    """

    ends: bool
    whole: bool
    function: bool
    integers: bool


class _Tail:
    """What comes behind the values of a graph; asked from its end on, each node is looked at once."""

    def __init__(self) -> None:
        self._known: dict[Value, _Behind] = {}

    def of(self, value: Value) -> _Behind:
        """Return what comes behind a value."""
        if value not in self._known:
            self._known[value] = self._look(value)
        return self._known[value]

    def is_whole(self, node: Node) -> bool:
        """Whether a node makes integers or truth values of floats, and only such come behind it."""
        source, out = node.inputs[0], node.outputs[0]
        return (
            source is not None
            and source.dtype == DataType.FLOAT
            and _holds_integers(out)
            and self.of(out).whole
        )

    def _look(self, value: Value) -> _Behind:
        readers = consumers_of(value)
        ends, whole, function, integers = (
            bool(readers) or is_output(value) or not value.uses(),
            True,
            False,
            False,
        )
        for reader in readers:
            results, sealed = [self.of(result) for result in reader.outputs], is_sealed(reader)
            follows = sealed or is_standard(reader, *_MAY_FOLLOW) or _is_with_constants(reader, value)
            ends = ends and follows and all(result.ends for result in results)
            whole = whole and _holds_integers(reader.outputs[0]) and all(result.whole for result in results)
            function |= sealed and declared(reader)["op"] in KERNELS
            function |= any(result.function for result in results)
            integers |= (sealed and self.is_whole(reader)) or any(result.integers for result in results)
        return _Behind(ends, whole, function, integers)


def _holds_integers(value: Value) -> bool:
    return value.dtype is not None and not value.dtype.is_floating_point()


def _drop_guards(editor: Editor, model: Model) -> None:
    """Drop the guards of Softplus that end the network."""
    guards = [guard_of(node) for node in model.graph if is_standard(node, "Softplus")]
    if not any(guards):
        return
    tail = _Tail()
    for node in reversed(list(model.graph)):
        for value in node.outputs:
            tail.of(value)
    for guard in guards:
        if guard is not None and tail.of(guard.outputs[0]).ends:
            drop_guard(editor, guard)


def _may_be_kept(node: Node, tail: _Tail) -> bool:
    """Whether a node, if nothing but outputs comes behind it, is the host's: its kind, and what it reads."""
    if is_standard(node, *BOUNDS, *_ROUNDING):
        behind = [tail.of(value) for value in node.outputs]
        functions = is_standard(node, *BOUNDS) and any(each.function for each in behind)
        return functions or any(each.integers for each in behind)
    if is_standard(node, *_COMPARISONS):
        return any(constant(entry) is not None for entry in node.inputs) and tail.is_whole(node)
    if is_standard(node, *ABOVE_ZERO):
        return _is_log_of_softmax(node) or _is_bounded(node)
    return (
        is_standard(node, *_TAILS) or _is_narrow(node) or (is_standard(node, "Cast") and tail.is_whole(node))
    )


def _is_bounded(node: Node) -> bool:
    """Whether a function reads, alone, what another gives, with constants added or multiplied at most."""
    value = node.inputs[0]
    while value is not None and only_consumer(value) is not None:
        producer = value.producer()
        if is_standard(producer, *BOUNDS, *TAIL_FUNCTIONS):
            return True
        if producer is None or not is_standard(producer, *_ARITHMETIC):
            return False
        read = [entry for entry in producer.inputs if constant(entry) is None]
        value = read[0] if len(read) == 1 else None
    return False


def _is_narrow(node: Node) -> bool:
    """Whether a node changes floats of the network to another float type, which is the host's business."""
    dtype = node.outputs[0].dtype if is_standard(node, "Cast") else None
    return dtype is not None and dtype.is_floating_point() and dtype != DataType.FLOAT


def _is_log_of_softmax(node: Node) -> bool:
    source = node.inputs[0].producer() if is_standard(node, "Log") and node.inputs[0] is not None else None
    return is_standard(source, "Softmax")


def _behind(node: Node, kept: set[Node]) -> list[Node]:
    """Return the nodes behind a node, but those behind what is kept, which are kept, too."""
    found: dict[Node, None] = {}
    queue = list(node.outputs)
    while queue:
        for reader in consumers_of(queue.pop()):
            if reader not in found and reader not in kept:
                found[reader] = None
                queue += reader.outputs
    return list(found)


def _is_with_constants(node: Node, value: Value) -> bool:
    """Whether a node adds, multiplies, compares or the like a value with constants or itself."""
    return is_standard(node, *_WITH_CONSTANTS) and all(
        entry is value or constant(entry) is not None for entry in node.inputs
    )
