"""What the installed onnxruntime can load, and whether snnc's native kernels are there."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.errors import SnncError
from snnc.ir.limits import IR_VERSION, newest_ir, newest_opset, smallest_model
from snnc.runtimes import ort
from snnc.runtimes.onnxruntime_runtime import open_session

__all__ = ["NativeLibrary", "OnnxruntimeLimits", "native_library", "onnxruntime_limits"]

_ANY_OPSET = 17


@dataclass(frozen=True)
class NativeLibrary:
    """The shared library of native kernels for the operators of ``ai.snnc``.

    Attributes:
        path: Where it is; None if there is none.
        reason: Why it is not used, None if it is.
    """

    path: str | None
    reason: str | None


@dataclass(frozen=True)
class OnnxruntimeLimits:
    """The newest format that onnxruntime loads, found out by loading.

    Attributes:
        ir: Newest IR version, None if not even the one that snnc writes.
        opset: Newest opset of the standard domain, likewise.
    """

    ir: int | None
    opset: int | None


def native_library() -> NativeLibrary:
    """Look for the native kernels; every command that asks for them asks here."""
    path = ort.native_library()
    return NativeLibrary(None if path is None else str(path), ort.native_problem())


def onnxruntime_limits() -> OnnxruntimeLimits:
    """Find out the newest IR version and opset that the installed onnxruntime loads.

    Raises:
        EnvironmentFailure: SNN610, onnxruntime is not installed.
    """
    ir = next((v for v in range(newest_ir(), IR_VERSION - 1, -1) if _loads(v, _ANY_OPSET)), None)
    opset = next((v for v in range(newest_opset(), _ANY_OPSET - 1, -1) if _loads(IR_VERSION, v)), None)
    return OnnxruntimeLimits(ir, opset)


def _loads(ir_version: int, opset: int) -> bool:
    try:
        open_session(smallest_model(ir_version, opset), "none", threads=1)
    except SnncError as error:
        if error.code == "SNN423":
            return False
        raise
    return True
