"""Shape inference on the weight-free skeleton of a model."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["concrete_shapes", "infer_shapes"]

_SMALL = 1024


def infer_shapes(model: ir.Model) -> None:
    """Fill in shapes and element types of all values, in place, where ONNX can infer them.

    Nodes of other domains (those of snnc among them) are inferred through their function bodies.
    """
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


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
        if tensor.size <= _SMALL:
            content = onnx.numpy_helper.from_array(tensor.numpy(), name)
            proto.initializer.append(content)
        else:
            proto.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), known[name]))
    for node in graph:
        if node.domain in elementwise_domains:
            copy = onnx.helper.make_node(
                "Identity", [node.inputs[0].name if node.inputs[0] else ""], [node.outputs[0].name]
            )
        else:
            copy = ir.to_proto(node)
        proto.node.append(copy)
    for value in graph.outputs:
        proto.output.append(onnx.ValueInfoProto(name=value.name))
    skeleton = onnx.ModelProto(ir_version=10, graph=proto)
    for domain, version in graph.opset_imports.items():
        skeleton.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
    inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=False, strict_mode=False, data_prop=True)
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        shape = info.type.tensor_type
        if not shape.HasField("shape"):
            continue
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in shape.shape.dim]
        if all(dim is not None for dim in dims):
            known[info.name] = tuple(dim for dim in dims if dim is not None)
    return known
