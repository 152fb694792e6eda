"""Encoding rules of operators that move elements: written as opset-17 Reshape, Transpose, Slice, Gather."""

from __future__ import annotations

import numpy as np

from snnc.errors import UnsupportedError, Where
from snnc.ir import DataType, Node, Shape, Value, attributes, constant
from snnc.passes.analysis import Coded, FloatValue, Membrane
from snnc.passes.analysis.layout import LAYOUT_OPS, pad_widths
from snnc.passes.spike.builder import SpikeBuilder, data_type
from snnc.passes.spike.typed import given

__all__ = ["MOVES", "expand", "move", "pad"]

MOVES = LAYOUT_OPS
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})


def _dtype(builder: SpikeBuilder, value: Value | None) -> DataType:
    kind = builder.kind(value)
    if isinstance(kind, Coded):
        return data_type(kind.book.dtype)
    if isinstance(kind, FloatValue):
        return (value.dtype if value is not None else None) or DataType.FLOAT
    return DataType.INT64 if isinstance(kind, Membrane) and kind.host else DataType.INT32


def move(builder: SpikeBuilder, node: Node) -> None:
    """Move spikes, membranes or host values as the quantised node moves floats."""
    source = given(node.inputs[0], node)
    op, held = node.op_type, constant(source)
    if held is not None and isinstance(builder.kind(node.outputs[0]), FloatValue):
        integers = builder.constant(held, "repeated")  # a constant of the network that the host encodes
    else:
        integers = builder.get(source)
    if op in _RESHAPES:
        output = node.outputs[0]
        same = builder.shape(output) == builder.shape(source)
        builder.put(output, integers if same else _reshape(builder, node, integers, output))
    elif op == "Split":
        _split(builder, node, integers)
    elif op in ("DepthToSpace", "SpaceToDepth"):
        _blocks(builder, node, integers)
    elif op == "Expand" and held is not None and isinstance(builder.kind(node.outputs[0]), FloatValue):
        output = node.outputs[0]
        inputs, dtype = [integers, builder.get(node.inputs[1])], output.dtype or DataType.FLOAT
        made = builder.emit("Expand", inputs, {}, builder.name(output), dtype, node, like=output, domain="")
        builder.put(output, made)
    elif op == "Expand":
        builder.put(node.outputs[0], expand(builder, node, integers, node.outputs[0]))
    else:
        _direct(builder, node, integers)


def _reshape(builder: SpikeBuilder, node: Node, integers: Value, output: Value) -> Value:
    target = builder.constant(np.array(builder.target(output), dtype=np.int64), "shape")
    return builder.emit(
        "Reshape",
        [integers, target],
        {},
        builder.name(output),
        _dtype(builder, node.inputs[0]),
        node,
        like=output,
        domain="",
    )


def expand(builder: SpikeBuilder, node: Node, integers: Value, output: Value) -> Value:
    """Repeat a value along axes of size 1; a constant along the batch too, another keeps its own."""
    target = [1 if size == -1 else size for size in builder.target(output)]
    dtype = integers.dtype if integers.dtype is not None else DataType.INT32
    if integers.is_initializer() and builder.grows(output):
        rest = builder.constant(np.array(target[1:], dtype=np.int64), "extents")
        name = f"{builder.name(output)}_shape"
        shape = builder.emit(
            "Concat", [builder.batch(node), rest], {"axis": 0}, name, DataType.INT64, node, domain=""
        )
        shape.shape = Shape([len(target)])
    else:
        shape = builder.constant(np.array(target, dtype=np.int64), "shape")
    return builder.emit(
        "Expand", [integers, shape], {}, builder.name(output), dtype, node, like=output, domain=""
    )


def _direct(builder: SpikeBuilder, node: Node, integers: Value) -> None:
    """Transpose, Gather and Slice keep their form; their parameters become opset-17 inputs."""
    output, attrs = node.outputs[0], attributes(node)
    inputs = [integers]
    if node.op_type == "Gather":
        indices = constant(node.inputs[1])
        inputs.append(
            builder.constant(indices, "indices") if indices is not None else builder.get(node.inputs[1])
        )
    elif node.op_type == "Slice" and "starts" in attrs:
        axes = attrs.pop("axes", list(range(len(attrs["starts"]))))
        for bound in (attrs.pop("starts"), attrs.pop("ends"), axes):
            inputs.append(builder.constant(np.array(bound, dtype=np.int64), "bound"))
    elif node.op_type == "Slice":
        held = [constant(value) for value in node.inputs[1:]]
        if any(
            array is None and value is not None for array, value in zip(held, node.inputs[1:], strict=True)
        ):
            raise UnsupportedError(
                "SNN446", "Slice with bounds that are not constant", where=Where(node=node.name)
            )
        if len(held) > 2 and held[2] is None:  # left out in front of the steps: the first axes
            held[2] = np.arange(held[0].size if held[0] is not None else 0, dtype=np.int64)
        inputs += [builder.constant(array, "bound") for array in held if array is not None]
    made = builder.emit(
        node.op_type,
        inputs,
        attrs,
        builder.name(output),
        _dtype(builder, node.inputs[0]),
        node,
        like=output,
        domain="",
    )
    builder.put(output, made)


def _split(builder: SpikeBuilder, node: Node, integers: Value) -> None:
    rank = len(builder.shape(node.outputs[0]))
    axis = int(attributes(node).get("axis", 0)) % rank
    start = 0
    for output in node.outputs:
        end = start + builder.shape(output)[axis]
        if not output.uses() and not output.is_graph_output():
            start = end
            continue
        bounds = [
            builder.constant(np.array([bound], dtype=np.int64), "bound") for bound in (start, end, axis)
        ]
        made = builder.emit(
            "Slice",
            [integers, *bounds],
            {},
            builder.name(output),
            _dtype(builder, node.inputs[0]),
            node,
            like=output,
            domain="",
        )
        builder.put(output, made)
        start = end


def _blocks(builder: SpikeBuilder, node: Node, integers: Value) -> None:
    """DepthToSpace and SpaceToDepth as Reshape, Transpose, Reshape, which every runtime has for integers."""
    source, output = given(node.inputs[0], node), node.outputs[0]
    attrs = attributes(node)
    size = int(attrs["blocksize"])
    _, channels, height, width = builder.shape(source)
    if node.op_type == "SpaceToDepth":
        first, perm = [channels, height // size, size, width // size, size], [0, 3, 5, 1, 2, 4]
    elif attrs.get("mode", "DCR") == "CRD":
        first, perm = [channels // size**2, size, size, height, width], [0, 1, 4, 2, 5, 3]
    else:
        first, perm = [size, size, channels // size**2, height, width], [0, 3, 4, 1, 5, 2]
    dtype = _dtype(builder, source)
    name = builder.name(output)
    shape = builder.constant(np.array([builder.target(source)[0], *first], dtype=np.int64), "shape")
    blocks = builder.emit("Reshape", [integers, shape], {}, f"{name}_blocks", dtype, node, domain="")
    turned = builder.emit("Transpose", [blocks], {"perm": perm}, f"{name}_turned", dtype, node, domain="")
    extents = [builder.symbolic_shape(source)[0], *first]
    blocks.shape, turned.shape = Shape(extents), Shape([extents[axis] for axis in perm])
    builder.put(output, _reshape(builder, node, turned, output))


def pad(builder: SpikeBuilder, node: Node) -> None:
    """Pad spikes with silence."""
    source, output = given(node.inputs[0], node), node.outputs[0]
    widths = given(pad_widths(node, len(builder.shape(source))), node)
    dtype = _dtype(builder, source)
    if dtype in (DataType.INT16, DataType.UINT16):
        attrs = {"pads": widths.reshape(-1).tolist()}
        name = builder.name(output)
        builder.put(
            output, builder.emit("SpikePad", [builder.get(source)], attrs, name, dtype, node, like=output)
        )
        return
    shape = builder.constant(widths.reshape(-1), "pads")
    made = builder.emit(
        "Pad",
        [builder.get(source), shape],
        {"mode": "constant"},
        builder.name(output),
        _dtype(builder, source),
        node,
        like=output,
        domain="",
    )
    builder.put(output, made)
