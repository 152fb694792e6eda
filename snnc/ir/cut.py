"""Cutting a part out of a graph: what the rest would compute becomes inputs or constants."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from snnc.ir.edit import clone, remove_node

__all__ = ["Known", "bypass", "cut_out"]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a tensor of the whole model.

    Attributes:
        values: Its values on some samples.
        shape: Its shape, a name where it depends on the number of samples.
    """

    values: npt.NDArray[np.generic]
    shape: tuple[int | str, ...]


def cut_out(
    model: ir.Model,
    keep: Collection[int],
    outputs: Sequence[str],
    known: Mapping[str, Known],
    *,
    constants: bool = False,
) -> ir.Model | None:
    """Return a copy of a model that computes some outputs with some of its nodes.

    Args:
        model: The model; not changed.
        keep: Positions of the nodes that may stay, in graph order.
        outputs: Names of the tensors that become the outputs; those that would be inputs are left out.
        known: What is known of tensors, by name.
        constants: Cut tensors become constants with their known values instead of inputs.

    Returns:
        The copy without anything dead, or None if a tensor that has to be cut is not known, or nothing is
        left to compute.
    """
    copy = clone(model)
    graph = copy.graph
    nodes = list(graph)
    kept = {id(node) for place, node in enumerate(nodes) if place in set(keep)}
    makers = {value.name: node for node in nodes for value in node.outputs if value.name}
    ends = [name for name in outputs if name in makers and id(makers[name]) in kept]
    if not ends:
        return None
    kept = _alive(ends, makers, kept)
    alive = [node for node in nodes if id(node) in kept]
    for name in dict.fromkeys(name for node in alive for name in _reads(node)):
        maker = makers.get(name)
        if maker is None or id(maker) in kept:
            continue
        old = next(value for value in maker.outputs if value.name == name)
        if not _replace(graph, old, known.get(name), constants=constants):
            return None
    values = {value.name: value for node in alive for value in node.outputs}
    for name in ends:
        value = values[name]
        if value.dtype is None or value.shape is None:
            if name not in known:
                return None
            value.type = ir.TensorType(ir.DataType.from_numpy(known[name].values.dtype))
            value.shape = ir.Shape(known[name].shape)
    graph.outputs.clear()
    graph.outputs.extend(values[name] for name in ends)
    graph.remove([node for node in nodes if id(node) not in kept], safe=False)
    _prune(graph, alive)
    return copy


def bypass(model: ir.Model, place: int, known: Mapping[str, Known]) -> ir.Model | None:
    """Return a copy of a model without one node, whose output is replaced by one of its inputs.

    Args:
        model: The model; not changed.
        place: Position of the node, in graph order.
        known: What is known of tensors: input and output must have one shape and type.

    Returns:
        The copy, or None if no input fits.
    """
    copy = clone(model)
    graph = copy.graph
    node = list(graph)[place]
    output = node.outputs[0]
    wanted = known.get(output.name or "")
    if len(node.outputs) != 1 or output.is_graph_output() or wanted is None:
        return None
    for value in node.inputs:
        found = known.get(value.name or "") if value is not None else None
        if value is None or found is None or value.is_initializer():
            continue
        if found.shape == wanted.shape and found.values.dtype == wanted.values.dtype:
            output.replace_all_uses_with(value)
            remove_node(graph, node)
            names = [each.name or "" for each in graph.outputs]
            return cut_out(copy, range(len(graph)), names, known)
    return None


def _alive(ends: Sequence[str], makers: Mapping[str, ir.Node], kept: set[int]) -> set[int]:
    alive: set[int] = set()
    waiting = [makers[name] for name in ends]
    while waiting:
        node = waiting.pop()
        if id(node) in alive:
            continue
        alive.add(id(node))
        waiting += [makers[name] for name in _reads(node) if name in makers and id(makers[name]) in kept]
    return alive


def _reads(node: ir.Node) -> Iterator[str]:
    """Yield the names that a node reads, in its subgraphs too."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield from (value.name for value in current.inputs if value is not None and value.name)
        for attribute in current.attributes.values():
            if isinstance(attribute.value, ir.Graph):
                waiting += list(attribute.value)
                yield from (value.name for value in attribute.value.outputs if value.name)


def _replace(graph: ir.Graph, old: ir.Value, known: Known | None, *, constants: bool) -> bool:
    if known is None:
        return False
    name = old.name
    kind = ir.DataType.from_numpy(known.values.dtype)
    old.name = f"{name}_cut"
    if constants:
        content = np.ascontiguousarray(known.values)
        new = ir.Value(name=name, shape=ir.Shape(content.shape), type=ir.TensorType(kind))
        new.const_value = ir.tensor(content, name=name)
        graph.register_initializer(new)
    else:
        new = ir.Value(name=name, shape=ir.Shape(known.shape), type=ir.TensorType(kind))
        graph.inputs.append(new)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    return True


def _prune(graph: ir.Graph, alive: Sequence[ir.Node]) -> None:
    """Drop inputs and initializers that nothing reads."""
    read = {name for node in alive for name in _reads(node)}
    inputs = [value for value in graph.inputs if value.name in read]
    graph.inputs.clear()
    graph.inputs.extend(inputs)
    for name in [name for name in graph.initializers if name not in read]:
        del graph.initializers[name]
