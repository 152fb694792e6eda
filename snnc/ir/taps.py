"""Making inner tensors of a model visible, on a copy, with onnx-graphsurgeon on the weight-free skeleton."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from snnc.errors import EnvironmentFailure, InternalError, Where

__all__ = ["tensor_names", "with_outputs"]

_MAX_PROTO_BYTES = 2 * 1024**3 - 2**20


def tensor_names(model: ir.Model) -> list[str]:
    """Return the names of all tensors that nodes of the main graph compute, in graph order."""
    return [value.name for node in model.graph for value in node.outputs if value.name]


def with_outputs(model: ir.Model, names: Sequence[str]) -> bytes:
    """Serialise a model with more outputs; the model itself stays as it is.

    Args:
        model: The model; external data is read into memory.
        names: Tensors of the main graph that become outputs after its own; its own are skipped.

    Returns:
        The copy, serialised deterministically. It is for running: metadata of nodes is gone.

    Raises:
        EnvironmentFailure: SNN602, larger than one protobuf message may be (2 GiB).
        InternalError: SNN116, a name is no tensor of the graph.
    """
    # Imported here: half a second that only taps need.
    import onnx_graphsurgeon as surgeon

    proto = ir.to_proto(ir.external_data.load_to_model(model))
    weights = list(proto.graph.initializer)
    if sum(len(tensor.raw_data) for tensor in weights) > _MAX_PROTO_BYTES:
        raise EnvironmentFailure("SNN602", "the weights do not fit into one ONNX file (2 GiB)")
    del proto.graph.initializer[:]
    graph = surgeon.import_onnx(proto)
    tensors = graph.tensors()
    present = {output.name for output in graph.outputs}
    for name in names:
        if name not in tensors:
            raise InternalError("SNN116", "no such tensor to tap", where=Where(tensor=name))
        if name not in present:
            graph.outputs.append(tensors[name])
            present.add(name)
    tapped = surgeon.export_onnx(graph, do_type_check=False)
    tapped.graph.initializer.extend(weights)
    return bytes(tapped.SerializeToString(deterministic=True))
