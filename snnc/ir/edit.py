"""Reading and rewriting a graph: constants, attributes, new nodes and initializers with unique names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.convenience import convert_attribute

from snnc.ir.hosting import DECLARED
from snnc.spool import LARGE, spooled

__all__ = [
    "as_attribute",
    "attributes",
    "clone",
    "constant",
    "consumers_of",
    "drop_if_unused",
    "initializer",
    "insert_node",
    "make_node",
    "release_name",
    "remove_node",
    "replace_with",
    "static_shape",
    "unique_name",
]

# Separates the names of nodes from those of values in one set; no name in a file holds a NUL.
_NODE = "\0"


def clone(model: ir.Model) -> ir.Model:
    """Return an independent copy of a model; weights, which nobody changes in place, are shared."""
    copy = model.clone()
    # Notes of snnc's are about the objects of one graph.
    for key in [key for key in copy.graph.meta if isinstance(key, str) and key.startswith("snnc.")]:
        del copy.graph.meta[key]
    return copy


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Return the array a value always holds, read-only, or None if it is not an initializer or Constant.

    A graph input that has a default value is not constant: the caller may override it.
    """
    if value is None:
        return None
    if value.is_initializer() and not value.is_graph_input() and value.const_value is not None:
        array = value.const_value.numpy()
    else:
        producer = value.producer()
        if producer is None or producer.op_type != "Constant" or producer.domain not in ("", "ai.onnx"):
            return None
        held = _constant_node_array(producer)
        if held is None:
            return None
        array = held
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _constant_node_array(node: ir.Node) -> npt.NDArray[Any] | None:
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.asarray(node.attributes[name].value, dtype=dtype)
    if "value" in node.attributes:
        return np.asarray(node.attributes["value"].as_tensor().numpy())
    return None


def attributes(node: ir.Node) -> dict[str, Any]:
    """Return a node's attributes as plain Python values (int, float, str, list, ndarray)."""
    result: dict[str, Any] = {}
    for name, attr in node.attributes.items():
        value = attr.value
        if attr.type == ir.AttributeType.TENSOR:
            value = np.asarray(value.numpy())
        elif isinstance(value, tuple):
            value = list(value)
        result[name] = value
    return result


def unique_name(graph: ir.Graph, stem: str, *, of_node: bool = False) -> str:
    """Return ``stem``, or ``stem_1``, ``stem_2``… so that no other value (or node) of the graph has the name.

    Names given out are remembered in ``graph.meta``, so repeated calls stay linear in the graph's size.

    Args:
        graph: The graph.
        stem: Wished name.
        of_node: The name is for a node; values and nodes are named independently.
    """
    names: _Names | None = graph.meta.get("snnc.names")
    if names is None:
        names = graph.meta["snnc.names"] = _Names.of(graph)
    space = _NODE if of_node else ""
    # None of the numbers below that of the last name is free, unless a name was released.
    count = names.numbers.get(space + stem, 0)
    name = f"{stem}_{count}" if count else stem
    while space + name in names.taken or (not of_node and name in graph.initializers):
        count += 1
        name = f"{stem}_{count}"
    names.taken.add(space + name)
    names.numbers[space + stem] = count
    return name


@dataclass
class _Names:
    """The names of a graph: those taken, and by stem the number of the last name that was given out."""

    taken: set[str]
    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ir.Graph) -> _Names:
        taken = {value.name for value in graph.inputs if value.name}
        taken |= set(graph.initializers)
        for node in graph:
            if node.name:
                taken.add(_NODE + node.name)
            taken |= {value.name for value in node.outputs if value.name}
        return cls(taken)

    def release(self, name: str) -> None:
        self.taken.discard(name)
        self.numbers.pop(name, None)
        self.numbers.pop(name.rpartition("_")[0], None)


def release_name(graph: ir.Graph, name: str, *, of_node: bool = False) -> None:
    """Allow `unique_name` to give out a name again, after its owner was renamed or removed."""
    names: _Names | None = graph.meta.get("snnc.names")
    if names is not None:
        names.release((_NODE if of_node else "") + name)


def initializer(graph: ir.Graph, stem: str, array: npt.NDArray[Any]) -> ir.Value:
    """Add a new initializer with a unique name derived from ``stem``.

    Args:
        graph: The graph that gets it.
        stem: Wished name.
        array: Its content; copied, C-contiguous, unless it is large and the whole of what nobody may change.
    """
    name = unique_name(graph, stem)
    content = _held(array)
    tensor = ir.Tensor(content, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(content.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def _held(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array for a graph to keep, C-contiguous; a large one in a file, see `spooled`."""
    if array.nbytes >= LARGE:
        whole = not isinstance(array.base, np.ndarray) or array.base.nbytes == array.nbytes
        if whole and array.flags.c_contiguous and not array.flags.writeable:
            return array
        kept = spooled(array)
        if kept is not array:
            return kept
    return np.array(array, order="C", copy=True)


def as_attribute(name: str, value: Any) -> ir.Attr:
    """Return an attribute made from a plain Python value or an array; lists of numbers hold nothing else."""
    if isinstance(value, np.ndarray):
        return ir.AttrTensor(name, ir.Tensor(value, name=name))
    # onnx_ir asks of each value, and of each element of a list, which of many protocols it follows.
    first = value[0] if type(value) is list and value else value
    many = first is not value
    if type(first) is int:
        return ir.AttrInt64s(name, value) if many else ir.AttrInt64(name, value)
    if type(first) is float and not many:
        return ir.AttrFloat32(name, value)
    if type(first) is str and not many:
        return ir.AttrString(name, value)
    return convert_attribute(name, value)


def make_node(
    graph: ir.Graph,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attrs: Mapping[str, Any] | None = None,
    *,
    domain: str = "",
    name: str,
    output: str | None = None,
    dtype: ir.DataType | None = None,
    shape: ir.Shape | None = None,
    source: ir.Node | None = None,
) -> ir.Node:
    """Make a one-output node (not yet in the graph) with unique names.

    Args:
        graph: The graph that will hold it (for unique names and opset imports).
        op_type: Operator.
        inputs: Input values.
        attrs: Attributes as plain Python values.
        domain: Operator domain.
        name: Wished node name.
        output: Wished output name; default ``name``.
        dtype: Element type of the output, if known.
        shape: Shape of the output, if known.
        source: Node whose metadata (provenance) the new node inherits.
    """
    node = ir.node(
        op_type,
        inputs,
        attributes={
            key: value if isinstance(value, ir.Attr) else as_attribute(key, value)
            for key, value in (attrs or {}).items()
            if value is not None
        },
        domain=domain,
        num_outputs=1,
        name=unique_name(graph, name, of_node=True),
    )
    out = node.outputs[0]
    out.name = unique_name(graph, output or name)
    if dtype is not None:
        out.type = ir.TensorType(dtype)
    if shape is not None:
        out.shape = shape
    if source is not None:
        inherited = {key: text for key, text in source.metadata_props.items() if key != DECLARED}
        node.metadata_props.update(inherited)
        node.metadata_props.setdefault("snnc.source", source.name or "")
    if domain:
        graph.opset_imports.setdefault(domain, 1)
    return node


def drop_if_unused(graph: ir.Graph, value: ir.Value | None) -> None:
    """Remove an initializer that nothing reads any more."""
    if value is None or value.name is None or value.name not in graph.initializers:
        return
    if value.is_graph_output() or value.uses():
        return
    del graph.initializers[value.name]


def insert_node(graph: ir.Graph, before: ir.Node, node: ir.Node) -> ir.Value:
    """Put ``node`` into the graph in front of ``before`` and return its output."""
    graph.insert_before(before, node)
    return node.outputs[0]


def replace_with(graph: ir.Graph, old: ir.Value, new: ir.Value, *, keep_name: bool = True) -> None:
    """Let all consumers of ``old`` read ``new``, graph outputs included.

    Args:
        graph: The graph of both.
        old: Value that loses its consumers.
        new: Value that takes them over.
        keep_name: ``new`` takes the name of ``old``; always so for graph outputs.
    """
    is_output = any(value is old for value in graph.outputs)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if is_output and new.shape is None:
        new.shape = old.shape
    if keep_name or is_output:
        name = old.name
        old.name = unique_name(graph, f"{name}_replaced")
        new.name = name


def remove_node(graph: ir.Graph, node: ir.Node) -> None:
    """Remove a node whose results nothing reads, and let it read nothing any more.

    In time linear in its inputs: onnx_ir's own removal copies all of them for each, and the graph's outputs
    too, which takes minutes where an op joins 100,000 values.

    Raises:
        ValueError: It is of another graph, or something reads its results, or they are outputs of the graph.
    """
    if node.graph is not graph:
        raise ValueError(f"node {node.name!r} is of another graph")
    for result in node.outputs:
        if result.uses() or result.is_graph_output():
            raise ValueError(f"node {node.name!r} is still needed: {result.name!r} is read")
    for index, value in enumerate(node.inputs):
        if value is not None:
            value._remove_usage(node, index)
    node._inputs = (None,) * len(node.inputs)
    node.graph = None
    graph._nodes.remove(node)


def consumers_of(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value, each once, in a deterministic order."""
    seen: dict[int, ir.Node] = {}
    for node, _ in value.uses():
        seen.setdefault(id(node), node)
    return list(seen.values())


def static_shape(value: ir.Value, batch: int | None = None) -> tuple[int, ...] | None:
    """Return a value's shape as integers, or None if some dimension is unknown.

    Args:
        value: The value.
        batch: Number that stands in for a symbolic first dimension.
    """
    if value.shape is None:
        return None
    dims: list[int] = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, int):
            dims.append(dim)
        elif axis == 0 and batch is not None:
            dims.append(batch)
        else:
            return None
    return tuple(dims)
