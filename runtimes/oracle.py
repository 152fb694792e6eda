"""The quantised network itself, evaluated as real numbers: what every spiking runtime must equal.

It reads the quant-dialect graph, not the emitted file, and knows nothing of folded thresholds: every value
is kept as integers with an exact rational scale and bias, and a quantiser compares the real number with
the real mid-points. Comparisons run in float64; wherever that could be in doubt they are repeated with
exact rationals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError, Where
from snnc.ir import Model, Node, Value, attributes, constant
from snnc.ir.hosting import is_sealed
from snnc.ops import LAYOUT
from snnc.ops.exact import integer_conv, integer_matmul, pool_geometry
from snnc.runtimes.curves import FUNCTIONS, Curve
from snnc.runtimes.grids import Exact, Grid, WeightGrid
from snnc.runtimes.grids import beside as _beside
from snnc.runtimes.grids import collapsed as _collapsed
from snnc.runtimes.grids import fractions as _fractions
from snnc.runtimes.grids import moved_labels as _moved_labels
from snnc.runtimes.grids import wide as _wide
from snnc.runtimes.grids import zero as _zero
from snnc.runtimes.hosted import HostExecutor
from snnc.runtimes.nearest import nearest_codes
from snnc.runtimes.on_curves import curve_of, on_curve
from snnc.runtimes.quotients import floor_quotient, normalised

__all__ = ["QuantisedOracle"]

Array = npt.NDArray[Any]
Item = Grid | WeightGrid | Curve | Array


class QuantisedOracle:
    """Runs a quant-dialect model in exact arithmetic.

    Args:
        model: A model that the ``encode`` pass accepts; not changed.
    """

    name = "oracle"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._nodes = list(model.graph)
        self._host = HostExecutor(model.graph.opset_imports.get("", 17))
        self._last_use: dict[str, int] = {}
        for position, node in enumerate(self._nodes):
            for value in node.inputs:
                if value is not None and value.name is not None:
                    self._last_use[value.name] = position

    def run_batch(
        self, inputs: Mapping[str, Array], taps: Sequence[str] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Evaluate one batch.

        Args:
            inputs: Network inputs, float32.
            taps: Names of coded tensors wanted besides the outputs.

        Returns:
            Outputs as float32, ``float32(integers) · float32(scale) + float32(bias)`` in that order, and the
            tapped tensors as int32 codes. A quantised output is in both.
        """
        state: dict[str, Item] = {name: np.asarray(array) for name, array in inputs.items()}
        results: dict[str, Array] = {}
        codes: dict[str, Array] = {}
        wanted = set(taps)
        outputs = {value.name for value in self._model.graph.outputs}
        for position, node in enumerate(self._nodes):
            items = [self._item(state, value) for value in node.inputs]
            made = self._on_host(node, items) if is_sealed(node) else _evaluate(node, items)
            for value, item in zip(node.outputs, made, strict=False):
                name = value.name or ""
                state[name] = item
                if name in wanted and isinstance(item, Grid):
                    codes[name] = item.integers.astype(np.int32)
            for used in node.inputs:
                name = used.name or "" if used is not None else ""
                if self._last_use.get(name) == position and name not in outputs:
                    state.pop(name, None)
        for value in self._model.graph.outputs:
            item = state[value.name or ""]
            results[value.name or ""] = _readout(item) if isinstance(item, Grid) else np.asarray(item)
        return results, codes

    def _on_host(self, node: Node, items: Sequence[Item | None]) -> list[Item]:
        """Evaluate a node that stays in float: what is on a grid is read out as an output would be."""
        arrays = []
        for item in items:
            if isinstance(item, Curve | WeightGrid):
                raise UnsupportedError(
                    "SNN448", "the host reads what only a neuron may", where=Where(node=node.name)
                )
            arrays.append(_readout(item) if isinstance(item, Grid) else item)
        return [*self._host.run(node, arrays)]

    def _item(self, state: Mapping[str, Item], value: Value | None) -> Item | None:
        if value is None:
            return None
        held = state.get(value.name or "")
        return held if held is not None else constant(value)


def _readout(grid: Grid) -> Array:
    scale = grid.scale.astype(np.float64).astype(np.float32)
    bias = grid.bias.astype(np.float64).astype(np.float32)
    scaled = grid.integers.astype(np.float32) * scale
    return np.asarray(scaled + bias, dtype=np.float32)


def _evaluate(node: Node, inputs: list[Any]) -> list[Item]:
    rule = _RULES.get(node.op_type)
    attrs = attributes(node)
    if node.op_type in ("Shape", "Size"):
        seen = getattr(inputs[0], "integers", inputs[0])
        return [*LAYOUT[node.op_type].packed([seen], attrs, 1)]
    if any(isinstance(item, Curve) for item in inputs):
        return [*on_curve(node, inputs, attrs, _max_pool)]
    if node.op_type in FUNCTIONS and isinstance(inputs[0], Grid):
        return [curve_of(inputs[0], FUNCTIONS[node.op_type](attrs, inputs[1:]))]
    if rule is not None and any(isinstance(item, Grid | WeightGrid) for item in inputs):
        return [rule(inputs, attrs, node)]
    if node.op_type in _SOURCES:
        return [_SOURCES[node.op_type](inputs, attrs)]
    if node.op_type in LAYOUT:
        return _move(node, inputs, attrs)
    raise UnsupportedError(
        "SNN447", f"the oracle has no rule for {node.op_type}", where=Where(node=node.name)
    )


#: Layout ops whose results are no values of the network.
_MEASURES = frozenset({"Shape", "Size"})


def _move(node: Node, inputs: list[Any], attrs: dict[str, Any]) -> list[Item]:
    grids = [item for item in inputs if isinstance(item, Grid)]
    op = LAYOUT[node.op_type]
    count = len(node.outputs)
    if not grids:
        return list(op.packed(inputs, attrs, count))
    if node.op_type == "Concat":
        return [_concat(inputs, attrs)]
    first = grids[0]
    if node.op_type in _MEASURES:
        return list(op.packed([first.integers], attrs, count))
    moved = op.packed([first.integers, *inputs[1:]], attrs, count)
    scales = _moved_labels(op.packed, first.scale, first.integers.shape, inputs, attrs, count)
    biases = _moved_labels(op.packed, first.bias, first.integers.shape, inputs, attrs, count)
    return [
        Grid(integers, scale, bias, first.codes)
        for integers, scale, bias in zip(moved, scales, biases, strict=True)
    ]


def _concat(inputs: list[Any], attrs: dict[str, Any]) -> Grid:
    grids = [item for item in inputs if isinstance(item, Grid)]
    axis = int(attrs["axis"])
    batch = grids[0].integers.shape[0]
    parts = [np.broadcast_to(g.integers, (batch, *g.integers.shape[1:])) for g in grids]
    scales = [np.broadcast_to(g.scale, (1, *g.integers.shape[1:])) for g in grids]
    biases = [np.broadcast_to(g.bias, (1, *g.integers.shape[1:])) for g in grids]
    return Grid(
        np.concatenate(parts, axis=axis),
        _collapsed(np.concatenate(scales, axis=axis)),
        _collapsed(np.concatenate(biases, axis=axis)),
        all(g.codes for g in grids),
    )


def _quantise(inputs: list[Any], attrs: dict[str, Any]) -> Grid:
    source, step = inputs[0], inputs[1]
    book = CodeBook.from_attributes(attrs)
    ties = attrs["ties"]
    grid = source if isinstance(source, Grid) else None
    integers = grid.integers if grid is not None else np.asarray(source, dtype=np.float32)
    rank = integers.ndim
    steps = _fractions(np.asarray(step), rank)
    scale = (grid.scale if grid is not None else _fractions(np.ones(1), rank)) / steps
    bias = (grid.bias if grid is not None else _zero(rank)) / steps
    return Grid(nearest_codes(integers, scale, bias, book, ties), steps, _zero(rank), codes=True)


def _fixed_point(inputs: list[Any], attrs: dict[str, Any]) -> Grid:
    x = np.asarray(inputs[0], dtype=np.float32).astype(np.float64)
    limit = 2 ** (int(attrs["bits"]) - 1) - 1
    integers = np.clip(np.rint(x * 2.0 ** int(attrs["fraction_bits"])), -limit, limit).astype(np.int64)
    rank = integers.ndim
    return Grid(integers, _fractions(np.full(1, 2.0 ** -int(attrs["fraction_bits"])), rank), _zero(rank))


def _weight(inputs: list[Any], attrs: dict[str, Any]) -> WeightGrid:
    integers, numerator, denominator = inputs
    rank = integers.ndim
    return WeightGrid(integers, _fractions(numerator, rank), _fractions(denominator, rank))


def _per_unit(scale: Exact, denominator: Exact) -> Exact:
    """Scale of the codes over the weights' denominator; its nearest float64 stands for the scale itself."""
    meant = scale.astype(np.float64) == denominator.astype(np.float64)
    return np.where(meant, np.asarray(Fraction(1), dtype=object), scale / denominator)


def _conv(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    data, weight = inputs[0], inputs[1]
    integers = integer_conv(
        data.integers,
        weight.integers,
        strides=attrs.get("strides"),
        pads=attrs.get("pads"),
        dilations=attrs.get("dilations"),
        group=int(attrs.get("group", 1)),
        dtype=np.int64,
    )
    if not bool(np.all(data.bias == 0)):
        raise UnsupportedError("SNN448", "a biased membrane is convolved", where=Where(node=node.name))
    rank = integers.ndim
    # One input channel stands for all: that they agree is checked, not assumed.
    count = weight.integers.shape[1]
    groups = int(attrs.get("group", 1))
    steps = np.broadcast_to(data.scale, (1, count * groups) + (1,) * (rank - 2)).reshape(groups, 1, count)
    outputs = weight.integers.shape[0]
    per_weight = np.broadcast_to(steps, (groups, outputs // groups, count)).reshape(outputs, count)
    divisor = weight.denominator.reshape(weight.denominator.shape[0], -1)
    ratio = _per_unit(per_weight[:1] if groups == 1 and len(divisor) == 1 else per_weight, divisor)
    ratio = np.broadcast_to(ratio, (outputs, count))
    if not bool(np.all(ratio == ratio[:, :1])):
        raise UnsupportedError(
            "SNN448", "input channels of different steps are summed", where=Where(node=node.name)
        )
    scale = (weight.numerator.reshape(-1) * ratio[:, 0]).reshape((1, -1) + (1,) * (rank - 2))
    bias = _zero(rank)
    if len(inputs) > 2 and inputs[2] is not None:
        bias = _fractions(np.asarray(inputs[2]).reshape((1, -1) + (1,) * (rank - 2)), rank)
    return Grid(integers, scale, bias)


def _matmul(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    left, right = inputs
    if not bool(np.all(left.bias == 0)) or (isinstance(right, Grid) and not bool(np.all(right.bias == 0))):
        raise UnsupportedError("SNN448", "a biased membrane is multiplied", where=Where(node=node.name))
    integers = integer_matmul(left.integers, right.integers, dtype=np.int64)
    rank = integers.ndim
    if isinstance(right, WeightGrid):
        columns = _wide(right.numerator, rank)
        ratio = _per_unit(left.scale.swapaxes(-1, -2), _wide(right.denominator, rank))
    else:
        columns = _wide(right.scale, rank)
        ratio = _wide(left.scale, rank).swapaxes(-1, -2)
    length = left.integers.shape[-1]
    ratio = np.broadcast_to(ratio, (*ratio.shape[:-2], length, ratio.shape[-1]))
    if not bool(np.all(ratio == ratio[..., :1, :])) or columns.shape[-2] != 1:
        raise UnsupportedError("SNN448", "summed elements have different steps", where=Where(node=node.name))
    scale = ratio[..., :1, :].swapaxes(-1, -2) * columns
    return Grid(integers, scale, _zero(rank))


def _sum(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    sign = -1 if node.op_type == "Sub" else 1
    rank = max(item.integers.ndim if isinstance(item, Grid) else np.ndim(item) for item in inputs)
    left, right = inputs
    if not isinstance(right, Grid):
        bias = left.bias + sign * _fractions(np.asarray(right), rank)
        return Grid(_beside(left.integers, right), left.scale, bias)
    if not isinstance(left, Grid):
        bias = sign * right.bias + _fractions(np.asarray(left), rank)
        return Grid(_beside(right.integers, left), sign * right.scale, bias)
    if not bool(np.all(left.scale == right.scale)):
        raise UnsupportedError("SNN448", "summands have different steps", where=Where(node=node.name))
    return Grid(
        left.integers + sign * right.integers,
        left.scale + 0 * right.scale,
        left.bias + sign * right.bias,
    )


def _scale(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    left, right = inputs if isinstance(inputs[0], Grid) else inputs[::-1]
    if isinstance(left, Grid) and isinstance(right, Grid):
        return _product(left, right, node)
    factor = _fractions(np.asarray(right), left.integers.ndim)
    if node.op_type == "Div":
        factor = 1 / factor
    positive = bool(np.all(factor > 0))
    integers = _beside(left.integers, right)
    return Grid(integers, _collapsed(left.scale * factor), left.bias * factor, left.codes and positive)


def _product(left: Grid, right: Grid, node: Node) -> Grid:
    """Elementwise product of two codes."""
    if node.op_type == "Div" or not (left.codes and right.codes):
        raise UnsupportedError("SNN448", "a product of other than codes", where=Where(node=node.name))
    rank = max(left.integers.ndim, right.integers.ndim)
    scale = _wide(left.scale, rank) * _wide(right.scale, rank)
    return Grid(left.integers * right.integers, scale, _zero(rank))


def _negate(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    return Grid(inputs[0].integers, -inputs[0].scale, -inputs[0].bias)


def _rescale(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid, multiplier, step = inputs[0], inputs[1], inputs[2]
    rank = grid.integers.ndim
    new = _fractions(np.asarray(step), rank)
    # Where the scale is zero the value is its bias, on any grid.
    dead = np.asarray(grid.scale == 0)
    ratio = _fractions(np.asarray(multiplier), rank) * new / np.where(dead, 1, grid.scale)
    ratio = np.where(dead, 1, ratio)
    return Grid(grid.integers * multiplier.astype(np.int64), new, grid.bias * ratio)


def _round(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid, step = inputs[0], np.asarray(inputs[1])
    rank = grid.integers.ndim
    steps = _fractions(step, rank)
    ratio = np.asarray(steps / grid.scale, dtype=object)
    if any(item.denominator != 1 or item <= 0 for item in ratio.reshape(-1)):
        raise UnsupportedError(
            "SNN448", "a rounding that is no division of integers", where=Where(node=node.name)
        )
    # A fraction has no effect on rounding integers down: floor((a + x) / n) = floor((a + floor(x)) / n).
    raised = np.asarray(grid.bias / grid.scale + ratio / 2, dtype=object)
    offset = np.array([x.numerator // x.denominator for x in raised.reshape(-1)], dtype=np.int64)
    return Grid((grid.integers + offset.reshape(raised.shape)) // ratio.astype(np.int64), steps, _zero(rank))


def _floor_quotient(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    numerator, gain = inputs[0], inputs[1]
    if not bool(np.all(numerator.bias == 0)) or not bool(np.all(gain.bias == 0)):
        raise UnsupportedError("SNN448", "a biased membrane is divided", where=Where(node=node.name))
    bits = int(attrs["fraction_bits"])
    scale = np.asarray(numerator.scale / gain.scale / 2**bits, dtype=object)
    integers = floor_quotient(numerator.integers, gain.integers, bits)
    return Grid(integers, _collapsed(scale), _zero(integers.ndim))


def _normalise(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid = inputs[0]
    if _collapsed(grid.scale).size != 1 or not bool(np.all(grid.bias == 0)):
        raise UnsupportedError(
            "SNN448", "a membrane that is not on one grid is normalised", where=Where(node=node.name)
        )
    bits = int(attrs["fraction_bits"])
    integers = normalised(
        grid.integers,
        np.asarray(inputs[1]),
        attrs["axes"],
        centred=bool(attrs.get("centred", 1)),
        epsilon=int(attrs["epsilon"]),
        bits=bits,
    )
    return Grid(integers, _fractions(np.full(1, 2.0**-bits), integers.ndim), _zero(integers.ndim))


def _largest(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid = inputs[0]
    listed = np.asarray(inputs[1]).tolist() if len(inputs) > 1 else attrs["axes"]
    axis = int(listed[0])
    # A mask of zeros that was added, for one, has the same bias everywhere.
    grid = Grid(grid.integers, _collapsed(grid.scale), _collapsed(grid.bias))
    if grid.scale.shape[axis] != 1 or grid.bias.shape[axis] != 1 or bool(np.any(grid.scale <= 0)):
        raise UnsupportedError("SNN448", "a maximum over different steps", where=Where(node=node.name))
    return Grid(grid.integers.max(axis=axis, keepdims=True), grid.scale, grid.bias)


def _mask_row(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid, gate = inputs[0], np.asarray(inputs[1])
    axis = int(attrs["axis"])
    grid = Grid(grid.integers, _collapsed(grid.scale), _collapsed(grid.bias))
    if grid.scale.shape[axis] != 1 or grid.bias.shape[axis] != 1 or bool(np.any(grid.scale <= 0)):
        raise UnsupportedError("SNN448", "a mask over different steps", where=Where(node=node.name))
    lowest = grid.integers.min(axis=axis, keepdims=True)
    return Grid(np.where(gate, grid.integers, lowest), grid.scale, grid.bias)


def _gated(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid, gate = inputs[0], np.asarray(inputs[1])
    if not bool(np.all(grid.bias == 0)):
        raise UnsupportedError("SNN448", "a mask on a biased value", where=Where(node=node.name))
    return Grid(grid.integers * gate, grid.scale, grid.bias, grid.codes)


def _round_constant(inputs: list[Any], attrs: dict[str, Any]) -> Grid:
    values, step = np.asarray(inputs[0]), np.asarray(inputs[1])
    rank = max(values.ndim, step.ndim)
    if step.size == 1 and np.frexp(step.reshape(-1)[0])[0] == 0.5:
        # float64 divides by a power of two, and adds a half below 2^51, without error.
        whole = np.floor(values.astype(np.float64) / step.reshape(-1)[0] + 0.5).astype(np.int64)
        return Grid(_wide(whole, rank), _fractions(step, rank), _zero(rank))
    steps = _fractions(step, rank)
    quotient = np.asarray(_fractions(values, rank) / steps, dtype=object)
    integers = np.array([int((2 * q + 1) // 2) for q in quotient.reshape(-1)], dtype=np.int64)
    return Grid(integers.reshape(quotient.shape), steps, _zero(rank))


def _average_pool(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid = inputs[0]
    shape = grid.integers.shape
    kernel = [int(size) for size in attrs["kernel_shape"]]
    ones = np.ones((shape[1], 1, *kernel), dtype=np.int64)
    window = {"strides": attrs.get("strides"), "pads": attrs.get("pads"), "group": shape[1]}
    total = integer_conv(grid.integers, ones, **window, dtype=np.int64)
    if attrs.get("count_include_pad", 0):
        count = np.full((1, 1) + (1,) * len(kernel), prod(kernel))
    else:
        inside = np.ones((1, 1, *shape[2:]), dtype=np.int64)
        count = integer_conv(inside, ones[:1], **{**window, "group": 1}, dtype=np.int64)
    return Grid(total, grid.scale / _fractions(_collapsed(count), total.ndim), grid.bias)


def _reduce(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid = inputs[0]
    rank = grid.integers.ndim
    if node.op_type == "GlobalAveragePool":
        axes, keep = tuple(range(2, rank)), True
    else:
        listed = (
            np.asarray(inputs[1]).tolist() if len(inputs) > 1 and inputs[1] is not None else attrs.get("axes")
        )
        axes = tuple(axis % rank for axis in (listed if listed else range(rank)))
        keep = bool(attrs.get("keepdims", 1))
    count = prod(grid.integers.shape[axis] for axis in axes)
    bias = np.asarray(np.broadcast_to(grid.bias, (1, *grid.integers.shape[1:])).sum(axis=axes, keepdims=True))
    scale = grid.scale
    if any(scale.shape[axis] != 1 for axis in axes):
        raise UnsupportedError("SNN448", "summed elements have different steps", where=Where(node=node.name))
    if node.op_type != "ReduceSum":
        scale, bias = scale / count, bias / count
    total = grid.integers.sum(axis=axes, keepdims=True)
    if not keep:
        total, scale, bias = (np.squeeze(array, axis=axes) for array in (total, scale, bias))
    return Grid(total, np.asarray(scale, dtype=object), np.asarray(bias, dtype=object))


def _max_pool(inputs: list[Any], attrs: dict[str, Any], node: Node) -> Grid:
    grid = inputs[0]
    kernel = [int(size) for size in attrs["kernel_shape"]]
    out, step, spacing, padding = pool_geometry(
        grid.integers.shape[2:],
        kernel,
        attrs.get("strides"),
        attrs.get("pads"),
        attrs.get("dilations"),
        bool(attrs.get("ceil_mode", 0)),
    )
    lowest = np.iinfo(np.int64).min
    padded = np.pad(grid.integers, [(0, 0), (0, 0), *padding], constant_values=lowest)
    views = np.lib.stride_tricks.sliding_window_view(
        padded,
        tuple((size - 1) * gap + 1 for size, gap in zip(kernel, spacing, strict=True)),
        axis=tuple(range(2, padded.ndim)),
    )
    spatial = len(kernel)
    at = tuple(slice(0, (count - 1) * stride + 1, stride) for count, stride in zip(out, step, strict=True))
    inside = tuple(slice(None, None, gap) for gap in spacing)
    seen = views[(slice(None), slice(None), *at, *inside)]
    return Grid(seen.max(axis=tuple(range(-spatial, 0))), grid.scale, grid.bias, grid.codes)


Rule = Callable[[list[Any], dict[str, Any], Node], Grid]
_RULES: Mapping[str, Rule] = {
    "Quantise": lambda inputs, attrs, node: _quantise(inputs, attrs),
    "Conv": _conv,
    "MatMul": _matmul,
    "Add": _sum,
    "Sub": _sum,
    "Mul": _scale,
    "Div": _scale,
    "Neg": _negate,
    "Rescale": _rescale,
    "RoundMembrane": _round,
    "FloorQuotient": _floor_quotient,
    "Normalise": _normalise,
    "ReduceMax": _largest,
    "MaskRow": _mask_row,
    "Gate": _gated,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "MaxPool": _max_pool,
}
_SOURCES: Mapping[str, Callable[[list[Any], dict[str, Any]], Grid | WeightGrid]] = {
    "Quantise": _quantise,
    "FixedPoint": _fixed_point,
    "Weight": _weight,
    "RoundMembrane": _round_constant,
}
