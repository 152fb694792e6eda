"""Single tensors in files, as ONNX test data has them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from snnc.errors import InputError, Where
from snnc.files import open_regular

__all__ = ["read_tensor"]

_LARGEST = 2 * 1024**3 - 1
_TYPES = frozenset("biufc")


def read_tensor(path: str | os.PathLike[str]) -> tuple[str, npt.NDArray[Any]]:
    """Read a file that holds one ONNX tensor (``TensorProto``).

    Args:
        path: The file, such as ``input_0.pb``.

    Returns:
        The name that the tensor has in the file, often empty, and its content.

    Raises:
        InputError: SNN301 missing or no regular file; SNN342 no such tensor, or its data lies elsewhere.
        EnvironmentFailure: SNN601, if it may not be read.
    """
    where = Where(file=os.fspath(path))
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > _LARGEST:
            raise InputError("SNN342", f"holds {size} bytes, more than a tensor in a file may", where=where)
        content = stream.read()
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(content)
        if proto.data_location == onnx.TensorProto.EXTERNAL or proto.external_data:
            raise InputError("SNN342", "keeps its data in another file, which is not followed", where=where)
        array = np.array(numpy_helper.to_array(proto))
    except (DecodeError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise InputError(
            "SNN342", "is not one ONNX tensor", where=where, hint="save it with onnx.numpy_helper.from_array"
        ) from error
    if array.dtype.kind not in _TYPES:
        raise InputError("SNN342", f"holds {array.dtype}, expected numbers", where=where)
    return proto.name, array
