"""Encoding rules of pools: sums and maxima over windows."""

from __future__ import annotations

from snnc.errors import UnsupportedError, Where
from snnc.ir import DataType, Node, attributes
from snnc.passes.analysis import Activated, Coded, Merged, as_membrane
from snnc.passes.quantise.grids import EXACT_FLOAT32
from snnc.passes.spike.builder import SpikeBuilder, data_type
from snnc.passes.spike.typed import given

__all__ = ["average", "largest"]


def average(builder: SpikeBuilder, node: Node) -> None:
    """AveragePool: the sum of a window; the division is part of the step."""
    source, output = given(node.inputs[0], node), node.outputs[0]
    attrs = attributes(node)
    spatial = len(attrs["kernel_shape"])
    window = {
        "kernel_shape": attrs["kernel_shape"],
        "strides": attrs.get("strides", [1] * spatial),
        "pads": attrs.get("pads", [0] * (2 * spatial)),
    }
    kind, name = builder.kind(output), builder.name(output)
    if isinstance(kind, Merged):
        op, integers = "SpikeSumPool", builder.get(source)
    else:
        op, integers = "MembraneSumPool", builder.membrane(source, node)[0]
    seen = as_membrane(kind)
    if seen is not None and seen.bound >= EXACT_FLOAT32:
        raise UnsupportedError(
            "SNN445",
            f"it adds what can reach ±{seen.bound}; sums over windows are exact below 2^24",
            where=Where(node=node.name),
            hint="put the quantiser in front of the pool",
        )
    builder.put(output, builder.emit(op, [integers], window, name, DataType.INT32, node, like=output))


def largest(builder: SpikeBuilder, node: Node) -> None:
    """MaxPool of codes or of a membrane."""
    source, output = node.inputs[0], node.outputs[0]
    kind = builder.kind(output)
    attrs = attributes(node)
    spatial = len(attrs["kernel_shape"])
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or len(node.outputs) > 1:
        raise UnsupportedError("SNN443", "MaxPool with auto_pad or indices", where=Where(node=node.name))
    window = {
        "kernel_shape": attrs["kernel_shape"],
        "strides": attrs.get("strides", [1] * spatial),
        "pads": attrs.get("pads", [0] * (2 * spatial)),
        "dilations": attrs.get("dilations", [1] * spatial),
        "ceil_mode": int(attrs.get("ceil_mode", 0)),
    }
    builder.check_range(kind.membrane if isinstance(kind, Activated) else kind, node)
    op, dtype = "MembraneMaxPool", DataType.INT32
    if isinstance(kind, Coded):
        op, dtype = "SpikeMaxPool", data_type(kind.book.dtype)
    inputs = [builder.get(source)]
    builder.put(output, builder.emit(op, inputs, window, builder.name(output), dtype, node, like=output))
