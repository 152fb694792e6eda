"""Pass ``split-softmax``: the softmax of attention becomes spikes and a gain (semantics 6.2)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.coding import CodeBook, Partition
from snnc.ir import AI_SNNC, Model, Node, Shape, Value, attributes, constant, consumers_of
from snnc.passes.canonical.chain import leave
from snnc.passes.editing import Editor, is_standard, only_consumer, rank_of
from snnc.passes.layers import Chooser, book_of
from snnc.passes.recognise.masks import Masks
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["SplitSoftmax"]

#: From this opset on ReduceMax takes its axes as an input.
_AXES_ARE_AN_INPUT = {"ReduceMax": 18, "ReduceSum": 13}
#: Before this opset Softmax normalised all axes from its own on.
_ONE_AXIS = 13
_KEEPS_ROWS = frozenset({"Identity", "Dropout", "Cast"})


@dataclass(frozen=True)
class SplitSoftmax:
    """Write ``MatMul(Softmax(s), V)`` as ``MatMul(A, V) / sum(A)`` with ``A`` the code of ``exp(s - max s)``.

    The numerator is coded relative to the largest of its row, so that each row uses the whole code; the sum
    of the same codes divides, so that the weights of a row add up to one exactly. Sum and product are
    additions of spikes, exponential and code are one table of a neuron, and the division becomes a gain of
    the thresholds of the neuron that reads the quotient (6.2: 30 dB, where a code of the probabilities
    reaches 19 dB). Masked places send no spike, and take no part in the maximum; a row without an open place
    gives zero.

    Matches:
        Softmax over one axis, masked or not. Where a MatMul alone reads it and sums over that axis, the
        quotient is taken behind the product, and a quantiser between the two, as quantised transformers have
        it, gives its code to the numerators. Elsewhere the probabilities are a quotient themselves.
    Leaves alone:
        "it normalises several axes at once"; masks that are computed from coded values, or stand in front of
        a change of layout, with the reason.
    Keeps:
        The names of scores and result.

    Attributes:
        timesteps: T of the code of the numerators.
        groups: G of that code.
        partition: Partition of time-steps into groups.
        probability_bits: T and G of the numerators where no product follows.
        layers: Rules for single layers; see `snnc.settings.LayerRule`.
    """

    timesteps: int = whole(8, 1, 16)
    groups: int = whole(2, 1, 16)
    partition: Partition = "interleaved"
    probability_bits: int = whole(10, 1, 16)
    layers: tuple[str, ...] = ()

    name: ClassVar[str] = "split-softmax"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        masks = Masks(editor)
        chooser = Chooser(model, self.layers)
        books: Counter[CodeBook] = Counter()
        for node in [entry for entry in model.graph if is_standard(entry, "Softmax")]:
            axis = _axis(node, editor.graph.opset_imports.get("", 17))
            if axis is None:
                leave(editor, node, "it normalises several axes at once")
                continue
            choice = chooser.code(node.outputs[0])
            gate = masks.take_off(node)
            if isinstance(gate, str):
                leave(editor, node, gate)
                continue
            _drop_guard(editor, node)
            books[self._split(editor, node, axis, gate, choice)] += 1
        for book, count in books.items():
            editor.notes.append(
                f"{count} softmax: numerators coded with T={book.timesteps} G={book.groups}, "
                f"{book.levels} levels from the largest of a row down to {0.5 / book.max_abs:.1e} of it"
            )
        return editor.result()

    def _split(
        self, editor: Editor, node: Node, axis: int, gate: Value | None, choice: dict[str, Any]
    ) -> CodeBook:
        bits, given = self.probability_bits, _given(node.outputs[0])
        weights = node.outputs[0] if given is None else given[0]
        product = _product(weights, axis)
        steps, groups = (bits, bits) if product is None else (self.timesteps, self.groups)
        if product is not None and constant(product[0].inputs[1 - product[1]]) is not None:
            # A mixture of constant rows is no attention: a few weights carry all that is told.
            groups = self.timesteps
        name = node.outputs[0].name or ""
        if given is not None and product is not None:
            book = given[1]
        else:
            book = book_of(choice, steps, groups, self.partition, signed=False, tensor=name)
        code = _numerator(editor, node, axis, gate, book)
        out = node.outputs[0]
        if product is None:
            name = editor.take_name(node)
            weight = _reduced(editor, node, "ReduceSum", code, f"{name}.sum", axis)
            quotient = editor.add(node, "Div", [code, weight], name=name, dtype=out.dtype, shape=out.shape)
            editor.replace("split-softmax", out, quotient, removed=[node])
            return book
        if given is not None:
            editor.notes.append(
                f"{node.name}: the quantiser of its probabilities codes the numerators now, with as many "
                "levels, relative to the largest of a row"
            )
        between = [entry for entry in (weights.producer(),) if entry is not None and entry is not node]
        reader, place = product
        weights.replace_all_uses_with(code)
        held = reader.inputs[place]
        result = reader.outputs[0]
        name = editor.take_name(reader)
        operands = list(reader.inputs)
        total = editor.add(
            reader, "MatMul", operands, name=f"{name}.numerator", dtype=result.dtype, shape=result.shape
        )
        weight = _reduced(editor, reader, "ReduceSum", held, f"{node.name}.sum", -1 if place == 0 else -2)
        quotient = editor.add(
            reader, "Div", [total, weight], name=name, dtype=result.dtype, shape=result.shape
        )
        editor.replace("split-softmax", result, quotient, removed=[reader, *between, node])
        return book


def _axis(node: Node, opset: int) -> int | None:
    """Return the one axis that a softmax normalises, counted from the front; None if there are several."""
    rank = rank_of(node.inputs[0])
    if rank is None:
        return None
    axis = int(attributes(node).get("axis", -1 if opset >= _ONE_AXIS else 1)) % rank
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if opset >= _ONE_AXIS or axis == rank - 1:
        return axis
    wide = [place for place in range(axis, rank) if shape is None or shape[place] != 1]
    return (wide or [axis])[0] if len(wide) <= 1 else None


def _drop_guard(editor: Editor, node: Node) -> None:
    """Remove what turns the NaN of a row without an open place into zero: such a row is zero here."""
    out = node.outputs[0]
    for reader in consumers_of(out):
        if not is_standard(reader, "Where") or reader.inputs[2] is not out or reader.inputs[0] is None:
            continue
        question = reader.inputs[0].producer()
        if question is not None and is_standard(question, "IsNaN") and question.inputs[0] is out:
            editor.replace("nan guard", reader.outputs[0], out, removed=[question])
            return


def _given(weights: Value) -> tuple[Value, CodeBook] | None:
    """Return what a quantiser of probabilities gives, and its code as one of numerators."""
    reader = only_consumer(weights)
    if reader is None or reader.domain != AI_SNNC or reader.op_type != "Quantise":
        return None
    code = CodeBook.from_attributes(attributes(reader))
    if code.largest < 1:
        return None
    # Numerators are not negative: of a signed code its upper half is left.
    unsigned = CodeBook(code.timesteps, code.groups, code.partition).restricted(0, code.largest)
    return reader.outputs[0], unsigned


def _product(value: Value, axis: int) -> tuple[Node, int] | None:
    """Return the MatMul that alone reads a softmax and sums over its axis, and which operand that is."""
    rank = rank_of(value) or 0
    while True:
        reader = only_consumer(value)
        if reader is None:
            return None
        if is_standard(reader, "MatMul"):
            place = 0 if reader.inputs[0] is value else 1
            return (reader, place) if axis == rank - 1 - place and rank >= 2 else None
        if is_standard(reader, "Transpose"):
            perm = attributes(reader).get("perm") or list(range(rank))[::-1]
            axis = list(perm).index(axis)
        elif is_standard(reader, "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            out = reader.outputs[0]
            before, after = value.shape, out.shape
            if axis != rank - 1 or before is None or after is None or before[-1] != after[-1]:
                return None
            rank = len(after)
            axis = rank - 1
        elif not is_standard(reader, *_KEEPS_ROWS):
            return None
        value = reader.outputs[0]


def _numerator(editor: Editor, node: Node, axis: int, gate: Value | None, book: CodeBook) -> Value:
    """Code of exp(s - max s), silent where the gate is closed."""
    scores, out = node.inputs[0], node.outputs[0]
    stem = out.name or "attention"
    same: dict[str, Any] = {"dtype": out.dtype, "shape": out.shape}
    seen = scores
    if gate is not None:
        attrs = {"axis": axis}
        inputs = [scores, gate]
        seen = editor.add(node, "MaskRow", inputs, attrs, domain=AI_SNNC, name=f"{stem}.masked", **same)
    largest = _reduced(editor, node, "ReduceMax", seen, f"{stem}.max", axis)
    centred = editor.add(node, "Sub", [scores, largest], name=f"{stem}.centred", **same)
    numerator = editor.add(node, "Exp", [centred], name=f"{stem}.exp", **same)
    step = editor.constant(f"{stem}.step", np.asarray(1.0 / book.largest, dtype=np.float32))
    attributes_of_code = quantise_attributes(book, "away")
    code = editor.add(
        node, "Quantise", [numerator, step], attributes_of_code, domain=AI_SNNC, name=f"{stem}.code", **same
    )
    if gate is None:
        return code
    return editor.add(node, "Gate", [code, gate], domain=AI_SNNC, name=f"{stem}.gated", **same)


def _reduced(editor: Editor, anchor: Node, op: str, value: Value | None, name: str, axis: int) -> Value:
    """Reduce one axis to extent 1, in the form of the model's opset."""
    version = editor.graph.opset_imports.get("", 17)
    dtype = value.dtype if value is not None else None
    shape: Shape | None = None
    if value is not None and value.shape is not None:
        extents = list(value.shape)
        extents[axis] = 1
        shape = Shape(extents)
    if version >= _AXES_ARE_AN_INPUT[op]:
        axes = editor.constant(f"{name}.axes", np.array([axis], dtype=np.int64))
        return editor.add(anchor, op, [value, axes], {"keepdims": 1}, name=name, dtype=dtype, shape=shape)
    attrs = {"axes": [axis], "keepdims": 1}
    return editor.add(anchor, op, [value], attrs, name=name, dtype=dtype, shape=shape)
