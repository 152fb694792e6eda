"""What a model file must hold before any library walks its graph: bounded, linear, and by name.

The ONNX checker and the inliner trust a file's sizes and call graph; these checks come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
import onnx

from snnc.errors import InputError, Problem, UnsupportedError, Where

__all__ = ["admit", "foreign_to_standard"]

_MOST_ELEMENTS = 2**40
_MOST_NODES = 1_000_000
_STANDARD = ("", "ai.onnx")
#: Operators of which ONNX withdrew an opset's form, which files hold nevertheless.
_WITHDRAWN = frozenset({"GroupNormalization"})
#: Operators that onnxruntime's optimisers write into models of opsets that do not have them.
_OF_ONNXRUNTIME = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
#: Typed payload fields of a tensor and the element types each may carry.
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def admit(proto: onnx.ModelProto, file: str) -> None:
    """Check a parsed model; its nodes are brought into topological order.

    Args:
        proto: What the file holds; external data is not read.
        file: Name for messages.

    Raises:
        InputError: SNN303, the graph or a tensor contradicts itself; SNN320, functions call each other in a
            circle or expand to more than a million nodes; SNN321, the graph has a cycle.
        UnsupportedError: SNN461, operators that this version of ONNX does not have, all of them listed.
    """
    _check_functions(proto, file)
    for tensor in _tensors(proto):
        _check_tensor(tensor, file)
    _check_inputs(proto.graph, file)
    _check_outputs(proto.graph, file)
    _check_names(proto.graph, file)
    _sort(proto.graph, file)
    _check_operators(proto, file)


def _graphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Every subgraph of some nodes, at any depth."""
    open_nodes = list(nodes)
    while open_nodes:
        for attribute in open_nodes.pop().attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield graph
                open_nodes.extend(graph.node)


def _all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    tops = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    yield from tops
    for graph in _graphs(tops):
        yield from graph.node


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a file: initializers, sparse ones, constants in attributes, subgraphs, functions."""
    tops = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    for graph in (proto.graph, *_graphs(tops)):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _all_nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_tensor(tensor: onnx.TensorProto, file: str) -> None:
    where = Where(file=file, tensor=tensor.name or None)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            "SNN303", f"has the element type {tensor.data_type}, which does not exist", where=where
        ) from None
    if any(dim < 0 for dim in tensor.dims):
        raise InputError("SNN303", f"has a negative dimension: {list(tensor.dims)}", where=where)
    elements = prod(tensor.dims)
    if elements > _MOST_ELEMENTS:
        raise InputError("SNN303", f"claims {elements:,} elements: {list(tensor.dims)}", where=where)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type == onnx.TensorProto.STRING:
        return
    payloads = [name for name in _TYPED if len(getattr(tensor, name))]
    if tensor.HasField("raw_data"):
        payloads.append("raw_data")
    if len(payloads) > 1:
        raise InputError("SNN303", f"holds its values twice: {' and '.join(payloads)}", where=where)
    expected = (elements * _bits(tensor.data_type, np.dtype(dtype)) + 7) // 8
    if payloads == ["raw_data"] and len(tensor.raw_data) != expected:
        raise InputError(
            "SNN303",
            f"has {len(tensor.raw_data)} bytes of data, its shape {list(tensor.dims)} needs {expected}",
            where=where,
            hint="export or download the model again",
        )
    if not payloads and elements:
        raise InputError("SNN303", f"has no data for its {elements:,} elements", where=where)


def _bits(data_type: int, dtype: np.dtype[np.generic]) -> int:
    name = onnx.TensorProto.DataType.Name(data_type)
    for bits in (2, 4):
        if name in (f"INT{bits}", f"UINT{bits}") or name.startswith(f"FLOAT{bits}"):
            return bits
    return 8 * dtype.itemsize


def _check_inputs(graph: onnx.GraphProto, file: str) -> None:
    stored = {entry.name for entry in graph.initializer}
    for value in graph.input:
        kind = value.type
        if (
            value.name not in stored
            and kind.HasField("tensor_type")
            and not kind.tensor_type.HasField("shape")
        ):
            raise UnsupportedError(
                "SNN435",
                "has no shape",
                where=Where(file=file, tensor=value.name),
                hint="export the model with fixed sizes for every dimension but the batch",
            )
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 0 and axis == 0:
                raise InputError(
                    "SNN303",
                    "takes batches of 0 samples",
                    where=Where(file=file, tensor=value.name),
                    hint="export it with a batch of 1 or a symbolic batch",
                )


def _check_outputs(graph: onnx.GraphProto, file: str) -> None:
    makers = {name: node for node in graph.node for name in node.output}
    for value in graph.output:
        kind = value.type.WhichOneof("value")
        if kind is None or kind == "tensor_type":
            continue
        node = makers.get(value.name)
        zipped = node is not None and node.op_type == "ZipMap"
        export = "export the classifier with options={'zipmap': False} (skl2onnx, onnxmltools)"
        raise UnsupportedError(
            "SNN403",
            f"is a {kind.removesuffix('_type')}, not a tensor" + (", made by ZipMap" if zipped else ""),
            where=Where(file=file, tensor=value.name),
            hint=export if zipped else "export the model with tensors as outputs",
        )


def _check_names(graph: onnx.GraphProto, file: str) -> None:
    made: dict[str, str] = {}
    stored: set[str] = set()
    for entry in graph.initializer:
        if entry.name in stored:
            raise InputError(
                "SNN303", "is the name of two initializers", where=Where(file=file, tensor=entry.name)
            )
        stored.add(entry.name)
    stored.update(entry.values.name for entry in graph.sparse_initializer)
    known = {value.name for value in graph.input} | stored
    for node in graph.node:
        for name in filter(None, node.output):
            if name in made or name in known:
                other = f"node {made[name]!r}" if name in made else "an input or initializer"
                raise InputError(
                    "SNN303",
                    f"makes {name!r}, which {other} makes already",
                    where=Where(file=file, node=_label(node), tensor=name),
                )
            made[name] = _label(node)
    known |= set(made)
    for node in graph.node:
        for name in _reads(node):
            if name not in known:
                raise InputError(
                    "SNN303",
                    "reads a tensor that nothing makes",
                    where=Where(file=file, node=_label(node), tensor=name),
                )
    for value in graph.output:
        if value.name not in known:
            raise InputError(
                "SNN303", "is an output that nothing makes", where=Where(file=file, tensor=value.name)
            )


def _label(node: onnx.NodeProto) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)


def _reads(node: onnx.NodeProto) -> list[str]:
    """Tensors of the surrounding graph that a node reads, through its subgraphs too."""
    direct = [name for name in node.input if name]
    graphs = list(_graphs([node]))
    if not graphs:
        return direct
    inner = {value.name for graph in graphs for value in (*graph.input, *graph.initializer)}
    inner |= {name for graph in graphs for entry in graph.node for name in entry.output}
    outer = [name for graph in graphs for entry in graph.node for name in entry.input if name not in inner]
    return direct + [name for name in outer if name]


def _sort(graph: onnx.GraphProto, file: str) -> None:
    """Bring nodes into topological order, the order of the file where it is one already."""
    nodes = list(graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    if all(max(earlier, default=-1) < index for index, earlier in enumerate(needs)):
        return
    readers: list[list[int]] = [[] for _ in nodes]
    for index, earlier in enumerate(needs):
        for other in earlier:
            readers[other].append(index)
    waiting = [len(earlier) for earlier in needs]
    ready = [index for index, count in enumerate(waiting) if not count]
    order: list[int] = []
    for index in ready:
        order.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(nodes):
        left = {index for index, count in enumerate(waiting) if count}
        names = [_label(nodes[index]) for index in _circle(left, needs)]
        raise InputError(
            "SNN321", f"the graph has a cycle: {' -> '.join([*names, names[0]])}", where=Where(file=file)
        )
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)


def _circle(left: set[int], needs: list[set[int]]) -> list[int]:
    """Return one cycle among nodes of which each needs another of them."""
    path: list[int] = []
    place: dict[int, int] = {}
    index = min(left)
    while index not in place:
        place[index] = len(path)
        path.append(index)
        index = min(needs[index] & left)
    return path[place[index] :][::-1]


def _check_functions(proto: onnx.ModelProto, file: str) -> None:
    """Count what functions expand to, without expanding them."""
    bodies = {(function.domain, function.name): function for function in proto.functions}
    calls = {
        key: [
            (node.domain, node.op_type)
            for node in (*function.node, *(n for graph in _graphs(function.node) for n in graph.node))
        ]
        for key, function in bodies.items()
    }
    sizes: dict[tuple[str, str], int] = {}
    entered: list[tuple[str, str]] = []
    for start in bodies:
        stack = [start]
        while stack:
            key = stack[-1]
            if key in sizes:
                stack.pop()
                continue
            missing = [call for call in calls[key] if call in bodies and call not in sizes]
            if not missing:
                sizes[key] = sum(sizes.get(call, 1) for call in calls[key])
                entered = [entry for entry in entered if entry != key]
                stack.pop()
            elif key in entered:
                names = " -> ".join(f"{domain}::{name}" for domain, name in entered)
                raise InputError(
                    "SNN320", f"functions call each other in a circle: {names}", where=Where(file=file)
                )
            else:
                entered.append(key)
                stack.extend(missing)
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in proto.graph.node)
    if total > _MOST_NODES:
        raise InputError(
            "SNN320",
            f"its functions expand to {total:,} nodes, more than {_MOST_NODES:,}",
            where=Where(file=file),
        )


def _check_operators(proto: onnx.ModelProto, file: str) -> None:
    version = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), None)
    if version is None:
        return
    local = {function.name for function in proto.functions if function.domain in _STANDARD}
    problems = [
        Problem(f"{node.op_type} is no operator of opset {version}", Where(node=_label(node)))
        for node in proto.graph.node
        if node.domain in _STANDARD
        and node.op_type not in local
        and node.op_type not in _OF_ONNXRUNTIME
        and not onnx.defs.has(node.op_type, version, "")
    ]
    if problems:
        raise UnsupportedError(
            "SNN461",
            f"{len(problems)} parts of the model cannot be converted",
            where=Where(file=file),
            hint="export it with standard operators",
            problems=problems,
        )


def foreign_to_standard(proto: onnx.ModelProto) -> None:
    """Give operators of the standard domain that the checker does not know another one, in place."""
    version = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), 1)
    moved = [
        node
        for node in proto.graph.node
        if node.domain in _STANDARD
        and (node.op_type in _WITHDRAWN or node.op_type in _OF_ONNXRUNTIME)
        and (
            not onnx.defs.has(node.op_type, version, "")
            or onnx.defs.get_schema(node.op_type, version, "").deprecated
        )
    ]
    for node in moved:
        node.domain = "com.microsoft"
    if moved and all(entry.domain != "com.microsoft" for entry in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
