"""Which readers need a code where a float network has none.

A forward walk that knows of each value whether it will be spikes, a sum of them, a function of a sum, or
computed by the host, and along which axes its step may change. Where an operator cannot go on with what
arrives, its operand becomes a site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from snnc.ir import AI_SNNC, Node, Value, attributes, constant
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis.activations import ACTIVATION_OPS
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.quantise.jumps import TABULATED, Jump, is_of_one_value
from snnc.passes.quantise.loads import fan_in, load, pools_exactly, window

__all__ = ["Carried", "Demand", "Walk"]

#: Adds a reader, by node and position, to the site of a value; with no node: the value is an output. The last
#: argument says that nothing but a code will do: a sum of spikes may do where its steps happen to allow it.
Demand = Callable[[Value, Node | None, int, bool], None]

_NEVER_FALL = frozenset({"Relu", "Clip", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Exp"})
_SUMS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"})
_NORMS = frozenset({"LayerNormalization", "RMSNormalization", "RMSNorm"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
_KEEP_AXES = frozenset({"Slice", "Split", "Expand", "Pad"})

#: Sums of products stay below this; what rounding of the weights adds to the bound fits in between.
_ACCUMULATOR = 0.98 * 2**31

Axes = frozenset[int] | None


class Carried(Enum):
    """What a value will be."""

    HOST = "computed by the host from the network input"
    CODE = "spikes"
    POOLED = "merged spike trains"
    SUM = "a membrane"
    CURVE = "a function of a membrane"
    QUOTIENT = "a normalised value or quotient"
    CONSTANT = "a constant"
    FLOAT = "a float that the user lets the host compute"
    OTHER = "something that a later check refuses"


@dataclass(frozen=True)
class _Seen:
    """What is known of a value.

    Attributes:
        kind: What it will be.
        varies: Axes along which its step or bias may change; None if that is not known.
        plain: It is the sum of one synapse of few inputs, its step is positive, its function never falls.
        unlike: Axes along which steps surely differ: constant weights or factors made them, or joined parts.
        merged: How many codes each element of merged spike trains is the sum of.
    """

    kind: Carried
    varies: Axes = frozenset()
    plain: bool = False
    unlike: Axes = frozenset()
    merged: int = 1


_OTHER = _Seen(Carried.OTHER, None)
_CODE = _Seen(Carried.CODE)


class Walk:
    """One walk over a graph.

    Args:
        host: Identities of the values that the host computes.
        coded: Whether a reader of a value already reads a code, by value, node and position.
        demand: Called for every reader that needs one.
        largest: Largest product of a code and a weight.
        jumps: Functions of one value that a table of its code will hold.
    """

    def __init__(
        self,
        host: set[int],
        coded: Callable[[Value, Node | None, int], bool],
        demand: Demand,
        largest: int,
        jumps: Sequence[Jump] = (),
    ) -> None:
        self._host, self._coded, self._demand, self._product_of_two = host, coded, demand, largest
        self._seen: dict[int, _Seen] = {}
        self._jumps = {id(jump.last): jump for jump in jumps}
        self._within = {id(node) for jump in jumps for node in jump.within}
        self._order: dict[int, int] = {}

    def visit(self, node: Node) -> None:
        """Say what the outputs of a node will be, and demand the codes that it needs."""
        self._order[id(node)] = len(self._order)
        outputs = [value for value in node.outputs if value.name]
        if all(id(value) in self._host for value in outputs):
            seen = _Seen(Carried.HOST)
        elif is_sealed(node):
            for position in range(len(node.inputs)):
                self._read(node, position, Carried.SUM, Carried.POOLED, Carried.HOST, Carried.FLOAT)
            seen = _Seen(Carried.FLOAT)
        elif id(node) in self._within:
            seen = _OTHER
        elif id(node) in self._jumps:
            jump = self._jumps[id(node)]
            for reader, position in jump.uses():
                self._demand(jump.source, reader, position, True)
            seen = _Seen(Carried.CURVE)
        elif any(value.dtype is not None and not value.dtype.is_floating_point() for value in outputs):
            seen = _OTHER
        else:
            seen = self._rule(node)
        for value in outputs:
            self._seen[id(value)] = seen

    def finish(self, outputs: list[Value]) -> None:
        """Demand codes for outputs of the graph that are no sums; quotients are divided on the host."""
        for value in outputs:
            kind = self._of(value, None, 0).kind
            if is_sealed(value.producer()):
                continue
            if value.producer() is not None and kind in (Carried.HOST, Carried.CURVE):
                self._demand(value, None, 0, kind is Carried.CURVE)

    def _of(self, value: Value | None, node: Node | None, position: int) -> _Seen:
        if (
            value is None
            or constant(value) is not None
            or (_is_repeated(value) and id(value) not in self._host)
        ):
            return _Seen(Carried.CONSTANT)
        if self._coded(value, node, position):
            return _CODE
        if id(value) in self._host:
            return _Seen(Carried.HOST)
        return self._seen.get(id(value), _OTHER)

    def _read(self, node: Node, position: int = 0, *allowed: Carried) -> _Seen:
        """Return what an operand is, after demanding a code if it is none of the allowed kinds."""
        value = node.inputs[position] if position < len(node.inputs) else None
        seen = self._of(value, node, position)
        if value is None or seen.kind in (*allowed, Carried.CODE, Carried.CONSTANT, Carried.OTHER):
            return seen
        return self._code(node, position, firm=seen.kind not in (Carried.SUM, Carried.POOLED))

    def _code(self, node: Node, position: int, *, firm: bool = False) -> _Seen:
        value = node.inputs[position]
        assert value is not None
        self._demand(value, node, position, firm)
        return _CODE

    def _rule(self, node: Node) -> _Seen:
        op, own = node.op_type, node.domain == AI_SNNC
        if own and op == "Quantise":
            step = constant(node.inputs[1])
            return _CODE if step is not None and step.size == 1 else _Seen(Carried.CODE, None)
        if own and op == "RMSNorm":
            return self._normalised(node)
        if own and op == "Gate":
            return self._read(node)
        if own and op == "MaskRow":
            return replace(self._read(node, 0, Carried.SUM, Carried.POOLED), kind=Carried.SUM, plain=False)
        if own and op == "Weight":
            return _Seen(Carried.CONSTANT)
        if op in ACTIVATION_OPS:
            return self._activation(node)
        if own or node.domain not in ("", "ai.onnx"):
            return _OTHER
        rule = _RULES.get(op)
        if rule is None and op in LAYOUT_OPS:
            return self._layout(node)
        return rule(self, node) if rule is not None else _OTHER

    def _activation(self, node: Node) -> _Seen:
        seen = self._read(node, 0, Carried.SUM, Carried.POOLED)
        if seen.kind is Carried.OTHER:
            return _OTHER
        attrs = attributes(node)
        rising = node.op_type in _NEVER_FALL or (
            node.op_type == "LeakyRelu" and float(attrs.get("alpha", 0.01)) >= 0
        )
        plain = rising and (seen.plain or seen.kind is Carried.CODE)
        varies = seen.varies
        if node.op_type == "PRelu":
            varies, plain = _joint(varies, _of_constant(node.inputs[1], node)), False
        return _Seen(Carried.CURVE, varies, plain)

    def _layout(self, node: Node) -> _Seen:
        held = constant(node.inputs[0])
        if held is not None:  # rows of a table
            return _Seen(Carried.SUM, None)
        seen = self._read(node, 0, *(kind for kind in Carried if kind is not Carried.QUOTIENT))
        return replace(seen, varies=_moved(node, seen.varies), unlike=_moved(node, seen.unlike))

    def _product(self, node: Node) -> _Seen:
        weights = [constant(value) is not None for value in node.inputs[:2]]
        for position in range(2):
            if weights[position]:
                continue
            first = position == 0 and weights[1]
            allowed = (Carried.HOST,) if first or _is_weight(node.inputs[1 - position]) else ()
            pooled = (Carried.POOLED,) if position == 0 else ()
            seen = self._read(node, position, *allowed, *pooled)
            if seen.kind is not Carried.POOLED:
                continue
            # Sums over so many positions that products of them would leave 32 bits become a code again.
            fits = seen.merged * self._product_of_two * load(node) < _ACCUMULATOR
            if not fits or seen.varies is None or seen.varies - {1}:
                self._code(node, position)
        few = pools_exactly(fan_in(node), self._product_of_two)
        plain = few and self._of(node.inputs[0], node, 0).kind is Carried.CODE
        weighted = any(weights) or any(_is_weight(value) for value in node.inputs[:2])
        rank = len(node.outputs[0].shape or ())
        varies = frozenset({1 if node.op_type == "Conv" else rank - 1})
        return _Seen(Carried.SUM, varies, plain, varies if weighted else frozenset())

    def _sum(self, node: Node) -> _Seen:
        held = [constant(value) is not None for value in node.inputs]
        if any(held):
            place = held.index(False)
            turned = node.op_type == "Sub" and place == 1
            kinds = (Carried.SUM, Carried.POOLED, Carried.CURVE, Carried.HOST, Carried.FLOAT)
            seen = self._read(node, place, *kinds, *(() if turned else (Carried.QUOTIENT,)))
            varies = _joint(_lifted(node, place, seen.varies), _of_constant(node.inputs[1 - place], node))
            kind = Carried.SUM if seen.kind in (Carried.CODE, Carried.POOLED) else seen.kind
            return _Seen(kind, varies, seen.plain and not turned, _lifted(node, place, seen.unlike))
        sides = [self._read(node, place, Carried.SUM, Carried.POOLED) for place in range(2)]
        if any(side.kind is Carried.OTHER for side in sides):
            return _OTHER
        lifted = [_lifted(node, place, side.varies) for place, side in enumerate(sides)]
        unlike = [_lifted(node, place, side.unlike) for place, side in enumerate(sides)]
        return _Seen(Carried.SUM, _joint(*lifted), unlike=_joint(*unlike))

    def _scale(self, node: Node) -> _Seen:
        held = [constant(value) for value in node.inputs]
        if held[0] is None and held[1] is None:
            return self._of_two(node)
        place = 1 if held[0] is not None else 0
        factor = held[1 - place]
        if factor is None or (place == 1 and node.op_type == "Div"):
            return _OTHER
        positive = bool(np.all(factor > 0))
        kinds = [Carried.SUM, Carried.POOLED, Carried.CURVE, Carried.HOST, Carried.FLOAT]
        seen = self._read(node, place, *kinds, *([Carried.QUOTIENT] if bool(np.all(factor >= 0)) else []))
        changes = _of_constant(node.inputs[1 - place], node)
        varies, unlike = (_joint(_lifted(node, place, axes), changes) for axes in (seen.varies, seen.unlike))
        kind = seen.kind
        if not positive and kind in (Carried.CODE, Carried.POOLED):
            kind = Carried.SUM
        return _Seen(kind, varies, seen.plain and positive, unlike)

    def _of_two(self, node: Node) -> _Seen:
        """A sum of codes divides; functions of one value make another; else one code is held."""
        if node.op_type == "Div":
            for place in range(2):
                self._read(node, place, Carried.SUM, Carried.POOLED, Carried.FLOAT)
            return _Seen(Carried.QUOTIENT, None)
        sides = [self._read(node, place) for place in range(2)]
        if node.inputs[0] is node.inputs[1]:
            return self._tabulated(node)
        if any(side.kind is not Carried.CODE for side in sides):
            return _OTHER
        lifted = [_lifted(node, place, side.varies) for place, side in enumerate(sides)]
        of_one = is_of_one_value([value for value in node.inputs if value is not None], self._order)
        return _Seen(Carried.CURVE if of_one else Carried.SUM, _joint(*lifted))

    def _tabulated(self, node: Node) -> _Seen:
        """A function that only a table of a code can hold."""
        others = [constant(value) for value in node.inputs[1:] if value is not node.inputs[0]]
        if any(other is None or other.size != 1 for other in others):
            return _OTHER
        seen = self._read(node, 0)
        if seen.kind is Carried.OTHER:
            return seen
        if seen.kind is Carried.CODE and seen.varies:
            seen = self._code(node, 0, firm=True)  # a table has one step
        return _Seen(Carried.CURVE, seen.varies)

    def _negative(self, node: Node) -> _Seen:
        seen = self._read(node, 0, Carried.SUM, Carried.POOLED, Carried.CURVE, Carried.HOST)
        kind = Carried.SUM if seen.kind in (Carried.CODE, Carried.POOLED) else seen.kind
        return _Seen(kind, seen.varies, unlike=seen.unlike)

    def _maximum(self, node: Node) -> _Seen:
        seen = self._read(node, 0, Carried.SUM, Carried.CURVE)
        if seen.kind in (Carried.OTHER, Carried.CONSTANT):
            return seen
        fits = seen.varies is not None and not seen.varies - {0, 1}
        if not fits or (seen.kind is not Carried.CODE and not seen.plain):
            seen = self._code(node, 0)
        return seen

    def _largest(self, node: Node) -> _Seen:
        seen = self._read(node, 0, Carried.SUM)
        if seen.kind is Carried.OTHER:
            return _OTHER
        if seen.kind is Carried.SUM and _is_along(node, seen.unlike):
            # Channels of unlike steps cannot be compared: the scores of this softmax get a code of one step.
            self._code_scores(node)
        return _Seen(Carried.SUM, None)

    def _code_scores(self, largest: Node) -> None:
        """Demand one code for the maximum of a row and for what is compared with it."""
        first = largest
        maker = largest.inputs[0].producer() if largest.inputs[0] is not None else None
        if maker is not None and maker.domain == AI_SNNC and maker.op_type == "MaskRow":
            first = maker
        scores = first.inputs[0]
        if scores is None:
            return
        self._demand(scores, first, 0, True)
        for reader, position in scores.uses():
            if reader.op_type == "Sub" and position == 0 and reader.inputs[1] is largest.outputs[0]:
                self._demand(scores, reader, 0, True)

    def _pool(self, node: Node) -> _Seen:
        seen = self._read(node, 0, Carried.POOLED)
        if seen.kind in (Carried.OTHER, Carried.CONSTANT):
            return seen
        varies = seen.varies
        windowed = node.op_type in ("AveragePool", "GlobalAveragePool")
        # A step that changes within a window, or along what is summed, cannot be divided out of the sum.
        coded = varies is None or bool(varies - {1} if windowed else varies)
        if coded:
            varies = self._code(node, 0).varies
        pads = any(attributes(node).get("pads", ())) and not attributes(node).get("count_include_pad", 0)
        edge = (
            frozenset(range(2, len(node.outputs[0].shape or ()))) if node.op_type == "AveragePool" else None
        )
        merged = (1 if coded else seen.merged) * window(node)
        return _Seen(Carried.POOLED, _joint(varies, edge) if pads else varies, merged=merged)

    def _normalised(self, node: Node) -> _Seen:
        self._read(node, 0, Carried.SUM, Carried.POOLED)
        return _Seen(Carried.QUOTIENT, frozenset({len(node.outputs[0].shape or ()) - 1}))

    def _concat(self, node: Node) -> _Seen:
        allowed = [Carried.SUM, Carried.POOLED]
        # A constant beside it (coordinates of the places) is rounded to the step of a sum, not of a function.
        if not any(value is not None and _is_held(value) for value in node.inputs):
            allowed.append(Carried.CURVE)
        parts = [self._read(node, place, *allowed) for place in range(len(node.inputs))]
        kinds = {part.kind for part in parts}
        if Carried.OTHER in kinds:
            return _OTHER
        axis = int(attributes(node)["axis"]) % max(1, len(node.outputs[0].shape or ()))
        # Parts that are no sums, such as constants, take the step of those that are.
        sums = sum(part.kind in (Carried.SUM, Carried.CODE) for part in parts)
        unlike = _joint(frozenset({axis} if sums > 1 else ()), *(part.unlike for part in parts))
        varies = _joint(frozenset({axis}), *(part.varies for part in parts))
        # Codes of one book and step stay codes, but which book calibration chooses is not known yet.
        return _Seen(Carried.CURVE if Carried.CURVE in kinds else Carried.SUM, varies, unlike=unlike)

    def _padded(self, node: Node) -> _Seen:
        seen = self._of(node.inputs[0], node, 0)
        if seen.kind in (Carried.HOST, Carried.CONSTANT, Carried.OTHER):
            return seen
        if seen.kind is not Carried.CODE or seen.varies is None or seen.varies:
            seen = self._code(node, 0, firm=True)  # what is padded with is the code 0
        return seen


def _is_along(node: Node, varies: Axes) -> bool:
    """Whether a step may change along the axes that a node reduces."""
    held = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = held.tolist() if held is not None else attributes(node).get("axes") or []
    rank = len(node.inputs[0].shape or ()) if node.inputs[0] is not None else 0
    return varies is None or any(int(axis) % max(1, rank) in varies for axis in axes)


def _is_weight(value: Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.domain == AI_SNNC and node.op_type == "Weight"


def _is_held(value: Value) -> bool:
    """Whether a value is a constant, repeated for every sample or not."""
    return constant(value) is not None or _is_repeated(value)


def _is_repeated(value: Value) -> bool:
    """Whether a value is a constant repeated for every sample: a class token, which joins as integers."""
    producer = value.producer()
    return producer is not None and producer.op_type == "Expand" and constant(producer.inputs[0]) is not None


def _joint(*axes: Axes) -> Axes:
    found: frozenset[int] = frozenset()
    for one in axes:
        if one is None:
            return None
        found |= one
    return found


def _of_constant(value: Value | None, node: Node) -> Axes:
    """Return the axes of a node's result along which a constant operand changes."""
    array = constant(value)
    rank = len(node.outputs[0].shape or ())
    if array is None:
        return None
    changes = [
        axis
        for axis in range(array.ndim)
        if array.shape[axis] > 1 and not bool(np.all(array == array.take([0], axis=axis)))
    ]
    return frozenset(axis + rank - array.ndim for axis in changes)


def _lifted(node: Node, position: int, axes: Axes) -> Axes:
    """Number the axes of an operand as the result does."""
    source = node.inputs[position]
    if axes is None or source is None or source.shape is None or node.outputs[0].shape is None:
        return None
    more = len(node.outputs[0].shape) - len(source.shape)
    return frozenset(axis + more for axis in axes)


def _moved(node: Node, axes: Axes) -> Axes:
    """Follow axes through an operator that moves elements."""
    if axes is None or not axes:
        return axes
    source, out = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or out.shape is None:
        return None
    if node.op_type == "Transpose":
        perm = attributes(node).get("perm") or list(range(len(source.shape)))[::-1]
        return frozenset(perm.index(axis) for axis in axes)
    if node.op_type in _KEEP_AXES:
        more = len(out.shape) - len(source.shape)
        return frozenset(axis + more for axis in axes)
    if node.op_type == "Gather":
        indices = constant(node.inputs[1])
        return axes if indices is not None and indices.ndim == 1 else None
    if node.op_type not in _RESHAPES:
        return None
    before, after = _extents(source), _extents(out)
    places = {place: axis for axis, place in enumerate(after) if place[1] != 1}
    found = [places.get(before[axis]) for axis in axes if before[axis][1] != 1]
    return None if None in found else frozenset(axis for axis in found if axis is not None)


def _extents(value: Value) -> list[tuple[Any, Any]]:
    """Return for each axis how many elements lie behind it, and its size."""
    result: list[tuple[Any, Any]] = []
    behind = 1
    for size in reversed(list(value.shape or ())):
        number = size if isinstance(size, int) else -1
        result.append((behind, number))
        behind *= number
    return result[::-1]


_RULES: dict[str, Callable[[Walk, Node], _Seen]] = {
    "Conv": Walk._product,
    "MatMul": Walk._product,
    "Add": Walk._sum,
    "Sub": Walk._sum,
    "Mul": Walk._scale,
    "Div": Walk._scale,
    "Neg": Walk._negative,
    "MaxPool": Walk._maximum,
    "ReduceMax": Walk._largest,
    **dict.fromkeys(sorted(_SUMS), Walk._pool),
    **dict.fromkeys(sorted(_NORMS), Walk._normalised),
    **dict.fromkeys(sorted(TABULATED), Walk._tabulated),
    "Concat": Walk._concat,
    "Pad": Walk._padded,
}
