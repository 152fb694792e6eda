"""Model-local functions: parsing them from ONNX text."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

from snnc.errors import InternalError

__all__ = ["parse_function", "parse_function_proto"]


def parse_function_proto(text: str) -> onnx.FunctionProto:
    """Parse one function in ONNX textual syntax.

    Args:
        text: ``<domain: ..., opset_import: [...]> Name <attributes> (inputs) => (outputs) { nodes }``.

    Raises:
        InternalError: SNN110, the text is not valid; the text is ours, so this is our bug.
    """
    try:
        return onnx.parser.parse_function(text)
    except onnx.parser.ParseError as error:
        raise InternalError("SNN110", f"function text does not parse: {error}") from error


def parse_function(text: str) -> ir.Function:
    """Parse one function in ONNX textual syntax into a fresh graph object.

    Each call returns new objects: a function's nodes belong to one model only.

    Raises:
        InternalError: SNN110, the text is not valid.
    """
    return ir.serde.deserialize_function(parse_function_proto(text))
