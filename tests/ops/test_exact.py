"""Exact products and convolutions against loops of Python integers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import InternalError
from snnc.ops.exact import exact_dtype, integer_conv, integer_matmul, max_abs, pool_geometry

Array = npt.NDArray[Any]


def slow_conv(
    x: Array, w: Array, strides: list[int], pads: list[int], dilations: list[int], group: int
) -> Array:
    """Two-dimensional convolution, one multiplication at a time, in Python integers."""
    n, c, h, width = x.shape
    o, per_group, kh, kw = w.shape
    rows = (h + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((n, o, rows, columns), dtype=object)
    for b, k, i, j in product(range(n), range(o), range(rows), range(columns)):
        for channel, p, q in product(range(per_group), range(kh), range(kw)):
            row = i * strides[0] + p * dilations[0] - pads[0]
            column = j * strides[1] + q * dilations[1] - pads[1]
            if 0 <= row < h and 0 <= column < width:
                source = k // (o // group) * per_group + channel
                y[b, k, i, j] += int(x[b, source, row, column]) * int(w[k, channel, p, q])
    assert c == per_group * group
    return y


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_convolution_equals_the_loop(data: st.DataObject) -> None:
    small = st.integers(1, 2)
    group, per_group, multiplier = data.draw(st.integers(1, 3)), data.draw(small), data.draw(small)
    kernel = [data.draw(st.integers(1, 3)) for _ in range(2)]
    strides, dilations = ([data.draw(small) for _ in range(2)] for _ in range(2))
    pads = [data.draw(st.integers(0, 2)) for _ in range(4)]
    # Magnitudes that need float32, float64 and int64 sums in turn.
    reach = data.draw(st.sampled_from([(15, 127), (2**15, 2**15), (2**30, 2**29)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.integers(-reach[0], reach[0] + 1, (2, group * per_group, 5, 6))
    w = rng.integers(-reach[1], reach[1] + 1, (group * multiplier, per_group, *kernel))
    found = integer_conv(x, w, strides=strides, pads=pads, dilations=dilations, group=group, dtype=np.int64)
    assert (found == slow_conv(x, w, strides, pads, dilations, group)).all()


def test_convolution_works_in_blocks() -> None:
    """More samples than one block of the column buffer holds give the same as one by one."""
    rng = np.random.default_rng(0)
    x = rng.integers(-15, 16, (40, 8, 32, 32)).astype(np.int8)
    for shape, group in (((16, 8, 3, 3), 1), ((8, 1, 3, 3), 8)):
        w = rng.integers(-127, 128, shape).astype(np.int8)
        whole = integer_conv(x, w, pads=[1] * 4, group=group)
        single = [integer_conv(x[i : i + 1], w, pads=[1] * 4, group=group) for i in range(40)]
        assert np.array_equal(whole, np.concatenate(single))


@pytest.mark.parametrize("reach", [10, 2**14, 2**28])
def test_matrix_product_equals_python_integers(reach: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-reach, reach + 1, (3, 4, 5))
    b = rng.integers(-reach, reach + 1, (5, 2))
    assert (integer_matmul(a, b, np.int64) == a.astype(object) @ b.astype(object)).all()


def test_element_types_change_at_the_bounds() -> None:
    assert exact_dtype(2**24 - 1) == np.float32
    assert exact_dtype(2**24) == np.float64
    assert exact_dtype(2**53 - 1) == np.float64
    assert exact_dtype(2**53) == np.int64
    with pytest.raises(InternalError) as caught:
        exact_dtype(2**63)
    assert caught.value.code == "SNN113"


def test_magnitude_of_the_most_negative_integer() -> None:
    assert max_abs(np.array([-128, 5], dtype=np.int8)) == 128
    assert max_abs(np.zeros((0, 3), dtype=np.int32)) == 0


def test_ceil_mode_drops_windows_that_start_in_the_padding() -> None:
    assert pool_geometry([8], [2], [2], [0, 1], None, ceil_mode=True)[0] == [4]
    assert pool_geometry([8], [3], [2], [0, 0], None, ceil_mode=True)[0] == [4]
    assert pool_geometry([8], [3], [2], [0, 0], None, ceil_mode=False)[0] == [3]
