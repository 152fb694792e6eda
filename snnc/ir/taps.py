"""Making inner tensors of a model visible, on a copy, with onnx-graphsurgeon on the weight-free skeleton."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from snnc.errors import InternalError, Where
from snnc.ir.weights import split

__all__ = ["elements_per_sample", "tensor_names", "with_outputs"]


def tensor_names(model: ir.Model) -> list[str]:
    """Return the names of all tensors that nodes of the main graph compute, in graph order."""
    return [value.name for node in model.graph for value in node.outputs if value.name]


def elements_per_sample(model: ir.Model, names: Iterable[str]) -> int:
    """Return how many elements some tensors of the main graph have together, for one sample, at least 1.

    Args:
        model: The model.
        names: Tensors; axis 0 counts samples.
    """
    wanted = set(names)
    elements = 0
    for node in model.graph:
        for value in node.outputs:
            if value.name in wanted and value.shape is not None:
                elements += prod(dim for dim in value.shape.dims[1:] if isinstance(dim, int))
    return max(1, elements)


_LISTS = {
    onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.FLOATS: "floats",
    onnx.AttributeProto.STRINGS: "strings",
}


def with_outputs(
    model: ir.Model, names: Sequence[str]
) -> tuple[onnx.ModelProto, dict[str, npt.NDArray[Any]]]:
    """Return a copy of a model with more outputs; the model itself stays as it is.

    Args:
        model: The model; its weights are not copied.
        names: Tensors of the main graph that become outputs after its own; its own are skipped.

    Returns:
        The copy without its large weights, and these by name; see `snnc.ir.weights.split`. It is for running:
        metadata of nodes is gone.

    Raises:
        InternalError: SNN116, a name is no tensor of the graph.
    """
    # Imported here: half a second that only taps need.
    import onnx_graphsurgeon as surgeon

    proto, large = split(model)
    weights = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    empty = _take_empty_lists(proto.graph)
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
    for place, attribute in empty:
        tapped.graph.node[place].attribute.append(attribute)
    return tapped, large


def _take_empty_lists(graph: onnx.GraphProto) -> list[tuple[int, onnx.AttributeProto]]:
    """Remove attributes that are lists of nothing, of which onnx-graphsurgeon cannot tell the type."""
    found = []
    for place, node in enumerate(graph.node):
        kept = []
        for attribute in node.attribute:
            is_empty = attribute.type in _LISTS and not getattr(attribute, _LISTS[attribute.type])
            if is_empty and not attribute.ref_attr_name:
                found.append((place, onnx.AttributeProto.FromString(attribute.SerializeToString())))
            else:
                kept.append(attribute)
        if len(kept) < len(node.attribute):
            copies = [onnx.AttributeProto.FromString(entry.SerializeToString()) for entry in kept]
            del node.attribute[:]
            node.attribute.extend(copies)
    return found
