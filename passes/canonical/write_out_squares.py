"""Pass ``write-out-squares``: sums of squares, logarithms and exponentials, one function at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Value, attributes, constant
from snnc.passes.canonical.chain import Chain, leave, static_rest
from snnc.passes.canonical.norm_windows import adding_window
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["WriteOutSquares"]

#: From this opset on ReduceMax reads its axes.
_AXES_ARE_INPUTS = 18


@dataclass(frozen=True)
class WriteOutSquares:
    """Write ops that hide a function of one value as that function, a sum, and the function of the sum.

    Each function of a code is a table of a neuron; sums are additions. A local response is a product with a
    constant band of ones across the channels.

    Matches:
        LpPool and GlobalLpPool with p = 2, ReduceL2, ReduceSumSquare, ReduceLogSum, ReduceLogSumExp,
        LpNormalization, LRN, LogSoftmax.
    Leaves alone:
        "its sizes are not static"; "its p is not 1 or 2"; "it reduces the batch"; "its axes are not
        constant".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "write-out-squares"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            rule = _RULES.get(node.op_type) if is_standard(node, node.op_type) else None
            if rule is None or node.inputs[0] is None or constant(node.inputs[0]) is not None:
                continue
            if static_rest(node.inputs[0]) is None:
                leave(editor, node, "its sizes are not static")
                continue
            reason = rule(editor, node, Chain(editor, node, node.inputs[0]))
            if reason is not None:
                leave(editor, node, reason)
        return editor.result()


def _square(chain: Chain) -> Chain:
    return chain.append("Mul", [chain.value])


def _pool(editor: Editor, node: Node, chain: Chain) -> str | None:
    attrs = attributes(node)
    order = int(attrs.get("p", 2))
    if order != 2:
        return None if order == 1 else "its p is not 1 or 2"
    out = list(node.outputs[0].shape or ())
    window = adding_window(node, chain, out)
    if isinstance(window, str):
        return window
    _square(chain).append("AveragePool", (), out, **window)
    chain.scale(np.array(prod(window["kernel_shape"]))).append("Sqrt").finish("root of a sum of squares")
    return None


def _reduction(editor: Editor, node: Node, chain: Chain) -> str | None:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    held, attrs, rank = constant(given), attributes(node), len(chain.dims)
    if given is not None and held is None:
        return "its axes are not constant"
    listed = held.tolist() if held is not None else attrs.get("axes", [])
    if not listed and int(attrs.get("noop_with_empty_axes", 0)):
        return "it reduces nothing"
    axes = sorted({int(axis) % rank for axis in (listed or range(rank))})
    if 0 in axes:
        return "it reduces the batch"
    op = node.op_type
    keep = int(attrs.get("keepdims", 1))
    out = list(node.outputs[0].shape or ())
    if op == "ReduceLogSumExp":
        largest, _ = _log_of_sum(editor, chain, axes)
        chain.append("Add", [largest])
        if not keep:
            chain.reshape([size for size in out[1:] if isinstance(size, int)])
        chain.finish(op)
        return None
    if op in ("ReduceL2", "ReduceSumSquare"):
        _square(chain)
    chain.append("ReduceSum", [np.array(axes, dtype=np.int64)], out, keepdims=keep)
    if op != "ReduceSumSquare":
        chain.append("Sqrt" if op == "ReduceL2" else "Log")
    chain.finish(op)
    return None


def _normalisation(editor: Editor, node: Node, chain: Chain) -> str | None:
    attrs = attributes(node)
    axis, order = int(attrs.get("axis", -1)) % len(chain.dims), int(attrs.get("p", 2))
    if axis == 0:
        return "it normalises the batch"
    source, dims = chain.value, list(chain.dims)
    reduced = [*dims[:axis], 1, *dims[axis + 1 :]]
    if order == 2:
        _square(chain)
    else:
        chain.append("Abs")
    chain.append("ReduceSum", [np.array([axis], dtype=np.int64)], reduced, keepdims=1)
    if order == 2:
        chain.append("Sqrt")
    _times(chain.append("Reciprocal"), source, dims).finish("division by a norm")
    return None


def _log_of_sum(editor: Editor, chain: Chain, axes: list[int]) -> tuple[Value, Value]:
    """Append ``log(sum(exp(x - max x)))`` along some axes, which are kept; return max x and x - max x.

    Without the largest, a code of the exponentials has one step for rows whose sums are far apart.
    """
    source, dims = chain.value, list(chain.dims)
    reduced = [1 if axis in axes else size for axis, size in enumerate(dims)]
    held = np.array(axes, dtype=np.int64)
    old = editor.graph.opset_imports.get("", 17) < _AXES_ARE_INPUTS
    largest = chain.append(
        "ReduceMax", [] if old else [held], reduced, **({"axes": axes} if old else {})
    ).value
    chain.value, chain.dims = source, dims
    below = chain.append("Sub", [largest]).value
    chain.append("Exp").append("ReduceSum", [held], reduced, keepdims=1).append("Log")
    return largest, below


def _log_softmax(editor: Editor, node: Node, chain: Chain) -> str | None:
    axis = int(attributes(node).get("axis", -1)) % len(chain.dims)
    if axis == 0:
        return "it normalises the batch"
    dims = list(chain.dims)
    _, below = _log_of_sum(editor, chain, [axis])
    chain.append("Neg").append("Add", [below], dims).finish("logarithm of a softmax")
    return None


def _times(chain: Chain, source: Value, dims: list[Any]) -> Chain:
    return chain.append("Mul", [source], dims)


def _local_response(editor: Editor, node: Node, chain: Chain) -> str | None:
    attrs = attributes(node)
    size, channels = int(attrs["size"]), int(chain.dims[1])
    alpha, beta, bias = (
        float(attrs.get(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    source, dims = chain.value, list(chain.dims)
    away = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = (away >= -((size - 1) // 2)) & (away <= size - 1 - (size - 1) // 2)
    weights = (band * (alpha / size)).astype(np.float32).reshape(channels, channels, *([1] * (len(dims) - 2)))
    _square(chain).append("Conv", [weights], dims).shift(np.array(bias, dtype=np.float32))
    chain.append("Pow", [np.array(-beta, dtype=np.float32)])
    _times(chain, source, dims).finish("local response")
    return None


_RULES: dict[str, Callable[[Editor, Node, Chain], str | None]] = {
    "LpPool": _pool,
    "GlobalLpPool": _pool,
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"), _reduction),
    "LpNormalization": _normalisation,
    "LRN": _local_response,
    "LogSoftmax": _log_softmax,
}
