"""Functions of one value that jump, or choose between branches: what only a table of a code can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant
from snnc.ir.evaluate import evaluate
from snnc.ops import OPS
from snnc.passes.analysis.activations import ACTIVATION_OPS

__all__ = [
    "CHOOSES",
    "JUMPS",
    "TABULATED",
    "Jump",
    "acts_on_elements",
    "computed",
    "is_jump",
    "is_of_one_value",
    "jumps",
    "operands",
]

Array = npt.NDArray[Any]

#: Functions of one value that no neuron holds as they are; of a code, a table holds them.
TABULATED = frozenset(
    {
        "Sqrt", "Log", "Reciprocal", "Pow", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh",
        "Asinh", "Acosh", "Atanh",
    }
)  # fmt: skip
#: Operators that end such a function, and what decides inside of it.
JUMPS = frozenset({"Where", "Sign", "Round", "Floor", "Ceil", "Shrink", "Cast", "Mod"})
CHOOSES = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Xor", "Not"})
_ELEMENTWISE = JUMPS | CHOOSES | TABULATED | {"Add", "Sub", "Mul", "Div", "Neg", "Min", "Max"}
_MOST_NODES = 24


@dataclass(frozen=True, eq=False)
class Jump:
    """A function of one value.

    Attributes:
        last: The node that gives its result.
        source: The value that it is a function of.
        nodes: Its nodes, in graph order.
        within: Those of them that nothing else reads.
    """

    last: Node
    source: Value
    nodes: tuple[Node, ...]
    within: tuple[Node, ...]

    def uses(self) -> Iterator[tuple[Node, int]]:
        """Give each place at which its nodes read the source."""
        for node in self.nodes:
            for position, value in enumerate(node.inputs):
                if value is self.source:
                    yield node, position


def operands(node: Node) -> list[Value]:
    """Return the inputs of a node that are no constants, each once."""
    found = [value for value in node.inputs if value is not None and constant(value) is None]
    return list(dict.fromkeys(found))


def acts_on_elements(node: Node) -> bool:
    """Whether a node acts on each element alone, with one constant for all of them."""
    own = node.domain == AI_SNNC and (node.op_type in ACTIVATION_OPS or node.op_type == "Quantise")
    standard = node.domain in ("", "ai.onnx") and node.op_type in _ELEMENTWISE | ACTIVATION_OPS
    if not own and not standard:
        return False
    held = [array for value in node.inputs if (array := constant(value)) is not None]
    return node.op_type == "Table" or all(array.size == 1 for array in held)


def is_jump(node: Node) -> bool:
    """Whether a node ends a function that jumps: it gives floats, and a Cast makes them of truth values."""
    out = node.outputs[0].dtype
    if node.domain not in ("", "ai.onnx") or node.op_type not in JUMPS:
        return False
    if out is None or not out.is_floating_point():
        return False
    before = node.inputs[0].dtype if node.inputs[0] is not None else None
    return node.op_type != "Cast" or (before is not None and not before.is_floating_point())


def jumps(model: Model, host: set[int]) -> list[Jump]:
    """Return the functions of one value that jump, outermost ones only.

    Args:
        model: The model; not changed.
        host: Identities of the values that the host computes.
    """
    order = {id(node): place for place, node in enumerate(model.graph)}
    taken: set[int] = set()
    found = []
    for node in reversed(list(model.graph)):
        if id(node) in taken or not is_jump(node) or id(node.outputs[0]) in host:
            continue
        jump = _of_one(node, order)
        if jump is not None:
            taken |= {id(entry) for entry in jump.nodes}
            found.append(jump)
    return found


def _of_one(last: Node, order: Mapping[int, int]) -> Jump | None:
    """Return the function that a node ends, from the last value that everything in it comes from."""
    cone = [last]
    source = _origin(operands(last) if acts_on_elements(last) else [], cone, order)
    if source is None:
        return None
    nodes = sorted(dict.fromkeys(cone), key=lambda entry: order[id(entry)])
    inside = {id(node) for node in nodes}
    within = tuple(node for node in nodes if node is not last and _is_read_by(node, inside))
    return Jump(last, source, tuple(nodes), within)


def is_of_one_value(values: Sequence[Value], order: Mapping[int, int]) -> bool:
    """Whether values are functions, element by element, of one value.

    Args:
        values: The values.
        order: Place of each node of the graph, by identity.
    """
    return _origin(list(dict.fromkeys(values)), [], order) is not None


def _origin(frontier: list[Value], cone: list[Node], order: Mapping[int, int]) -> Value | None:
    """Return the last float that all of some values come from; the nodes between join the cone."""
    while len(frontier) > 1 or (frontier and not _is_float(frontier[0])):
        latest = max(frontier, key=lambda value: order.get(id(value.producer()), -1))
        producer = latest.producer()
        if producer is None or not acts_on_elements(producer) or len(cone) == _MOST_NODES:
            return None
        cone.append(producer)
        rest = [value for value in frontier if value is not latest]
        frontier = list(dict.fromkeys([*rest, *operands(producer)]))
    return frontier[0] if frontier else None


def _is_read_by(node: Node, nodes: set[int]) -> bool:
    """Whether nothing but some nodes reads what a node gives."""
    return all(
        not value.is_graph_output() and all(id(reader) in nodes for reader, _ in value.uses())
        for value in node.outputs
    )


def _is_float(value: Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def computed(node: Node, inputs: Sequence[Array | None], opsets: dict[str, int]) -> Array:
    """Return what an elementwise node gives, in float32 as the source computes it.

    Args:
        node: The node.
        inputs: Its inputs; None for one that is absent or not known.
        opsets: Versions of operator sets, by domain.

    Raises:
        ValueError: It cannot be evaluated.
    """
    with np.errstate(all="ignore"):
        if node.domain != AI_SNNC:
            return np.asarray(evaluate(node, inputs, opsets)[0])
        given: list[Any] = [array for array in inputs if array is not None]
        if node.op_type == "Quantise" and attributes(node)["ties"] == "even" and given[1].size == 1:
            # As QuantizeLinear and torch do, who divide in float32.
            book, step = CodeBook.from_attributes(attributes(node)), given[1].reshape(()).astype(np.float32)
            codes = np.clip(np.rint(given[0].astype(np.float32) / step), book.smallest, book.largest)
            return np.asarray(codes.astype(np.float32) * step)
        return np.asarray(OPS[node.op_type].packed(given, attributes(node)))
