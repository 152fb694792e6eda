"""Worst-case sums of weights, against sums written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.passes.analysis.products import sum_of_magnitudes, weight_range


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(
    ("shape", "axes"), [((700, 130), (0,)), ((9, 5, 3, 3), (1, 2, 3)), ((3, 40, 6), (1,))]
)
def test_sums_are_those_written_out_whoever_asks_and_however_often(
    kind: Any, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    limits = np.iinfo(np.int32 if kind == np.int64 else kind)
    held = np.random.default_rng(0).integers(limits.min, limits.max, shape, endpoint=True).astype(kind)
    held.reshape(-1)[0] = limits.min
    for integers in (held, held.view(), held[:, ::-1], held[:-1]):
        wide = integers.astype(np.int64)
        wanted = np.abs(wide).sum(axis=axes, keepdims=True)
        low, high = (wide.clip(*ends).sum(axis=axes, keepdims=True) for ends in ((None, 0), (0, None)))
        for _ in range(2):
            assert np.array_equal(sum_of_magnitudes(integers, axes), wanted)
            found = weight_range(integers, axes, -3, 7)
            assert np.array_equal(found[0], high * -3 + low * 7)
            assert np.array_equal(found[1], high * 7 + low * -3)
    turned = np.ascontiguousarray(held.T).T
    assert np.array_equal(sum_of_magnitudes(turned, axes), sum_of_magnitudes(held, axes))
