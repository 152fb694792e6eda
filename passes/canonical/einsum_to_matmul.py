"""Pass ``einsum-to-matmul``: products written with index letters become MatMul, or products of elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant
from snnc.passes.canonical.chain import leave
from snnc.passes.editing import Array, Editor, is_standard, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["EinsumToMatmul"]


class _NoForm(Exception):
    """Why an equation cannot be written with other ops."""


@dataclass(frozen=True)
class _Operand:
    """A value, or an array, whose axes have letters."""

    value: Value | Array
    letters: str

    @property
    def held(self) -> bool:
        """Whether it is constant."""
        return isinstance(self.value, np.ndarray)


def parse(equation: str, ranks: Sequence[int | None]) -> tuple[list[str], str]:
    """Return the letters of the operands and of the result; an ellipsis gets letters of its own.

    Raises:
        _NoForm: The equation takes a diagonal, or does not fit its operands.
    """
    text = equation.replace(" ", "")
    inputs, arrow, result = text.partition("->")
    operands = inputs.split(",")
    if len(operands) != len(ranks) or any(rank is None for rank in ranks):
        raise _NoForm("the number of axes of an operand is not known")
    free = [letter for letter in ascii_letters if letter not in text]
    dots = [
        int(rank or 0) - len(part) + 3 if "..." in part else 0
        for part, rank in zip(operands, ranks, strict=True)
    ]
    if max(dots) > len(free) or min(dots) < 0:
        raise _NoForm("its equation does not fit the axes of its operands")
    shared = "".join(free[: max(dots)])
    # The axes of ellipses are matched from the last one on.
    operands = [
        part.replace("...", shared[len(shared) - count :]) for part, count in zip(operands, dots, strict=True)
    ]
    if arrow:
        result = result.replace("...", shared)
    else:
        joined = "".join(operands)
        result = shared + "".join(
            letter for letter in sorted(set(joined) - set(shared)) if joined.count(letter) == 1
        )
    if any(len(set(part)) != len(part) for part in (*operands, result)):
        raise _NoForm("a letter stands twice in one operand: it takes a diagonal")
    if [len(part) for part in operands] != list(ranks) or not set(result) <= set("".join(operands)):
        raise _NoForm("its equation does not fit the axes of its operands")
    return operands, result


@dataclass(frozen=True)
class EinsumToMatmul:
    """Write Einsum as MatMul, with Transpose and Reshape where the letters stand in another order.

    The function is the same in real arithmetic; a library may add in another order. More than two operands
    are multiplied from left to right; letters that nothing else needs are summed first; without a letter to
    sum over it is a product of elements. An axis of one is repeated where others of its letter are longer.

    Matches:
        Einsum of any number of operands, with or without an ellipsis, such as ``bhid,bhjd->bhij`` and
        ``...d,dhk->...hk``.
    Leaves alone:
        "a letter stands twice in one operand"; "a letter has two sizes"; "more than one of the sizes that it
        joins is open".
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
            product = _Product(editor, node)
            try:
                product.write()
            except _NoForm as reason:
                product.withdraw()
                leave(editor, node, str(reason))
        return editor.result()


class _Product:
    """One Einsum that is written out."""

    def __init__(self, editor: Editor, node: Node) -> None:
        self._editor, self._node = editor, node
        self._sizes: dict[str, Any] = {}
        self._dtype = node.outputs[0].dtype
        self._made: list[Node] = []

    def withdraw(self) -> None:
        """Take back what was added."""
        self._editor.withdraw(self._made)

    def write(self) -> None:
        """Replace the node; nothing is changed where that fails."""
        values = [value for value in self._node.inputs if value is not None]
        letters, result = parse(str(attributes(self._node)["equation"]), [rank_of(value) for value in values])
        for value, part in zip(values, letters, strict=True):
            self._learn_sizes(part, list(value.shape or ()))
        operands = [self._operand(value, part) for value, part in zip(values, letters, strict=True)]
        name = self._node.name or "einsum"
        total = operands[0]
        for place, other in enumerate(operands[1:], start=1):
            later = set(result).union(*(operand.letters for operand in operands[place + 1 :]))
            total = self._pair(
                total, other, "".join(letter for letter in _union(total, other) if letter in later)
            )
        total = self._permuted(self._summed(total, set(result)), result)
        made = total.value
        if isinstance(made, np.ndarray):
            made = self._editor.constant(name, made)
        self._editor.replace("einsum-to-matmul", self._node.outputs[0], made, removed=[self._node])

    def _learn_sizes(self, letters: str, dims: list[Any]) -> None:
        """Note what size each letter has: an axis of one is repeated for the others of its letter."""
        for letter, size in zip(letters, dims, strict=True):
            known = self._sizes.setdefault(letter, size)
            if known == 1 or (isinstance(size, int) and size != 1):
                self._sizes[letter] = size
            if isinstance(known, int) and isinstance(size, int) and known != size and 1 not in (known, size):
                raise _NoForm("a letter has two sizes")

    def _operand(self, value: Value, letters: str) -> _Operand:
        """Return an operand without the axes along which it is repeated."""
        held = constant(value)
        dims = list(value.shape or ())
        sizes = zip(letters, dims, strict=True)
        once = [place for place, (letter, size) in enumerate(sizes) if size == 1 != self._sizes[letter]]
        left = "".join(letter for place, letter in enumerate(letters) if place not in once)
        if held is not None:
            return _Operand(np.squeeze(held, tuple(once)), left)
        if not once:
            return _Operand(value, letters)
        axes = self._editor.constant(f"{self._node.name}.axes", np.array(once, np.int64))
        return self._add("Squeeze", [value, axes], left)

    def _add(
        self, op: str, inputs: list[Value], letters: str, attrs: dict[str, Any] | None = None
    ) -> _Operand:
        return _Operand(
            self._node_of(op, inputs, [self._sizes[letter] for letter in letters], attrs), letters
        )

    def _node_of(
        self, op: str, inputs: list[Value], dims: list[Any], attrs: dict[str, Any] | None = None
    ) -> Value:
        name = f"{self._node.name}.{op.lower()}"
        made = self._editor.add(
            self._node, op, inputs, attrs, name=name, dtype=self._dtype, shape=Shape(dims)
        )
        self._made += [producer] if (producer := made.producer()) is not None else []
        return made

    def _value(self, operand: Value | Array) -> Value:
        if isinstance(operand, np.ndarray):
            return self._editor.constant(f"{self._node.name}.operand", operand)
        return operand

    def _permuted(self, operand: _Operand, order: str) -> _Operand:
        if operand.letters == order:
            return operand
        perm = [operand.letters.index(letter) for letter in order]
        if isinstance(operand.value, np.ndarray):
            return _Operand(np.ascontiguousarray(operand.value.transpose(perm)), order)
        return self._add("Transpose", [operand.value], order, {"perm": perm})

    def _summed(self, operand: _Operand, needed: set[str]) -> _Operand:
        """Sum over letters that nothing else needs."""
        axes = [place for place, letter in enumerate(operand.letters) if letter not in needed]
        if not axes:
            return operand
        letters = "".join(letter for letter in operand.letters if letter in needed)
        if isinstance(operand.value, np.ndarray):
            return _Operand(np.asarray(operand.value.sum(axis=tuple(axes))), letters)
        held = self._editor.constant(f"{self._node.name}.axes", np.array(axes, np.int64))
        return self._add("ReduceSum", [operand.value, held], letters, {"keepdims": 0})

    def _joined(self, operand: _Operand, groups: Sequence[str]) -> Value | Array:
        """Return the value with the letters of each group on one axis; an empty group has extent 1."""
        if all(len(group) == 1 for group in groups):
            return operand.value
        sizes = [[self._sizes[letter] for letter in group] for group in groups]
        return self._reshaped(operand.value, [self._sizes[letter] for letter in operand.letters], sizes)

    def _reshaped(self, value: Value | Array, old: list[Any], sizes: list[list[Any]]) -> Value | Array:
        target, dims = [], []
        for place, group in enumerate(sizes):
            known = [size for size in group if isinstance(size, int)]
            if len(known) == len(group):
                target.append(prod(known))
            else:
                same = len(group) == 1 and place < len(old) and old[place] is group[0]
                target.append(0 if same else -1)
            dims.append(prod(known) if len(known) == len(group) else group[0] if len(group) == 1 else None)
        if isinstance(value, np.ndarray):
            return value.reshape(target)
        if target.count(-1) > 1:
            raise _NoForm("more than one of the sizes that it joins is open")
        shape = self._editor.constant(f"{self._node.name}.shape", np.array(target, np.int64))
        return self._node_of("Reshape", [value, shape], dims)

    def _pair(self, left: _Operand, right: _Operand, result: str) -> _Operand:
        """Multiply two operands; the result has these letters, in an order that is convenient."""
        left = self._summed(left, set(right.letters) | set(result))
        right = self._summed(right, set(left.letters) | set(result))
        if isinstance(left.value, np.ndarray) and isinstance(right.value, np.ndarray):
            letters = f"{left.letters},{right.letters}->{result}"
            return _Operand(np.asarray(np.einsum(letters, left.value, right.value)), result)
        if left.held:
            left, right = right, left
        both = [letter for letter in left.letters if letter in right.letters]
        summed = "".join(letter for letter in both if letter not in result)
        if not summed:
            return self._elementwise(left, right, result)
        batch = "".join(letter for letter in both if letter in result)
        rows = "".join(letter for letter in left.letters if letter not in both)
        columns = "".join(letter for letter in right.letters if letter not in both)
        # A constant is the same for all rows: but for the last they can be axes of their own.
        outer = rows[:-1] if right.held else ""
        inner = rows[len(outer) :]
        left = self._permuted(left, outer + batch + inner + summed)
        right = self._permuted(right, batch + summed + columns)
        first = self._joined(left, [*outer, *batch, inner, summed])
        second = self._joined(right, [*batch, summed, columns])
        letters = outer + batch + inner + columns
        joined = [*([letter] for letter in outer + batch), list(inner), list(columns)]
        sizes = [[self._sizes[letter] for letter in group] for group in joined]
        dims = [
            group[0] if len(group) == 1 else prod(group) if all(isinstance(s, int) for s in group) else None
            for group in sizes
        ]
        total: Value | Array = self._node_of("MatMul", [self._value(first), self._value(second)], dims)
        if len(inner) != 1 or len(columns) != 1:
            total = self._reshaped(total, dims, [[self._sizes[letter]] for letter in letters])
        return _Operand(total, letters)

    def _elementwise(self, left: _Operand, right: _Operand, result: str) -> _Operand:
        spread = []
        for operand in (left, right):
            order = "".join(letter for letter in result if letter in operand.letters)
            value = self._permuted(operand, order).value
            missing = [place for place, letter in enumerate(result) if letter not in order]
            if isinstance(value, np.ndarray):
                value = np.expand_dims(value, tuple(missing))
            elif missing:
                held = self._editor.constant(f"{self._node.name}.axes", np.array(missing, np.int64))
                dims = [self._sizes[letter] if letter in order else 1 for letter in result]
                value = self._node_of("Unsqueeze", [value, held], dims)
            spread.append(self._value(value))
        return self._add("Mul", spread, result)


def _union(left: _Operand, right: _Operand) -> str:
    return left.letters + "".join(letter for letter in right.letters if letter not in left.letters)
