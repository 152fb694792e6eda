"""The readable text form of a graph: one node a line, weights as type, shape and digest."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx_ir as ir

from snnc.ir.edit import attributes

__all__ = ["to_text"]

_SHORT = 12


def to_text(model: ir.Model) -> str:
    """Return a deterministic listing of a model for dumps, diffs and goldens.

    One line a node, in graph order: ``output : dtype[shape] = op<attributes>(inputs) @ source``. Weights
    appear as ``dtype[shape] sha256:8 digits``; small ones are written out.
    """
    graph = model.graph
    lines = [f"graph {graph.name or ''}".rstrip()]
    lines += [
        f"opset {domain or 'ai.onnx'} {version}" for domain, version in sorted(graph.opset_imports.items())
    ]
    lines += [f"input {_typed(value)}" for value in graph.inputs]
    lines += [_weight_line(value) for _, value in sorted(graph.initializers.items())]
    for node in graph:
        outputs = ", ".join(_typed(value) for value in node.outputs)
        attrs = ", ".join(f"{name}={_attr(value)}" for name, value in sorted(attributes(node).items()))
        inputs = ", ".join(value.name or "" if value is not None else "" for value in node.inputs)
        op = f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        origin = node.metadata_props.get("snnc.source", node.name or "")
        lines.append(f"{outputs} = {op}{f'<{attrs}>' if attrs else ''}({inputs}) @ {origin}")
    lines += [f"output {_typed(value)}" for value in graph.outputs]
    return "\n".join(lines) + "\n"


def _typed(value: ir.Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    shape = (
        ",".join(str(dim) if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape)
        if value.shape is not None
        else "?"
    )
    return f"{value.name} : {dtype}[{shape}]"


def _weight_line(value: ir.Value) -> str:
    array = np.ascontiguousarray(value.const_value.numpy()) if value.const_value is not None else np.empty(0)
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:8]
    content = f" = {array.reshape(-1).tolist()}" if 0 < array.size <= _SHORT else ""
    return f"weight {_typed(value)} sha256:{digest}{content}"


def _attr(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, list) and len(value) > _SHORT:
        digest = hashlib.sha256(repr(value).encode()).hexdigest()[:8]
        return f"[{value[0]}…{value[-1]}]({len(value)}, sha256:{digest})"
    return repr(value)
