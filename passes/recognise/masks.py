"""Masks on the scores of attention: where they stand, and which places they leave open."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, DataType, Node, Value, attributes, concrete_shapes, constant
from snnc.ops.quantise import QUANTISE
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.analysis.reach import reach_of
from snnc.passes.editing import Editor, is_standard, joint_dims, only_consumer

__all__ = ["CLOSED", "Masks"]

#: A summand below this masks: no exponential of a score reaches over it.
CLOSED = -1000.0
_MOST_VALUES = 16
#: What an input of floats is taken to hold: no mask, unless it is scaled up to one.
_FLOATS = (-1.0, 1.0)
_MISPLACED = "a mask that enlarges the scores, or stands in front of a change of their layout"
_TRUTH = frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"}
)
_ARITHMETIC = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}
_KEEPS_ORDER = frozenset({"Cast", "Identity", "Dropout"})

Numbers = frozenset[float]
BoolArray = npt.NDArray[np.bool_]


class Masks:
    """Takes the masks off the scores of softmaxes; what is left open becomes a gate.

    A mask is a summand that is -inf, or below `CLOSED`, at some places (and zero or a bias at the others), or
    a Where between scores and such a number. A mask that the host computes must come from a 0/1 mask alone:
    its values are followed through the arithmetic, and have to be zero where it is open. A quantiser between
    the mask and the softmax acts on the scores alone then; what masks must mask as its level too.

    Args:
        editor: Editor of the model.
    """

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._hosted = host_nodes(editor.model)
        self._values: dict[int, Numbers | None] = {}
        self.fixed: list[BoolArray] = []
        self.computed: list[Value] = []
        self._behind = False
        self._shapes: list[dict[str, tuple[int, ...]]] = []
        self._quantisers: list[Node] = []

    def take_off(self, softmax: Node) -> Value | str | None:
        """Remove the masks in front of a softmax from the graph.

        Returns:
            The gate (true where open, broadcastable to the scores), None if there is no mask, or the reason
            why one could not be taken off.
        """
        self.fixed, self.computed, self._behind, self._softmax = [], [], False, softmax
        self._quantisers = []
        value = softmax.inputs[0]
        while (
            value is not None and (node := value.producer()) is not None and only_consumer(value) is not None
        ):
            found = self._step(node)
            if isinstance(found, str):
                return found
            if found is None:
                break
            value = found
            self._behind |= node.graph is not None and node.op_type in LAYOUT_OPS - _KEEPS_ORDER
        return self._gate(softmax)

    def _step(self, node: Node) -> Value | str | None:
        """Pass one node towards the scores: the value in front of it; None at the end of the way."""
        if node.op_type in LAYOUT_OPS | _KEEPS_ORDER and node.domain == "":
            return node.inputs[0]
        if is_standard(node, "Add", "Sub"):
            return self._sum(node)
        if is_standard(node, "Where"):
            return self._choice(node)
        if is_standard(node, "Max"):
            return self._floor(node)
        if is_standard(node, "Clip"):
            return self._range(node)
        if is_standard(node, "Mul", "Div"):
            return self._factor(node)
        if node.domain == AI_SNNC and node.op_type == "Quantise" and constant(node.inputs[1]) is not None:
            self._quantisers.append(node)
            return node.inputs[0]
        return None

    def _closes(self, numbers: npt.ArrayLike) -> BoolArray:
        """Return which numbers mask: those below `CLOSED` whose levels of quantisers behind are so, too."""
        levels = np.asarray(numbers, dtype=np.float32)
        closed: BoolArray = np.asarray(levels <= CLOSED)
        for quantiser in reversed(self._quantisers):
            step = constant(quantiser.inputs[1])
            if step is None or step.size != 1:
                return np.zeros_like(closed)
            levels = QUANTISE.packed([levels, step.astype(np.float32).reshape(())], attributes(quantiser))
            closed = closed & (levels <= CLOSED)
        return closed

    def _sum(self, node: Node) -> Value | str | None:
        if self.is_hosted(node.outputs[0]):
            return None  # the scores themselves are computed from the input: neither summand masks the other
        for place in (1, 0) if node.op_type == "Add" else (1,):
            mask, scores = node.inputs[place], node.inputs[1 - place]
            assert mask is not None and scores is not None
            sign = -1.0 if node.op_type == "Sub" else 1.0
            held = constant(mask)
            if held is not None:
                return self._constant_summand(node, scores, sign * held.astype(np.float32))
            if self.is_hosted(mask):
                numbers = self.numbers(mask)
                if numbers is None and self._taken_apart(node, place):
                    return node.outputs[0]
                if numbers is None and not self._reaches_closed(mask):
                    return scores  # a bias, of which a quantiser makes spikes
                if numbers is None or any(n != 0 and not self._closes(sign * n) for n in numbers):
                    if numbers is not None and self._from_floats(mask):
                        return scores  # a bias as well: an input of floats holds any numbers
                    seen = "unknown" if numbers is None else ", ".join(f"{n:g}" for n in sorted(numbers))
                    return f"a summand that is computed from the input, and no mask: its values are {seen}"
                if not self._drop(node, scores, "mask of run-time values"):
                    return _MISPLACED
                self.computed.append(self._open(node, mask, sign))
                return scores
        return None

    def _taken_apart(self, node: Node, place: int) -> bool:
        """Add the two parts of a summand of the host one after the other: a bias and a mask, perhaps."""
        mask, scores, out = node.inputs[place], node.inputs[1 - place], node.outputs[0]
        parts = mask.producer() if mask is not None else None
        assert parts is not None and scores is not None  # an input of the network has values that are known
        if node.op_type == "Sub" or not self.same_shape(scores, out):
            return False
        first, second = self._parts(parts)
        if first is None or second is None:
            return False
        sides = [scores, first] if place else [first, scores]
        name = f"{node.name}.first"
        inner = self._editor.add(node, "Add", sides, name=name, dtype=out.dtype, shape=out.shape)
        node.replace_input_with(1 - place, inner)
        node.replace_input_with(place, second)
        self._editor.record("summands of the host one by one", [parts])
        return True

    def _parts(self, node: Node) -> tuple[Value | None, Value | None]:
        """Return two values whose sum a summand of the host is: a bias and what may be a mask."""
        if is_standard(node, "Add"):
            first = next((value for value in node.inputs if constant(value) is not None), node.inputs[0])
            return first, node.inputs[1] if first is node.inputs[0] else node.inputs[0]
        if not is_standard(node, "Where"):
            return None, None
        held = [constant(value) for value in node.inputs[1:]]
        closed = [array is not None and bool(np.all(array <= CLOSED)) for array in held]
        condition, limit = node.inputs[0], held[closed.index(True)] if True in closed else None
        if closed.count(True) != 1 or condition is None or limit is None or limit.size != 1:
            return None, None
        kept = 1 + closed.index(False)
        zero = self._editor.constant(f"{node.name}.open", np.zeros((), dtype=np.float32))
        branches = [zero if place == kept else node.inputs[place] for place in (1, 2)]
        inputs, name = [condition, *branches], f"{node.name}.mask"
        dtype, shape = node.outputs[0].dtype, condition.shape
        mask = self._editor.add(node, "Where", inputs, name=name, dtype=dtype, shape=shape)
        producer = mask.producer()
        assert producer is not None
        self._hosted[id(producer)] = producer
        return node.inputs[kept], mask

    def _reaches_closed(self, value: Value) -> bool:
        """Whether a summand may be so small, or so large, that it masks.

        An input of floats that is added as it is counts as a bias. One that is computed with is a mask only
        if that makes it as large as one.
        """
        reach = reach_of(value, floats=_FLOATS)
        return reach is None or max(abs(reach[0]), abs(reach[1])) >= -CLOSED

    def _open(self, node: Node, mask: Value, sign: float) -> Value:
        """Return where a computed summand masks nothing."""
        choice = mask.producer()
        if choice is not None and is_standard(choice, "Where") and choice.inputs[0] is not None:
            branches = [constant(value) for value in choice.inputs[1:]]
            closed = [None if held is None else _one_truth(sign * held <= CLOSED) for held in branches]
            if closed == [False, True]:
                return choice.inputs[0]
            if closed == [True, False]:
                return self._truth(node, "Not", [choice.inputs[0]])
        limit = self._editor.constant(f"{node.name}.closed", np.array(CLOSED * sign, np.float32))
        return self._truth(node, "Greater" if sign > 0 else "Less", [mask, limit])

    def _constant_summand(self, node: Node, scores: Value, mask: npt.NDArray[np.float32]) -> Value | str:
        open_places = ~self._closes(mask)
        if bool(open_places.all()):
            return scores
        rest = np.where(open_places, mask, np.float32(0))
        if self._behind:
            return _MISPLACED
        if bool(np.any(rest != 0)):
            place = 1 if node.inputs[0] is scores else 0
            if node.op_type == "Sub":
                rest = -rest
            self._editor.set_constant(node, place, f"{node.name}.bias", rest)
            self._editor.record("mask", note="its real part stays as a bias")
        elif not self._drop(node, scores, "mask"):
            return _MISPLACED
        self.fixed.append(open_places)
        return scores

    def _choice(self, node: Node) -> Value | str | None:
        condition = node.inputs[0]
        for place in (1, 2):
            scores, other = node.inputs[place], constant(node.inputs[3 - place])
            if other is None or scores is None or condition is None or constant(scores) is not None:
                continue
            if not bool(np.all(self._closes(other))):
                return "a choice between scores and numbers that do not mask"
            held = constant(condition)
            if held is None and not self.is_hosted(condition):
                return "a mask that depends on coded values"
            if not self._drop(node, scores, "mask by choice"):
                return _MISPLACED
            if held is not None:
                self.fixed.append(held.astype(bool) == (place == 1))
            elif place == 1:
                self.computed.append(condition)
            else:
                self.computed.append(self._truth(node, "Not", [condition]))
            return scores
        return None

    def _floor(self, node: Node) -> Value | None:
        """Max with a number that no score falls below."""
        for place in (0, 1) if len(node.inputs) == 2 else ():
            held, scores = constant(node.inputs[place]), node.inputs[1 - place]
            if held is not None and scores is not None and bool(np.all(held <= CLOSED)):
                self._drop(node, scores, "floor of the scores")
                return scores
        return None

    def _range(self, node: Node) -> Value | None:
        """Clip to more than scores can be."""
        attrs = attributes(node)
        bounds = [constant(value) for value in node.inputs[1:]]
        low = bounds[0] if bounds else attrs.get("min")
        high = bounds[1] if len(bounds) > 1 else attrs.get("max")
        wide = (low is None or bool(np.all(low <= CLOSED))) and (
            high is None or bool(np.all(high >= -CLOSED))
        )
        scores = node.inputs[0]
        if not wide or scores is None:
            return None
        self._drop(node, scores, "floor of the scores")
        return scores

    def _factor(self, node: Node) -> Value | None:
        for place in (1, 0) if node.op_type == "Mul" else (1,):
            held, scores = constant(node.inputs[place]), node.inputs[1 - place]
            if held is None or scores is None:
                continue
            if held.size == 1 and bool(np.all(held > 0)):
                return scores
            closed = held == 0
            if node.op_type == "Mul" and bool(np.all(closed | (held == 1))) and self._is_closed(closed):
                # What is multiplied by zero is masked behind it anyway.
                self._drop(node, scores, "mask by a product")
                return scores
        return None

    def _is_closed(self, places: npt.NDArray[np.bool_]) -> bool:
        try:
            return any(bool(np.all(~gate | ~places)) for gate in self.fixed)
        except ValueError:
            return False

    def _drop(self, node: Node, scores: Value, rule: str) -> bool:
        """Let the readers of a node read the scores, if those have its shape."""
        if self._behind or not self.same_shape(scores, node.outputs[0]):
            return False
        return self._editor.replace(rule, node.outputs[0], scores)

    def same_shape(self, one: Value, other: Value) -> bool:
        """Return whether two values have the same extents at two batch sizes."""
        if str(one.shape) == str(other.shape):
            return True
        if not self._shapes:
            # Names of open dimensions tell nothing; extents at two batch sizes do.
            self._shapes = [concrete_shapes(self._editor.model, batch) for batch in (1, 2)]
        found = [(known.get(one.name or ""), known.get(other.name or "")) for known in self._shapes]
        return all(left is not None and left == right for left, right in found)

    def is_hosted(self, value: Value) -> bool:
        """Return whether the host computes a value from the network inputs."""
        producer = value.producer()
        return value.is_graph_input() or (producer is not None and id(producer) in self._hosted)

    def _truth(self, anchor: Node, op: str, inputs: list[Value]) -> Value:
        name = f"{anchor.name}.open"
        # The node that held the mask is gone; in front of the softmax the condition is known.
        return self._editor.add(
            self._softmax, op, inputs, name=name, dtype=DataType.BOOL, shape=inputs[0].shape
        )

    def _gate(self, softmax: Node) -> Value | None:
        gate: Value | None = None
        if self.fixed:
            both = self.fixed[0]
            for other in self.fixed[1:]:
                both = both & other
            gate = None if bool(both.all()) else self._editor.constant(f"{softmax.name}.gate", both)
        for other_gate in self.computed:
            if gate is None:
                gate = other_gate
                continue
            both_open, name = [gate, other_gate], f"{softmax.name}.gate"
            shapes = [value.shape for value in both_open]
            dims = None if None in shapes else joint_dims(*(list(shape or ()) for shape in shapes))
            gate = self._editor.add(softmax, "And", both_open, name=name, dtype=DataType.BOOL, shape=dims)
        return gate

    def is_truth(self, value: Value) -> bool:
        """Return whether a value of the host is zeros and ones, as a factor or a count of places must be.

        What comes from an input of floats may be any number: only what closes a place by far is a mask then.
        """
        numbers = self.numbers(value)
        return numbers is not None and numbers <= {0.0, 1.0} and not self._from_floats(value)

    def known(self, value: Value) -> Numbers | None:
        """Return all numbers that a value of the host can hold; None if it may be others, or is no host's."""
        return self.numbers(value) if self.is_hosted(value) and not self._from_floats(value) else None

    def _from_floats(self, value: Value) -> bool:
        waiting, seen = [value], {id(value)}
        while waiting:
            one = waiting.pop()
            if one.is_graph_input() and (one.dtype is None or one.dtype.is_floating_point()):
                return True
            producer = one.producer()
            if producer is None or producer.op_type in _TRUTH:
                continue
            for read in producer.inputs:
                if read is not None and id(read) not in seen:
                    seen.add(id(read))
                    waiting.append(read)
        return False

    def numbers(self, value: Value | None) -> Numbers | None:
        """Return every number that a value computed from 0/1 masks can hold; None if it may be others."""
        if value is None:
            return None
        if id(value) not in self._values:
            self._values[id(value)] = None
            self._values[id(value)] = self._numbers_of(value)
        return self._values[id(value)]

    def _numbers_of(self, value: Value) -> Numbers | None:
        held = constant(value)
        if held is not None:
            return _few(np.unique(held).tolist()) if held.dtype.kind in "biuf" else None
        if value.is_graph_input():
            return frozenset({0.0, 1.0})
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _TRUTH:
            return frozenset({0.0, 1.0})
        if node.op_type == "ConstantOfShape":
            return _few(np.asarray(attributes(node).get("value", np.zeros(1))).reshape(-1).tolist())
        operands = [self.numbers(entry) for entry in node.inputs]
        if node.op_type in LAYOUT_OPS | {"Tile"}:
            return operands[0]
        if node.op_type == "Cast":
            first = operands[0]
            to_bool = value.dtype == DataType.BOOL
            return None if first is None else frozenset(float(n != 0) if to_bool else n for n in first)
        if node.op_type == "Neg":
            return None if operands[0] is None else frozenset(-n for n in operands[0])
        if node.op_type in ("Where", "Concat"):
            parts = operands[1:] if node.op_type == "Where" else operands
            known = [part for part in parts if part is not None]
            return _few(n for part in known for n in part) if len(known) == len(parts) else None
        function = _ARITHMETIC.get(node.op_type)
        if function is None or len(operands) != 2 or operands[0] is None or operands[1] is None:
            return None
        with np.errstate(all="ignore"):
            return _few(
                float(function(np.float32(a), np.float32(b))) for a, b in product(operands[0], operands[1])
            )


def _one_truth(places: BoolArray) -> bool | None:
    """Return what holds of all places, None if it holds of some only."""
    return bool(places.all()) if bool((places == places.all()).all()) else None


def _few(numbers: object) -> Numbers | None:
    found = frozenset(float(n) for n in numbers)  # type: ignore[attr-defined]
    return found if len(found) <= _MOST_VALUES and not any(np.isnan(list(found))) else None
