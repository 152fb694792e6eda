"""Element types by their ONNX numbers; `snnc.ops` does not import onnx."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnc.errors import InternalError

__all__ = ["numpy_dtype", "onnx_type"]

_NUMPY_OF: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
}
_ONNX_OF = {dtype: number for number, dtype in _NUMPY_OF.items()}


def numpy_dtype(number: int) -> np.dtype[Any]:
    """Return the numpy element type of an ONNX one.

    Raises:
        InternalError: SNN114, snnc does not use this type.
    """
    try:
        return _NUMPY_OF[number]
    except KeyError:
        raise InternalError("SNN114", f"ONNX element type {number} is not used by snnc") from None


def onnx_type(dtype: np.dtype[Any]) -> int:
    """Return the ONNX element type of a numpy one.

    Raises:
        InternalError: SNN114, snnc does not use this type.
    """
    try:
        return _ONNX_OF[np.dtype(dtype)]
    except KeyError:
        raise InternalError("SNN114", f"element type {dtype} is not used by snnc") from None
