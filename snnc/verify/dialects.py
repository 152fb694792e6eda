"""Dialects: the operators a graph may hold at each stage, and the invariants that hold there.

The tables are data. Each dialect is itself an invariant of the same name, so that a pass declares
``requires = {"quant"}`` and the manager checks it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnc.coding import CodeBook, IllegalCode
from snnc.errors import Problem, SnncError, Where
from snnc.ir import AI_SNNC, DataType, Model, Node, Value, attributes, constant
from snnc.ir.hosting import declared, is_sealed
from snnc.ops import OPS
from snnc.verify.invariants import Invariant

__all__ = ["ANN", "CODES", "DIALECTS", "LAYOUT", "QUANT", "SHAPE_ARITHMETIC", "SPIKE", "Dialect"]


@dataclass(frozen=True)
class Dialect:
    """What a graph may hold at one stage.

    Attributes:
        name: ``ann``, ``quant`` or ``spike``.
        text: What the dialect is, in one sentence.
        standard: Allowed operators of the standard domain; None allows all but ``refused``.
        own: Allowed operators of the domain ``ai.snnc``.
        refused: Standard operators that are refused where ``standard`` is None.
        invariants: Names of invariants that hold in every graph of the dialect.
    """

    name: str
    text: str
    standard: frozenset[str] | None
    own: frozenset[str]
    refused: frozenset[str]
    invariants: tuple[str, ...]

    def check(self, model: Model) -> list[Problem]:
        """List the operators of a model that the dialect does not have, in graph order."""
        problems = []
        for node in model.graph:
            if declared(node):
                legal = is_sealed(node) or node.domain in ("", "ai.onnx")
            elif node.domain in ("", "ai.onnx"):
                legal = (
                    node.op_type in self.standard
                    if self.standard is not None
                    else node.op_type not in self.refused
                )
            else:
                legal = node.domain == AI_SNNC and node.op_type in self.own
            if not legal:
                domain = f"{node.domain}::" if node.domain else ""
                problems.append(
                    Problem(
                        f"operator {domain}{node.op_type} is not in dialect '{self.name}'",
                        Where(node=node.name),
                    )
                )
        return problems


#: Operators that only move elements; legal on integers in every runtime.
LAYOUT = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "SequenceAt",
        "SequenceConstruct",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)

#: Integer arithmetic on shapes (int64), for models with a free batch dimension.
SHAPE_ARITHMETIC = frozenset(
    {"Add", "Cast", "ConstantOfShape", "Div", "Mul", "ReduceProd", "Shape", "Size", "Sub"}
)

#: What the host computes of integer inputs: masks, positions, indices of tables.
HOST_INTEGERS = frozenset(
    {
        "Abs",
        "And",
        "ArgMax",
        "CumSum",
        "Equal",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Not",
        "Or",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "Sign",
        "Tile",
        "Trilu",
        "Where",
        "Xor",
    }
)

_QUANT_ARITHMETIC = frozenset(
    {
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Conv",
        "Div",
        "GlobalAveragePool",
        "MatMul",
        "MaxPool",
        "Mul",
        "Neg",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Sub",
    }
)
#: Activation functions, which may stand between a membrane and its quantiser.
_ACTIVATIONS = frozenset(
    {
        "Abs",
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
    }
)
_QUANT_OWN = frozenset(name for name, op in OPS.items() if op.dialect == "quant")
_SPIKE_OWN = frozenset(OPS) - _QUANT_OWN
#: Operators with float outputs that may stand between the network input and its encoder.
_HOST_FLOAT = frozenset({"Add", "Cast", "Clip", "Div", "Mul", "Neg", "Relu", "Sub"})

_EVERYWHERE = (
    "sorted",
    "unique-names",
    "opsets-declared",
    "no-functions",
    "constants-folded",
    "no-dead-code",
)

ANN = Dialect(
    "ann",
    "standard ONNX in float: functions inlined, constants folded, shapes known, dead code gone",
    standard=None,
    own=frozenset(),
    refused=frozenset({"Constant", "If", "Loop", "Scan", "RandomNormal", "RandomUniform", "Multinomial"}),
    invariants=(*_EVERYWHERE, "types-known", "shapes-known"),
)
QUANT = Dialect(
    "quant",
    "float tensors on grids: every tensor that a neuron carries has a code, every weight an integer form",
    standard=LAYOUT | SHAPE_ARITHMETIC | HOST_INTEGERS | _QUANT_ARITHMETIC | _ACTIVATIONS,
    own=_QUANT_OWN,
    refused=frozenset(),
    invariants=(*_EVERYWHERE, "types-known", "shapes-known", "quantised-inputs", "code-attributes"),
)
SPIKE = Dialect(
    "spike",
    "integers only between the encoders and the readouts",
    standard=LAYOUT | SHAPE_ARITHMETIC | HOST_INTEGERS | _HOST_FLOAT,
    own=_SPIKE_OWN,
    refused=frozenset(),
    invariants=(*_EVERYWHERE, "types-known", "shapes-known", "integers-only", "code-attributes"),
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (ANN, QUANT, SPIKE)}


def _is(node: Node | None, *names: str) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type in names


#: Between a neuron and a synapse these merge wires; they need no neuron of their own.
_POOLS = frozenset({"AveragePool", "Div", "GlobalAveragePool", "MaxPool", "Mul", "ReduceMean", "ReduceSum"})


def _source(value: Value | None) -> Node | None:
    """Return the node that made a value, looking through operators that only move or select elements."""
    while value is not None:
        node = value.producer()
        if node is not None and _is(node, "Gate"):
            value = node.inputs[0]
            continue
        if node is None or node.domain == AI_SNNC or node.op_type not in LAYOUT | _POOLS:
            return node
        value = node.inputs[0]
    return None


def _quantised_inputs(model: Model) -> list[Problem]:
    """Every product reads a code (or a fixed-point input) and an integer weight (or a second code)."""
    problems = []
    for node in model.graph:
        if node.domain in ("", "ai.onnx") and node.op_type in ("Conv", "MatMul"):
            left, right = _source(node.inputs[0]), _source(node.inputs[1])
            data = left if not _is(left, "Weight") else right
            other = right if data is left else left
            if not _is(data, "Quantise", "FixedPoint"):
                problems.append(_misfit(node, data, "its data input carries no code"))
            elif not _is(other, "Weight", "Quantise"):
                problems.append(_misfit(node, other, "its second operand has no integer form and no code"))
    return problems


def _misfit(node: Node, source: Node | None, message: str) -> Problem:
    origin = (
        f"it comes from {source.op_type} {source.name!r}" if source is not None else "it is a plain tensor"
    )
    return Problem(f"{node.op_type}: {message}; {origin}", Where(node=node.name))


def _code_attributes(model: Model) -> list[Problem]:
    """Nodes of ``ai.snnc`` have the attributes of their operator; derived ones agree with the code book."""
    problems = []
    for node in model.graph:
        if node.domain != AI_SNNC or node.op_type not in OPS:
            continue
        where = Where(node=node.name)
        problems += [Problem(fault, where) for fault in _remembered_faults(node)]
        if _is(node, "Quantise"):
            step = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            if step is None or not bool((step > 0).all()):
                problems.append(Problem("its step is not a positive constant", where))
    return problems


def _remembered_faults(node: Node) -> list[str]:
    """Judge attributes once for as long as a node keeps the same ones: 16-bit codes have long lists."""
    state = (node.op_type, len(node.inputs), *node.attributes.values())
    known = node.meta.get("snnc.judged")
    if known is not None and len(known[0]) == len(state):
        same = known[0][:2] == state[:2] and all(map(operator.is_, known[0][2:], state[2:]))
        if same:
            return list(known[1])
    faults = _faults(node)
    node.meta["snnc.judged"] = (state, tuple(faults))
    return faults


def _faults(node: Node) -> list[str]:
    attrs = attributes(node)
    faults = OPS[node.op_type].problems(len(node.inputs), attrs)
    if faults or "timesteps" not in attrs:
        return faults
    try:
        book = CodeBook.from_attributes(attrs)
    except (SnncError, IllegalCode, KeyError, ValueError) as error:
        return [f"its code book is not legal: {error}"]
    # A neuron's table may repeat or reorder codes (a negative scale); a quantiser's may not.
    if not bool(np.isin(np.asarray(attrs.get("codes", ()), dtype=np.int64), book.codes).all()):
        faults.append("it emits codes that its code book does not have")
    if _is(node, "Quantise"):
        if attrs["codes"] != book.codes.tolist():
            faults.append("its codes are not those of its code book")
        ties = attrs.get("ties", "away")
        derived = (book.twice_midpoints.tolist(), book.closed(ties).astype(int).tolist())
        if (attrs.get("twice_midpoints"), attrs.get("closed")) != derived:
            faults.append("its break points are not those of its code book")
    return faults


_FLOATS = frozenset({DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BFLOAT16})


def _integers_only(model: Model) -> list[Problem]:
    """Floats exist only before an encoder and after a readout; a readout feeds no neuron."""
    problems = []
    host: set[int] = {id(value) for value in model.graph.inputs}
    after_readout: set[int] = set()
    hosted: set[int] = set()
    for node in model.graph:
        read = [value for value in node.inputs if value is not None and constant(value) is None]
        floats = [value for value in node.outputs if value.dtype in _FLOATS]
        if _is(node, "Readout"):
            after_readout |= {id(value) for value in node.outputs}
            continue
        late = [value for value in read if id(value) in after_readout]
        if declared(node) or (read and all(id(value) in hosted for value in read) and node.op_type in LAYOUT):
            hosted |= {id(value) for value in node.outputs}
        if _is(node, "Encode", "FixedPointEncode") and all(id(value) in hosted | host for value in read):
            continue
        if late and node.domain == AI_SNNC:
            problems.append(
                Problem(
                    "reads a value that has left the integers", Where(node=node.name, tensor=late[0].name)
                )
            )
        elif late:
            after_readout |= {id(value) for value in node.outputs}
        elif node.domain != AI_SNNC and (
            node.op_type in ("Shape", "Size") or all(id(value) in host for value in read)
        ):
            host |= {id(value) for value in node.outputs}
        elif floats:
            problems.append(
                Problem(
                    f"a float tensor in the integer part, made by {node.op_type}",
                    Where(node=node.name, tensor=floats[0].name),
                )
            )
    return problems


#: Properties that only quantised graphs have.
CODES: tuple[Invariant, ...] = (
    Invariant("quantised-inputs", "products read codes and integer weights", _quantised_inputs),
    Invariant("code-attributes", "attributes agree with their code books", _code_attributes),
    Invariant("integers-only", "integers only between encoders and readouts", _integers_only),
)
