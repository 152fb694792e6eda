"""What a spiking file says of its codes, checked before anything is executed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.errors import InputError, Problem, SnncError, Where
from snnc.ir import AI_SNNC, DataType, Model, Node, attributes, constant

__all__ = ["check_codes"]

_CODED = frozenset({"Encode", "ExpGIF", "ExpGIFGain"})
_WEIGHTED = frozenset({"SpikeConv", "SpikeMatMul"})
#: Rounds of a search among all codes of 16 bits with sign.
_DEEPEST = 17
_CODE_TYPES: dict[Any, type[np.integer[Any]]] = {
    DataType.UINT8.value: np.uint8,
    DataType.INT8.value: np.int8,
    DataType.UINT16.value: np.uint16,
    DataType.INT16.value: np.int16,
    DataType.INT32.value: np.int32,
}


def check_codes(model: Model, file: str | None = None) -> None:
    """Check inputs and attributes of every node of ``ai.snnc``, and the code of every neuron.

    Args:
        model: The model.
        file: Name for messages.

    Raises:
        InputError: SNN322, attributes are missing, of another type, or no code; thresholds or rows are not
            what the operator's definition asks for.
    """
    problems = [
        Problem(f"{node.op_type}: {fault}", Where(node=node.name))
        for node in model.graph
        if node.domain == AI_SNNC and (fault := _fault_of(node)) is not None
    ]
    if problems:
        raise InputError(
            "SNN322",
            f"{len(problems)} nodes are not what the definition of their operator asks for",
            where=Where(file=file),
            hint="the file is damaged: convert the model again",
            problems=problems,
        )


def _fault_of(node: Node) -> str | None:
    from snnc.ops import OPS  # which imports this module

    fault = _fault(node) if node.op_type in _CODED else _fault_of_constants(node)
    if fault is not None or node.op_type not in OPS:
        return fault
    return next(iter(OPS[node.op_type].problems(len(node.inputs), attributes(node))), None)


def _fault_of_constants(node: Node) -> str | None:
    """Only thresholds may be infinite, where nothing is to reach them; weights add up within 32 bits."""
    for value in node.inputs:
        array = constant(value)
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"its constant {value.name if value is not None else ''!r} is not finite"
    weights = constant(node.inputs[1]) if node.op_type in _WEIGHTED and len(node.inputs) > 1 else None
    if weights is None:
        return None
    if weights.dtype not in (np.int8, np.int16, np.int32):
        return f"its weights are of type {weights.dtype}"
    if weights.ndim < 2:
        return f"its weights have shape {list(weights.shape)}"
    axes = tuple(range(1, weights.ndim)) if node.op_type == "SpikeConv" else -2
    if np.abs(weights.astype(np.int64)).sum(axis=axes).max(initial=0) >= 1 << 31:
        return "its weights do not add up within 32 bits"
    return None


def _fault(node: Node) -> str | None:
    found = attributes(node)
    try:
        book = CodeBook.from_attributes(found)
    except SnncError as error:
        return error.message
    codes = found.get("codes")
    if not isinstance(codes, list) or not codes or not all(isinstance(code, int) for code in codes):
        return "its codes are no list of integers"
    if not set(codes) <= set(book.codes):
        return "its codes are not those of its time-steps and groups"
    depth, kind = found.get("depth"), found.get("code_type")
    # The body of the function searches so many rounds, whatever it is.
    if not isinstance(depth, int) or not (len(codes) - 1).bit_length() <= depth <= _DEEPEST:
        return f"its depth is {depth!r}, which is no search among {len(codes)} codes"
    if not isinstance(kind, int) or kind not in _CODE_TYPES or not _holds(_CODE_TYPES[kind], codes):
        return f"its codes do not fit type {kind!r}"
    thresholds, rows = node.inputs[-2:] if len(node.inputs) > 2 else (None, None)
    return _fault_of_table(constant(thresholds), constant(rows), len(codes), depth, node.op_type == "Encode")


def _holds(dtype: type[np.integer[Any]], codes: list[int]) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= min(codes) and max(codes) <= limits.max


def _fault_of_table(
    table: npt.NDArray[Any] | None, rows: npt.NDArray[Any] | None, codes: int, depth: int, host: bool
) -> str | None:
    """Check thresholds and rows, as far as they are constants, against the definitions of the operators."""
    if table is not None:
        if table.dtype != (np.float32 if host else np.int32):
            return f"its thresholds are of type {table.dtype}"
        if table.ndim != 2 or not len(table) or table.shape[1] != (1 << depth) - 1:
            return f"its thresholds have shape {list(table.shape)}, expected rows of {(1 << depth) - 1}"
        last = np.inf if host else np.iinfo(np.int32).max
        if (
            np.isnan(table).any()
            or (table[:, 1:] < table[:, :-1]).any()
            or (table[:, codes - 1 :] != last).any()
        ):
            return "its thresholds do not ascend to the number that nothing reaches"
    if rows is not None:
        if rows.dtype != np.int32:
            return f"its rows are of type {rows.dtype}"
        count = len(table) if table is not None else None
        if rows.size and (rows.min() < 0 or (count is not None and rows.max() >= count)):
            return f"its rows point outside of its {count} thresholds"
    return None
