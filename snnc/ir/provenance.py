"""Where nodes come from: what a file may say of it, and what it must not."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["keep_provenance"]

#: Names of the user's modules, as exporters write them.
_KEPT = frozenset({"namespace", "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes"})
_OWN = "snnc."


def keep_provenance(model: ir.Model) -> None:
    """Keep the names of modules and what snnc itself noted; drop all other metadata, in place.

    Exporters write stack traces with source lines and the paths of the machine that trained the network onto
    every node: more than half of a small file, and nobody else's business.

    Args:
        model: The model; entries of the model itself are left alone.
    """
    for node in model.graph.all_nodes():
        node.doc_string = None
        for key in [key for key in node.metadata_props if key not in _KEPT and not key.startswith(_OWN)]:
            del node.metadata_props[key]
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
        held = value.const_value
        if held is not None:
            held.metadata_props.clear()
            if held.doc_string:
                # Tensors that were read from a file cannot be changed.
                value.const_value = ir.Tensor(held.numpy(), dtype=held.dtype, name=held.name)
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
