"""Pass ``require-quantised``: whatever is still float where spikes must flow ends the conversion, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from snnc.coding import CodeBook
from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant, consumers_of
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis.activations import ACTIVATION_OPS
from snnc.passes.analysis.hosted import host_nodes, is_table_read
from snnc.passes.canonical.chain import WHY
from snnc.passes.editing import is_output, is_standard
from snnc.passes.quantise.invert_divisors import divides_by_a_sum
from snnc.passes.recognise.remedies import activation_remedy
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RequireQuantised"]

_LAYOUT = frozenset(
    (
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "Expand",
        "Pad",
        "Identity",
        "DepthToSpace",
        "SpaceToDepth",
        "Tile",
    )
)
_LINEAR = frozenset({"Add", "Sub", "Sum"})
_SUMS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"})
#: What needs a sum first and gives a neuron its gain.
_GAINS = frozenset({"LayerNormalization", "RMSNormalization", "ReduceMax"})
_PRODUCTS = frozenset({"Conv", "MatMul"})


_TWO_VALUES = "multiplies two computed values that do not both carry codes"
_CHOICE = (
    "it makes numbers of a choice between values of the network (a comparison, ArgMax, one_hot): weigh them "
    "with a softmax, or cut the model in front of the choice"
)
_RESET = (
    "multiplies a potential by spikes, as a neuron does that is reset to a value: train with reset by "
    "subtraction (v_reset=None in SpikingJelly, reset_mechanism='subtract' in snnTorch)"
)


class _Kind(Enum):
    """What a tensor carries, as far as this check needs to know."""

    INPUT = "the network input, changed at most elementwise"
    CODED = "codes of a quantiser"
    POOLED = "sums of codes over a window: spike trains merged on one wire"
    SUM = "sums of weighted codes"
    CONSTANT = "constants"
    SHAPE = "integers that describe shapes"
    HOST = "floats of the host"


@dataclass
class _Walk:
    """One forward walk over a graph that collects problems.

    Attributes:
        reasons: Why earlier passes left a node as it is, by its name.
        kinds: Kind of each value by identity.
        problems: What was found, in graph order.
        hosted: What the host computes from the network inputs, by identity.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    kinds: dict[int, _Kind] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    hosted: dict[int, Node] = field(default_factory=dict)

    def kind(self, value: Value | None) -> _Kind:
        """Return the kind of a value; constants and absent inputs count as constants."""
        if value is None or constant(value) is not None:
            return _Kind.CONSTANT
        return self.kinds.get(id(value), _Kind.SUM)

    def complain(self, node: Node, message: str) -> None:
        """Add a problem at a node."""
        self.problems.append(Problem(message, Where(node=node.name)))

    def visit(self, node: Node) -> None:
        """Give the outputs of a node their kind."""
        if is_sealed(node):
            kind = self._hosted(node)
        elif id(node) in self.hosted:
            kind = self._host(node)
        elif is_table_read(node):
            kind = _Kind.SUM
        elif node.op_type in ACTIVATION_OPS and node.domain in ("", "ai.onnx", AI_SNNC):
            kind = self._activation(node)
        else:
            kind = self._own(node) if node.domain == AI_SNNC else self._standard(node)
        for value in node.outputs:
            self.kinds[id(value)] = kind

    def _hosted(self, node: Node) -> _Kind:
        """What the host computes in float: of the network input alone it is like the input."""
        kinds = {self.kind(value) for value in node.inputs}
        return _Kind.INPUT if kinds <= {_Kind.INPUT, _Kind.CONSTANT, _Kind.SHAPE} else _Kind.HOST

    @staticmethod
    def _host(node: Node) -> _Kind:
        out = node.outputs[0].dtype
        return _Kind.SHAPE if out is not None and not out.is_floating_point() else _Kind.INPUT

    @staticmethod
    def _own(node: Node) -> _Kind:
        if node.op_type in ("RMSNorm", "MaskRow"):
            return _Kind.SUM
        return _Kind.CONSTANT if node.op_type == "Weight" else _Kind.CODED

    def _standard(self, node: Node) -> _Kind:
        kinds = [self.kind(value) for value in node.inputs]
        out = node.outputs[0].dtype
        if out is not None and not out.is_floating_point() and node.op_type != "QuantizeLinear":
            return _Kind.SHAPE
        if node.domain not in ("", "ai.onnx"):
            return self._left_over(node)
        if node.op_type in _LAYOUT:
            present = [kind for kind in kinds if kind not in (_Kind.SHAPE, _Kind.CONSTANT)]
            return present[0] if len(set(present)) == 1 else (_Kind.SUM if present else _Kind.CONSTANT)
        if node.op_type in _PRODUCTS:
            return self._product(node, kinds)
        if node.op_type in _LINEAR or node.op_type in ("Mul", "Div"):
            return self._arithmetic(node, kinds)
        if node.op_type in _GAINS and kinds[0] is not _Kind.INPUT:
            return _Kind.SUM
        if node.op_type == "MaxPool" and kinds[0] is not _Kind.INPUT:
            return kinds[0] if kinds[0] is _Kind.CODED else _Kind.SUM
        if node.op_type in _SUMS and kinds[0] in (_Kind.CODED, _Kind.POOLED):
            return _Kind.POOLED
        if node.op_type in ("Neg", "Cast") and kinds[0] in (_Kind.INPUT, _Kind.HOST):
            return kinds[0]
        if node.op_type == "Neg" or (node.op_type in _SUMS and kinds[0] is not _Kind.INPUT):
            return _Kind.SUM
        if node.op_type in _SUMS | {"MaxPool"}:
            self.complain(node, f"{node.op_type} reads the network input: put a quantiser in front of it")
            return _Kind.SUM
        return self._left_over(node)

    def _activation(self, node: Node) -> _Kind:
        """A function that a neuron can hold needs a quantiser that reads it."""
        if self.kind(node.inputs[0]) in (_Kind.INPUT, _Kind.HOST):
            return self.kind(node.inputs[0]) if node.op_type in ("Relu", "Clip") else self._left_over(node)
        reader = _first_reader(node.outputs[0])
        return _Kind.SUM if reader is None else self._left_over(node, f"; {reader}")

    def _product(self, node: Node, kinds: list[_Kind]) -> _Kind:
        for place, kind in zip(("data input", "second operand"), kinds, strict=False):
            if kind in (_Kind.SUM, _Kind.HOST) or (kind is _Kind.POOLED and place == "second operand"):
                source = node.inputs[0 if place == "data input" else 1]
                producer = source.producer() if source is not None else None
                origin = f"{producer.op_type} {producer.name!r}" if producer is not None else "nowhere"
                self.complain(
                    node,
                    f"the {place} of this {node.op_type} carries no code; it comes from {origin}: put a "
                    "quantiser between them",
                )
        if all(kind in (_Kind.INPUT, _Kind.CONSTANT) for kind in kinds[:2]) and kinds[0] is kinds[1]:
            self.complain(node, f"both operands of this {node.op_type} are {kinds[0].value}")
        return _Kind.SUM

    def _arithmetic(self, node: Node, kinds: list[_Kind]) -> _Kind:
        variable = [kind for kind in kinds if kind is not _Kind.CONSTANT]
        if all(kind is _Kind.INPUT for kind in variable):
            return _Kind.INPUT
        if all(kind in (_Kind.INPUT, _Kind.HOST) for kind in variable):
            return _Kind.HOST
        if _Kind.HOST in variable:
            self.complain(node, "mixes floats of the host with coded values: put a quantiser behind the host")
            return _Kind.SUM
        if (
            node.op_type == "Div"
            and kinds[1] not in (_Kind.CONSTANT, _Kind.POOLED)
            and not divides_by_a_sum(node)
        ):
            self.complain(node, "divides by a computed value: only constants and sums of codes can divide")
        elif node.op_type == "Mul" and len(variable) > 1 and set(variable) != {_Kind.CODED}:
            self.complain(node, _RESET if _is_reset(node) else _TWO_VALUES)
        elif _Kind.INPUT in variable:
            self.complain(node, "mixes the network input with coded values: put a quantiser behind the input")
        if node.op_type in ("Mul", "Div") and variable == [_Kind.POOLED]:
            return _Kind.POOLED
        if node.op_type in ("Mul", "Div") and variable == [_Kind.CODED] and _is_positive(node):
            return _Kind.CODED
        return _Kind.SUM

    def _left_over(self, node: Node, detail: str = "") -> _Kind:
        remedy = _CHOICE if _of_choice(node) else activation_remedy(node.op_type)
        remedy = remedy or "it has no form with spikes"
        why = self.reasons.get(node.name or "")
        if why is not None:
            remedy = f"{why}; {remedy}"
        self.complain(node, f"{node.op_type} is left over: {remedy}{detail}")
        # What reads it is judged as if this node had been fine: one cause, one message.
        return _Kind.CODED


def _of_choice(node: Node) -> bool:
    """Whether a Cast makes numbers of integers or truth values."""
    source = node.inputs[0].dtype if is_standard(node, "Cast") and node.inputs[0] is not None else None
    return source is not None and not source.is_floating_point()


def _is_reset(node: Node) -> bool:
    """Whether a product takes spikes of one level, or 1 minus them, as one operand."""
    for value in node.inputs:
        maker = value.producer() if value is not None else None
        if maker is not None and maker.op_type in _LINEAR and constant(maker.inputs[0]) is not None:
            spikes = maker.inputs[1]
            maker = spikes.producer() if spikes is not None else None
        if maker is None or maker.domain != AI_SNNC or maker.op_type != "Quantise":
            continue
        if CodeBook.from_attributes(attributes(maker)).levels == 2:
            return True
    return False


def _first_reader(value: Value) -> str | None:
    """Say what reads an activation function before a quantiser does; None if only quantisers read it."""
    stack, quantised = [value], False
    while stack:
        current = stack.pop()
        if is_output(current):
            return "its result is an output of the graph"
        for node in consumers_of(current):
            if node.domain == AI_SNNC and node.op_type == "Quantise":
                quantised = True
                continue
            others = [item for item in node.inputs if item is not None and item is not current]
            affine = node.op_type in ("Add", "Sub", "Mul", "Div") and all(
                constant(item) is not None for item in others
            )
            standard = node.domain in ("", "ai.onnx")
            if not standard or not (affine or node.op_type in _LAYOUT | {"MaxPool", "Neg"}):
                return f"{node.op_type} {node.name!r} reads its result"
            stack += [out for out in node.outputs if out.name]
    return None if quantised else "nothing reads its result"


def _is_positive(node: Node) -> bool:
    """Return whether a node scales by positive constants, so that codes stay codes."""
    factors = [array for value in node.inputs if (array := constant(value)) is not None]
    return all(bool((array > 0).all()) for array in factors)


@dataclass(frozen=True)
class RequireQuantised:
    """Check that every product reads codes, and that no activation function is left over.

    The first layer may read the network input itself, changed at most elementwise.

    Matches:
        Nothing: the graph does not change.
    Leaves alone:
        Models in which every Conv and MatMul has a coded data input (or the network input).
    Keeps:
        Everything.

    Raises:
        UnsupportedError: SNN462, listing every node that stays float, with the remedy.
    """

    name: ClassVar[str] = "require-quantised"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "types-known", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Check; see the class."""
        walk = _Walk(reasons=model.graph.meta.get(WHY, {}), hosted=host_nodes(model))
        for value in model.graph.inputs:
            walk.kinds[id(value)] = _Kind.INPUT
        for node in model.graph:
            walk.visit(node)
        if not walk.problems:
            return PassResult()
        quantised = any(node.domain == AI_SNNC and node.op_type == "Quantise" for node in model.graph)
        raise UnsupportedError(
            "SNN462",
            f"{len(walk.problems)} parts of the model stay in float",
            where=Where(pass_name=self.name),
            hint=None
            if quantised
            else "the model holds no quantiser at all: train it with snnc.nn, or quantise it with a tool "
            "that writes QuantizeLinear and DequantizeLinear",
            problems=walk.problems,
        )
