"""Instructions for parts of products and rows of tables, and layouts that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.emit.compiled import compile_program
from snnc.errors import UnsupportedError

BOOK = CodeBook(4, 4)


def ints(model: Any, *values: int) -> str:
    return str(model.constant(values, np.int64))


@pytest.mark.parametrize("starts", [(0, 4, 8), (0, 3, 4), (8, 2, 2)])
def test_a_product_of_which_columns_are_read_is_made_of_parts(
    builder: Any, everywhere: Any, starts: Any
) -> None:
    """As the projection to queries, keys and values: each part is a product with its own columns."""
    rng = np.random.default_rng(3)
    model = builder()
    model.input("v", np.int32, ["N", 5, 8])
    x = model.spikes("v", BOOK)
    product = model.node("SpikeMatMul", [x, model.constant(rng.integers(-7, 8, (8, 12)), np.int8)])
    q, k, v = (
        model.node("Slice", [product, ints(model, at), ints(model, at + 4), ints(model, 2)]) for at in starts
    )
    ends = [model.node("MembraneAdd", [q, k]), model.node("MembraneAdd", [v, v])]
    proto = model.proto(dict.fromkeys(ends, (np.int32, 3)))
    everywhere(proto, {"v": rng.integers(-3, 20, (3, 5, 8), dtype=np.int32)})
    tensors = compile_program(ir.from_proto(proto)).runtime().tensors
    # Nobody needs the whole.
    assert product not in tensors and {q, k, v} <= set(tensors)


@pytest.mark.parametrize("stays", ["another axis", "backwards", "an output"])
def test_a_product_that_is_read_otherwise_is_made_whole(builder: Any, everywhere: Any, stays: str) -> None:
    rng = np.random.default_rng(4)
    model = builder()
    model.input("v", np.int32, ["N", 5, 8])
    x = model.spikes("v", BOOK)
    product = model.node("SpikeMatMul", [x, model.constant(rng.integers(-7, 8, (8, 6)), np.int8)])
    axis, step = (1 if stays == "another axis" else 2), (-1 if stays == "backwards" else 1)
    bounds = (3, 0) if stays == "backwards" else (0, 3)
    cut = [ints(model, bounds[0]), ints(model, bounds[1]), ints(model, axis), ints(model, step)]
    first = model.node("Slice", [product, *cut])
    second = model.node("Slice", [product, ints(model, 3), ints(model, 5), ints(model, 2)])
    ends = [model.node("MembraneAdd", [part, part]) for part in (first, second)]
    ends += [product] if stays == "an output" else []
    proto = model.proto(dict.fromkeys(ends, (np.int32, 3)))
    everywhere(proto, {"v": rng.integers(-3, 20, (3, 5, 8), dtype=np.int32)})
    made = compile_program(ir.from_proto(proto)).runtime()
    assert product in made.tensors or product in made.outputs


@pytest.mark.parametrize(
    ("table", "axis", "message"),
    [
        ((4, 3, 2), 0, "Gather from a table along its rows only"),
        ((4, 6), 1, "Gather from a table along its rows only"),
        (None, 1, "Gather with several run-time inputs"),
    ],
)
def test_tables_that_have_no_instruction(builder: Any, table: Any, axis: int, message: str) -> None:
    model = builder()
    model.input("v", np.int32, ["N", 4, 6])
    model.input("i", np.int64, ["N", 2])
    x = model.spikes("v", BOOK)
    if table is None:
        held = model.node("Charge", [x])
    else:
        held = model.constant(np.arange(np.prod(table)).reshape(table), np.int32)
    taken = model.node("Gather", [held, "i"], axis=axis)
    total = model.node("MembraneScale", [taken, model.constant([2], np.int32)])
    proto = model.proto({total: (np.int32, 4), x: (np.uint8, 3)})
    with pytest.raises(UnsupportedError, match=message) as caught:
        compile_program(ir.from_proto(proto))
    assert caught.value.code == "SNN470"
