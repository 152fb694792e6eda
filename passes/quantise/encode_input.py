"""Pass ``encode-input``: the network input becomes codes, so that the first layer runs on spikes too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError, Where
from snnc.ir import (
    AI_SNNC,
    DataType,
    Model,
    Node,
    Value,
    attributes,
    clone,
    concrete_shapes,
    constant,
    make_node,
)
from snnc.ir.evaluate import evaluate
from snnc.ir.rewrite import drop_unused
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.editing import Editor
from snnc.passes.quantise.insert_quantisers import SITE, Choice, Sampler
from snnc.passes.quantise.pixels import InputCode, of_affine, of_any, of_samples
from snnc.passes.quantise.sites import host_values
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import NoMatch, PassResult, Semantics

__all__ = ["OFFSET", "EncodeInput"]

#: Metadata key of the node that subtracts the value of code 0 from an input.
OFFSET = "snnc.value_of_code_0"

Array = npt.NDArray[Any]
_LAYOUT = LAYOUT_OPS | {"Pad"}
_PRODUCTS = ("Conv", "MatMul")
#: Operations that leave the channels of a value where they are.
_KEEPS_CHANNELS = frozenset({"Cast", "Identity", "Dropout", "Pad"})
_MOST_CHANNELS = 16
_IMAGE_RANKS = (3, 4, 5)


@dataclass(frozen=True)
class EncodeInput:
    """Put a quantiser on every float network input, so that no layer has to run on the host.

    Where the calibration data are images of 8 bits, raw or put through any affine preprocessing per channel,
    the code is the pixel itself (T = G = 8, 256 levels) and nothing is lost: the step is folded into the
    first layer's weights, the value of pixel 0 into a constant behind it, zero padding included. Other data
    get a uniform code of 8 time-steps. Without data the preprocessing in the network tells the grid, else a
    code of 16 time-steps covers what inputs usually hold.

    Matches: float inputs, or what elementwise preprocessing makes of them, where a layer reads them.
    Leaves alone: "it carries a code already".
    Keeps: names of inputs and outputs; everything that is not computed from the input alone.

    Attributes:
        observer: Runs a model on the calibration data and samples tensors.
        choices: Codes chosen before, by tensor, used instead of observing.
    """

    observer: Sampler | None = field(default=None, compare=False, repr=False)
    choices: Mapping[str, Choice] | None = field(default=None, compare=False, repr=False)

    name: ClassVar[str] = "encode-input"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "shapes-known", "constants-folded"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert the quantisers; the result notes the code of each input."""
        editor = Editor(model)
        host = host_values(model, clipped=True)
        for origin, readers in _origins(model, host).items():
            uses = [use for use in readers if not _is_code(use[0])]
            if len(uses) < len(readers):
                editor.not_matched.append(NoMatch("it carries a code already", origin.name or ""))
            if uses:
                entry = _Input(editor, origin, uses)
                entry.encode(self._choose(model, origin, offsets=entry.takes_offsets()))
        return editor.result()

    def _choose(self, model: Model, origin: Value, *, offsets: bool) -> InputCode:
        name = origin.name or ""
        if self.choices is not None:
            if name not in self.choices:
                raise InternalError("SNN161", "no quantiser was chosen", where=Where(tensor=name))
            held = self.choices[name]
            offset = held.offset if held.offset is not None else np.zeros((), np.float32)
            return InputCode(held.book, held.step, offset, "the recorded code")
        axis = _channel_axis(origin)
        if self.observer is not None:
            seen = self.observer(_up_to(model, origin, axis), [_OBSERVED])[_OBSERVED]
            code = of_samples(seen.values, seen.low, channels=axis is not None, offsets=offsets)
        else:
            affine = _affine(origin, axis)
            code = (of_affine(*affine) if affine is not None else None) or of_any()
            if not offsets and bool(np.any(code.offset != 0)):
                code = of_any()
        if axis is None or code.step.ndim == 0:
            return code
        form = [1] * len(origin.shape or ())
        form[axis] = -1
        return InputCode(code.book, code.step.reshape(form), code.offset.reshape(form), code.note)


_OBSERVED = "snnc.observed_input"


class _Input:
    """One value that gets a code, with everything that reads it.

    Args:
        editor: Editor of the model.
        origin: The value.
        uses: Readers behind layout operations, which stay in between.
    """

    def __init__(self, editor: Editor, origin: Value, uses: list[tuple[Node, int]]) -> None:
        self._editor = editor
        self._origin = origin
        self._uses = uses
        self._moved: dict[int, Array] = {}
        self._shapes = [concrete_shapes(editor.model, batch) for batch in (1, 2)]

    def takes_offsets(self) -> bool:
        """Whether a constant behind every reader can stand for a value of code 0 that is not zero."""
        for node, place in self._uses:
            if node.op_type in _PRODUCTS and (place or constant(node.inputs[1]) is None):
                return False
            value = node.inputs[place]
            assert value is not None
            for each in (value, *_layouts_above(value), node.outputs[0]):
                one, two = (shapes.get(each.name or "") for shapes in self._shapes)
                if one is None or two is None or one[1:] != two[1:]:
                    return False
        return True

    def encode(self, code: InputCode) -> None:
        """Insert the quantiser, and the constants that its offset leaves behind the readers."""
        editor, origin = self._editor, self._origin
        name = origin.name or "input"
        readers = [(node, place) for node, place in origin.uses() if node.op_type != "Shape"]
        readers = [(node, place) for node, place in readers if not _is_code(node)]
        constants = self._constants(code) if bool(np.any(code.offset != 0)) else {}
        producer = origin.producer()
        anchor = producer if producer is not None else next(iter(editor.graph))
        common: dict[str, Any] = {"dtype": DataType.FLOAT, "shape": origin.shape, "source": anchor}
        nodes, source = [], origin
        if constants:
            offset = editor.constant(f"{name}_zero", code.offset.astype(np.float32))
            nodes.append(make_node(editor.graph, "Sub", [origin, offset], name=f"{name}_from_zero", **common))
            nodes[0].metadata_props[OFFSET] = name
            source = nodes[0].outputs[0]
        step = editor.constant(f"{name}_step", code.step.astype(np.float32))
        attrs = quantise_attributes(code.book, "away")
        made = make_node(
            editor.graph, "Quantise", [source, step], attrs, domain=AI_SNNC, name=f"{name}_code", **common
        )
        nodes.append(made)
        made.metadata_props[SITE] = name
        for node in nodes:
            node.metadata_props["snnc.source"] = name
            editor.adopt(node)
        if producer is None:
            editor.graph.insert_before(anchor, nodes)
        else:
            editor.graph.insert_after(anchor, nodes)
        for reader, place in readers:
            reader.replace_input_with(place, made.outputs[0])
        for (reader, place), array in constants.values():
            self._compensate(reader, place, array)
        editor.record("encode the input")
        editor.notes.append(
            f"input {name!r}: T={code.book.timesteps} G={code.book.groups} "
            f"{'signed ' if code.book.signed else ''}spikes, {code.note}; the first layer runs on spikes"
        )

    def _constants(self, code: InputCode) -> dict[int, tuple[tuple[Node, int], Array]]:
        """Return what the offset adds to the result of every product, or to the operand of other readers."""
        self._moved[id(self._origin)] = np.ascontiguousarray(
            np.broadcast_to(code.offset.astype(np.float32), self._shapes[0][self._origin.name or ""])
        )
        found = {}
        for number, (node, place) in enumerate(self._uses):
            array = self._along(node.inputs[place])
            if node.op_type in _PRODUCTS:
                operands: list[Array | None] = [array, constant(node.inputs[1])]
                array = evaluate_product(node, operands, self._editor)
            found[number] = ((node, place), array[:1])
        return found

    def _along(self, value: Value | None) -> Array:
        """Return what layout operations make of the offset."""
        assert value is not None
        if id(value) not in self._moved:
            node = value.producer()
            assert node is not None
            inputs = [self._along(node.inputs[0]), *(constant(item) for item in node.inputs[1:])]
            results = evaluate(node, inputs, self._editor.graph.opset_imports)
            for out, array in zip(node.outputs, results, strict=True):
                self._moved[id(out)] = array
        return self._moved[id(value)]

    def _compensate(self, reader: Node, place: int, array: Array) -> None:
        editor = self._editor
        target = reader.outputs[0] if reader.op_type in _PRODUCTS else reader.inputs[place]
        assert target is not None
        held = editor.constant(f"{reader.name}_zero", array)
        name = f"{reader.name}_from_zero"
        added = make_node(
            editor.graph,
            "Add",
            [target, held],
            name=name,
            dtype=DataType.FLOAT,
            shape=target.shape,
            source=reader,
        )
        editor.adopt(added)
        if reader.op_type not in _PRODUCTS:
            editor.graph.insert_before(reader, added)
            reader.replace_input_with(place, added.outputs[0])
            return
        target.replace_all_uses_with(added.outputs[0], replace_graph_outputs=True)
        added.replace_input_with(0, target)
        old, new = target.name, added.outputs[0].name
        # Whoever knows the result by its name means the sum.
        added.outputs[0].name, target.name = None, new
        added.outputs[0].name = old
        editor.graph.insert_after(reader, added)


def evaluate_product(node: Node, operands: list[Array | None], editor: Editor) -> Array:
    """Return a product of constants without its bias, collapsed to one number per channel where it is."""
    biases = [constant(value) for value in node.inputs[2:]]
    none = [np.zeros_like(bias) if bias is not None else None for bias in biases]
    result = evaluate(node, [*operands, *none], editor.graph.opset_imports)[0]
    inner = tuple(range(2, result.ndim)) if node.op_type == "Conv" else tuple(range(1, result.ndim - 1))
    first = result[tuple(slice(0, 1) if axis in inner else slice(None) for axis in range(result.ndim))]
    scale = float(np.abs(result).max(initial=0.0))
    if bool(np.all(np.abs(result - first) <= 2.0**-20 * scale)):
        return np.ascontiguousarray(first)
    return result


def _is_code(node: Node) -> bool:
    return node.domain == AI_SNNC and node.op_type == "Quantise"


def _origins(model: Model, host: set[int]) -> dict[Value, list[tuple[Node, int]]]:
    """Return the values to quantise, with the readers behind layout operations that are not on the host."""
    found: dict[Value, list[tuple[Node, int]]] = {}
    live = _live(model)
    for node in model.graph:
        # What passes before left behind reads nothing for anyone.
        if id(node) not in live:
            continue
        if node.op_type == "Shape" or all(id(value) in host for value in node.outputs):
            continue
        for place, value in enumerate(node.inputs):
            if value is None or id(value) not in host or value.dtype != DataType.FLOAT:
                continue
            origin = value
            for step in _layouts_above(value):
                origin = step
            found.setdefault(origin, []).append((node, place))
    return found


def _live(model: Model) -> set[int]:
    """Return the nodes that an output depends on."""
    stack = [value.producer() for value in model.graph.outputs]
    found: set[int] = set()
    while stack:
        node = stack.pop()
        if node is not None and id(node) not in found:
            found.add(id(node))
            stack += [value.producer() for value in node.inputs if value is not None]
    return found


def _layouts_above(value: Value) -> Iterator[Value]:
    """Yield the values in front of the layout operations that lead to one, nearest first."""
    node = value.producer()
    while node is not None and node.op_type in _LAYOUT and node.inputs[0] is not None:
        if any(item is not None and constant(item) is None for item in node.inputs[1:]):
            return
        yield node.inputs[0]
        node = node.inputs[0].producer()


def _channel_axis(value: Value) -> int | None:
    """Return the axis of an image's channels, if it has one that is short enough to be that."""
    shape = value.shape
    if shape is None or len(shape) not in _IMAGE_RANKS:
        return None
    for axis in (1, len(shape) - 1):
        size = shape[axis]
        if isinstance(size, int) and 1 < size <= _MOST_CHANNELS:
            return axis
    return None


def _up_to(model: Model, origin: Value, axis: int | None) -> Model:
    """Return a model of the preprocessing alone, whose output has the channels on the last axis."""
    copy = clone(model)
    graph = copy.graph
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    source = next(value for value in values if value.name == origin.name)
    rank = len(origin.shape or ())
    perm = [*(each for each in range(rank) if each != axis), *([axis] if axis is not None else [])]
    node = make_node(
        graph,
        "Transpose",
        [source],
        {"perm": perm},
        name=_OBSERVED,
        output=_OBSERVED,
        dtype=DataType.FLOAT,
    )
    graph.append(node)
    graph.outputs.clear()
    graph.outputs.append(node.outputs[0])
    drop_unused(copy)
    return copy


def _affine(origin: Value, axis: int | None) -> tuple[Array, Array] | None:
    """Return what the elementwise operations in front of a value multiply an input by, and add to it.

    Args:
        origin: The value.
        axis: The axis of its channels; None means the last one.

    Returns:
        Factor and summand, one number or one for each channel; None if the chain is no such function.
    """
    chain = []
    value: Value | None = origin
    while value is not None and (node := value.producer()) is not None:
        chain.append(node)
        value = next((item for item in node.inputs if item is not None and constant(item) is None), None)
    factor, summand = np.ones(()), np.zeros(())
    for node in reversed(chain):
        held = next((array for item in node.inputs if (array := constant(item)) is not None), None)
        if held is None and node.op_type in ("Add", "Sub", "Mul", "Div"):
            return None  # of two values that vary, such as a square
        operand = np.asarray(held, dtype=np.float64) if held is not None else np.ones(())
        first = constant(node.inputs[0]) is not None
        if node.op_type == "Add":
            summand = summand + operand
        elif node.op_type == "Sub":
            factor, summand = (-factor, operand - summand) if first else (factor, summand - operand)
        elif node.op_type in ("Mul", "Div") and not (first and node.op_type == "Div"):
            operand = operand if node.op_type == "Mul" else 1 / operand
            factor, summand = factor * operand, summand * operand
        elif node.op_type == "Neg":
            factor, summand = -factor, -summand
        elif node.op_type == "Transpose":
            factor, summand = (_turned(part, node) for part in (factor, summand))
        elif node.op_type not in _KEEPS_CHANNELS and (
            node.op_type not in _LAYOUT or (factor.size, summand.size) != (1, 1)
        ):
            return None
    rank = len(origin.shape or ())
    along = axis if axis is not None else rank - 1
    parts = [part.reshape((1,) * (rank - part.ndim) + part.shape) for part in (factor, summand)]
    if any(size != 1 and place != along for part in parts for place, size in enumerate(part.shape)):
        return None
    return parts[0].reshape(-1), parts[1].reshape(-1)


def _turned(part: Array, node: Node) -> Array:
    """Return numbers that broadcast to a value as they broadcast to its transpose."""
    if part.size == 1:
        return part.reshape(())
    rank = len(node.outputs[0].shape or ())
    return np.transpose(part.reshape((1,) * (rank - part.ndim) + part.shape), attributes(node).get("perm"))
