"""What stays in float on the host: one executor for the numpy runtimes and the oracle, onnxruntime itself.

A node runs in a session of its own, without optimisation. In a converted file the same op stands between
barriers that onnxruntime's optimiser does not look through, so that it is the same kernel on the same
operands there, and the bits are the same at every optimisation level (docs/decisions/0005).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnc.errors import UnsupportedError, Where
from snnc.ir import Node, constant
from snnc.ir.hosting import declared, one_node_model
from snnc.runtimes.common import Array
from snnc.runtimes.onnxruntime_runtime import open_session

__all__ = ["HostExecutor"]


class HostExecutor:
    """Runs declared host nodes.

    Args:
        opset: Version of the standard ops in the model of the nodes.
    """

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._sessions: dict[tuple[Any, ...], Any] = {}

    def run(self, node: Node, inputs: Sequence[Array | None]) -> list[Array]:
        """Evaluate one node.

        Args:
            node: A declared node.
            inputs: Its inputs, None where absent.

        Returns:
            Its outputs; an array of size 0 stands for one that has no name.

        Raises:
            UnsupportedError: SNN423, onnxruntime refuses the node.
        """
        arrays = [None if array is None else np.ascontiguousarray(array) for array in inputs]
        fixed = [constant(value) is not None for value in node.inputs]
        session = self._session(node, arrays, fixed)
        feeds = {
            f"x{place}": array
            for place, (array, held) in enumerate(zip(arrays, fixed, strict=True))
            if array is not None and not held
        }
        try:
            results = iter(session.run(None, feeds))
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UnsupportedError(
                "SNN423", f"onnxruntime cannot run it: {first}", where=Where(node=node.name)
            ) from error
        empty = np.zeros(0, dtype=np.float32)
        return [np.asarray(next(results)) if value.name else empty for value in node.outputs]

    def _session(self, node: Node, arrays: Sequence[Array | None], fixed: Sequence[bool]) -> Any:
        types = tuple(None if array is None else (array.dtype.str, array.ndim) for array in arrays)
        key = (id(node), types)
        if key not in self._sessions:
            op = declared(node).get("op", node.op_type)
            data = one_node_model(node, op, self._opset, arrays, fixed)
            try:
                self._sessions[key] = open_session(data, "none")
            except UnsupportedError as error:
                raise UnsupportedError(error.code, error.message, where=Where(node=node.name)) from error
        return self._sessions[key]
