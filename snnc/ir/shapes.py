"""Shape inference on the weight-free skeleton of a model."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from snnc.ir.edit import constant
from snnc.ir.evaluate import evaluate
from snnc.ir.hosting import declared, is_sealed
from snnc.ir.quiet import silent

__all__ = [
    "concrete_shapes",
    "contradiction",
    "infer_shapes",
    "keeps_shape",
    "settle_outputs",
    "settled",
    "shapes_of_batches",
]

_SMALL = 1024
#: Weights of more bytes are inputs to the inference of ONNX.
_LARGE = 1000
#: Constants of a graph, and lists, that are larger are refused: a file's numbers are not trusted.
_MOST_FIXED = 1 << 26
#: Ops whose result has the shape of their first input though ONNX cannot tell: functions of the standard
#: whose bodies it does not infer through, and ops of other domains; an empty set stands for a whole domain.
_KEEPING_SHAPE = {
    "": frozenset({"GroupNormalization", "MeanVarianceNormalization"}),
    "com.microsoft": frozenset(
        {
            "BiasGelu", "DequantizeLinear", "FastGelu", "Gelu", "QuantizeLinear", "QuickGelu",
            "RotaryEmbedding",
        }
    ),
    **dict.fromkeys(
        ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "qonnx.custom_op", "finn"),
        frozenset[str](),
    ),
}  # fmt: skip
_FLOAT = ir.DataType.FLOAT
_INFERENCE = re.compile(
    r"\(op_type:(?P<op>\w+)(?:, node name: (?P<node>[^)]*))?\):? (?:\[\w+\] )?(?P<what>.+)"
)
_SHAPE_ARITHMETIC = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
        "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul",
        "Neg", "Not", "Or", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice",
        "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
#: Floats on the way to a size, such as a scale of Resize, are few; longer lists belong to the network.
_MOST_FLOATS = 16
_Settled: TypeAlias = list[tuple[dict[str, tuple[int, ...]], dict[str, npt.NDArray[Any]]]]
#: What was settled last, by all that it depends on.
_SETTLED: dict[object, _Settled] = {}


def infer_shapes(model: ir.Model) -> None:
    """Fill in shapes and element types of all values, in place, where ONNX can infer them.

    Nodes of other domains (those of snnc among them) are inferred through their function bodies.
    """
    with silent(
        "onnx_ir.passes.common.shape_inference", "onnx_ir.passes.common._c_api_utils", "onnx_ir.serde"
    ):
        if model.functions or any(True for _ in model.graph.subgraphs()):
            common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        else:
            _infer_flat(model)


def settle_outputs(model: ir.Model) -> None:
    """Give the graph's outputs the sizes that ONNX infers, in place; all other values stay as they are."""
    found = _inferred(model)
    for value in model.graph.outputs:
        if value.name in found:
            value.shape = ir.serde.deserialize_type_proto_for_shape(found[value.name]) or value.shape


def _infer_flat(model: ir.Model) -> None:
    """Infer shapes and types in a graph without others in it, in time linear in its size.

    What onnx_ir's own pass does takes the square of the number of weights, and reads the whole model back.
    """
    found = _inferred(model)
    outputs = (output for node in model.graph for output in node.outputs)
    for value in (*model.graph.inputs, *outputs) if found else ():
        proto_type = found.get(value.name or "")
        if proto_type is not None:
            _take_over(value, proto_type)


def _inferred(model: ir.Model) -> dict[str, onnx.TypeProto]:
    """Return the types that ONNX infers, by value; nothing where it cannot. Large weights are left out."""
    graph = model.graph
    weights, inputs = list(graph.initializers.values()), list(graph.inputs)
    contents = [value.const_value for value in weights]
    given = {id(value) for value in inputs}
    for value, tensor in zip(weights, contents, strict=True):
        if tensor is not None:
            value.shape = value.shape if value.shape is not None else ir.Shape(tensor.shape.numpy())
            value.dtype = value.dtype if value.dtype is not None else tensor.dtype
        if tensor is None or tensor.nbytes > _LARGE:
            value.const_value = None
            del graph.initializers[value.name or ""]
    graph.inputs.extend(value for value in weights if id(value) not in given)
    try:
        proto = ir.serde.serialize_model(model)
    finally:
        graph.inputs.clear()
        graph.inputs.extend(inputs)
        for value, tensor in zip(weights, contents, strict=True):
            value.const_value = tensor
            graph.initializers.add(value)
    try:
        inferred = onnx.shape_inference.infer_shapes(
            proto, check_type=False, strict_mode=False, data_prop=True
        ).graph
    except Exception:  # noqa: BLE001 - what cannot be inferred stays unknown; who needs it says so
        return {}
    return {info.name: info.type for info in (*inferred.input, *inferred.output, *inferred.value_info)}


def _take_over(value: ir.Value, found: onnx.TypeProto) -> None:
    """Give a value the type and shape that were found, where they are known and differ from its own."""
    shape = ir.serde.deserialize_type_proto_for_shape(found) if not _has_shape(value, found) else None
    if shape is not None and value.shape != shape:
        value.shape = shape
    if found.HasField("tensor_type") and value.dtype == found.tensor_type.elem_type:
        return
    dtype = ir.Value(type=ir.serde.deserialize_type_proto_for_type(found)).dtype
    if dtype is not None and value.dtype != dtype:
        value.dtype = dtype


def _has_shape(value: ir.Value, found: onnx.TypeProto) -> bool:
    """Whether a value certainly has the shape that was found."""
    if value.shape is None or not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        return False
    dims = found.tensor_type.shape.dim
    return len(dims) == len(value.shape) and all(
        dim.HasField("dim_value") and dim.dim_value == known if type(known) is int else dim.dim_param == known
        for dim, known in zip(dims, value.shape, strict=True)
    )


def concrete_shapes(
    model: ir.Model, batch: int, *, elementwise_domains: tuple[str, ...] = ("ai.snnc",)
) -> dict[str, tuple[int, ...]]:
    """Infer the shape of every value for one batch size.

    Shape computations (Shape, Gather, Concat … on int64) are followed, so Reshape targets resolve.

    Args:
        model: Any model; not changed.
        batch: Number put in place of a symbolic first dimension of each graph input.
        elementwise_domains: Domains whose nodes have outputs of the shape of their first input.

    Returns:
        Shapes by value name; values whose shape stays unknown are missing.
    """
    return shapes_of_batches(model, batch, elementwise_domains=elementwise_domains)[0]


def shapes_of_batches(
    model: ir.Model, *batches: int, elementwise_domains: tuple[str, ...] = ("ai.snnc",)
) -> list[dict[str, tuple[int, ...]]]:
    """Infer the shape of every value for several batch sizes; see `concrete_shapes`."""
    return [shapes for shapes, _ in settled(model, *batches, elementwise_domains=elementwise_domains)]


def settled(
    model: ir.Model, *batches: int, elementwise_domains: tuple[str, ...] = ("ai.snnc",)
) -> list[tuple[dict[str, tuple[int, ...]], dict[str, npt.NDArray[Any]]]]:
    """Compute what a batch size settles: the shapes of the values, and the integers computed from shapes.

    Args:
        model: Any model; not changed.
        batches: Numbers put in place of a symbolic first dimension of each graph input.
        elementwise_domains: Domains whose nodes have outputs of the shape of their first input.

    Returns:
        For each batch size, shapes by value name, and by value name the contents of small results of shape
        arithmetic (integers, truth values, few floats); what depends on more than the batch size is missing.
    """
    skeleton, known = _skeleton(model, None, elementwise_domains)
    # What one pass has left alone the next one asks for again.
    content = hashlib.sha256(skeleton.SerializeToString(deterministic=True)).digest()
    key = content, batches, tuple(known.items())
    if key in _SETTLED:
        return [(dict(shapes), dict(integers)) for shapes, integers in _SETTLED[key]]
    results = []
    for batch in batches:
        copy = onnx.ModelProto()
        copy.CopyFrom(skeleton)
        shapes = dict(known)
        for info in copy.graph.input:
            dims = info.type.tensor_type.shape.dim
            if info.name not in shapes and dims and not dims[0].HasField("dim_value"):
                dims[0].dim_value = batch
                shape = _concrete(info)
                if shape is not None:
                    shapes[info.name] = shape
        results.append(_resolved(model.graph, copy, shapes))
    _SETTLED.clear()
    _SETTLED[key] = results
    return [(dict(shapes), dict(integers)) for shapes, integers in results]


def _resolved(
    graph: ir.Graph, skeleton: onnx.ModelProto, known: dict[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[int, ...]], dict[str, npt.NDArray[Any]]]:
    """Follow the shapes through a skeleton, together with the integers they are computed from."""
    shapes_of_computation = _ShapeArithmetic(graph)
    while True:
        found = onnx.shape_inference.infer_shapes(
            skeleton, check_type=False, strict_mode=False, data_prop=True
        )
        for info in [*found.graph.value_info, *found.graph.output]:
            shape = _concrete(info)
            if info.type.tensor_type.HasField("shape") and shape is not None:
                known[info.name] = shape
        if not shapes_of_computation.resolve(skeleton.graph, known):
            return known, shapes_of_computation.results


def _skeleton(
    model: ir.Model, batch: int | None, elementwise_domains: tuple[str, ...] | None
) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """Return the model without large weights, and the shapes known from the start.

    Args:
        model: Any model.
        batch: Number put in place of a symbolic first dimension of each graph input; None leaves it open.
        elementwise_domains: Domains whose nodes have outputs of the shape of their first input; None leaves
            out every node that is not of the standard domain; its outputs have any shape.
    """
    graph = model.graph
    proto = onnx.GraphProto(name="skeleton")
    known: dict[str, tuple[int, ...]] = {}
    for value in graph.inputs:
        if value.shape is None or value.dtype is None or value.name is None:
            continue
        dims = [
            dim if isinstance(dim, int) else (batch if axis == 0 else None)
            for axis, dim in enumerate(value.shape)
        ]
        proto.input.append(onnx.helper.make_tensor_value_info(value.name, int(value.dtype), dims))
        if all(dim is not None for dim in dims):
            known[value.name] = tuple(dim for dim in dims if dim is not None)
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        known[name] = tuple(int(dim) for dim in tensor.shape.numpy())
        if tensor.size <= _SMALL and tensor.dtype != ir.DataType.STRING:
            content = onnx.numpy_helper.from_array(tensor.numpy(), name)
            proto.initializer.append(content)
        else:
            proto.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), known[name]))
    for node in graph:
        if is_sealed(node):
            copy = ir.serde.serialize_node(node)
            copy.op_type, copy.domain = declared(node)["op"], ""
        elif elementwise_domains is None and node.domain:
            for value in node.outputs:
                if value.name:
                    info = onnx.helper.make_tensor_value_info(value.name, int(value.dtype or _FLOAT), None)
                    proto.input.append(info)
            continue
        elif _is_elementwise(node, elementwise_domains):
            copy = onnx.helper.make_node(
                "Identity",
                [(node.inputs[0].name or "") if node.inputs[0] else ""],
                [node.outputs[0].name or ""],
            )
        else:
            copy = ir.serde.serialize_node(node)
        proto.node.append(copy)
    for value in graph.outputs:
        proto.output.append(onnx.ValueInfoProto(name=value.name))
    skeleton = onnx.ModelProto(ir_version=10, graph=proto)
    for domain, version in graph.opset_imports.items():
        skeleton.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
    return skeleton, known


def contradiction(model: ir.Model, untrue: dict[str, str] | None = None) -> tuple[str | None, str] | None:
    """Return what contradicts the operators' definitions: element types, axes, attributes, dimensions.

    Args:
        model: Any model; not changed. Declared shapes of inner values and outputs are not believed, so
            they cannot contradict.
        untrue: Gets a line, by name, for each of those that is not what the operators give.

    Returns:
        The node's name (None where ONNX does not tell) and what is wrong with it, or None.
    """
    skeleton, known = _skeleton(model, None, None)
    excess = _too_large(model.graph, skeleton, known)
    if excess is not None:
        return excess
    try:
        inferred = onnx.shape_inference.infer_shapes(
            skeleton, check_type=True, strict_mode=True, data_prop=True
        )
    except onnx.shape_inference.InferenceError as error:
        text = str(error).strip()
        matches = [found for line in reversed(text.splitlines()) if (found := _INFERENCE.search(line))]
        # A node behind the guilty one lacks the type of its input.
        found = min(matches, key=lambda found: "but instead is null" in found["what"], default=None)
        if found is not None:
            return found["node"], f"{found['op']}: {found['what']}"
        return None, text.splitlines()[-1] if text else "its shapes contradict each other"
    if untrue is not None:
        untrue.update(_untrue(model.graph, inferred.graph))
    return None


def _untrue(graph: ir.Graph, found: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """Yield names of values, and what a file declares of them and inference says instead."""
    inferred = {info.name: info.type.tensor_type for info in (*found.value_info, *found.output)}
    for value in (output for node in graph for output in node.outputs):
        name = value.name or ""
        known = inferred.get(name)
        if known is None:
            continue
        dtype = ir.DataType(known.elem_type)
        if value.dtype is not None and known.elem_type and value.dtype != dtype:
            yield name, f"{name} is declared as {value.dtype.name}, and is {dtype.name}"
        if value.shape is None or not known.HasField("shape"):
            continue
        said = [dim if isinstance(dim, int) else None for dim in value.shape]
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in known.shape.dim]
        pairs = zip(said, dims, strict=False)
        if len(said) != len(dims) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            texts = [
                "[" + ", ".join("?" if d is None else str(d) for d in each) + "]" for each in (said, dims)
            ]
            yield name, f"{name} is declared as {texts[0]}, and is {texts[1]}"


def _too_large(
    graph: ir.Graph, skeleton: onnx.ModelProto, known: dict[str, tuple[int, ...]]
) -> tuple[str | None, str] | None:
    """Return the first node whose constant result or list is larger than any network needs.

    Values of lists are not propagated here: ONNX's inference makes an object of each element.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(skeleton)
    known = dict(known)
    arithmetic = _ShapeArithmetic(graph)
    fixed = set(graph.initializers)
    for node in graph:
        read = [value.name for value in node.inputs if value is not None]
        if node.op_type == "Constant" or (read and fixed.issuperset(read)):
            fixed.update(value.name for value in node.outputs if value.name)
    while True:
        try:
            found = onnx.shape_inference.infer_shapes(copy, check_type=False, strict_mode=False)
        except onnx.shape_inference.InferenceError:
            return None
        for info in [*found.graph.value_info, *found.graph.output]:
            shape = _concrete(info)
            if info.type.tensor_type.HasField("shape") and shape is not None:
                known[info.name] = shape
        excess = _growth(graph, known, fixed)
        if excess is not None:
            return excess
        if not arithmetic.resolve(copy.graph, known):
            return None


def _growth(
    graph: ir.Graph, known: dict[str, tuple[int, ...]], fixed: set[str]
) -> tuple[str | None, str] | None:
    """Return the node by which constants outgrow what they are made of, or that makes an endless list."""
    total = 0
    for node in graph:
        read = sum(math.prod(known.get(value.name or "", ())) for value in node.inputs if value is not None)
        for value in node.outputs:
            shape = known.get(value.name or "", ())
            elements = math.prod(shape)
            total += max(0, elements - read) if value.name in fixed else 0
            if total > _MOST_FIXED or (len(shape) == 1 and elements > _MOST_FIXED):
                return node.name, (
                    f"{node.op_type} makes {elements:,} elements: {list(shape)}; constants may grow by "
                    f"{_MOST_FIXED:,} in all"
                )
    return None


def _is_elementwise(node: ir.Node, domains: tuple[str, ...] | None) -> bool:
    """Return whether a node's output has the shape of its first input, which ONNX need not know."""
    return node.domain in (domains or ()) or keeps_shape(node)


def keeps_shape(node: ir.Node) -> bool:
    """Return whether the result has the shape of the first input, though ONNX's inference does not know."""
    kinds = _KEEPING_SHAPE.get(node.domain)
    return kinds is not None and (not kinds or node.op_type in kinds)


def _concrete(info: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in info.type.tensor_type.shape.dim]
    return tuple(dim for dim in dims if dim is not None) if None not in dims else None


class _ShapeArithmetic:
    """Evaluates the small integer tensors that shapes are computed from, where ONNX's inference does not.

    Args:
        graph: The graph whose nodes are evaluated.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._nodes = {node.outputs[0].name: node for node in graph if len(node.outputs) == 1}
        self._opsets = dict(graph.opset_imports)
        self._values: dict[str, npt.NDArray[Any]] = {}
        self.results: dict[str, npt.NDArray[Any]] = {}
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is not None and tensor.size <= _SMALL:
                self._values[name] = np.asarray(tensor.numpy())

    def resolve(self, proto: onnx.GraphProto, known: dict[str, tuple[int, ...]]) -> bool:
        """Replace nodes of a skeleton whose results are now known by constants; return whether any was."""
        kept, changed = [], False
        for entry in proto.node:
            node = self._nodes.get(entry.output[0]) if len(entry.output) == 1 else None
            result = self._result(node, known) if node is not None else None
            if result is None:
                kept.append(entry)
                continue
            changed = True
            name = entry.output[0]
            self._values[name] = self.results[name] = result
            known[name] = result.shape
            proto.initializer.append(onnx.numpy_helper.from_array(result, name))
        if changed:
            del proto.node[:]
            proto.node.extend(kept)
        return changed

    def _result(self, node: ir.Node, known: dict[str, tuple[int, ...]]) -> npt.NDArray[Any] | None:
        names = [value.name if value is not None else None for value in node.inputs]
        if node.op_type == "Shape" and names[0] in known:
            start = node.attributes["start"].as_int() if "start" in node.attributes else 0
            end = node.attributes["end"].as_int() if "end" in node.attributes else None
            return np.array(known[names[0] or ""][start:end], dtype=np.int64)
        if node.op_type == "Constant":
            held = constant(node.outputs[0])
            return held if held is not None and held.size <= _SMALL and held.dtype.kind in "iub" else None
        if node.op_type not in _SHAPE_ARITHMETIC or any(
            n is not None and n not in self._values for n in names
        ):
            return None
        inputs = [self._values[name] if name is not None else None for name in names]
        if node.op_type == "Slice" and "starts" in node.attributes and inputs[0] is not None:
            # The form of opset 9, on a list of dimensions.
            bounds = (node.attributes[key].as_ints()[0] for key in ("starts", "ends"))
            return inputs[0][slice(*bounds)]
        if node.op_type == "ConstantOfShape" and int(np.prod(inputs[0])) > _SMALL:  # type: ignore[arg-type]
            return None
        try:
            result = np.asarray(evaluate(node, inputs, self._opsets)[0])
        except Exception:  # noqa: BLE001 - a node that cannot be evaluated stays for the inference
            return None
        most = {"f": _MOST_FLOATS}.get(result.dtype.kind, _SMALL if result.dtype.kind in "iub" else -1)
        return result if result.size <= most else None
