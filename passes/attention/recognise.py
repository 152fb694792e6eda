"""Attention as exported networks have it: two products with scores, constant factors and softmax between."""

from __future__ import annotations

from dataclasses import dataclass

from snnc.ir import Node, Value, attributes, constant
from snnc.passes.attention.grid import grid_of
from snnc.passes.editing import is_standard, only_consumer

__all__ = ["Attention", "recognise"]

_SCALES = frozenset({"Mul", "Div"})
_RANK = 4


@dataclass(frozen=True)
class Attention:
    """One recognised attention: ``MatMul(Softmax(scale(MatMul(q, k))), v)``.

    Attributes:
        first: Product of queries and keys, ``(batch, heads, tokens, tokens)``.
        scales: Constant factors, first to last.
        softmax: Softmax over the keys.
        second: Product with the values.
        heads: Heads.
        tokens: Tokens, a class token included.
        sides: Height and width of the grid of tokens, 0 where they are none.
        extra: Class tokens (and registers) in front of the grid.
    """

    first: Node
    scales: tuple[Node, ...]
    softmax: Node
    second: Node
    heads: int
    tokens: int
    sides: tuple[int, int]
    extra: int

    @property
    def grid(self) -> str:
        """The grid, for messages."""
        return f"{self.sides[0]} x {self.sides[1]}"

    @property
    def removed(self) -> list[Node]:
        """Its nodes, last to first."""
        return [self.second, self.softmax, *self.scales[::-1], self.first]


def recognise(softmax: Node, *, grid: bool = True) -> Attention | str:
    """Recognise the attention around a softmax.

    Args:
        softmax: A Softmax node.
        grid: Whether the tokens must be a grid, with or without class tokens in front.

    Returns:
        The attention, or why it is none.
    """
    axis = int(attributes(softmax).get("axis", -1))
    second = only_consumer(softmax.outputs[0])
    if second is None or not is_standard(second, "MatMul") or second.inputs[0] is not softmax.outputs[0]:
        return "no product with values alone reads it"
    scales: list[Node] = []
    value = softmax.inputs[0]
    while value is not None and is_standard(value.producer(), *_SCALES) and only_consumer(value):
        node = value.producer()
        assert node is not None
        held = [constant(part) for part in node.inputs]
        place = 0 if held[0] is None else 1
        factor = held[1 - place]
        if factor is None or factor.size != 1 or (node.op_type == "Div" and place == 1):
            return "a mask or bias on its scores"
        scales.append(node)
        value = node.inputs[place]
    first = value.producer() if value is not None else None
    if first is None or value is None or not is_standard(first, "MatMul") or only_consumer(value) is None:
        return "a mask or bias on its scores"
    shapes = [_static(part) for part in (first.inputs[0], first.inputs[1], second.inputs[1])]
    if any(shape is None for shape in shapes) or axis not in (-1, _RANK - 1):
        return "its heads are no axis of their own"
    q, k, v = (shape for shape in shapes if shape is not None)
    if not q[0] == k[0] == v[0] or not q[1] == k[2] == v[1]:
        return "its queries and keys differ in number"
    tokens = q[1]
    found = grid_of(first, tokens)
    if grid and isinstance(found, str):
        return found
    sides, extra = ((0, 0), 0) if isinstance(found, str) else found
    return Attention(first, tuple(scales[::-1]), softmax, second, q[0], tokens, sides, extra)


def _static(value: Value | None) -> tuple[int, int, int] | None:
    """Return heads and the two last dimensions of a value of rank 4."""
    if value is None or value.shape is None or len(value.shape) != _RANK or constant(value) is not None:
        return None
    dims = list(value.shape)[1:]
    return (dims[0], dims[1], dims[2]) if all(isinstance(dim, int) for dim in dims) else None  # type: ignore[return-value]
