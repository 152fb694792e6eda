"""Parts of weights whose sums stay small."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.passes.spike.planes import digit_planes

WEIGHTS = np.random.default_rng(0).integers(-127, 128, (6, 40))


@pytest.mark.parametrize("room", [40 * 127, 600, 40, 30, 7, 1])
@pytest.mark.parametrize("shape", [(6, 40, 1, 1), (6, 40)])
def test_parts_sum_to_the_weights_and_fit(room, shape):
    weights = WEIGHTS.reshape(shape) if len(shape) == 4 else WEIGHTS.T
    inputs = 1 if len(shape) == 4 else 0
    planes = digit_planes(weights, inputs, room)
    assert planes is not None
    np.testing.assert_array_equal(sum(digits << shift for shift, digits in planes), weights)
    axes = (1, 2, 3) if len(shape) == 4 else (0,)
    assert max(int(np.abs(digits).sum(axis=axes).max()) for _, digits in planes) <= room


def test_no_more_parts_than_it_takes():
    assert len(digit_planes(WEIGHTS, 1, 40 * 127) or []) == 1
    assert len(digit_planes(WEIGHTS, 1, 40) or []) == 7


def test_what_fits_in_no_part():
    assert digit_planes(WEIGHTS, 1, 0) is None
    assert len(digit_planes(np.zeros((2, 3), dtype=np.int64), 1, 5) or []) == 1
