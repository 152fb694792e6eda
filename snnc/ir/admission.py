"""What a model file must hold before any library walks its graph: bounded, linear, and by name.

The ONNX checker and the inliner trust a file's sizes and call graph; these checks come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx

from snnc.errors import InputError, Problem, UnsupportedError, Where
from snnc.ir.contents import check_constant, check_sparse, check_tensor, holds_text

__all__ = ["admit", "all_nodes", "foreign_to_standard", "weight_names"]

_OLDEST_OPSET = 7
_MOST_NODES = 1_000_000
_STANDARD = ("", "ai.onnx")
#: Operators have a dozen at most; so many take the ONNX checker half a minute and more.
_MOST_ATTRIBUTES = 1000
#: Operators of which ONNX withdrew an opset's form, which files hold nevertheless.
_WITHDRAWN = frozenset({"GroupNormalization"})
#: Operators that onnxruntime's optimisers write into models of opsets that do not have them.
_OF_ONNXRUNTIME = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
#: Operators whose weights must be numbers; masks, which others read, may hold minus infinity.
_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Einsum"})
_EXPORT_SIZES = "export the model with fixed sizes for every dimension but the batch"
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def admit(proto: onnx.ModelProto, file: str) -> None:
    """Check a parsed model; its nodes are brought into topological order.

    Args:
        proto: What the file holds; external data is not read.
        file: Name for messages.

    Raises:
        InputError: SNN303, the graph or a tensor contradicts itself; SNN320, functions call each other in a
            circle or expand to more than a million nodes; SNN321, the graph has a cycle; SNN323, a tensor or
            an attribute is not finite.
        UnsupportedError: SNN435, an input has no shape; SNN403, an input or output is no tensor; SNN461,
            operators that this version of ONNX does not have, or that are random, all of them listed.
    """
    _check_versions(proto, file)
    _check_functions(proto, file)
    for sparse in _sparse_tensors(proto):
        check_sparse(sparse, file)
    weights = weight_names(proto)
    for tensor in _tensors(proto):
        check_tensor(tensor, file, weights)
    for node in all_nodes(proto):
        _check_attributes(node, file)
    for node in _main_nodes(proto):
        _check_own(node, file)
    _check_inputs(proto.graph, file)
    _check_outputs(proto.graph, file)
    _check_names(proto.graph, file)
    _sort(proto.graph.node, file)
    for graph in _graphs(_tops(proto)):
        _sort(graph.node, file)
    for function in proto.functions:
        _sort(function.node, file)
    _check_operators(proto, file)


def weight_names(proto: onnx.ModelProto) -> frozenset[str]:
    """Return the names of tensors that some product reads, which must therefore be finite."""
    return frozenset(
        name for node in all_nodes(proto) if node.op_type in _LINEAR for name in node.input if name
    )


def _check_versions(proto: onnx.ModelProto, file: str) -> None:
    where = Where(file=file)
    hint = "export it again with a supported opset_version"
    if not 1 <= proto.ir_version <= onnx.IR_VERSION:
        raise InputError(
            "SNN303",
            f"has IR version {proto.ir_version}; this onnx reads 1 to {onnx.IR_VERSION}",
            where=where,
            hint="update onnx, or export it again with an older onnx",
        )
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain in _STANDARD else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise InputError(
                "SNN303",
                f"imports opsets {versions[domain]} and {entry.version} of the domain {domain!r} at once",
                where=where,
                hint=hint,
            )
    newest = onnx.defs.onnx_opset_version()
    default = versions.get("")
    standard = any(node.domain in _STANDARD for node in _main_nodes(proto))
    if default is None and standard:
        raise InputError(
            "SNN303",
            f"imports no opset; snnc reads opsets {_OLDEST_OPSET} to {newest}",
            where=where,
            hint=hint,
        )
    if default is not None and not _OLDEST_OPSET <= default <= newest:
        raise InputError(
            "SNN303",
            f"uses opset {default}; snnc reads opsets {_OLDEST_OPSET} to {newest}",
            where=where,
            hint=hint,
        )


def _check_own(node: onnx.NodeProto, file: str) -> None:
    """Only in the body of a function may an attribute stand for what the caller gives."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise InputError(
                "SNN303",
                f"takes the attribute {attribute.name!r} from a function, and is in none",
                where=Where(file=file, node=_label(node)),
                hint="export the model again",
            )


def _check_attributes(node: onnx.NodeProto, file: str) -> None:
    if len(node.attribute) > _MOST_ATTRIBUTES:
        raise InputError(
            "SNN303",
            f"has {len(node.attribute):,} attributes; no operator has more than {_MOST_ATTRIBUTES}",
            where=Where(file=file, node=_label(node)),
            hint="export the model again",
        )
    names = Counter(attribute.name for attribute in node.attribute)
    name, count = max(names.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise InputError(
            "SNN303",
            f"has the attribute {name!r} {count} times",
            where=Where(file=file, node=_label(node)),
            hint="export the model again",
        )
    for attribute in node.attribute:
        if any(number != number for number in (attribute.f, *attribute.floats)):  # noqa: PLR0124 - NaN
            raise InputError(
                "SNN323",
                f"has the attribute {attribute.name}, which is not a number (NaN)",
                where=Where(file=file, node=_label(node)),
            )
    check_constant(node, Where(file=file, node=_label(node)))


def _graphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Every subgraph of some nodes, at any depth."""
    open_nodes = list(nodes)
    while open_nodes:
        for attribute in open_nodes.pop().attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield graph
                open_nodes.extend(graph.node)


def _main_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Nodes of the main graph and its subgraphs, which share its opsets."""
    yield from proto.graph.node
    for graph in _graphs(proto.graph.node):
        yield from graph.node


def _tops(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of the main graph and of functions."""
    return [*proto.graph.node, *(node for function in proto.functions for node in function.node)]


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a file: of the main graph, of functions, and of their subgraphs."""
    tops = _tops(proto)
    yield from tops
    for graph in _graphs(tops):
        yield from graph.node


def _sparse_tensors(proto: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for graph in (proto.graph, *_graphs(_tops(proto))):
        yield from graph.sparse_initializer
    for node in all_nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a file: initializers, sparse ones, constants in attributes, subgraphs, functions."""
    for graph in (proto.graph, *_graphs(_tops(proto))):
        yield from graph.initializer
    for sparse in _sparse_tensors(proto):
        yield from (sparse.values, sparse.indices)
    for node in all_nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_inputs(graph: onnx.GraphProto, file: str) -> None:
    stored = {entry.name for entry in graph.initializer}
    for value in graph.input:
        where = Where(file=file, tensor=value.name)
        kind = value.type
        form = kind.WhichOneof("value")
        if value.name in stored:
            continue
        if form is None:
            raise InputError("SNN303", "is an input without a type", where=where, hint=_EXPORT_SIZES)
        if form != "tensor_type":
            raise UnsupportedError(
                "SNN403",
                f"is an input that is a {form.removesuffix('_type')}, not a tensor",
                where=where,
                hint="export the model with tensors as inputs",
            )
        if not kind.tensor_type.HasField("shape"):
            raise UnsupportedError("SNN435", "has no shape", where=where, hint=_EXPORT_SIZES)
        for axis, dim in enumerate(kind.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value > 0:
                continue
            if dim.dim_value < 0:
                sizes = [each.dim_value or each.dim_param or "?" for each in kind.tensor_type.shape.dim]
                raise InputError(
                    "SNN303", f"is an input of the shape {sizes}", where=where, hint=_EXPORT_SIZES
                )
            raise InputError(
                "SNN303",
                "takes batches of 0 samples" if axis == 0 else f"is an input of size 0 along axis {axis}",
                where=where,
                hint="export it with a batch of 1 or a symbolic batch",
            )
    _check_once([value.name for value in graph.input], "two inputs", file)
    if all(value.name in stored for value in graph.input):
        raise InputError(
            "SNN303", "has no input: it is a constant", where=Where(file=file), hint="export the model again"
        )


def _check_once(names: Sequence[str], what: str, file: str) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise InputError(
            "SNN303",
            f"is the name of {what}",
            where=Where(file=file, tensor=name),
            hint="give each a name of its own",
        )


def _check_outputs(graph: onnx.GraphProto, file: str) -> None:
    if not graph.output:
        raise InputError("SNN303", "has no output", where=Where(file=file), hint="export the model again")
    _check_once([value.name for value in graph.output], "two outputs", file)
    given = {value.name for value in graph.input}
    for value in graph.output:
        if value.name in given:
            raise InputError(
                "SNN303",
                "is both input and output: nothing is computed",
                where=Where(file=file, tensor=value.name),
                hint="remove the output from the model",
            )
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


def _sort(field: Any, file: str) -> None:
    """Bring the nodes of a graph or function into topological order, that of the file if it is one."""
    nodes: list[onnx.NodeProto] = list(field)
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
    copies = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del field[:]
    field.extend(copies)


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
    for function in proto.functions:
        # ONNX leaves open which of the two a call means.
        if function.domain in _STANDARD and onnx.defs.has(function.name, ""):
            raise InputError(
                "SNN303",
                f"defines a function {function.name!r} in the place of a standard operator",
                where=Where(file=file),
                hint="export the model again, its functions in a domain of their own",
            )
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
                circle = [*entered[entered.index(key) :], key]
                names = " -> ".join(f"{domain}::{name}" for domain, name in circle)
                raise InputError(
                    "SNN320", f"functions call each other in a circle: {names}", where=Where(file=file)
                )
            else:
                entered.append(key)
                stack.extend(missing)
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in _main_nodes(proto))
    if total > _MOST_NODES:
        raise InputError(
            "SNN320",
            f"its functions expand to {_count(total)} nodes, more than {_MOST_NODES:,}",
            where=Where(file=file),
        )


def _check_operators(proto: onnx.ModelProto, file: str) -> None:
    # Without an import there is no node of the standard domain: versions were checked.
    version = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), 0)
    local = {function.name for function in proto.functions if function.domain in _STANDARD}
    texts = [node for node in all_nodes(proto) if holds_text(node)]
    problems = [Problem("Constant: it holds text, no numbers", Where(node=_label(node))) for node in texts]
    for node in _main_nodes(proto):
        if node.domain not in _STANDARD or node.op_type in local or node.op_type in _OF_ONNXRUNTIME:
            continue
        if not onnx.defs.has(node.op_type, version, ""):
            text = f"{node.op_type} is no operator of opset {version}"
        elif node.op_type in _RANDOM:
            text = f"{node.op_type} is random: there is no reproducible reference"
        else:
            continue
        problems.append(Problem(text, Where(node=_label(node))))
    if problems:
        raise UnsupportedError(
            "SNN461",
            f"{len(problems)} parts of the model cannot be converted",
            where=Where(file=file),
            hint="export it with standard operators, in eval mode",
            problems=problems,
        )


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**15 else f"about 10^{len(str(number)) - 1}"


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
