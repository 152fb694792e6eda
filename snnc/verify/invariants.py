"""Named properties of a graph: each has a check that lists everything that breaks it.

A pass declares the names it requires, establishes and invalidates; the manager checks what should hold.
The table at the end is the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from snnc.errors import Problem, Where
from snnc.ir import Graph, Model, Node, Value
from snnc.ir.hosting import DECLARED

__all__ = ["STRUCTURE", "Check", "Invariant", "nodes_of"]

Check = Callable[[Model], list[Problem]]


@dataclass(frozen=True)
class Invariant:
    """A named property of a graph.

    Attributes:
        name: The name that passes use.
        text: What it says, in one sentence.
        check: Lists what breaks it, in graph order; empty if it holds. Never changes the model.
        cheap: Whether the check is linear in the graph and reads no weights.
    """

    name: str
    text: str
    check: Check
    cheap: bool = True


def nodes_of(graph: Graph) -> Iterator[Node]:
    """Yield the nodes of a graph and of all graphs inside it, each before its inner graphs."""
    stack = [iter(graph)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        yield node
        inner = [attr.value for attr in node.attributes.values() if isinstance(attr.value, Graph)]
        stack += [iter(entry) for entry in reversed(inner)]


def _problem(message: str, node: Node | None = None, value: Value | None = None) -> Problem:
    return Problem(
        message,
        Where(node=node.name if node is not None else None, tensor=value.name if value is not None else None),
    )


def _sorted(model: Model) -> list[Problem]:
    """Every value read must be an input, a weight or the output of an earlier node of the same graph."""
    graph = model.graph
    known = {id(value) for value in graph.inputs} | {id(value) for value in graph.initializers.values()}
    position = {id(node): index for index, node in enumerate(graph)}
    problems: list[Problem] = []
    for node in graph:
        for value in node.inputs:
            if value is None or id(value) in known:
                continue
            producer = value.producer()
            if producer is None or id(producer) not in position:
                problems.append(_problem("reads a value that nothing in the graph gives", node, value))
            else:
                problems.append(
                    _problem(f"runs before {producer.name!r}, whose output it reads", node, value)
                )
        known |= {id(value) for value in node.outputs}
    problems += [
        _problem("is an output of the graph, but nothing gives it", None, value)
        for value in graph.outputs
        if id(value) not in known
    ]
    return problems


def _unique_names(model: Model) -> list[Problem]:
    """Node names are unique among nodes, value names among values, and none is empty."""
    graph = model.graph
    problems: list[Problem] = []
    nodes: set[str] = set()
    for node in graph:
        if not node.name:
            problems.append(_problem(f"a {node.op_type} node has no name", None, node.outputs[0]))
        elif node.name in nodes:
            problems.append(_problem("two nodes have this name", node))
        nodes.add(node.name or "")
    owners: dict[str, int] = {}
    for value in _values(graph):
        if not value.name:
            # An output that is left out (an unused optional one) has the empty name by the standard.
            if value.uses() or value in graph.outputs:
                problems.append(_problem("a value has no name", value.producer()))
        elif owners.setdefault(value.name, id(value)) != id(value):
            problems.append(_problem("two values have this name", value.producer(), value))
    return problems


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _no_functions(model: Model) -> list[Problem]:
    """Functions of the file are inlined; only bodies of ai.snnc operators may stay attached."""
    keys = {(domain, name) for domain, name, _ in model.functions if domain != "ai.snnc"}
    return [
        _problem(f"calls the function {node.domain}::{node.op_type}", node)
        for node in nodes_of(model.graph)
        if (node.domain, node.op_type) in keys
    ]


def _constants_folded(model: Model) -> list[Problem]:
    """Constants are initializers that carry their content; no Constant nodes are left."""
    problems = [
        _problem("is a Constant node", node)
        for node in model.graph
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx")
    ]
    problems += [
        _problem("a weight has no content", None, value)
        for _, value in sorted(model.graph.initializers.items())
        if value.const_value is None
    ]
    return problems


def _types_known(model: Model) -> list[Problem]:
    """Every value has an element type."""
    return [
        _problem("has no element type", value.producer(), value)
        for value in _values(model.graph)
        if value.name and value.dtype is None
    ]


def _shapes_known(model: Model) -> list[Problem]:
    """Every value has a rank; dimensions may be symbolic."""
    return [
        _problem("has no shape", value.producer(), value)
        for value in _values(model.graph)
        if value.name and value.shape is None
    ]


def _no_dead_code(model: Model) -> list[Problem]:
    """Every node and weight reaches an output of the graph."""
    graph = model.graph
    needed: set[int] = set()
    stack = list(graph.outputs)
    seen = {id(value) for value in stack}
    # A value that only an inner graph reads has a use outside the main graph: it counts as needed.
    outer = {id(node) for node in graph}
    for value in _values(graph):
        if any(id(node) not in outer for node, _ in value.uses()) and id(value) not in seen:
            stack.append(value)
            seen.add(id(value))
    while stack:
        producer = stack.pop().producer()
        if producer is None or id(producer) in needed:
            continue
        needed.add(id(producer))
        for source in producer.inputs:
            if source is not None and id(source) not in seen:
                seen.add(id(source))
                stack.append(source)
    problems = [_problem("reaches no output", node) for node in graph if id(node) not in needed]
    problems += [
        _problem("is a weight that nothing reads", None, value)
        for name, value in sorted(graph.initializers.items())
        if id(value) not in seen
    ]
    return problems


def _opsets_declared(model: Model) -> list[Problem]:
    """Every operator domain in use has an opset version."""
    declared = {domain or "ai.onnx" for domain in model.graph.opset_imports}
    return [
        _problem(f"uses domain {node.domain!r}, which the model does not import", node)
        for node in nodes_of(model.graph)
        if (node.domain or "ai.onnx") not in declared
    ]


def _without(*operators: str) -> Check:
    def check(model: Model) -> list[Problem]:
        return [
            _problem(f"is a {node.op_type}", node)
            for node in model.graph
            if node.op_type in operators
            and node.domain in ("", "ai.onnx")
            # An output that is an input has nothing else between them, on the host.
            and DECLARED not in node.metadata_props
        ]

    return check


#: Properties of any graph, whatever its dialect.
STRUCTURE: tuple[Invariant, ...] = (
    Invariant("sorted", "every node runs after the nodes whose outputs it reads", _sorted),
    Invariant("unique-names", "nodes and values have unique names", _unique_names),
    Invariant("opsets-declared", "every operator domain has a version", _opsets_declared),
    Invariant("no-functions", "functions of the file are inlined", _no_functions),
    Invariant("constants-folded", "constants are initializers with content", _constants_folded),
    Invariant("types-known", "every value has an element type", _types_known),
    Invariant("shapes-known", "every value has a shape (dimensions may be symbolic)", _shapes_known),
    Invariant("no-dead-code", "every node and weight reaches an output", _no_dead_code),
    Invariant("no-identity", "no Identity nodes", _without("Identity")),
    Invariant("no-batch-norm", "no BatchNormalization nodes", _without("BatchNormalization")),
    Invariant("no-gemm", "no Gemm nodes: products are MatMul and Add", _without("Gemm")),
)
