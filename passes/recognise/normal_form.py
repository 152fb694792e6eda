"""Elementwise arithmetic of one variable in a normal form, so that every way to write it is the same pattern.

A value becomes a sum of products of the variable and of functions, each of whose argument is such a sum
again. The text of that sum without its numbers is its structure; the numbers come beside it, in order.
``x / 2 * (1 + erf(x / sqrt 2))``, written in any order, has the structure ``x + x*Erf(x)`` and the numbers
1/2, 1/2, 0.7071.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.ir import Node, Value, attributes, constant
from snnc.passes.editing import is_standard

__all__ = ["FUNCTIONS", "Form", "normal_form", "variables"]

#: Ops that stay functions in the normal form.
FUNCTIONS = frozenset(
    {"Abs", "Erf", "Tanh", "Sigmoid", "Softplus", "Exp", "Log", "Clip", "HardSigmoid", "Reciprocal"}
)
_ODD = frozenset({"Erf", "Tanh"})
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Pow"})
_MOST_NODES = 16
_MOST_TERMS = 12

# A product: powers of the variable ("x") and of functions, by their text.
_Product = tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Form:
    """A normal form.

    Attributes:
        terms: Factor of each product.
        functions: Normal form of the argument of each function in it, by the function's text.
        nodes: Nodes it was read from, each once.
    """

    terms: dict[_Product, float]
    functions: dict[str, Form]
    nodes: dict[int, Node]

    @property
    def structure(self) -> str:
        """The sum without its numbers."""
        return " + ".join(text for text, _ in self._sorted())

    @property
    def numbers(self) -> list[float]:
        """For each product of the structure its factor, then the numbers of its functions' arguments."""
        result: list[float] = []
        for _, product in self._sorted():
            result.append(self.terms[product])
            for factor, _ in product:
                if factor in self.functions:
                    result += self.functions[factor].numbers
        return result

    def _sorted(self) -> list[tuple[str, _Product]]:
        return sorted((_text(product), product) for product in self.terms)


def _text(product: _Product) -> str:
    parts = [factor if power == 1 else f"{factor}^{power}" for factor, power in product]
    # The variable comes first.
    return "*".join(sorted(parts, key=lambda part: (not part.startswith("x"), part))) or "1"


def variables(root: Node) -> list[Value]:
    """Return the values that an expression ending at a node may be a function of, nearest first."""
    found: dict[int, Value] = {}
    queue, seen = [root], {id(root)}
    while queue and len(seen) <= _MOST_NODES:
        node = queue.pop(0)
        for value in node.inputs:
            if value is None or constant(value) is not None:
                continue
            found.setdefault(id(value), value)
            producer = value.producer()
            if producer is not None and id(producer) not in seen and _readable(producer):
                seen.add(id(producer))
                queue.append(producer)
    return list(found.values())


def _readable(node: Node) -> bool:
    return is_standard(node, *FUNCTIONS, *_ARITHMETIC)


def normal_form(value: Value | None, variable: Value) -> Form | None:
    """Write a value as a function of a variable.

    Returns:
        The normal form, or None if the value depends on anything else, or is not elementwise arithmetic.
    """
    return _Reader(variable).read(value)


class _Reader:
    """Reads expressions of one variable; what cannot be read is None.

    Args:
        variable: The variable.
    """

    def __init__(self, variable: Value) -> None:
        self._variable = variable
        self._known: dict[int, Form | None] = {}
        self._count = 0

    def read(self, value: Value | None) -> Form | None:
        """Return the normal form of a value."""
        if value is self._variable:
            return Form({(("x", 1),): 1.0}, {}, {})
        held = constant(value)
        if held is not None:
            number = _number(held)
            return None if number is None else Form({(): number}, {}, {})
        if id(value) not in self._known:
            producer = value.producer() if value is not None else None
            self._count += 1
            readable = producer is not None and _readable(producer) and self._count <= _MOST_NODES
            self._known[id(value)] = self._node(producer) if readable and producer is not None else None
        return self._known[id(value)]

    def _node(self, node: Node) -> Form | None:
        op = node.op_type
        first = self.read(node.inputs[0])
        if first is None:
            return None
        if op in FUNCTIONS:
            return _function(op, first, node)
        if op == "Neg":
            return _sum(first, None, -1.0, node)
        second = self.read(node.inputs[1])
        if second is None:
            return None
        if op in ("Add", "Sub"):
            return _sum(first, second, -1.0 if op == "Sub" else 1.0, node)
        if op == "Pow":
            power = second.terms.get((), 0.0) if len(second.terms) == 1 else 0.0
            if power not in (1.0, 2.0, 3.0):
                return None
            result: Form | None = first
            for _ in range(int(power) - 1):
                result = None if result is None else _product(result, first, node)
            return result
        if op == "Div":
            if list(second.terms) == [()]:
                second = Form({(): 1 / second.terms[()]}, {}, second.nodes) if second.terms[()] else None
            else:
                second = _function("Reciprocal", second, node)
        return None if second is None else _product(first, second, node)


def _number(held: Any) -> float | None:
    array = np.asarray(held)
    if array.size != 1 or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        return None
    return float(array.reshape(-1)[0])


def _sum(left: Form, right: Form | None, sign: float, node: Node) -> Form | None:
    """Return left + sign · right, or sign · left where there is no right."""
    terms = dict(left.terms) if right is not None else {p: sign * n for p, n in left.terms.items()}
    for product, number in (right.terms if right is not None else {}).items():
        terms[product] = terms.get(product, 0.0) + sign * number
    return _form(terms, left, right, node)


def _product(left: Form, right: Form, node: Node) -> Form | None:
    terms: dict[_Product, float] = {}
    for one, first in left.terms.items():
        for other, second in right.terms.items():
            powers = dict(one)
            for factor, power in other:
                powers[factor] = powers.get(factor, 0) + power
            product = tuple(sorted(powers.items()))
            terms[product] = terms.get(product, 0.0) + first * second
    return _form(terms, left, right, node)


def _form(terms: dict[_Product, float], left: Form, right: Form | None, node: Node) -> Form | None:
    if len(terms) > _MOST_TERMS:
        return None
    functions, nodes = dict(left.functions), dict(left.nodes)
    if right is not None:
        shared = functions.keys() & right.functions.keys()
        if any(functions[text].numbers != right.functions[text].numbers for text in shared):
            return None  # two functions of one structure would be mixed up
        functions, nodes = {**functions, **right.functions}, {**nodes, **right.nodes}
    return Form({p: n for p, n in terms.items() if n != 0.0}, functions, {**nodes, id(node): node})


def _function(op: str, argument: Form, node: Node) -> Form | None:
    """Return a function of a form; HardSigmoid is a clip, clips end at 1, odd functions lose signs."""
    if not argument.terms:
        return None
    factor = 1.0
    if op == "HardSigmoid":
        attrs = attributes(node)
        alpha, beta = attrs.get("alpha", 0.2), attrs.get("beta", 0.5)
        terms = {product: alpha * number for product, number in argument.terms.items()}
        terms[()] = terms.get((), 0.0) + beta
        argument, op = Form(terms, argument.functions, argument.nodes), "Clip"
    elif op == "Clip":
        bounds = _bounds(node)
        if bounds is None or bounds[0] != 0.0 or not 0.0 < bounds[1] < math.inf:
            return None
        factor = bounds[1]
        terms = {product: number / factor for product, number in argument.terms.items()}
        argument = Form(terms, argument.functions, argument.nodes)
    elif op in _ODD and argument.numbers[0] < 0:
        factor = -1.0
        terms = {product: -number for product, number in argument.terms.items()}
        argument = Form(terms, argument.functions, argument.nodes)
    text = f"{op}({argument.structure})"
    return Form({((text, 1),): factor}, {text: argument}, {**argument.nodes, id(node): node})


def _bounds(node: Node) -> tuple[float, float] | None:
    attrs = attributes(node)
    found = [-math.inf, math.inf]
    for place, name in ((0, "min"), (1, "max")):
        value = node.inputs[place + 1] if len(node.inputs) > place + 1 else None
        held = constant(value) if value is not None else attrs.get(name)
        if held is None and value is not None:
            return None
        if held is not None:
            found[place] = float(np.asarray(held).reshape(-1)[0])
    return found[0], found[1]
