"""The typed graph: a thin façade over onnx_ir, the only package that imports onnx and onnx_ir.

Everything above works on these objects; names, types and shapes are those of onnx_ir.
"""

from onnx_ir import Attr, DataType, Function, Graph, Model, Node, Shape, Tensor, Value, tensor

from snnc.ir.edit import (
    attributes,
    clone,
    constant,
    consumers_of,
    drop_if_unused,
    initializer,
    insert_node,
    make_node,
    remove_node,
    replace_with,
    static_shape,
    unique_name,
)
from snnc.ir.external import hard_links_allowed
from snnc.ir.files import (
    AI_SNNC,
    companion,
    data_files,
    load,
    model_digest,
    model_digest_meanwhile,
    save,
    to_bytes,
    weight_bytes,
)
from snnc.ir.provenance import keep_provenance
from snnc.ir.shapes import (
    concrete_shapes,
    contradiction,
    infer_shapes,
    keeps_shape,
    settle_outputs,
    settled,
    shapes_of_batches,
)
from snnc.ir.tables import table_rows
from snnc.ir.tensors import read_tensor
from snnc.ir.text import to_text

__all__ = [
    "AI_SNNC",
    "Attr",
    "DataType",
    "Function",
    "Graph",
    "Model",
    "Node",
    "Shape",
    "Tensor",
    "Value",
    "attributes",
    "clone",
    "companion",
    "concrete_shapes",
    "constant",
    "consumers_of",
    "contradiction",
    "data_files",
    "drop_if_unused",
    "hard_links_allowed",
    "infer_shapes",
    "initializer",
    "insert_node",
    "keep_provenance",
    "keeps_shape",
    "load",
    "make_node",
    "model_digest",
    "model_digest_meanwhile",
    "read_tensor",
    "remove_node",
    "replace_with",
    "save",
    "settle_outputs",
    "settled",
    "shapes_of_batches",
    "static_shape",
    "table_rows",
    "tensor",
    "to_bytes",
    "to_text",
    "unique_name",
    "weight_bytes",
]
