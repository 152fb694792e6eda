"""The links of a quantiser chain as data: what each op does to ``w = a * u + b`` and to its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from snnc.ir import Node, Value, attributes, constant
from snnc.passes.editing import is_standard
from snnc.passes.recognise.uniform import Rationals, rationals

__all__ = ["LINKS", "ROUNDINGS", "Affine", "Link", "Rounding", "link_of"]

_INFINITE = float("inf")


@dataclass(frozen=True, eq=False)
class Affine:
    """``w = clip(a * u + b, low, high)``, exact, per element of arrays that broadcast to u.

    Attributes:
        a: Slope, positive.
        b: Offset.
        low: Lower bound in the unit of w, or minus infinity.
        high: Upper bound, or infinity.
    """

    a: Rationals
    b: Rationals
    low: Rationals
    high: Rationals

    @staticmethod
    def identity() -> Affine:
        """Return ``w = u``."""
        zero = rationals(0)
        return Affine(
            rationals(1),
            zero,
            np.asarray(-_INFINITE, dtype=object),
            np.asarray(_INFINITE, dtype=object),
        )

    def times(self, factor: Rationals) -> Affine:
        """Multiply by a positive factor."""
        return Affine(*(np.asarray(part * factor) for part in (self.a, self.b, self.low, self.high)))

    def plus(self, offset: Rationals) -> Affine:
        """Add an offset."""
        b, low, high = (np.asarray(part + offset) for part in (self.b, self.low, self.high))
        return Affine(self.a, b, low, high)

    def clipped(self, low: Rationals, high: Rationals) -> Affine:
        """Clip to bounds, which act on the bounds so far as well."""
        return replace(
            self,
            low=np.asarray(np.minimum(np.maximum(self.low, low), high)),
            high=np.asarray(np.minimum(np.maximum(self.high, low), high)),
        )


Step = Callable[[Affine], Affine]


@dataclass(frozen=True, eq=False)
class Link:
    """One node of a chain.

    Attributes:
        node: The node.
        source: Its variable input.
        step: What it does to an affine map.
    """

    node: Node
    source: Value
    step: Step


@dataclass(frozen=True)
class Rounding:
    """How an op rounds: nearest with ties, after an offset.

    Attributes:
        offset: Added so that the op becomes rounding to nearest.
        ties: Where mid-points go then.
    """

    offset: str
    ties: str


#: Rounding ops. floor(w) is rounding w - 1/2 to nearest with ties up.
ROUNDINGS: dict[str, Rounding] = {"Round": Rounding("0", "even"), "Floor": Rounding("-1/2", "up")}


def _operands(node: Node) -> tuple[Value, Rationals, bool] | None:
    """Return the variable operand, the constant one, and whether the variable comes first."""
    left, right = node.inputs[0], node.inputs[1]
    for variable, other, first in ((left, right, True), (right, left, False)):
        held = constant(other)
        if variable is None or held is None or constant(variable) is not None or held.dtype.kind != "f":
            continue
        if not np.isfinite(held).all() or not _fits(held.shape, variable):
            return None
        return variable, rationals(held), first
    return None


def _fits(shape: tuple[int, ...], variable: Value) -> bool:
    """Whether a constant of that shape leaves the shape of the variable as it is."""
    if all(size == 1 for size in shape) and (variable.shape is None or len(shape) <= len(variable.shape)):
        return True
    if variable.shape is None or len(shape) > len(variable.shape):
        return False
    tail = list(variable.shape)[len(variable.shape) - len(shape) :]
    return all(size in (1, dim) for size, dim in zip(shape, tail, strict=True))


def _mul(node: Node) -> Link | None:
    found = _operands(node)
    if found is None or not np.all(found[1] > 0):
        return None
    return Link(node, found[0], lambda affine: affine.times(found[1]))


def _div(node: Node) -> Link | None:
    found = _operands(node)
    if found is None or not found[2] or not np.all(found[1] > 0):
        return None
    inverse = np.asarray(1 / found[1])
    return Link(node, found[0], lambda affine: affine.times(inverse))


def _add(node: Node) -> Link | None:
    found = _operands(node)
    return None if found is None else Link(node, found[0], lambda affine: affine.plus(found[1]))


def _sub(node: Node) -> Link | None:
    found = _operands(node)
    if found is None or not found[2]:
        return None
    return Link(node, found[0], lambda affine: affine.plus(np.asarray(-found[1])))


def _bounded(node: Node, low: Rationals | None, high: Rationals | None) -> Link | None:
    source = node.inputs[0]
    if source is None or constant(source) is not None:
        return None
    least = low if low is not None else np.asarray(-_INFINITE, dtype=object)
    most = high if high is not None else np.asarray(_INFINITE, dtype=object)
    return Link(node, source, lambda affine: affine.clipped(least, most))


def _clip(node: Node) -> Link | None:
    attrs = attributes(node)
    bounds: list[Rationals | None] = []
    for index, name in ((1, "min"), (2, "max")):
        value = node.inputs[index] if len(node.inputs) > index else None
        held = constant(value) if value is not None else attrs.get(name)
        if value is not None and held is None:
            return None
        # An infinite or absent bound is none.
        bounds.append(rationals(held) if held is not None and np.isfinite(held).all() else None)
    return _bounded(node, *bounds)


def _relu(node: Node) -> Link | None:
    return _bounded(node, rationals(0), None)


def _extreme(*, largest: bool) -> Callable[[Node], Link | None]:
    def rule(node: Node) -> Link | None:
        found = _operands(node) if len(node.inputs) == 2 else None
        if found is None:
            return None
        source, bound, _ = found
        least = bound if largest else np.asarray(-_INFINITE, dtype=object)
        most = np.asarray(_INFINITE, dtype=object) if largest else bound
        return Link(node, source, lambda affine: affine.clipped(least, most))

    return rule


#: Every op that may be part of a quantiser chain beside the rounding itself.
LINKS: dict[str, Callable[[Node], Link | None]] = {
    "Mul": _mul,
    "Div": _div,
    "Add": _add,
    "Sub": _sub,
    "Clip": _clip,
    "Relu": _relu,
    "Min": _extreme(largest=False),
    "Max": _extreme(largest=True),
}


def link_of(node: Node | None) -> Link | None:
    """Return the link that a node makes, None if it cannot be part of a chain."""
    if node is None or not is_standard(node, node.op_type):
        return None
    rule = LINKS.get(node.op_type)
    return rule(node) if rule is not None else None
