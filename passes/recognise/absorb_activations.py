"""Pass ``absorb-activations``: Relu and Clip in front of quantisers become bounds of their code books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import UsageError
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant, consumers_of
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Editor, is_output, is_standard, only_consumer
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["AbsorbActivations"]

#: Ops that an elementwise, non-decreasing function may be moved across.
_TRANSPARENT = (
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather",
    "Identity", "Expand", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip


def _is_quantise(node: Node | None) -> TypeGuard[Node]:
    return node is not None and node.domain == AI_SNNC and node.op_type == "Quantise"


def _bounds(node: Node) -> tuple[float, float] | None:
    """Return the bounds that Relu or Clip sets; None if they are not constant numbers."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    attrs, found = attributes(node), [float("-inf"), float("inf")]
    for place, name in ((0, "min"), (1, "max")):
        value = node.inputs[place + 1] if len(node.inputs) > place + 1 else None
        held = constant(value) if value is not None else np.asarray(attrs.get(name, found[place]))
        if held is None or held.size != 1:
            return None
        found[place] = float(held.reshape(-1)[0])
    return (found[0], found[1]) if found[0] <= found[1] else (found[1], found[1])


def _readers(value: Value) -> list[Node] | str:
    """Return the quantisers that read a value, directly or through transparent ops."""
    found: list[Node] = []
    stack = [value]
    while stack:
        current = stack.pop()
        if is_output(current):
            return "its result is an output of the graph"
        for node in consumers_of(current):
            if _is_quantise(node) and node.inputs[0] is current:
                found.append(node)
            elif is_standard(node, *_TRANSPARENT) and node.inputs[0] is current:
                stack += [out for out in node.outputs if out.name]
            else:
                return f"{node.op_type} {node.name!r} reads its result"
    return found or "nothing reads its result"


def _restricted(node: Node, low: float, high: float) -> CodeBook | str:
    """Return the code book of a quantiser whose input was clipped before: Q(clip(u)) = clip(Q(u))."""
    attrs = attributes(node)
    book = CodeBook.from_attributes(attrs)
    step = constant(node.inputs[1])
    if step is None:
        return "the step of its quantiser is not constant"
    ends: list[int] = []
    for bound, code in ((low, book.smallest), (high, book.largest)):
        if np.isinf(bound):
            ends.append(code)
            continue
        # 0 is exact whatever the step; another bound in float64, in units of the step.
        codes = np.unique(book.nearest(np.asarray(bound / step.astype(np.float64)), attrs["ties"]))
        if codes.size != 1:
            return "its bound is another code in each channel"
        ends.append(int(codes[0]))
    try:
        return book.restricted(ends[0], ends[1])
    except UsageError as error:
        return error.message


def _cut(node: Node, low: float, high: float) -> CodeBook | str:
    """Return the code book of a quantiser whose result is clipped: bounds inside its range must be levels."""
    book, step = CodeBook.from_attributes(attributes(node)), constant(node.inputs[1])
    if step is None:
        return "the step of its quantiser is not constant"
    levels = np.multiply.outer(book.codes.astype(np.float32), step.astype(np.float32).reshape(-1))
    kept = (levels >= np.float32(low)) & (levels <= np.float32(high))
    if not (kept == kept[:, :1]).all() or not kept.any():
        return "its bound is another code in each channel, or cuts every level"
    inside = levels[kept[:, 0]]
    for bound, nearest in ((low, inside[0]), (high, inside[-1])):
        if (
            not kept.all()
            and levels.min() < bound < levels.max()
            and not (nearest == np.float32(bound)).all()
        ):
            return "its bound is not one of the levels that arrive"
    codes = book.codes[kept[:, 0]]
    return book.restricted(int(codes[0]), int(codes[-1]))


@dataclass(frozen=True)
class AbsorbActivations:
    """Remove Relu and Clip where only quantisers read their result: they restrict the codes instead.

    ``Q(clip(u, l, h)) = clip(Q(u), Q(l), Q(h))`` for every non-decreasing quantiser Q, whatever its ties.
    So a Relu in front of a code book without negative codes just disappears. One directly behind a quantiser
    that nothing else reads restricts that quantiser, if its bounds are levels (as 0 is).

    Matches:
        Relu, and Clip with constant bounds, whose readers are quantisers, directly or through MaxPool and ops
        that only move elements; or whose input is a quantiser's.
    Leaves alone:
        "... reads its result"; "its result is an output of the graph"; "its bound is another code in each
        channel"; "its bounds are not constant numbers"; "only one level would be left"; "its bound is not one
        of the levels that arrive".
    Keeps:
        Value names.
    """

    name: ClassVar[str] = "absorb-activations"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Absorb; see the class."""
        editor = Editor(model)
        # Backwards, so that of two clips in a row both go.
        for node in reversed([entry for entry in model.graph if is_standard(entry, "Relu", "Clip")]):
            reason = self._absorb(editor, node)
            if reason is not None:
                editor.fail(reason, node)
        return editor.result()

    @staticmethod
    def _absorb(editor: Editor, node: Node) -> str | None:
        """Absorb one node; returns why not, or None."""
        bounds, source = _bounds(node), node.inputs[0]
        if bounds is None or source is None:
            return "its bounds are not constant numbers"
        readers = _readers(node.outputs[0])
        found = _restricted
        first = source.producer()
        if isinstance(readers, str) and _is_quantise(first) and only_consumer(source) is node:
            readers, found = [first], _cut
        if isinstance(readers, str):
            return readers
        books: list[CodeBook] = []
        for reader in readers:
            book = found(reader, *bounds)
            if isinstance(book, str):
                return book
            if book.levels < 2:
                return "only one level would be left"
            books.append(book)
        for reader, book in zip(readers, books, strict=True):
            for name, value in quantise_attributes(book, attributes(reader)["ties"]).items():
                set_attribute(reader, name, value)
        editor.replace(f"absorb {node.op_type}", node.outputs[0], source)
        return None
