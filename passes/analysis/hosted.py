"""What the host computes from the network inputs: masks, positions and table indices, exactly."""

from __future__ import annotations

from snnc.ir import DataType, Model, Node, Value, constant
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis.layout import LAYOUT_OPS

__all__ = [
    "HOST_FLOAT",
    "HOST_OPS",
    "OF_THE_HOST",
    "SHAPE_OPS",
    "host_nodes",
    "is_repeated_constant",
    "is_table_read",
    "made_of_integers",
]

#: Elementwise float operations that every runtime computes to the same bits.
HOST_FLOAT = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Cast", "Clip", "Relu", "Pad", "Concat", "Where"})
#: Operations whose results are integers or truth values, on which every runtime agrees.
_INTEGER = frozenset(
    {
        "Abs", "And", "ArgMax", "CumSum", "Equal", "GatherElements", "GatherND", "Greater", "GreaterOrEqual",
        "Less", "LessOrEqual", "Max", "Min",
        "Mod", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceSum", "Sign", "Tile", "Trilu",
        "Xor",
    }
)  # fmt: skip
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
HOST_OPS = HOST_FLOAT | _INTEGER | LAYOUT_OPS
#: Metadata key of a repeated constant that the host encodes, as it encodes the network input.
OF_THE_HOST = "snnc.host"
_SHAPES = frozenset({"Shape", "Size"})
#: Integers that describe shapes.
SHAPE_OPS = _SHAPES | {"ConstantOfShape", "Range", "ReduceProd"}
_ANY = HOST_OPS | SHAPE_OPS
_OF_FLOATS = HOST_FLOAT | LAYOUT_OPS | _COMPARISONS


def is_table_read(node: Node) -> bool:
    """Return whether a node reads rows of a constant float table at places known only at run time."""
    if node.op_type != "Gather" or node.domain not in ("", "ai.onnx"):
        return False
    table = constant(node.inputs[0])
    return table is not None and table.dtype.kind == "f" and constant(node.inputs[1]) is None


def is_repeated_constant(node: Node) -> bool:
    """Return whether a node repeats a float constant for every sample: the network's own, a class token."""
    if node.op_type != "Expand" or node.domain not in ("", "ai.onnx") or OF_THE_HOST in node.metadata_props:
        return False
    held = constant(node.inputs[0])
    return held is not None and held.dtype.kind == "f"


def host_nodes(model: Model) -> dict[int, Node]:
    """Return the nodes, by id, that compute from the network inputs what any host computes to the same bits.

    Integers and truth values may go through any operator of `HOST_OPS`, floats through elementwise ones.
    Reads of a float table and repeated float constants are not among them: these values are the network's.
    """
    known = {id(value) for value in model.graph.inputs}
    found: dict[int, Node] = {}
    for node in model.graph:
        op_type, sealed = node.op_type, is_sealed(node)
        if not sealed and op_type not in _ANY:
            continue
        read = [value for value in node.inputs if value is not None and constant(value) is None]
        if sealed and read and all(id(value) in known for value in read):
            found[id(node)] = node
            known |= {id(value) for value in node.outputs}
        if node.domain not in ("", "ai.onnx") or is_table_read(node) or is_repeated_constant(node):
            continue
        hosted = op_type in _SHAPES or (op_type in _ANY and all(id(value) in known for value in read))
        if hosted and (op_type in _OF_FLOATS or _has_no_floats(node)):
            found[id(node)] = node
            known |= {id(value) for value in node.outputs}
    return found


def _has_no_floats(node: Node) -> bool:
    values: list[Value] = [value for value in (*node.inputs, *node.outputs) if value is not None]
    return (
        all(
            value.dtype is not None and (value.dtype == DataType.BOOL or value.dtype.is_integer())
            for value in values
        )
        or node.op_type in _SHAPES
    )


def made_of_integers(value: Value) -> bool:
    """Whether a value is computed from integer inputs, and no table of floats, as masks and positions are."""
    waiting, seen, found = [value], {id(value)}, False
    while waiting:
        current = waiting.pop()
        node = current.producer()
        if node is None:
            held = constant(current)
            if held is None:
                if current.dtype is None or current.dtype.is_floating_point():
                    return False
                found = True
            continue
        if is_table_read(node):
            return False
        for entry in node.inputs:
            if entry is not None and id(entry) not in seen:
                seen.add(id(entry))
                waiting.append(entry)
    return found
