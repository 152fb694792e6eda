"""Which versions of the ONNX format there are: read by snnc, written by snnc, known to the onnx package."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from snnc.ir.files import IR_VERSION

__all__ = ["IR_VERSION", "OLDEST_OPSET", "newest_ir", "newest_opset", "smallest_model"]

#: The oldest opset that snnc reads.
OLDEST_OPSET = 7


def newest_opset() -> int:
    """Return the newest opset that the installed onnx knows; snnc reads up to it."""
    return int(onnx.defs.onnx_opset_version())


def newest_ir() -> int:
    """Return the IR version that the installed onnx writes unless it is told otherwise."""
    return int(onnx.IR_VERSION)


def smallest_model(ir_version: int, opset: int) -> bytes:
    """Return a model of one Identity node, to find out what a runtime loads."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="snnc"
    )
    return bytes(model.SerializeToString())
