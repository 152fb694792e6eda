"""One node of an exported graph in place of the torch operations that define it, in both exporters of torch.

The value of the node is not computed while exporting.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["one_node"]

_SUFFIX = {int: "i", float: "f", str: "s"}


class _Traced(torch.autograd.Function):
    """What the tracing exporter (TorchScript) turns into one node."""

    @staticmethod
    def forward(
        ctx: Any, name: str, attributes: dict[str, Any], dtype: torch.dtype, *inputs: Tensor
    ) -> Tensor:
        # Only shape and type are recorded; what is computed here would become part of the trace.
        return inputs[0].clone() if inputs[0].dtype == dtype else inputs[0].to(dtype)

    @staticmethod
    def symbolic(g: Any, name: str, attributes: dict[str, Any], dtype: torch.dtype, *inputs: Any) -> Any:
        typed = {}
        for key, content in attributes.items():
            first = content[0] if isinstance(content, list | tuple) else content
            typed[f"{key}_{_SUFFIX[type(first)]}"] = content
        node = g.op(name, *inputs, **typed)
        shaped = inputs[0].type()
        node.setType(shaped.with_dtype(dtype) if shaped.kind() == "TensorType" else shaped)
        return node


def one_node(
    name: str,
    inputs: tuple[Tensor, ...],
    attributes: dict[str, Any],
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return a value that an exporter writes as one node; only while exporting.

    Args:
        name: Operator, with ``domain::`` in front unless it is a standard one.
        inputs: Its inputs; the result has the shape of the first.
        attributes: Its attributes: integers, floats, strings or lists of them, none empty.
        dtype: Of the result; default that of the first input.
    """
    dtype = dtype or inputs[0].dtype
    if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        traced: Tensor = _Traced.apply(name, attributes, dtype, *inputs)  # type: ignore[no-untyped-call]
        return traced
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=inputs[0].shape)
