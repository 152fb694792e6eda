"""Canonical passes: any ONNX graph becomes one of few forms, in float."""

from __future__ import annotations

from snnc.passes.canonical.drop_dead_code import DropDeadCode
from snnc.passes.canonical.einsum_to_matmul import EinsumToMatmul
from snnc.passes.canonical.evaluate_constants import EvaluateConstants
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm
from snnc.passes.canonical.fold_constants import FoldConstants
from snnc.passes.canonical.fold_shapes import FoldShapes
from snnc.passes.canonical.freeze_defaults import FreezeDefaults
from snnc.passes.canonical.gemm_to_matmul import GemmToMatmul
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.inline_functions import InlineFunctions
from snnc.passes.canonical.lift_constants import LiftConstants
from snnc.passes.canonical.name_nodes import NameNodes
from snnc.passes.canonical.remove_identity import RemoveIdentity
from snnc.passes.canonical.resolve_padding import ResolvePadding
from snnc.passes.canonical.sort_nodes import SortNodes

__all__ = [
    "DropDeadCode",
    "EinsumToMatmul",
    "EvaluateConstants",
    "FoldBatchNorm",
    "FoldConstants",
    "FoldShapes",
    "FreezeDefaults",
    "GemmToMatmul",
    "InferShapes",
    "InlineFunctions",
    "LiftConstants",
    "NameNodes",
    "RemoveIdentity",
    "ResolvePadding",
    "SortNodes",
]
