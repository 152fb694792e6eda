"""Making inner tensors of a model visible, on a copy."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from snnc.errors import EnvironmentFailure

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
        The copy, serialised deterministically.

    Raises:
        EnvironmentFailure: SNN602, larger than one protobuf message may be (2 GiB).
    """
    proto = ir.to_proto(ir.external_data.load_to_model(model))
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > _MAX_PROTO_BYTES:
        raise EnvironmentFailure("SNN602", "the weights do not fit into one ONNX file (2 GiB)")
    present = {output.name for output in proto.graph.output}
    known = {info.name: info for info in proto.graph.value_info}
    for name in names:
        if name not in present:
            # Where no type is recorded, the executor infers it.
            proto.graph.output.append(known.get(name, onnx.ValueInfoProto(name=name)))
            present.add(name)
    return bytes(proto.SerializeToString(deterministic=True))
