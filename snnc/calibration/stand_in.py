"""Stand-ins for snnc's ops in calibration: standard operators of any opset, fast, exact but for ties.

The bodies of the ops are written for exactness and need a recent opset; a network of opset 9 that is observed
while its quantisers are chosen would not run with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    Value,
    attributes,
    clone,
    constant,
    initializer,
    make_node,
    remove_node,
    replace_with,
)

__all__ = ["quantised_stand_in"]

Array = npt.NDArray[Any]
_MICROSOFT = "com.microsoft"
_OPSET_OF_GATHER_ELEMENTS = 11
_MOVES = frozenset({"Expand", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def quantised_stand_in(model: Model) -> Model:
    """Return a copy in which every ``Quantise`` is a table read and every ``Weight`` an initializer.

    GELU is onnxruntime's operator, which has no branch that is not taken.

    A quotient by a sum of codes that is zero (a row of attention without an open place) is zero.

    All break points of a code book are multiples of half a step, so that floor(2u / step) tells the interval
    and a table of it the code. Only values that lie on a break point may come out on its other side.

    Args:
        model: A model in the quant dialect or on its way into it; not changed.
    """
    copy = clone(model)
    for node in list(copy.graph):
        if _divides_by_a_sum(node):
            _guard(copy.graph, node)
        if node.domain != AI_SNNC:
            continue
        if node.op_type == "Quantise":
            _replace(copy.graph, node, _table_read(copy.graph, node))
        elif node.op_type == "Weight":
            _replace(copy.graph, node, [])
        elif node.op_type == "Gelu":
            _replace(copy.graph, node, [_gelu(copy.graph, node)])
    return copy


def _divides_by_a_sum(node: Node) -> bool:
    divisor = node.inputs[1].producer() if node.op_type == "Div" and node.inputs[1] is not None else None
    while divisor is not None and divisor.op_type in _MOVES and divisor.inputs[0] is not None:
        divisor = divisor.inputs[0].producer()
    return not node.domain and divisor is not None and divisor.op_type == "ReduceSum"


def _guard(graph: Graph, node: Node) -> None:
    """Divide by one where a sum is zero: what is divided is zero there too."""
    divisor, stem = node.inputs[1], node.name or "divide"
    assert divisor is not None

    def add(kind: str, inputs: list[Value | None], name: str) -> Value:
        made = make_node(graph, kind, inputs, {}, name=f"{stem}.{name}", dtype=divisor.dtype, source=node)
        graph.insert_before(node, made)
        return made.outputs[0]

    zero, one = (initializer(graph, f"{stem}.{n:g}", np.full((), n, np.float32)) for n in (0.0, 1.0))
    empty = add("Equal", [divisor, zero], "empty")
    empty.dtype = DataType.BOOL
    node.replace_input_with(1, add("Where", [empty, one, divisor], "divisor"))


def _table_read(graph: Graph, node: Node) -> list[Node]:
    book = CodeBook.from_attributes(attributes(node))
    source, step = node.inputs[0], constant(node.inputs[1])
    assert source is not None and step is not None
    stem = node.name or "quantise"
    maker = source.producer()
    # What exp gives is not below zero: nothing need be cut off there, nor moved above it.
    positive = maker is not None and maker.op_type == "Exp" and not maker.domain
    low, high = 0 if positive else 2 * book.smallest - 1, 2 * book.largest
    table = book.nearest((np.arange(low, high + 1) + 0.5) / 2).astype(np.float32)
    single = step.size == 1 and step.ndim <= 1
    if single:
        table = table * step.astype(np.float32).reshape(())

    def add(kind: str, inputs: list[Value | None], name: str, **attrs: int) -> Value:
        nodes.append(make_node(graph, kind, inputs, attrs, name=f"{stem}.{name}", source=node))
        return nodes[-1].outputs[0]

    def held(array: Array, name: str) -> Value:
        return initializer(graph, f"{stem}.{name}", array)

    nodes: list[Node] = []
    place = add("Mul", [source, held(np.float32(2) / step.astype(np.float32), "per_half")], "scaled")
    if not positive:
        place = add("Max", [place, held(np.full((), low, np.float32), "low")], "above")
    place = add("Min", [place, held(np.full((), high, np.float32), "high")], "inside")
    if low:
        place = add("Sub", [place, held(np.full((), low, np.float32), "first")], "place")
    # Casting truncates, which is floor for what has been moved above zero.
    index = add("Cast", [place], "index", to=int(DataType.INT32))
    if graph.opset_imports.get("", 0) >= _OPSET_OF_GATHER_ELEMENTS:
        # onnxruntime reads single elements by Gather at a fifth of the speed.
        shape = add("Shape", [source], "shape")
        flat = add("Reshape", [index, held(np.array([-1], np.int64), "flat")], "places")
        read = add("GatherElements", [held(table, "table"), flat], "read", axis=0)
        value = add("Reshape", [read, shape], "code")
    else:
        value = add("Gather", [held(table, "table"), index], "code", axis=0)
    if not single:
        add("Mul", [value, held(step.astype(np.float32), "step")], "value")
    return nodes


def _gelu(graph: Graph, node: Node) -> Node:
    kind = "FastGelu" if attributes(node).get("tanh") else "Gelu"
    graph.opset_imports.setdefault(_MICROSOFT, 1)
    return make_node(graph, kind, [node.inputs[0]], domain=_MICROSOFT, name=f"{node.name}.gelu", source=node)


def _replace(graph: Graph, node: Node, added: list[Node]) -> None:
    """Put nodes, or for a ``Weight`` an initializer, in the place of a node; the name of the value stays."""
    if added:
        graph.insert_before(node, added)
        new = added[-1].outputs[0]
    else:
        whole, numerator, denominator = (np.asarray(constant(value)) for value in node.inputs)
        number = (whole.astype(np.float64) * numerator / denominator).astype(np.float32)
        held = initializer(graph, f"{node.name}.float", number)
        made = make_node(graph, "Identity", [held], name=f"{node.name}.kept", source=node)
        graph.insert_before(node, made)
        new = made.outputs[0]
    old = node.outputs[0]
    new.type, new.shape = old.type, old.shape
    replace_with(graph, old, new)
    remove_node(graph, node)
