"""Pass ``write-out-pools``: pools and reductions in the forms that have a form with spikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, attributes, constant
from snnc.passes.canonical.chain import Chain, leave, static_rest
from snnc.passes.canonical.norm_windows import adding_window
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["WriteOutPools"]

_REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1")


@dataclass(frozen=True)
class WriteOutPools:
    """Write pools and reductions as MaxPool, AveragePool, ReduceSum and ReduceMean over listed axes.

    The maximum over several axes is a MaxPool over one; a minimum is a maximum of negatives; LpPool with
    p = 1 sums magnitudes. A window that ceil_mode lets reach beyond the edge is padding that is not counted;
    where padding is counted, each place has a constant of its own.

    Matches:
        GlobalMaxPool, GlobalLpPool and LpPool with p = 1, AveragePool with ceil_mode or dilations, and
        reductions.
    Leaves alone:
        "its sizes are not static"; "it reduces the batch"; "its p is not 1 or 2"; ReduceMax over
        one axis that is kept.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "write-out-pools"
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
            reason = rule(editor, node)
            if reason is not None:
                leave(editor, node, reason)
        return editor.result()


def _global_max(editor: Editor, node: Node) -> str | None:
    assert node.inputs[0] is not None
    chain = Chain(editor, node, node.inputs[0])
    sizes = chain.dims[2:]
    if not sizes:
        return "it has no positions"
    dims = [*chain.dims[:2], *([1] * len(sizes))]
    chain.append("MaxPool", (), dims, kernel_shape=sizes).finish("global maximum")
    return None


def _lp_pool(editor: Editor, node: Node) -> str | None:
    assert node.inputs[0] is not None
    attrs = attributes(node)
    if int(attrs.get("p", 2)) != 1:
        return "its p is not 1 or 2"
    chain = Chain(editor, node, node.inputs[0])
    out = list(node.outputs[0].shape or ())
    window = adding_window(node, chain, out)
    if isinstance(window, str):
        return window
    chain.append("Abs").append("AveragePool", (), out, **window)
    chain.scale(np.array(prod(window["kernel_shape"]))).finish("sum of magnitudes")
    return None


def _average(editor: Editor, node: Node) -> str | None:
    """Resolve ceil_mode and dilations."""
    attrs, out = attributes(node), list[Any](node.outputs[0].shape or ())
    assert node.inputs[0] is not None
    chain = Chain(editor, node, node.inputs[0])
    kernel = [int(size) for size in attrs["kernel_shape"]]
    spatial = len(kernel)
    gaps = [int(gap) for gap in attrs.get("dilations", [1] * spatial)]
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "its padding was not resolved"
    if not attrs.get("ceil_mode", 0) and all(gap == 1 for gap in gaps):
        return None
    if static_rest(node.outputs[0]) is None:
        return "its sizes are not static"
    strides = [int(stride) for stride in attrs.get("strides", [1] * spatial)]
    pads = [int(width) for width in attrs.get("pads", [0] * (2 * spatial))]
    counts, new = [], list(pads)
    for axis in range(spatial):
        size, reach = chain.dims[2 + axis], (kernel[axis] - 1) * gaps[axis] + 1
        starts = np.arange(out[2 + axis]) * strides[axis] - pads[axis]
        places = starts[:, None] + np.arange(kernel[axis]) * gaps[axis]
        low, high = (
            (-pads[axis], size + pads[axis + spatial]) if attrs.get("count_include_pad", 0) else (0, size)
        )
        counts.append(((places >= low) & (places < high)).sum(axis=1))
        new[axis + spatial] = max(0, int(starts[-1]) + reach - size)
    area = np.ones((1, 1) + (1,) * spatial)
    for axis, count in enumerate(counts):
        form = [1] * (2 + spatial)
        form[2 + axis] = -1
        area = area * count.reshape(form)
    if not bool(np.all(area > 0)):
        return "a window of it lies beside its input"
    # The divisor of every window is a constant; what lies beyond the edge adds nothing.
    shared = {"strides": strides, "pads": new, "kernel_shape": kernel}
    if all(gap == 1 for gap in gaps):
        if all(new[axis] < kernel[axis % spatial] for axis in range(2 * spatial)):
            chain.append("AveragePool", (), out, count_include_pad=1, **shared)
        else:
            wide = [0, 0, *new[:spatial]], [0, 0, *new[spatial:]]
            shared.pop("pads")
            chain.pad(*wide).append("AveragePool", (), out, **shared)
    else:
        channels = chain.dims[1]
        weights = np.full((channels, 1, *kernel), 1 / prod(kernel), dtype=np.float32)
        chain.append("Conv", [weights], out, group=channels, dilations=gaps, **shared)
    chain.scale(prod(kernel) / area).finish("average over windows at the edge")
    return None


def _reduction(editor: Editor, node: Node) -> str | None:
    """Maxima and minima become pools; without a list of axes the batch is reduced too."""
    attrs, source = attributes(node), node.inputs[0]
    assert source is not None
    rank = len(source.shape or ())
    given = node.inputs[1] if len(node.inputs) > 1 else None
    held = constant(given)
    if given is not None and held is None:
        return "its axes are not constant"
    listed = held.tolist() if held is not None else attrs.get("axes", [])
    chain = Chain(editor, node, source)
    if not listed and int(attrs.get("noop_with_empty_axes", 0)):
        if node.op_type == "ReduceL1":
            chain.append("Abs").finish("magnitude")
        elif not editor.replace("reduction over no axis", node.outputs[0], source):
            return "passes an input of the graph, a weight or another output on to an output"
        return None
    axes = sorted({int(axis) % rank for axis in (listed or range(rank))})
    if 0 in axes:
        return "it reduces the batch"
    if node.op_type == "ReduceL1":
        node.replace_input_with(0, chain.append("Abs").value)
        node.op_type = "ReduceSum"
        editor.record("sum of magnitudes")
        attrs.pop("axes", None)
        node.attributes.pop("axes", None)
        editor.set_constant(node, 1, f"{node.name}.axes", np.array(axes, dtype=np.int64))
        return None
    if node.op_type in ("ReduceSum", "ReduceMean"):
        return None
    keep = bool(int(attrs.get("keepdims", 1)))
    if node.op_type == "ReduceMax" and len(axes) == 1 and keep:
        return None
    _extremum(chain, axes, list(node.outputs[0].shape or ())[1:], least=node.op_type == "ReduceMin")
    chain.finish("maximum over windows")
    return None


def _extremum(chain: Chain, axes: list[int], rest: Sequence[Any], *, least: bool) -> None:
    """Bring the reduced axes to the end, pool over them, and give the result its shape."""
    if least:
        chain.append("Neg")
    kept = [axis for axis in range(1, len(chain.dims)) if axis not in axes]
    chain.transpose([0, *kept, *axes])
    positions = prod(chain.dims[1 : 1 + len(kept)])
    window = prod(chain.dims[1 + len(kept) :])
    chain.reshape([positions, window])
    chain.append("MaxPool", (), [chain.dims[0], positions, 1], kernel_shape=[window])
    chain.reshape([int(size) for size in rest])
    if least:
        chain.append("Neg")


_RULES: dict[str, Callable[[Editor, Node], str | None]] = {
    "GlobalMaxPool": _global_max,
    "LpPool": _lp_pool,
    "GlobalLpPool": _lp_pool,
    "AveragePool": _average,
    **dict.fromkeys(_REDUCTIONS, _reduction),
}
