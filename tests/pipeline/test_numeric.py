"""Comparing bits and measuring cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from snnc.errors import InternalError, MismatchError
from snnc.pipeline import compare_bits, first_difference, measure_cost


@given(arrays.arrays(np.float32, arrays.array_shapes(), elements=st.floats(width=32)), st.data())
def test_one_flipped_bit_is_found_at_its_place(array, data):
    assert first_difference(array, array.copy()) is None
    other = array.copy()
    flat = other.reshape(-1).view(np.uint32)
    place = data.draw(st.integers(0, other.size - 1))
    flat[place] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    assert first_difference(array, other) == np.unravel_index(place, array.shape)


def test_negative_zero_differs_and_equal_nan_does_not():
    assert first_difference(np.array([0.0]), np.array([-0.0])) == (0,)
    assert first_difference(np.array([np.nan]), np.array([np.nan])) is None
    assert first_difference(np.zeros((0, 3)), np.zeros((0, 3))) is None
    assert first_difference(np.array(3), np.array(4)) == ()


@pytest.mark.parametrize("after", [np.zeros((2, 2)), np.zeros((3,), np.float32)])
def test_another_form_is_a_mismatch(after):
    with pytest.raises(MismatchError, match="changed the form"):
        compare_bits({"y": np.zeros(3)}, {"y": after}, pass_name="p")


def test_first_tensor_in_order_is_named():
    before = {"a": np.zeros(2), "b": np.zeros(2), "gone": np.ones(1)}
    after = {"b": np.array([0.0, 1.0]), "a": np.array([1.0, 0.0]), "new": np.ones(3)}
    with pytest.raises(MismatchError) as caught:
        compare_bits(before, after, pass_name="p")
    assert caught.value.where.tensor == "a"


def test_cost_of_known_errors():
    signal = np.array([[3.0, 4.0], [0.0, 0.0]])
    (same,) = measure_cost({"y": signal}, {"y": signal})
    assert (same.sqnr_db, same.max_abs, same.agreement) == (math.inf, 0.0, 1.0)
    (cost,) = measure_cost({"y": signal}, {"y": np.add(signal, [[0.3, -0.4], [0.0, 0.0]])})
    assert cost.sqnr_db == pytest.approx(20.0)
    assert cost.max_abs == pytest.approx(0.4)
    (swapped,) = measure_cost({"y": signal}, {"y": signal[:, ::-1]})
    assert swapped.agreement == 0.5
    (silent,) = measure_cost({"y": np.zeros(2)}, {"y": np.ones(2)})
    assert silent.sqnr_db == -math.inf
    assert measure_cost({"y": signal}, {"y": np.zeros(3)}) == ()


@pytest.mark.parametrize(
    ("after", "outputs", "message"),
    [
        ({"b": np.zeros(2)}, (), "have no tensor in common, so nothing was checked"),
        ({"a": np.zeros(2)}, ("a", "y"), "no result for the outputs ['y']"),
    ],
)
def test_a_comparison_that_checks_nothing_is_our_bug(after, outputs, message):
    with pytest.raises(InternalError) as caught:
        compare_bits({"a": np.zeros(2)}, after, pass_name="p", outputs=outputs)
    assert caught.value.code == "SNN104"
    assert message in caught.value.message
    assert caught.value.where.pass_name == "p"
