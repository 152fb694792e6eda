"""Evaluation of single nodes: results that would be huge are refused before they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from snnc.ir.evaluate import dequantise_linear, evaluate, integer_range, quantise_linear

Array = npt.NDArray[Any]
OPSETS = {"": 17}


def node(op: str, inputs: Sequence[Array | None], outputs: int = 1, **attrs: Any) -> ir.Node:
    values = [None if array is None else ir.Value(name=f"x{place}") for place, array in enumerate(inputs)]
    made = [ir.Value(name=f"y{place}") for place in range(outputs)]
    attributes = [ir.convenience.convert_attribute(name, value) for name, value in attrs.items()]
    return ir.Node("", op, values, attributes, outputs=made)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


HUGE = 1 << 40
ROW = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Range", [ints(0)[0], ints(HUGE)[0], ints(1)[0]], {}),
        ("Range", [ints(0)[0], ints(5)[0], ints(0)[0]], {}),
        ("ConstantOfShape", [ints(HUGE)], {}),
        ("ConstantOfShape", [ints(1 << 20, 1 << 20)], {}),
        ("Expand", [ROW, ints(1 << 30, 1, 1)], {}),
        ("Tile", [ROW, ints(1 << 20, 1 << 20)], {}),
        ("Pad", [ROW, ints(0, 0, 1 << 20, 1 << 20)], {}),
        ("Resize", [ROW, None, np.array([2.0**20, 2.0**20], np.float32)], {}),
        ("Resize", [ROW, None, None, ints(1 << 20, 1 << 20)], {}),
        ("OneHot", [ints(*range(100)), ints(HUGE)[0], ints(0, 1)], {}),
        ("MatMul", [np.ones((1 << 14, 1)), np.ones((1, 1 << 14))], {}),
        ("Add", [np.ones((1 << 14, 1)), np.ones((1, 1 << 14))], {}),
    ],
)
def test_huge_results_are_refused_before_they_are_made(op: str, inputs: list[Any], attrs: Any) -> None:
    with pytest.raises(ValueError, match="its result is too large"):
        evaluate(node(op, inputs, **attrs), inputs, OPSETS)


@pytest.mark.parametrize(
    ("op", "inputs", "bytes_taken"),
    [
        ("Range", [ints(0)[0], ints(10)[0], ints(2)[0]], 40),
        ("ConstantOfShape", [ints(5, 5)], 25),
        ("Expand", [ROW, ints(4, 1, 3)], 4 * 2 * 3 * 4),
        ("Tile", [ROW, ints(3, 2)], 6 * 6 * 4),
        ("Concat", [ROW, ROW], 48),
    ],
)
def test_growing_results_stay_within_the_bytes_that_are_left(
    op: str, inputs: list[Any], bytes_taken: int
) -> None:
    """``ConstantOfShape`` counts one byte an element: its type is in an attribute."""
    attrs = {"axis": 0} if op == "Concat" else {}
    (made,) = evaluate(node(op, inputs, **attrs), inputs, OPSETS, most_bytes=bytes_taken)
    expected = {
        "Range": np.arange(0, 10, 2),
        "ConstantOfShape": np.zeros((5, 5), np.float32),
        "Expand": np.broadcast_to(ROW, (4, 2, 3)),
        "Tile": np.tile(ROW, (3, 2)),
        "Concat": np.concatenate([ROW, ROW]),
    }[op]
    np.testing.assert_array_equal(made, expected)
    with pytest.raises(ValueError, match=f"takes more than {bytes_taken - 1} bytes"):
        evaluate(node(op, inputs, **attrs), inputs, OPSETS, most_bytes=bytes_taken - 1)


@pytest.mark.parametrize(("axis", "rows"), [(0, 2), (1, 2), (-1, 1)])
def test_gather_elements_with_fewer_indices_than_data(axis: int, rows: int) -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    indices = np.array([[2, 0, 1], [0, -1, 2]])[:rows]
    (made,) = evaluate(node("GatherElements", [data, indices], axis=axis), [data, indices], OPSETS)
    for place in np.ndindex(indices.shape):
        at = list(place)
        at[axis] = indices[place]
        assert made[place] == data[tuple(at)]


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        ("GatherElements", [ROW, ints(0)], "data and indices of one rank"),
        ("GatherElements", [ROW, ints(5).reshape(1, 1)], "cannot be evaluated: index 5 is out of bounds"),
        ("Range", [ints(), ints(5)[0], ints(1)[0]], "cannot be evaluated"),
        ("Reshape", [ROW, ints(7)], "cannot be evaluated: ValueError"),
        ("Add", [ROW, np.ones((5, 5), np.float32)], "cannot be evaluated"),
        ("SplitToSequence", [ROW], "does not give tensors"),
    ],
)
def test_what_the_evaluator_cannot_do_is_one_error(op: str, inputs: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(node(op, inputs), inputs, OPSETS)


def test_quantisation_per_channel_of_any_axis_and_of_no_block() -> None:
    x = np.array([[-1.25, 0.5], [0.75, 300.0]], np.float32)
    scale, zero = np.array([0.5, 1.0], np.float32), np.array([1, 0], np.int8)
    # Row 0: -2.5 and 1 are rounded to even, plus 1; row 1 saturates.
    assert quantise_linear(x, scale, zero, (-128, 127), 0).tolist() == [[-1, 2], [1, 127]]
    assert quantise_linear(x, scale, zero, (-128, 127), 1).tolist() == [[-1, 0], [3, 127]]
    q = np.array([[3, 4], [5, 6]], np.int8)
    assert dequantise_linear(q, scale, zero, 0).tolist() == [[1.0, 1.5], [5.0, 6.0]]
    block = np.ones((2, 2), np.float32)
    for call in (
        lambda: quantise_linear(x, block, zero, (-128, 127), 0),
        lambda: dequantise_linear(q, scale, block.astype(np.int8), 0),
    ):
        with pytest.raises(ValueError, match="neither per tensor nor per channel"):
            call()


def test_ranges_of_integer_types() -> None:
    for dtype, numpy_type in (
        (ir.DataType.INT8, np.int8),
        (ir.DataType.UINT16, np.uint16),
        (ir.DataType.INT4, ml_dtypes.int4),
        (ir.DataType.UINT2, ml_dtypes.uint2),
    ):
        info = ml_dtypes.iinfo(numpy_type)
        assert integer_range(dtype) == (int(info.min), int(info.max))
    assert integer_range(ir.DataType.FLOAT) is None and integer_range(None) is None
