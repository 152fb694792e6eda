"""Standard ONNX ops that move integers without changing them, and int64 arithmetic on shapes.

A spike train is moved one time-step at a time: the wires move, the spikes on them do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import InputError, InternalError
from snnc.ops.schema import Array, Attribute, Attributes, OpDef, integer, integers
from snnc.ops.signal import Signal, SpikeTrain
from snnc.ops.types import numpy_dtype

__all__ = ["LAYOUT", "SPIKE_PAD", "LayoutOp"]

Run = Callable[[Sequence[Array | None], Attributes, int], list[Array]]


@dataclass(frozen=True)
class LayoutOp:
    """One standard op that the spike dialect admits.

    Attributes:
        name: Operator type of the ONNX standard.
        moves: Whether spikes may pass through: ``"all"`` inputs, the ``"first"`` input, or ``"none"``.
        run: Evaluation on arrays: inputs (None if absent), attributes, number of outputs.
    """

    name: str
    moves: str
    run: Run

    def packed(self, inputs: Sequence[Array | None], attrs: Attributes, outputs: int = 1) -> list[Array]:
        """Evaluate on arrays.

        Args:
            inputs: Inputs, None where absent.
            attrs: Attributes as plain Python values.
            outputs: Number of outputs.
        """
        return self.run(inputs, attrs, outputs)

    def timestep(self, inputs: Sequence[Signal | None], attrs: Attributes, outputs: int = 1) -> list[Signal]:
        """Evaluate on spike trains, one step at a time, or on arrays.

        Raises:
            InternalError: SNN112, spikes arrive where they may not.
        """
        moved = len(inputs) if self.moves == "all" else 1 if self.moves == "first" else 0
        trains = [signal for signal in inputs if isinstance(signal, SpikeTrain)]
        if not trains:
            return list(self.run([_array(signal) for signal in inputs], attrs, outputs))
        if self.name in {"Shape", "Size"}:
            return list(self.run([np.broadcast_to(np.int8(0), trains[0].shape)], attrs, outputs))
        if len(trains) != moved:
            raise InternalError("SNN112", f"{self.name} mixes spikes and held values")
        trains = _on_one_clock(trains)
        rest = [_array(signal) for signal in inputs[moved:]]
        steps = [
            self.run([*(train.patterns[t] for train in trains), *rest], attrs, outputs)
            for t in range(len(trains[0].patterns))
        ]
        book, dtype = trains[0].book, trains[0].dtype
        return [SpikeTrain(np.stack([step[i] for step in steps]), book, dtype) for i in range(outputs)]


def _array(signal: Signal | None) -> Array | None:
    if isinstance(signal, SpikeTrain):
        raise InternalError("SNN112", "a spike train arrives where a held value is needed")
    return signal


def _on_one_clock(trains: Sequence[SpikeTrain]) -> list[SpikeTrain]:
    """Let trains of different codes share one window: shorter ones start later, so that weights agree."""
    books = {train.book for train in trains}
    if len(books) == 1:
        return list(trains)
    steps = max(book.timesteps for book in books)
    joint = CodeBook(steps, steps, "interleaved", any(book.signed for book in books))
    result = []
    for train in trains:
        silent = np.zeros((steps - train.book.timesteps, *train.shape), dtype=np.int8)
        result.append(SpikeTrain(np.concatenate([silent, train.patterns]), joint, train.dtype))
    return result


def _need(inputs: Sequence[Array | None], index: int) -> Array:
    array = inputs[index] if index < len(inputs) else None
    if array is None:
        raise InternalError("SNN115", f"input {index} is missing")
    return array


def _optional(
    inputs: Sequence[Array | None], index: int, attrs: Attributes | None = None, name: str = ""
) -> tuple[int, ...] | None:
    """Return an optional input that holds integers; older opsets have it as an attribute."""
    array = inputs[index] if index < len(inputs) else None
    if array is None and attrs is not None and name in attrs:
        array = np.asarray(attrs[name])
    return None if array is None else tuple(int(item) for item in np.atleast_1d(array))


def _bound(inputs: Sequence[Array | None], index: int, attrs: Attributes, name: str) -> Any:
    """Return an optional input that holds one number; older opsets have it as an attribute."""
    array = inputs[index] if index < len(inputs) else None
    return attrs.get(name) if array is None else array.reshape(-1)[0]


def _reshape(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, shape = _need(inputs, 0), [int(item) for item in _need(inputs, 1)]
    if not integer(attrs, "allowzero", 0):
        shape = [data.shape[axis] if extent == 0 else extent for axis, extent in enumerate(shape)]
    return [data.reshape(shape)]


def _transpose(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [np.transpose(_need(inputs, 0), attrs.get("perm"))]


def _flatten(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data = _need(inputs, 0)
    axis = integer(attrs, "axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    rows = int(np.prod(data.shape[:axis], dtype=np.int64))
    return [data.reshape(rows, int(np.prod(data.shape[axis:], dtype=np.int64)))]


def _squeeze(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [np.squeeze(_need(inputs, 0), axis=_optional(inputs, 1, attrs, "axes"))]


def _unsqueeze(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [np.expand_dims(_need(inputs, 0), _optional(inputs, 1, attrs, "axes") or ())]


def _concat(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    parts = [_need(inputs, index) for index in range(len(inputs))]
    return [np.concatenate(parts, axis=integer(attrs, "axis"))]


def _split(inputs: Sequence[Array | None], attrs: Attributes, outputs: int) -> list[Array]:
    data, axis = _need(inputs, 0), integer(attrs, "axis", 0)
    sizes = _optional(inputs, 1, attrs, "split")
    if sizes is None:
        chunk = -(-data.shape[axis] // outputs)
        sizes = tuple(min(chunk, max(0, data.shape[axis] - chunk * index)) for index in range(outputs))
    return list(np.split(data, np.cumsum(sizes)[:-1], axis=axis))


def _slice(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data = _need(inputs, 0)
    starts = _optional(inputs, 1, attrs, "starts") or ()
    ends = _optional(inputs, 2, attrs, "ends") or ()
    axes = _optional(inputs, 3, attrs, "axes") or tuple(range(len(starts)))
    steps = _optional(inputs, 4) or (1,) * len(starts)
    index: list[Any] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        extent = data.shape[axis]
        # Going backwards, an end before the first element cannot be written as an index from the end.
        stop: int | None = None if step < 0 and end < -extent else end
        index[axis] = slice(start, stop, step)
    return [data[tuple(index)]]


def _gather(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, places, axis = _need(inputs, 0), _need(inputs, 1), integer(attrs, "axis", 0)
    extent = data.shape[axis]
    if places.size and not -extent <= int(places.min()) <= int(places.max()) < extent:
        raise InputError(
            "SNN347", f"an input asks for row {_outside(places, extent)} of a table of {extent} rows"
        )
    return [np.take(data, places, axis=axis)]


def _outside(places: Array, extent: int) -> int:
    return int(places[(places < -extent) | (places >= extent)].reshape(-1)[0])


def _expand(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, shape = _need(inputs, 0), tuple(int(item) for item in _need(inputs, 1))
    return [np.broadcast_to(data, np.broadcast_shapes(data.shape, shape))]


def _pad(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, pads = _need(inputs, 0), _optional(inputs, 1, attrs, "pads") or ()
    fill = _bound(inputs, 2, attrs, "value") or 0
    if attrs.get("mode", "constant") != "constant" or (fill and data.dtype.kind != "f"):
        raise InternalError("SNN115", "the spike dialect pads with zeros only")
    axes = _optional(inputs, 3) or tuple(range(data.ndim))
    margins = [(0, 0)] * data.ndim
    for position, axis in enumerate(axes):
        margins[axis] = (pads[position], pads[position + len(axes)])
    crop = tuple(slice(max(0, -begin), end if end < 0 else None) for begin, end in margins)
    widths = [(max(0, begin), max(0, end)) for begin, end in margins]
    return [np.pad(data[crop], widths, constant_values=fill)]


def _depth_to_space(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, size = _need(inputs, 0), integer(attrs, "blocksize")
    n, c, h, w = data.shape
    if attrs.get("mode", "DCR") == "CRD":
        blocks = data.reshape(n, c // size**2, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        blocks = data.reshape(n, size, size, c // size**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return [blocks.reshape(n, c // size**2, h * size, w * size)]


def _space_to_depth(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, size = _need(inputs, 0), integer(attrs, "blocksize")
    n, c, h, w = data.shape
    blocks = data.reshape(n, c, h // size, size, w // size, size).transpose(0, 3, 5, 1, 2, 4)
    return [blocks.reshape(n, c * size**2, h // size, w // size)]


def _clip(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data = _need(inputs, 0)
    low, high = _bound(inputs, 1, attrs, "min"), _bound(inputs, 2, attrs, "max")
    if low is not None:
        data = np.maximum(data, data.dtype.type(low))
    return [np.asarray(data if high is None else np.minimum(data, data.dtype.type(high)))]


def _unary(function: Callable[[Array], Array]) -> Run:
    def run(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
        return [np.asarray(function(_need(inputs, 0)))]

    return run


def _identity(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [_need(inputs, 0)]


def _shape(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    extents = _need(inputs, 0).shape[integer(attrs, "start", 0) : attrs.get("end")]
    return [np.asarray(extents, dtype=np.int64)]


def _size(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [np.asarray(_need(inputs, 0).size, dtype=np.int64)]


def _constant(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    if "value" in attrs:
        return [np.asarray(attrs["value"])]
    name = "value_int" if "value_int" in attrs else "value_ints"
    if name not in attrs:
        raise InternalError("SNN115", "a Constant of the spike dialect holds integers or a tensor")
    return [np.asarray(attrs[name], dtype=np.int64)]


def _constant_of_shape(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    value = np.asarray(attrs.get("value", np.zeros(1, dtype=np.float32)))
    return [np.full(integers({"shape": _need(inputs, 0)}, "shape"), value.reshape(()), dtype=value.dtype)]


def _cast(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [_need(inputs, 0).astype(numpy_dtype(integer(attrs, "to")))]


def _div(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    a, b = _need(inputs, 0), _need(inputs, 1)
    if a.dtype.kind == "f":
        return [np.divide(a, b)]
    # ONNX integer division truncates towards zero.
    return [np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)]


def _range(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    start, limit, delta = (_need(inputs, index) for index in range(3))
    return [np.arange(int(start), int(limit), int(delta), dtype=start.dtype)]


def _where(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [np.where(_need(inputs, 0), _need(inputs, 1), _need(inputs, 2))]


def _reduce_prod(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    axes = attrs.get("axes")
    over = tuple(axes) if axes is not None else _optional(inputs, 1)
    keep = bool(integer(attrs, "keepdims", 1))
    data = _need(inputs, 0)
    return [np.asarray(np.prod(data, axis=over, keepdims=keep, dtype=data.dtype))]


def _reduce(function: Callable[..., Array]) -> Run:
    def run(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
        data = _need(inputs, 0)
        axes = _optional(inputs, 1, attrs, "axes")
        keep = bool(integer(attrs, "keepdims", 1))
        return [np.asarray(function(data, axis=axes or None, keepdims=keep)).astype(data.dtype)]

    return run


def _many(function: Callable[[Array, Array], Array]) -> Run:
    def run(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
        result = _need(inputs, 0)
        for index in range(1, len(inputs)):
            result = np.asarray(function(result, _need(inputs, index)))
        return [result]

    return run


def _gather_elements(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, places = _need(inputs, 0), _need(inputs, 1)
    axis = integer(attrs, "axis", 0) % data.ndim
    # Along the other axes there may be fewer places than data.
    part = tuple(slice(None) if n == axis else slice(size) for n, size in enumerate(places.shape))
    return [np.take_along_axis(data[part], places, axis=axis)]


def _gather_nd(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, places = _need(inputs, 0), _need(inputs, 1)
    if integer(attrs, "batch_dims", 0):
        raise InternalError("SNN115", "GatherND with batch dimensions")
    return [data[tuple(np.moveaxis(places, -1, 0))]]


def _trilu(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, shift = _need(inputs, 0), _optional(inputs, 1)
    function = np.triu if integer(attrs, "upper", 1) else np.tril
    return [function(data, shift[0] if shift else 0)]


def _argmax(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, axis = _need(inputs, 0), integer(attrs, "axis", 0)
    if integer(attrs, "select_last_index", 0):
        found = data.shape[axis] - 1 - np.argmax(np.flip(data, axis), axis=axis)
    else:
        found = np.argmax(data, axis=axis)
    kept = np.expand_dims(found, axis) if integer(attrs, "keepdims", 1) else found
    return [np.asarray(kept, dtype=np.int64)]


def _mod(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    function = np.fmod if integer(attrs, "fmod", 0) else np.mod
    return [np.asarray(function(_need(inputs, 0), _need(inputs, 1)))]


def _cumsum(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    data, axis = _need(inputs, 0), int(_need(inputs, 1).reshape(-1)[0])
    backwards = bool(integer(attrs, "reverse", 0))
    turned = np.flip(data, axis) if backwards else data
    total = np.cumsum(turned, axis=axis, dtype=data.dtype)
    if integer(attrs, "exclusive", 0):
        total = total - turned
    return [np.asarray(np.flip(total, axis) if backwards else total)]


def _tile(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
    return [np.tile(_need(inputs, 0), _optional(inputs, 1) or ())]


def _binary(function: Callable[[Array, Array], Array]) -> Run:
    def run(inputs: Sequence[Array | None], attrs: Attributes, _: int) -> list[Array]:
        return [np.asarray(function(_need(inputs, 0), _need(inputs, 1)))]

    return run


_ALL = (
    LayoutOp("Reshape", "first", _reshape),
    LayoutOp("Transpose", "first", _transpose),
    LayoutOp("Flatten", "first", _flatten),
    LayoutOp("Squeeze", "first", _squeeze),
    LayoutOp("Unsqueeze", "first", _unsqueeze),
    LayoutOp("Concat", "all", _concat),
    LayoutOp("Split", "first", _split),
    LayoutOp("Slice", "first", _slice),
    LayoutOp("Gather", "first", _gather),
    LayoutOp("Expand", "first", _expand),
    LayoutOp("Pad", "first", _pad),
    LayoutOp("DepthToSpace", "first", _depth_to_space),
    LayoutOp("SpaceToDepth", "first", _space_to_depth),
    LayoutOp("Identity", "first", _identity),
    LayoutOp("Dropout", "first", _identity),
    LayoutOp("SequenceConstruct", "first", _identity),  # a sequence of one: the barrier around a host node
    LayoutOp("SequenceAt", "first", _identity),
    LayoutOp("Shape", "first", _shape),
    LayoutOp("Size", "first", _size),
    LayoutOp("Constant", "none", _constant),
    LayoutOp("ConstantOfShape", "none", _constant_of_shape),
    LayoutOp("Cast", "none", _cast),
    LayoutOp("Add", "none", _binary(np.add)),
    LayoutOp("Sub", "none", _binary(np.subtract)),
    LayoutOp("Mul", "none", _binary(np.multiply)),
    LayoutOp("Div", "none", _div),
    LayoutOp("Neg", "none", _unary(np.negative)),
    LayoutOp("Relu", "none", _unary(lambda data: np.maximum(data, 0))),
    LayoutOp("Clip", "none", _clip),
    LayoutOp("Equal", "none", _binary(np.equal)),
    LayoutOp("Range", "none", _range),
    LayoutOp("Where", "none", _where),
    LayoutOp("ReduceProd", "none", _reduce_prod),
    LayoutOp("ReduceSum", "none", _reduce(np.sum)),
    LayoutOp("ReduceMax", "none", _reduce(np.max)),
    LayoutOp("ReduceMin", "none", _reduce(np.min)),
    LayoutOp("Greater", "none", _binary(np.greater)),
    LayoutOp("GreaterOrEqual", "none", _binary(np.greater_equal)),
    LayoutOp("Less", "none", _binary(np.less)),
    LayoutOp("LessOrEqual", "none", _binary(np.less_equal)),
    LayoutOp("And", "none", _binary(np.logical_and)),
    LayoutOp("Or", "none", _binary(np.logical_or)),
    LayoutOp("Xor", "none", _binary(np.logical_xor)),
    LayoutOp("Not", "none", _unary(np.logical_not)),
    LayoutOp("Abs", "none", _unary(np.abs)),
    LayoutOp("Sign", "none", _unary(np.sign)),
    LayoutOp("Max", "none", _many(np.maximum)),
    LayoutOp("Min", "none", _many(np.minimum)),
    LayoutOp("Mod", "none", _mod),
    LayoutOp("CumSum", "none", _cumsum),
    LayoutOp("Tile", "none", _tile),
    LayoutOp("GatherElements", "none", _gather_elements),
    LayoutOp("GatherND", "none", _gather_nd),
    LayoutOp("Trilu", "none", _trilu),
    LayoutOp("ArgMax", "none", _argmax),
)

LAYOUT: Mapping[str, LayoutOp] = MappingProxyType({op.name: op for op in _ALL})
"""Standard ops that the spike dialect admits, by name."""


def _spike_pad(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return _pad([inputs[0]], attrs, 1)[0]


def _spike_pad_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    train = inputs[0]
    if not isinstance(train, SpikeTrain):
        raise InternalError("SNN112", "SpikePad reads spikes")
    steps = [_pad([spikes], attrs, 1)[0] for spikes in train.patterns]
    return SpikeTrain(np.stack(steps), train.book, train.dtype)


SPIKE_PAD = OpDef(
    name="SpikePad",
    dialect="spike",
    doc="""Silent wires around a tensor of spikes, for code types that runtimes cannot pad (16 bits).

    Semantics: y = x with zeros around it; negative widths crop.
    Inputs: x (codes).
    Output: y (codes, type of x).
    Constraints: C1 one begin and one end for every axis.
    """,
    inputs=("x",),
    output="y",
    attributes=(Attribute("pads", "ints", "widths: begins of all axes, then ends"),),
    # The cast of int64 to int64 keeps onnxruntime 1.18 from looking at widths that no call has given yet.
    body="""\
  x32 = Cast<to = 6>(x)
  given = Constant<value_ints: ints = @pads>()
  widths = Cast<to = 7>(given)
  padded = Pad(x32, widths)
  y = CastLike(padded, x)""",
    packed=_spike_pad,
    timestep=_spike_pad_in_time,
)
