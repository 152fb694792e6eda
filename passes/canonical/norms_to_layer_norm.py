"""Pass ``norms-to-layer-norm``: normalisations of one sample become LayerNormalization of its last axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, attributes, constant
from snnc.passes.canonical.chain import Chain, leave, static_rest
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["NormsToLayerNorm"]


@dataclass(frozen=True)
class NormsToLayerNorm:
    """Write instance, group and mean-variance normalisation as layer normalisation of the last axis.

    What is normalised together is brought to the last axis; scale and offset of a channel follow as
    arithmetic.

    Matches:
        InstanceNormalization, GroupNormalization, MeanVarianceNormalization.
    Leaves alone:
        "its sizes are not static"; "its scale or bias is not constant"; "it normalises the batch".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "norms-to-layer-norm"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            rule = _RULES.get(node.op_type) if is_standard(node, node.op_type) else None
            if rule is None:
                continue
            if static_rest(node.inputs[0]) is None:
                leave(editor, node, "its sizes are not static")
                continue
            reason = rule(editor, node)
            if reason is not None:
                leave(editor, node, reason)
        return editor.result()


def _affine(node: Node, channels: int, rank: int) -> tuple[Array, Array] | None:
    """Return scale and offset of each channel, shape (channels, 1, ...)."""
    held = [constant(value) for value in node.inputs[1:3]]
    if len(held) != 2 or held[0] is None or held[1] is None:
        return None
    form = (channels, *([1] * (rank - 2)))
    # Of opset 18 a group normalisation has one number a group.
    scale, offset = (np.repeat(array.reshape(-1), channels // array.size).reshape(form) for array in held)  # type: ignore[union-attr]
    return scale.astype(np.float32), offset.astype(np.float32)


def _normalised(chain: Chain, epsilon: float) -> Chain:
    ones = np.ones(chain.dims[-1], dtype=np.float32)
    return chain.append("LayerNormalization", [ones], axis=-1, epsilon=epsilon)


def _instance(editor: Editor, node: Node) -> str | None:
    assert node.inputs[0] is not None
    chain = Chain(editor, node, node.inputs[0])
    rest = chain.dims[1:]
    channels, grouped = rest[0], node.op_type == "GroupNormalization"
    groups = int(attributes(node)["num_groups"]) if grouped else channels
    found = _affine(node, channels, len(chain.dims))
    if found is None:
        return "its scale or bias is not constant"
    scale, offset = found
    _normalised(chain.reshape([groups, prod(rest) // groups]), float(attributes(node).get("epsilon", 1e-5)))
    chain.reshape(rest).scale(scale).shift(offset).finish(f"{node.op_type} by the last axis")
    return None


def _mean_variance(editor: Editor, node: Node) -> str | None:
    assert node.inputs[0] is not None
    chain = Chain(editor, node, node.inputs[0])
    axes = sorted(int(axis) % len(chain.dims) for axis in attributes(node).get("axes", [0, 2, 3]))
    if 0 in axes:
        return "it normalises the batch"
    undo = chain.to_last(axes)
    # The standard adds 1e-9 to the deviation.
    _normalised(chain, 1e-9).back(*undo).finish("mean and variance of the last axis")
    return None


_RULES: dict[str, Callable[[Editor, Node], str | None]] = {
    "InstanceNormalization": _instance,
    "GroupNormalization": _instance,
    "MeanVarianceNormalization": _mean_variance,
}
