"""Shape inference on the weight-free skeleton of a model."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["infer_shapes"]


def infer_shapes(model: ir.Model) -> None:
    """Fill in shapes and element types of all values, in place, where ONNX can infer them.

    Nodes of other domains (those of snnc among them) are inferred through their function bodies.
    """
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
