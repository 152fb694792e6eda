"""Pass ``einsum-to-matmul``: products written with index letters become MatMul."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant
from snnc.passes.editing import Editor, is_standard, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["EinsumToMatmul"]


@dataclass(frozen=True)
class _Letters:
    """The letters of an equation, by their part in a matrix product.

    Attributes:
        left: Letters of the first operand.
        right: Letters of the second operand.
        result: Letters of the result.
        batch: Letters of all three.
        rows: Letter of the first operand and the result.
        columns: Letter of the second operand and the result.
        summed: Letter of both operands alone.
    """

    left: str
    right: str
    result: str
    batch: str
    rows: str
    columns: str
    summed: str


def _parse(equation: str, ranks: tuple[int | None, int | None]) -> _Letters | str:
    """Read an equation of two operands, or say why it is no matrix product."""
    text = equation.replace(" ", "")
    if "." in text:
        return "its equation has an ellipsis"
    inputs, arrow, result = text.partition("->")
    operands = inputs.split(",")
    if len(operands) != 2 or not all(part.isalpha() for part in operands):
        return "it has other than two operands"
    left, right = operands
    if not arrow:
        once = [letter for letter in sorted(set(left + right)) if (left + right).count(letter) == 1]
        result = "".join(once)
    if any(len(set(part)) != len(part) for part in (left, right, result)):
        return "a letter stands twice in one operand: it takes a diagonal"
    if (len(left), len(right)) != ranks:
        return "its operands do not have as many axes as letters"
    batch = "".join(letter for letter in result if letter in left and letter in right)
    rows = "".join(letter for letter in result if letter in left and letter not in right)
    columns = "".join(letter for letter in result if letter in right and letter not in left)
    summed = "".join(letter for letter in left if letter in right and letter not in result)
    if len(rows) != 1 or len(columns) != 1 or len(summed) != 1:
        return "it is no product of matrices: each of rows, columns and summed axes must be one letter"
    if set(left) != set(batch + rows + summed) or set(right) != set(batch + columns + summed):
        return "it sums a letter of one operand alone"
    return _Letters(left, right, result, batch, rows, columns, summed)


@dataclass(frozen=True)
class EinsumToMatmul:
    """Write Einsum of two operands as MatMul, with Transpose where the letters stand in another order.

    The function is the same in real arithmetic; a library may add in another order.

    Matches:
        Einsum of two operands with any number of batch letters and one letter each for rows, columns and the
        summed axis, such as ``bhid,bhjd->bhij`` and ``bhij,bhjd->bhid`` of attention.
    Leaves alone:
        "its equation has an ellipsis"; "it has other than two operands"; "a letter stands twice in one
        operand"; "it is no product of matrices"; "it sums a letter of one operand alone".
    Keeps:
        The name of the output.
    """

    name: ClassVar[str] = "einsum-to-matmul"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Einsum")]:
            self._rewrite(editor, node)
        return editor.result()

    @staticmethod
    def _rewrite(editor: Editor, node: Node) -> None:
        if len(node.inputs) != 2 or node.inputs[0] is None or node.inputs[1] is None:
            editor.fail("it has other than two operands", node)
            return
        left, right = node.inputs[0], node.inputs[1]
        letters = _parse(str(attributes(node)["equation"]), (rank_of(left), rank_of(right)))
        if isinstance(letters, str):
            editor.fail(letters, node)
            return
        out = node.outputs[0]
        name = editor.take_name(node)
        order = letters.batch + letters.rows + letters.columns
        first = _ordered(editor, node, left, letters.left, letters.batch + letters.rows + letters.summed)
        second = _ordered(
            editor, node, right, letters.right, letters.batch + letters.summed + letters.columns
        )
        shape = _permuted(out.shape, letters.result, order)
        total = editor.add(node, "MatMul", [first, second], name=name, dtype=out.dtype, shape=shape)
        total = _ordered(editor, node, total, order, letters.result)
        editor.replace("einsum-to-matmul", out, total, removed=[node])


def _ordered(editor: Editor, node: Node, value: Value, have: str, want: str) -> Value:
    """Bring the axes of a value into another order."""
    if have == want:
        return value
    perm = [have.index(letter) for letter in want]
    array = constant(value)
    if array is not None:
        return editor.constant(f"{value.name}.transposed", np.ascontiguousarray(array.transpose(perm)))
    return editor.add(
        node,
        "Transpose",
        [value],
        {"perm": perm},
        name=f"{value.name}.{want}",
        dtype=value.dtype,
        shape=_permuted(value.shape, have, want),
    )


def _permuted(shape: Shape | None, have: str, want: str) -> Shape | None:
    return None if shape is None else Shape([shape[have.index(letter)] for letter in want])
