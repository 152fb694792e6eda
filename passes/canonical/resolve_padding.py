"""Pass ``resolve-padding``: auto_pad becomes explicit pads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, Node, Value, attributes
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["ResolvePadding"]

_WINDOWED = ("Conv", "AveragePool", "MaxPool")


@dataclass(frozen=True)
class ResolvePadding:
    """Write the padding that ``auto_pad`` asks for as numbers (the form of exporters from TensorFlow).

    SAME pads so that the output has ⌈input / stride⌉ elements; an odd element goes to the end (SAME_UPPER) or
    to the beginning (SAME_LOWER). VALID is no padding.

    Matches:
        Conv, AveragePool and MaxPool with auto_pad.
    Leaves alone:
        "its spatial sizes are not static".
    Keeps:
        Everything else.
    """

    name: ClassVar[str] = "resolve-padding"
    requires: ClassVar[frozenset[str]] = frozenset({"shapes-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Resolve; see the class."""
        editor = Editor(model)
        for node in model.graph:
            if is_standard(node, *_WINDOWED) and attributes(node).get("auto_pad", "NOTSET") != "NOTSET":
                self._resolve(editor, node)
        return editor.result()

    @staticmethod
    def _resolve(editor: Editor, node: Node) -> None:
        attrs = attributes(node)
        sizes = _spatial(node.inputs[0])
        kernel = attrs.get("kernel_shape") or _spatial(node.inputs[1])
        if sizes is None or kernel is None:
            editor.fail("its spatial sizes are not static", node)
            return
        rank = len(sizes)
        strides = attrs.get("strides", [1] * rank)
        dilations = attrs.get("dilations", [1] * rank)
        begins, ends = [0] * rank, [0] * rank
        if attrs["auto_pad"] != "VALID":
            for axis, size in enumerate(sizes):
                reach = (int(kernel[axis]) - 1) * dilations[axis] + 1
                total = max(0, (-(-size // strides[axis]) - 1) * strides[axis] + reach - size)
                small, large = total // 2, total - total // 2
                upper = attrs["auto_pad"] == "SAME_UPPER"
                begins[axis], ends[axis] = (small, large) if upper else (large, small)
        set_attribute(node, "pads", [*begins, *ends])
        node.attributes.pop("auto_pad")
        editor.record("write auto_pad as pads", note=f"{node.name}: {attrs['auto_pad']}")


def _spatial(value: Value | None) -> list[int] | None:
    """Return the sizes of a value behind its first two axes, None if one is unknown."""
    if value is None or value.shape is None:
        return None
    sizes = list(value.shape)[2:]
    return (
        [size for size in sizes if isinstance(size, int)] if all(isinstance(s, int) for s in sizes) else None
    )
