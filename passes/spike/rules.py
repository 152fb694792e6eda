"""Encoding rules: what each operator of the quant dialect becomes in the spike dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from snnc.coding import CodeBook
from snnc.ir import DataType, Node, Value, attributes, constant
from snnc.ir.hosting import HOST
from snnc.passes.analysis import (
    Activated,
    Coded,
    Constant,
    FloatValue,
    Membrane,
    Merged,
    Quotient,
)
from snnc.passes.analysis.activations import ACTIVATION_OPS
from snnc.passes.analysis.exact import as_exact, exact
from snnc.passes.analysis.hosted import HOST_OPS, SHAPE_OPS
from snnc.passes.analysis.sums import power_of_two, rounding_offset
from snnc.passes.fold.activated import fold_activated
from snnc.passes.fold.thresholds import fold, fold_float
from snnc.passes.spike import gains, layouts, pools, products
from snnc.passes.spike.builder import SpikeBuilder, data_type
from snnc.passes.spike.encoder import fold_preprocessing
from snnc.passes.spike.host import host as _host
from snnc.passes.spike.hosted import hosted
from snnc.passes.spike.typed import given, of_kind

__all__ = ["RULES"]


def _quantise(builder: SpikeBuilder, node: Node) -> None:
    """Quantise → ExpG-IF with folded thresholds; directly on the network input → Encode."""
    source, output = given(node.inputs[0], node), node.outputs[0]
    step = given(constant(node.inputs[1]), node)
    attrs = attributes(node)
    book = CodeBook.from_attributes(attrs)
    ties = attrs["ties"]
    name = builder.name(output)
    rank = len(builder.shape(source))
    steps = as_exact(step, rank)
    kind = builder.kind(source)
    gain: list[Value] = []
    extra: dict[str, Any] = {}
    if isinstance(kind, Quotient):
        table, op, potential = fold(kind.membrane, book, steps, ties), "ExpGIFGain", builder.get(source)
        gain, extra = [builder.gain(source)], {"fraction_bits": builder.fraction_bits(source)}
    elif isinstance(kind, FloatValue):
        read, table = fold_preprocessing(builder, source, fold_float(book, steps, ties))
        op, potential = "Encode", builder.get(read)
    else:
        integers, membrane = builder.potential(source, node)
        builder.check_range(membrane, node)
        potential, membrane = builder.upright(integers, membrane, name, node)
        if isinstance(kind, Activated):
            table = fold_activated(replace(kind, membrane=membrane), book, steps, ties)
        else:
            table = fold(membrane, book, steps, ties)
        op = "ExpGIF"
    attrs = {
        **book.to_attributes(),
        "codes": list(table.codes),
        "code_type": int(data_type(book.dtype)),
        "depth": table.depth,
        **extra,
    }
    inputs = [
        potential,
        *gain,
        builder.constant(table.thresholds, f"{name}_thresholds"),
        builder.constant(table.rows, f"{name}_rows"),
    ]
    spikes = builder.emit(op, inputs, attrs, name, data_type(book.dtype), node, like=output)
    producer = spikes.producer()
    assert producer is not None
    producer.metadata_props["snnc.tensor"] = name
    builder.put(output, spikes)


def _fixed_point(builder: SpikeBuilder, node: Node) -> None:
    output = node.outputs[0]
    integers = builder.emit(
        "FixedPointEncode",
        [builder.get(node.inputs[0])],
        attributes(node),
        builder.name(output),
        DataType.INT32,
        node,
        like=output,
    )
    builder.put(output, integers)


def _nothing(builder: SpikeBuilder, node: Node) -> None:
    """Weights are read by the products that use them."""


def _sum(builder: SpikeBuilder, node: Node) -> None:
    """Add, Sub: a constant goes into the bias, two membranes are added."""
    if _host(builder, node):
        return
    output = node.outputs[0]
    kinds = [builder.kind(value) for value in node.inputs]
    constants = [isinstance(kind, Constant) for kind in kinds]
    if any(constants):
        variable = node.inputs[constants.index(False)]
        _alias_membrane(builder, node, variable)
        return
    builder.check_range(builder.kind(output), node)
    sides = [_addend(builder, node, value) for value in node.inputs]
    if node.op_type == "Sub":
        minus = builder.constant(np.full((1,) * len(builder.shape(output)), -1, dtype=np.int32), "minus_one")
        sides[1] = builder.emit(
            "MembraneScale",
            [sides[1], minus],
            {},
            f"{builder.name(output)}_minus",
            DataType.INT32,
            node,
            like=node.inputs[1],
        )
    made = builder.emit("MembraneAdd", sides, {}, builder.name(output), DataType.INT32, node, like=output)
    builder.put(output, made)


def _addend(builder: SpikeBuilder, node: Node, value: Value | None) -> Value:
    return builder.potential(given(value, node), node)[0]


def _alias_membrane(builder: SpikeBuilder, node: Node, value: Value | None) -> None:
    """An affine change of value: the integers stay, step and bias are the compiler's business."""
    output, value = node.outputs[0], given(value, node)
    coded = isinstance(builder.kind(output), Coded | Merged)
    if isinstance(builder.kind(output), Quotient):
        builder.put(output, builder.get(value))
        builder.put_gain(output, builder.gain(value), builder.fraction_bits(value))
        return
    integers = builder.get(value) if coded else builder.potential(value, node)[0]
    if builder.shape(value) != builder.shape(output):
        integers = layouts.expand(builder, node, integers, output)
    builder.put(output, integers)


def _scale(builder: SpikeBuilder, node: Node) -> None:
    if _host(builder, node):
        return
    constants = [isinstance(builder.kind(value), Constant) for value in node.inputs]
    if not any(constants):
        products.elementwise(builder, node)
        return
    _alias_membrane(builder, node, node.inputs[constants.index(False)])


def _alias(builder: SpikeBuilder, node: Node) -> None:
    """Neg, and activation functions: the neuron behind them holds them in its table."""
    if not _host(builder, node):
        _alias_membrane(builder, node, node.inputs[0])


def _rescale(builder: SpikeBuilder, node: Node) -> None:
    source, output = given(node.inputs[0], node), node.outputs[0]
    multiplier = given(constant(node.inputs[1]), node)
    builder.check_range(builder.kind(output), node)
    integers = builder.membrane(source, node)[0]
    if bool(np.any(multiplier != 1)):
        factor = builder.constant(multiplier.astype(np.int32), f"{builder.name(output)}_multiplier")
        integers = builder.emit(
            "MembraneScale", [integers, factor], {}, builder.name(output), DataType.INT32, node, like=output
        )
    builder.put(output, integers)


def _round(builder: SpikeBuilder, node: Node) -> None:
    source, output = given(node.inputs[0], node), node.outputs[0]
    kind = of_kind(builder.kind(output), Membrane, node)
    name = builder.name(output)
    builder.check_range(kind, node)
    if kind.content is not None:
        builder.put(output, builder.constant(kind.content.astype(np.int32), name))
        return
    integers, before = builder.membrane(source, node)
    ratio = np.asarray(kind.step / before.step, dtype=object).reshape(-1)[0]
    shift = given(power_of_two(ratio), node)
    if bool(np.any(before.bias != 0)):
        integers, before = _with_bias(builder, node, integers, before, shift)
    if shift or before.host:
        attrs = {"shift": shift}
        integers = builder.emit("MembraneRound", [integers], attrs, name, DataType.INT32, node, like=output)
    builder.put(output, integers)


def _with_bias(
    builder: SpikeBuilder, node: Node, integers: Value, kind: Membrane, shift: int
) -> tuple[Value, Membrane]:
    """Add a membrane's bias to its integers, so that a rounding shift follows."""
    bias = rounding_offset(kind, shift) - ((1 << shift) >> 1)
    raised = Membrane(kind.step, exact(0, kind.bias.ndim), kind.low + bias, kind.high + bias)
    builder.check_range(raised, node)
    output = node.outputs[0]
    name = f"{builder.name(output)}_bias"
    held = builder.constant(bias.astype(np.int32), name)
    inputs = [integers, held]
    return builder.emit("MembraneAdd", inputs, {}, f"{name}ed", DataType.INT32, node, like=output), raised


def _reduce(builder: SpikeBuilder, node: Node) -> None:
    """Means and sums over axes: the sum of the integers; the division is part of the step."""
    if _host(builder, node):
        return
    source, output = given(node.inputs[0], node), node.outputs[0]
    rank = len(builder.shape(source))
    attrs = attributes(node)
    if node.op_type == "GlobalAveragePool":
        axes, keep = list(range(2, rank)), 1
    else:
        held = constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        listed = held.tolist() if held is not None else attrs.get("axes")
        axes = sorted(axis % rank for axis in (listed if listed else range(rank)))
        keep = int(attrs.get("keepdims", 1))
    builder.check_range(builder.kind(output), node)
    merged = isinstance(builder.kind(output), Merged)
    made = builder.emit(
        "SpikeSum" if merged else "MembraneSum",
        [builder.get(source) if merged else builder.membrane(source, node)[0]],
        {"axes": axes, "keepdims": keep},
        builder.name(output),
        DataType.INT32,
        node,
        like=output,
    )
    builder.put(output, made)


def _concat(builder: SpikeBuilder, node: Node) -> None:
    if _host(builder, node):
        return
    output = node.outputs[0]
    kind = builder.kind(output)
    if isinstance(kind, Coded):
        parts, dtype = [builder.get(value) for value in node.inputs], data_type(kind.book.dtype)
    else:
        parts, dtype = [_addend(builder, node, value) for value in node.inputs], DataType.INT32
    axis = int(attributes(node)["axis"]) % len(builder.shape(output))
    made = builder.emit(
        "Concat", parts, {"axis": axis}, builder.name(output), dtype, node, like=output, domain=""
    )
    builder.put(output, made)


def _layout(builder: SpikeBuilder, node: Node) -> None:
    layouts.move(builder, node)


def _pad(builder: SpikeBuilder, node: Node) -> None:
    if not _host(builder, node):
        layouts.pad(builder, node)


def _largest(builder: SpikeBuilder, node: Node) -> None:
    if not _host(builder, node):
        gains.largest(builder, node)


def _host_only(builder: SpikeBuilder, node: Node) -> None:
    of_kind(builder.kind(node.outputs[0]), FloatValue, node)
    _host(builder, node)


Rule = Callable[[SpikeBuilder, Node], None]
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(sorted(HOST_OPS | SHAPE_OPS), _host_only),
    "Quantise": _quantise,
    HOST: hosted,
    "FixedPoint": _fixed_point,
    "Weight": _nothing,
    "Rescale": _rescale,
    "RoundMembrane": _round,
    "FloorQuotient": gains.floor_quotient,
    "Normalise": gains.normalise,
    "ReduceMax": _largest,
    "MaskRow": gains.mask_row,
    "Gate": gains.gate,
    "Conv": products.convolution,
    "MatMul": products.matmul,
    "Add": _sum,
    "Sub": _sum,
    "Mul": _scale,
    "Div": _scale,
    "Neg": _alias,
    **dict.fromkeys(sorted(ACTIVATION_OPS), _alias),
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "GlobalAveragePool": _reduce,
    "AveragePool": pools.average,
    "MaxPool": pools.largest,
    "Concat": _concat,
    "Pad": _pad,
    **dict.fromkeys(layouts.MOVES, _layout),
}
