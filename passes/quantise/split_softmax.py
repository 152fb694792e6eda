"""Pass ``split-softmax``: the softmax of attention becomes spikes and a gain (semantics 6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.coding import CodeBook, Partition
from snnc.ir import AI_SNNC, Model, Node, Shape, Value, attributes
from snnc.passes.editing import Editor, is_standard, only_consumer, rank_of
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["SplitSoftmax"]

#: From this opset on ReduceMax takes its axes as an input.
_AXES_ARE_AN_INPUT = {"ReduceMax": 18, "ReduceSum": 13}


@dataclass(frozen=True)
class SplitSoftmax:
    """Write ``MatMul(Softmax(s), V)`` as ``MatMul(A, V) / sum(A)`` with ``A`` the code of ``exp(s - max s)``.

    The numerator is coded relative to the largest of its row, so that each row uses the whole code; the sum
    of the same codes divides, so that the weights of a row add up to one exactly. Sum and product are
    additions of spikes, exponential and code are one table of a neuron, and the division becomes a gain of
    the thresholds of the neuron that reads the quotient (6.2: 30 dB, where a code of the probabilities
    reaches 19 dB).

    Matches:
        Softmax over the last axis that a MatMul alone reads, as its first operand; a quantiser between the
        two, as quantised transformers have it, gives its code to the numerators.
    Leaves alone:
        "it is not over the last axis"; "its result is read by other than one MatMul": a softmax that turns
        logits into probabilities.
    Keeps:
        The names of scores and result.

    Attributes:
        timesteps: T of the code of the numerators.
        groups: G of that code.
        partition: Partition of time-steps into groups.
    """

    timesteps: int = 8
    groups: int = 2
    partition: Partition = "interleaved"

    name: ClassVar[str] = "split-softmax"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        book, quantised = CodeBook(self.timesteps, self.groups, self.partition), 0
        for node in [entry for entry in model.graph if is_standard(entry, "Softmax")]:
            weights, product, code = _reader(node.outputs[0])
            last = int(attributes(node).get("axis", -1))
            if last not in (-1, (rank_of(node.inputs[0]) or 0) - 1):
                editor.fail("it is not over the last axis", node)
            elif product is None or not is_standard(product, "MatMul") or product.inputs[0] is not weights:
                editor.fail("its result is read by other than one MatMul", node)
            else:
                quantised += code is not None
                _split(editor, node, product, book if code is None else code)
        if quantised:
            editor.notes.append(
                f"{quantised} softmax had a quantiser of probabilities: it codes the numerators now, with as "
                "many levels, relative to the largest of a row"
            )
        if len(editor.rewrites) > quantised:
            editor.notes.append(
                f"{len(editor.rewrites) - quantised} softmax: numerators coded with T={book.timesteps} "
                f"G={book.groups}, {book.levels} levels from the largest of a row down to "
                f"{0.5 / book.max_abs:.1e} of it"
            )
        return editor.result()


def _reader(weights: Value) -> tuple[Value, Node | None, CodeBook | None]:
    """Return what a product reads of a softmax, the product, and the code of a quantiser between them."""
    reader = only_consumer(weights)
    if reader is None or reader.domain != AI_SNNC or reader.op_type != "Quantise":
        return weights, reader, None
    code = CodeBook.from_attributes(attributes(reader))
    if code.largest < 1:
        return weights, reader, None
    # Numerators are not negative: of a signed code its upper half is left.
    unsigned = CodeBook(code.timesteps, code.groups, code.partition).restricted(0, code.largest)
    return reader.outputs[0], only_consumer(reader.outputs[0]), unsigned


def _split(editor: Editor, node: Node, product: Node, book: CodeBook) -> None:
    scores, held = node.inputs[0], product.inputs[1]
    out = product.outputs[0]
    weights = product.inputs[0]
    coder = weights.producer() if weights is not None else None
    between = [coder] if coder is not None and coder is not node else []
    stem = node.outputs[0].name or "attention"
    row = Shape([*list(scores.shape)[:-1], 1]) if scores is not None and scores.shape is not None else None
    same: dict[str, Any] = {"dtype": out.dtype, "shape": scores.shape if scores is not None else None}
    largest = _reduced(editor, product, "ReduceMax", scores, f"{stem}.max", row)
    centred = editor.add(product, "Sub", [scores, largest], name=f"{stem}.centred", **same)
    numerator = editor.add(product, "Exp", [centred], name=f"{stem}.exp", **same)
    step = editor.constant(f"{stem}.step", np.asarray(1.0 / book.largest, dtype=np.float32))
    code = editor.add(
        product,
        "Quantise",
        [numerator, step],
        quantise_attributes(book, "away"),
        domain=AI_SNNC,
        name=f"{stem}.code",
        **same,
    )
    name = editor.take_name(product)
    total = editor.add(
        product, "MatMul", [code, held], name=f"{name}.numerator", dtype=out.dtype, shape=out.shape
    )
    weight = _reduced(editor, product, "ReduceSum", code, f"{stem}.sum", row)
    quotient = editor.add(product, "Div", [total, weight], name=name, dtype=out.dtype, shape=out.shape)
    editor.replace("split-softmax", out, quotient, removed=[product, *between, node])


def _reduced(
    editor: Editor, anchor: Node, op: str, value: Value | None, name: str, shape: Shape | None
) -> Value:
    """Reduce the last axis to extent 1, in the form of the model's opset."""
    version = editor.graph.opset_imports.get("", 17)
    dtype = value.dtype if value is not None else None
    if version >= _AXES_ARE_AN_INPUT[op]:
        axes = editor.constant(f"{name}.axes", np.array([-1], dtype=np.int64))
        return editor.add(anchor, op, [value, axes], {"keepdims": 1}, name=name, dtype=dtype, shape=shape)
    attrs = {"axes": [-1], "keepdims": 1}
    return editor.add(anchor, op, [value], attrs, name=name, dtype=dtype, shape=shape)
