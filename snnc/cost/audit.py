"""Auditing the claim "multiplication-free between encoder and readout" on a converted graph.

Operations count as what their ``ai.snnc`` definition says (semantics 6.2): a body that divides instead of
scaling a threshold is an equivalent executor. A product with a constant counts as the shift-adds it lowers
to. Whatever is not known to be free of multiplications is a finding: the audit fails closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from snnc.ir import AI_SNNC, Model, Node, Value, constant
from snnc.ir.hosting import BEHIND_THE_READOUT, declared, is_barrier
from snnc.ops import LAYOUT, OPS, function_for

__all__ = ["ARITHMETIC", "OPERATIONS", "OTHER_BODY", "STANDARD_OPERATORS", "AuditReport", "AuditRow", "audit"]

Kind = Literal["additions", "shifts", "shift-adds", "comparisons", "roots", "layout", "host", "finding"]

#: What each op of the spike dialect computes with, by its definition.
ARITHMETIC: Mapping[str, Kind] = {
    "SpikeConv": "additions",
    "SpikeMatMul": "additions",
    "SpikeMatMulHeld": "additions",
    "SpikeSum": "additions",
    "SpikeSumPool": "additions",
    "Charge": "additions",
    "CodeSlice": "layout",
    "SpikePad": "layout",
    "MembraneAdd": "additions",
    "MembraneSum": "additions",
    "MembraneSumPool": "additions",
    "MembraneScale": "shift-adds",
    "MembraneRound": "shifts",
    "MembraneMaxPool": "comparisons",
    "SpikeMaxPool": "comparisons",
    "MembraneMax": "comparisons",
    "MembraneMask": "comparisons",
    "SpikeGate": "layout",
    "SpikeMulHeld": "additions",
    "HostQuotient": "host",
    "ExpGIF": "comparisons",
    "ExpGIFGain": "shift-adds",
    "NormPotential": "shift-adds",
    "NormGain": "roots",
    "FixedPointEncode": "host",
    "HostConv": "host",
    "HostMatMul": "host",
    "Encode": "host",
    "Readout": "host",
}
Operation = Literal[
    "products of run-time values",
    "squares",
    "products with constants",
    "divisions",
    "exponentials",
    "square roots",
    "other functions",
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

_PRODUCT, _SQUARE, _SCALING, _QUOTIENT, _EXP, _ROOT, _OTHER = OPERATIONS
#: What hides behind the ops of the spike dialect. Between encoder and readout products with constants are
#: sums of shifted constants, gated by bits; squares are sums of the operand, shifted and gated by its own
#: bits; roots are found digit by digit, with additions and comparisons.
_HIDDEN: Mapping[str, tuple[Operation, ...]] = {
    "MembraneScale": (_SCALING,),
    "ExpGIFGain": (_SCALING,),
    "NormPotential": (_SCALING,),
    "NormGain": (_SQUARE, _SCALING, _ROOT),
    "HostConv": (_SCALING,),
    "HostMatMul": (_SCALING,),
    "Readout": (_SCALING,),
    "HostQuotient": (_QUOTIENT, _SCALING),
}
#: The same for ops of the standard domain; those that are not listed count as other functions.
_STANDARD: Mapping[str, tuple[Operation, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "Mul"), (_PRODUCT,)),
    **dict.fromkeys(("Div", "Mod", "Reciprocal", "AveragePool", "GlobalAveragePool"), (_QUOTIENT,)),
    **dict.fromkeys(("Mean", "ReduceMean"), (_QUOTIENT,)),
    **dict.fromkeys(("Exp", "Softplus", "ReduceLogSumExp", "Elu", "Selu", "Celu"), (_EXP,)),
    **dict.fromkeys(("Sigmoid", "Tanh", "Softmax", "LogSoftmax"), (_EXP, _QUOTIENT)),
    **dict.fromkeys(("Gelu", "Mish", "Swish", "Attention"), (_PRODUCT, _EXP, _QUOTIENT)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (_PRODUCT, _EXP)),
    **dict.fromkeys(("Sqrt", "ReduceL2"), (_ROOT,)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), (_PRODUCT, _QUOTIENT, _ROOT)),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), (_PRODUCT, _QUOTIENT, _ROOT)),
    **dict.fromkeys(("BatchNormalization", "LpNormalization", "LRN"), (_PRODUCT, _QUOTIENT, _ROOT)),
    "ReduceSumSquare": (_SQUARE,),
    **dict.fromkeys(("LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Shrink"), (_SCALING,)),
    **dict.fromkeys(("Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "Ceil", "Clip", "Equal", "Floor"), ()),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "MaxPool", "Min"), ()),
    **dict.fromkeys(("Neg", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceSum", "Relu", "Round"), ()),
    **dict.fromkeys(("Sign", "Sub", "Sum", "TopK", "Where", "Xor"), ()),
}
OTHER_BODY = "its body is not the definition"
"""What is noted of an operator whose function body in the file is not that of this snnc."""

#: Operators of the standard domain whose arithmetic is known.
STANDARD_OPERATORS = tuple(sorted(_STANDARD))
_SYNAPSES = frozenset({"SpikeConv", "SpikeMatMul", "SpikeMatMulHeld", "SpikeMulHeld"})
_HELD = frozenset({"SpikeMatMulHeld", "SpikeMulHeld"})
#: Their second input is a mask that the host may compute.
_MASKED = frozenset({"SpikeGate", "MembraneMask"})
_NEURONS = frozenset({"ExpGIF", "ExpGIFGain", "Encode"})
_FROM_HOST = frozenset({"Encode", "FixedPointEncode"})
_KEEPS_SPIKES = frozenset({"SpikeSum", "SpikeSumPool", "CodeSlice", "SpikeMaxPool", "SpikePad", "SpikeGate"})


@dataclass(frozen=True)
class AuditRow:
    """One node.

    Attributes:
        node: Its name.
        op: Its operator, with domain.
        kind: What it computes with.
        note: Details, or what is wrong.
        allowed: Whether it computes in float on the host because the user allowed it.
        operations: Which multiplications and functions its definition holds.
    """

    node: str
    op: str
    kind: Kind
    note: str = ""
    allowed: bool = False
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class AuditReport:
    """The outcome of an audit.

    Attributes:
        rows: One row a node, in graph order.
    """

    rows: tuple[AuditRow, ...]

    @property
    def findings(self) -> tuple[AuditRow, ...]:
        """Nodes between encoder and readout that multiply, divide, or are not known not to."""
        return tuple(row for row in self.rows if row.kind == "finding")

    @property
    def host(self) -> tuple[AuditRow, ...]:
        """Nodes on the host: declared, and billed as multiply-accumulates where they multiply."""
        return tuple(row for row in self.rows if row.kind == "host")

    @property
    def allowed(self) -> tuple[AuditRow, ...]:
        """Nodes that compute in float on the host because the user allowed it."""
        return tuple(row for row in self.rows if row.allowed)

    @property
    def claim(self) -> str:
        """What holds, in one line."""
        if self.findings:
            return f"not multiplication-free: {len(self.findings)} node(s) multiply, divide, or may"
        text = "multiplication-free between encoder and readout"
        if self.allowed:
            text += " except host nodes: " + ", ".join(f"{row.node} ({row.op})" for row in self.allowed)
        return text

    @property
    def clean(self) -> bool:
        """Whether the network is multiplication-free between encoder and readout."""
        return not self.findings

    def operations(self) -> dict[Operation, tuple[int, int]]:
        """Number of nodes with each operation: between encoder and readout, and on the host."""
        return {
            name: (
                sum(name in row.operations for row in self.rows if row.kind != "host"),
                sum(name in row.operations for row in self.host),
            )
            for name in OPERATIONS
        }

    def counts(self) -> dict[str, int]:
        """Number of nodes of each kind."""
        result: dict[str, int] = {}
        for row in self.rows:
            result[row.kind] = result.get(row.kind, 0) + 1
        return dict(sorted(result.items()))


def audit(model: Model) -> AuditReport:
    """Audit a model of the spike dialect.

    Args:
        model: The model, with or without function bodies; bodies that are present must be the definitions.

    Returns:
        One row a node; ``clean`` is the claim.
    """
    walk = _Walk({id(value) for value in model.graph.inputs})
    rows = [walk.visit(node) for node in model.graph]
    return AuditReport((*rows, *_foreign_bodies(model)))


def _row(node: Node, kind: Kind, note: str = "", *, allowed: bool = False) -> AuditRow:
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    if kind in ("layout", "shifts"):
        found: tuple[Operation, ...] = ()
    elif node.domain == AI_SNNC:
        found = (_PRODUCT,) if kind == "finding" else _HIDDEN.get(node.op_type, ())
    else:
        found = _STANDARD.get(node.op_type, (_OTHER,))
        if found == (_PRODUCT,) and any(constant(value) is not None for value in node.inputs):
            found = (_SCALING,)
    return AuditRow(node.name or "", op, kind, note, allowed, found)


@dataclass
class _Walk:
    """One walk in graph order that knows which values the host holds.

    Attributes:
        inputs: Values that preprocessing computes from the network inputs, by identity.
        floats: Values that readouts and nodes allowed on the host give, by identity.
    """

    inputs: set[int]
    floats: set[int] = field(default_factory=set)

    def _on_host(self, value: Value | None) -> bool:
        return id(value) in self.inputs or id(value) in self.floats

    def visit(self, node: Node) -> AuditRow:
        """Judge one node."""
        read = [value for value in node.inputs if value is not None and constant(value) is None]
        made = {id(value) for value in node.outputs}
        if node.domain == AI_SNNC:
            if node.op_type == "Readout":
                self.floats |= made
            return _own(node, self._on_host)
        if _is_table_read(node):
            return _row(node, "layout", "reads a table")
        if node.op_type in ("Shape", "Size") or (node.op_type == "Range" and not read):
            self.inputs |= made
            return _row(node, "layout", "the shape of a tensor")
        if not read and node.domain == "" and node.op_type in LAYOUT:
            self.inputs |= made
            return _row(node, "host", "of constants alone")
        of_inputs = bool(read) and all(id(value) in self.inputs for value in read)
        on_host = bool(read) and all(self._on_host(value) for value in read)
        if on_host and (declared(node) or _moves(node)):
            # Moves alone do not make floats of spikes, nor inputs of floats.
            (self.inputs if of_inputs else self.floats).update(made)
            if _moves(node):
                return _row(node, "layout")
            tail = declared(node).get("asked") == BEHIND_THE_READOUT
            why = BEHIND_THE_READOUT if tail else "allowed by --allow-host"
            row = _row(node, "host", f"in float, {why}", allowed=True)
            return replace(row, node=node.metadata_props.get("snnc.source") or row.node)
        if declared(node) and not _moves(node):
            return _row(node, "finding", "said to be on the host, but reads spikes or membranes")
        if of_inputs:
            self.inputs |= made
            return _row(node, "host", "elementwise, in front of the encoder")
        if _moves(node):
            return _row(node, "layout")
        where = "on floats of the host, which nobody allowed" if on_host else "on spikes or membranes"
        return _row(node, "finding", f"a standard operator {where}")


def _own(node: Node, on_host: Callable[[Value | None], bool]) -> AuditRow:
    kind = ARITHMETIC.get(node.op_type)
    if kind is None:
        return _row(node, "finding", "this op is not of the spike dialect")
    spiking = node.inputs[:1] if node.op_type in _MASKED else node.inputs
    if node.op_type not in _FROM_HOST and any(on_host(value) for value in spiking):
        return _row(node, "finding", "reads floats of the host without an encoder")
    if node.op_type in _SYNAPSES:
        if not _carries_spikes(node.inputs[0]):
            return _row(node, "finding", "its data input carries no spikes: a product of multi-bit values")
        if node.op_type not in _HELD and constant(node.inputs[1]) is None:
            return _row(node, "finding", "its weights are not constant")
    if node.op_type == "MembraneScale":
        factor = constant(node.inputs[1])
        if factor is None:
            return _row(node, "finding", "its multiplier is computed at run time")
        magnitudes = np.abs(factor.astype(np.int64))
        if bool(np.all((magnitudes & (magnitudes - 1)) == 0)):
            return _row(node, "shifts")
    return _row(node, kind)


def _is_table_read(node: Node) -> bool:
    """Whether a node reads rows of integers from a constant; int64 are places and sizes, not membranes."""
    if node.domain != "" or node.op_type != "Gather":
        return False
    table = constant(node.inputs[0])
    return table is not None and table.dtype == np.int32 and constant(node.inputs[1]) is None


def _moves(node: Node) -> bool:
    """Whether a standard operator only moves elements; the registry also lists arithmetic on shapes."""
    if is_barrier(node):
        return node.op_type == "SequenceAt" or len(node.inputs) == 1
    return node.domain == "" and node.op_type in LAYOUT and LAYOUT[node.op_type].moves != "none"


def _carries_spikes(value: Value | None) -> bool:
    while value is not None:
        node = value.producer()
        if node is None:
            return False
        if node.domain == AI_SNNC and node.op_type in _NEURONS:
            return True
        moves = _moves(node)
        if not moves and not (node.domain == AI_SNNC and node.op_type in _KEEPS_SPIKES):
            return False
        if moves and node.op_type == "Concat":
            return all(_carries_spikes(part) for part in node.inputs)
        value = node.inputs[0]
    return False


def _foreign_bodies(model: Model) -> list[AuditRow]:
    """Function bodies that are not those of the registry: onnxruntime would run something else."""
    opset = model.graph.opset_imports.get("", 17)
    found = []
    for (domain, name, _), function in model.functions.items():
        if domain != AI_SNNC or name not in OPS:
            found.append(AuditRow(name, f"{domain}::{name}", "finding", "a function that is not ours"))
            continue
        ours = function_for(OPS[name], opset)
        if _shape_of(function) != _shape_of(ours):
            found.append(AuditRow(name, f"{domain}::{name}", "finding", OTHER_BODY))
    return found


def _shape_of(function: Any) -> list[tuple[Any, ...]]:
    """Operators, attributes and wiring of a function body, for comparison."""
    numbers: dict[int, int] = {}
    result: list[tuple[Any, ...]] = []
    for value in function.inputs:
        numbers[id(value)] = len(numbers)
    for node in function.all_nodes():
        wires = tuple(
            numbers.setdefault(id(value), len(numbers)) if value is not None else -1 for value in node.inputs
        )
        outs = tuple(numbers.setdefault(id(value), len(numbers)) for value in node.outputs)
        plain = sorted(
            (name, attr.ref_attr_name if attr.is_ref() else _plain(attr))
            for name, attr in node.attributes.items()
        )
        result.append((node.domain, node.op_type, wires, outs, tuple(plain)))
    return result


def _plain(attr: Any) -> str:
    value = attr.value
    if hasattr(value, "numpy"):
        array = value.numpy()
        return f"{array.dtype}{array.shape}{array.tobytes().hex()}"
    return "graph" if hasattr(value, "inputs") else repr(value)
