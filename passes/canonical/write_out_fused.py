"""Pass ``write-out-fused``: fused operators of onnxruntime and of new opsets become what they stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, Node
from snnc.ir.hosting import is_sealed
from snnc.passes.canonical.chain import leave
from snnc.passes.canonical.fused_attention import ATTENTION
from snnc.passes.canonical.fused_norms import NORMS
from snnc.passes.canonical.fused_products import PRODUCTS
from snnc.passes.canonical.fused_writer import CannotWrite, Ranks, Writer
from snnc.passes.canonical.infer_shapes import stand_in
from snnc.passes.canonical.keep_on_host import is_asked, why_not_hosted
from snnc.passes.editing import Editor
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FUSED_OPS", "WriteOutFused"]

#: What is written out, by domain and op type.
FUSED_OPS: dict[tuple[str, str], Callable[[Writer], None]] = {**NORMS, **PRODUCTS, **ATTENTION}

_LAYER_NORM_SINCE = 17
_EARLIEST = 9


@dataclass(frozen=True)
class WriteOutFused:
    """Write fused operators as the standard ones that they stand for, which other passes know.

    The function is the same in real arithmetic. What is computed of the extents of a value stays in the
    graph and is folded with the other shape computations.

    Matches:
        The operators of `FUSED_OPS`: those that onnxruntime's optimisers write, and those that opset 23 has
        for attention and rotary embeddings; LayerNormalization in models of older opsets.
    Leaves alone:
        A fused operator with a part that no standard operator stands for, such as a cache of keys and
        values; the part is named. Nodes that the user allows to stay on the host.
    Keeps:
        The names of the results.

    Attributes:
        allow_host: Operators and nodes that stay in float on the host.
    """

    allow_host: tuple[str, ...] = ()

    name: ClassVar[str] = "write-out-fused"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"types-known", "shapes-known", "constants-folded"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor, ranks = Editor(model), Ranks(model, stand_in)
        opset = model.graph.opset_imports.get("", _LAYER_NORM_SINCE)
        for node in list(model.graph):
            rule = (
                None
                if is_sealed(node)
                else FUSED_OPS.get((node.domain.removeprefix("ai.onnx"), node.op_type))
            )
            if rule is None or (node.op_type == "LayerNormalization" and opset >= _LAYER_NORM_SINCE):
                continue
            if is_asked(node, self.allow_host) and why_not_hosted(node) is None:
                continue
            reason = _rewrite(editor, node, rule, ranks, opset)
            if reason is not None:
                leave(editor, node, reason)
        kinds = Counter(rewrite.rule.removesuffix(" written out") for rewrite in editor.rewrites)
        editor.notes += [f"{count} {kind} written with standard operators" for kind, count in kinds.items()]
        return editor.result()


def _rewrite(
    editor: Editor, node: Node, rule: Callable[[Writer], None], ranks: Ranks, opset: int
) -> str | None:
    if opset < _EARLIEST:
        return f"the model is of an opset before {_EARLIEST}"
    writer = Writer(editor, node, ranks)
    try:
        rule(writer)
        writer.refuse_unknown()
    except CannotWrite as reason:
        writer.withdraw()
        return str(reason)
    writer.finish()
    return None
