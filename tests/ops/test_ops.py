"""The registry, the schemas, spike trains, and the time-stepped forms by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.errors import InternalError, UnsupportedError
from snnc.ops import (
    LAYOUT,
    OPS,
    SpikeTrain,
    attach_functions,
    book_of,
    function_for,
    functions_for,
    get_op,
)
from snnc.ops.search import count_reached, fire
from snnc.ops.types import numpy_dtype, onnx_type


def train_of(book: CodeBook, codes: Any) -> SpikeTrain:
    return SpikeTrain(book.encode(np.asarray(codes)), book, book.dtype)


@pytest.mark.parametrize("name", sorted(OPS))
def test_definitions_are_complete(name: str) -> None:
    op = get_op(name)
    assert op.name == name
    for section in ("Semantics:", "Inputs:", "Output:"):
        assert section in op.doc
    names = [attribute.name for attribute in op.attributes]
    assert len(set(names)) == len(names)
    assert all(attribute.default is None or not attribute.required for attribute in op.attributes)
    function = function_for(op)
    assert [value.name for value in function.inputs] == list(op.inputs)
    assert set(function.attributes) == set(names)


def test_unknown_ops_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="SpikeConv") as caught:
        get_op("SpikeKonv")
    assert caught.value.code == "SNN410"


def test_problems_of_a_node() -> None:
    pool = get_op("SpikeMaxPool")
    assert pool.problems(1, {"kernel_shape": [2, 2], "ceil_mode": 0}) == []
    assert pool.problems(2, {"kernel_shape": 2, "window": 1}) == [
        "has 2 inputs, not 1: x",
        "attribute 'window' is unknown",
        "attribute 'kernel_shape' is not of type ints",
    ]
    assert get_op("MembraneRound").problems(1, {}) == ["attribute 'shift' is missing"]
    assert get_op("MembraneRound").problems(1, {"shift": "3"}) == ["attribute 'shift' is not of type int"]


def test_functions_are_fresh_sorted_and_unique() -> None:
    first, second = (functions_for(["Readout", "Charge", "Readout"]) for _ in range(2))
    assert [function.name for function in first] == ["Charge", "Readout"]
    assert first[0] is not second[0]
    assert function_for(get_op("Charge"), 21).opset_imports[""] == 21


def test_attached_functions_are_those_in_use() -> None:
    text = """<ir_version: 10, opset_import: ["" : 18, "ai.snnc" : 1]>
    g (int8[N] x) => (int32[N] y) { a = ai.snnc.Charge(x)  y = ai.snnc.MembraneAdd(a, a) }
    <domain: "ai.snnc", opset_import: ["" : 18]> Readout (v) => (y) { y = Cast<to = 1>(v) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    attach_functions(model)
    assert sorted(key[1] for key in model.functions) == ["Charge", "MembraneAdd"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_firing_bit_by_bit_equals_counting_and_the_code_book(data: st.DataObject) -> None:
    timesteps = data.draw(st.integers(1, 9))
    groups = data.draw(st.integers(1, timesteps))
    partition = data.draw(st.sampled_from(["interleaved", "contiguous"]))
    book = CodeBook(timesteps, groups, partition, data.draw(st.booleans()))
    low, high = sorted(data.draw(st.tuples(*[st.sampled_from(book.codes.tolist())] * 2)))
    book = book.restricted(low, high)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    limits = np.sort(rng.integers(-30, 30, (3, book.levels - 1), dtype=np.int32), axis=1)
    values = rng.integers(-33, 33, (2, 3, 40), dtype=np.int32)
    rows = np.arange(3, dtype=np.int32).reshape(3, 1)
    count = (values[..., None] >= limits[:, None, :]).sum(axis=-1)
    assert np.array_equal(count_reached(values, limits, rows), count)
    spikes = fire(values, limits, rows, tuple(book.codes.tolist()), book)
    assert np.array_equal(spikes, book.encode(book.codes[count]))
    for row in range(3):
        assert np.array_equal(spikes[:, :, row], book.fire(values[:, row], limits[row]))


@pytest.mark.parametrize("levels", [1, 2, 32, 33, 200])
def test_counting_thresholds_of_a_scalar_and_of_nothing(levels: int) -> None:
    limits = np.arange(levels - 1, dtype=np.int32)[None]
    row = np.zeros((), dtype=np.int32)
    assert count_reached(np.asarray(10, dtype=np.int32), limits, row) == min(11, levels - 1)
    assert count_reached(np.zeros((0, 3), dtype=np.int32), limits, row).shape == (0, 3)


def test_a_spike_train_holds_its_codes() -> None:
    book = CodeBook(4, 2, signed=True)
    train = train_of(book, book.codes)
    assert train.shape == (book.levels,)
    assert train.codes().dtype == np.int8
    assert np.array_equal(train.codes(), book.codes)


def test_charging_is_horner_step_by_step() -> None:
    """T = 3, one input: 1 0 1 sent with weight 7 leaves 7, 14, 35 on the membrane."""
    book = CodeBook(3, 3)
    charge = get_op("SpikeMatMul").timestep
    weights = np.array([[7]], dtype=np.int8)
    for steps, expected in ((1, 7), (2, 14), (3, 35)):
        train = SpikeTrain(np.array([1, 0, 1], dtype=np.int8)[:steps].reshape(steps, 1, 1), book)
        assert np.asarray(charge([train, weights], {})).tolist() == [[expected]]


def test_spikes_and_held_values_are_not_confused() -> None:
    book = CodeBook(2, 2)
    train, held = train_of(book, [[1, 2]]), np.ones((1, 2), dtype=np.int32)
    for op, inputs in (("MembraneAdd", [train, held]), ("SpikeMatMul", [held, held]), ("Charge", [held])):
        with pytest.raises(InternalError) as caught:
            get_op(op).timestep(inputs, {})
        assert caught.value.code == "SNN112"
    with pytest.raises(InternalError, match="mixes spikes and held values"):
        LAYOUT["Concat"].timestep([train, held], {"axis": 0})
    with pytest.raises(InternalError, match="held value is needed"):
        LAYOUT["Reshape"].timestep([held, train], {})


def test_trains_of_different_codes_share_a_window() -> None:
    short, long = CodeBook(2, 1), CodeBook(4, 2, signed=True)
    # ONNX joins equal element types only, so the compiler gives both the wider one.
    trains = [
        SpikeTrain(book.encode(np.array(codes)), book, np.dtype(np.int8))
        for book, codes in ((short, [0, 1, 2]), (long, [-12, 9]))
    ]
    joined = LAYOUT["Concat"].timestep(trains, {"axis": 0})[0]
    assert isinstance(joined, SpikeTrain)
    assert joined.patterns.shape == (4, 5)
    assert joined.codes().tolist() == [0, 1, 2, -12, 9]
    assert joined.book.signed


def test_books_from_attributes() -> None:
    book = CodeBook(4, 2, signed=True, smallest=-4)
    assert book_of({**book.to_attributes(), "codes": [1], "depth": 4}) == book


@pytest.mark.parametrize(
    ("name", "inputs", "attrs", "expected"),
    [
        ("Div", [[-7, 7, -7], [2, -2, -2]], {}, [-3, -3, 3]),
        ("Shape", [[[1, 2, 3]]], {"start": 1}, [3]),
        ("Size", [[[1, 2, 3]]], {}, 3),
        ("Range", [1, 7, 2], {}, [1, 3, 5]),
        ("ReduceProd", [[2, 3, 4], None], {"keepdims": 0}, 24),
        ("Where", [[True, False], [1, 2], [3, 4]], {}, [1, 4]),
        ("Slice", [[0, 1, 2, 3], [3], [-9], [0], [-1]], {}, [3, 2, 1, 0]),
        ("Slice", [[0, 1, 2, 3], [1], [99]], {}, [1, 2, 3]),
        ("Pad", [[1, 2, 3], [2, -1]], {}, [0, 0, 1, 2]),
        ("ConstantOfShape", [[2]], {"value": np.array([5])}, [5, 5]),
        ("Constant", [], {"value_ints": [4, 5]}, [4, 5]),
        ("Gather", [[5, 6, 7], [-1, 0]], {}, [7, 5]),
        ("Reshape", [[[1, 2], [3, 4]], [0, -1, 1]], {}, [[[1], [2]], [[3], [4]]]),
        ("Flatten", [[[[1], [2]]]], {"axis": -1}, [[1], [2]]),
        ("Equal", [[1, 2], [1, 3]], {}, [True, False]),
        ("Cast", [[1, 0]], {"to": 9}, [True, False]),
    ],
)
def test_shape_arithmetic(name: str, inputs: list[Any], attrs: dict[str, Any], expected: Any) -> None:
    arrays = [None if value is None else np.asarray(value) for value in inputs]
    assert LAYOUT[name].packed(arrays, attrs)[0].tolist() == expected


def test_split_without_sizes_is_even_with_a_smaller_end() -> None:
    parts = LAYOUT["Split"].packed([np.arange(7)], {"axis": 0}, 3)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]


def test_padding_is_zero_only() -> None:
    for inputs, attrs in (([[1], [1, 1], 3], {}), ([[1], [1, 1]], {"mode": "edge"})):
        with pytest.raises(InternalError) as caught:
            LAYOUT["Pad"].packed([np.asarray(value) for value in inputs], attrs)
        assert caught.value.code == "SNN115"


def test_element_types_round_trip() -> None:
    for dtype in (np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64):
        number = onnx_type(np.dtype(dtype))
        assert numpy_dtype(number) == dtype
        assert onnx.helper.tensor_dtype_to_np_dtype(number) == dtype
    with pytest.raises(InternalError):
        numpy_dtype(99)
    with pytest.raises(InternalError):
        onnx_type(np.dtype("U3"))
