"""Synaptic operations against the literal definition: every spike, every output it touches, one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.cost.fanout import (
    ConvGeometry,
    MatMulGeometry,
    spike_counts,
    touched_outputs,
    zero_skipping_operations,
)


def draw_codes(data: st.DataObject, book: CodeBook, shape: tuple[int, ...]) -> Any:
    seed = data.draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).choice(book.codes, size=shape).astype(book.dtype)


books = st.integers(1, 5).flatmap(
    lambda t: st.builds(
        CodeBook, st.just(t), st.integers(1, t), st.sampled_from(["interleaved", "contiguous"]), st.booleans()
    )
)


def conv_sops_one_by_one(
    patterns: Any, weight_shape: Any, strides: Any, pads: Any, dilations: Any, group: int
) -> int:
    """Sum over time-steps, spikes and outputs of 1 where the spike is an input of the output."""
    channels, height, width = patterns.shape[2:]
    filters, _, *kernel = weight_shape
    rows = (height + pads[0] + pads[2] - dilations[0] * (kernel[0] - 1) - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - dilations[1] * (kernel[1] - 1) - 1) // strides[1] + 1
    sops = 0
    for step, image, channel, y, x in zip(*np.nonzero(patterns), strict=True):
        del step, image
        for o, oy, ox in itertools.product(range(filters), range(rows), range(columns)):
            if o // (filters // group) != channel // (channels // group):
                continue
            sops += any(
                oy * strides[0] + ky * dilations[0] - pads[0] == y
                and ox * strides[1] + kx * dilations[1] - pads[1] == x
                for ky, kx in itertools.product(range(kernel[0]), range(kernel[1]))
            )
    return sops


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_conv_counts_every_synapse_that_a_spike_reaches(data: st.DataObject) -> None:
    book = data.draw(books)
    group = data.draw(st.integers(1, 3))
    in_per_group, out_per_group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    if data.draw(st.booleans()):
        in_per_group = 1  # depthwise, with a multiplier where there are several filters a group
    kernel = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    strides = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    dilations = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2)))
    pads = tuple(data.draw(st.integers(0, 2)) for _ in range(4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    space = tuple(
        max(reach[axis] - pads[axis] - pads[axis + 2], 1) + data.draw(st.integers(0, 3)) for axis in (0, 1)
    )
    codes = draw_codes(data, book, (2, group * in_per_group, *space))
    weight_shape = (group * out_per_group, in_per_group, *kernel)
    attrs = {"strides": list(strides), "pads": list(pads), "dilations": list(dilations), "group": group}

    geometry = ConvGeometry.of(codes.shape, weight_shape, attrs)
    expected = conv_sops_one_by_one(book.encode(codes), weight_shape, strides, pads, dilations, group)
    assert geometry.operations(spike_counts(codes)) == expected
    # A spike on each input, once: the MACs without padding, and G times as many bound the SOPs.
    ones = np.ones((1, *codes.shape), np.int8)
    assert geometry.exact_macs(2) == conv_sops_one_by_one(ones, weight_shape, strides, pads, dilations, group)
    assert expected <= book.groups * geometry.exact_macs(2) <= book.groups * geometry.dense_macs(2)


def test_conv_in_one_and_three_dimensions() -> None:
    ones = np.ones((1, 2, 5), np.uint8)
    assert ConvGeometry.of(ones.shape, (3, 2, 3), {}).operations(ones) == 3 * 2 * (1 + 2 + 3 + 2 + 1)
    cube = np.ones((1, 1, 3, 3, 3), np.uint8)
    geometry = ConvGeometry.of(cube.shape, (1, 1, 3, 3, 3), {"pads": [1] * 6})
    assert geometry.operations(cube) == (2 + 3 + 2) ** 3
    assert geometry.dense_macs(1) == 27 * 27


def test_a_spike_at_the_border_touches_fewer_outputs() -> None:
    codes = np.zeros((1, 1, 4, 4), np.uint8)
    codes[0, 0, 0, 0] = 5  # two spikes
    geometry = ConvGeometry.of(codes.shape, (8, 1, 3, 3), {"pads": [1, 1, 1, 1]})
    assert geometry.operations(spike_counts(codes)) == 2 * 4 * 8
    inside = np.zeros_like(codes)
    inside[0, 0, 1, 1] = 5
    assert geometry.operations(spike_counts(inside)) == 2 * 9 * 8


def test_positions_that_a_stride_skips_touch_nothing() -> None:
    assert touched_outputs(6, 1, stride=2).tolist() == [1, 0, 1, 0, 1, 0]
    assert touched_outputs(5, 3, stride=2, pads=(1, 1)).tolist() == [1, 2, 1, 2, 1]
    assert touched_outputs(5, 2, stride=2, outputs=3).tolist() == [1, 1, 1, 1, 1]


shapes = st.sampled_from(
    [
        ((4, 3), (3, 2)),
        ((2, 4, 3), (3, 2)),
        ((2, 4, 3), (2, 3, 2)),
        ((1, 4, 3), (5, 3, 2)),
        ((4, 3), (5, 3, 2)),
        ((2, 1, 4, 3), (1, 3, 3, 2)),
        ((3,), (3, 2)),
        ((2, 4, 3), (3,)),
    ]
)


def product_sops_one_by_one(patterns: Any, held: Any) -> tuple[int, int]:
    """Count the products of one spike and one held value: all, and those of values other than zero."""
    sops = skipping = 0
    for spikes in patterns:
        left = spikes if spikes.ndim > 1 else spikes[None]
        right = held if held.ndim > 1 else held[:, None]
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        left = np.broadcast_to(left, (*batch, *left.shape[-2:]))
        right = np.broadcast_to(right, (*batch, *right.shape[-2:]))
        for index in np.ndindex(*batch):
            for i, d, j in np.ndindex(left.shape[-2], left.shape[-1], right.shape[-1]):
                if left[index][i, d] != 0:
                    sops += 1
                    skipping += int(right[index][d, j] != 0)
    return sops, skipping


@settings(deadline=None, max_examples=80)
@given(data=st.data(), shape=shapes)
def test_products_with_weights_and_with_held_codes(data: st.DataObject, shape: Any) -> None:
    book, held_book = data.draw(books), data.draw(books)
    codes, held = draw_codes(data, book, shape[0]), draw_codes(data, held_book, shape[1])
    sops, skipping = product_sops_one_by_one(book.encode(codes), held)
    geometry = MatMulGeometry.of(codes.shape, held.shape)
    assert geometry.operations(spike_counts(codes)) == sops
    assert zero_skipping_operations(spike_counts(codes), held) == skipping
    assert geometry.macs() == np.matmul(codes, held).size * codes.shape[-1]
    assert sops <= book.groups * geometry.macs()


@given(book=books)
def test_spikes_are_the_ones_of_the_code(book: CodeBook) -> None:
    assert spike_counts(book.codes).tolist() == np.abs(book.patterns).sum(axis=1).tolist()
    assert spike_counts(book.codes.astype(book.dtype)).tolist() == book.spikes.tolist()


def test_spikes_of_the_widest_code() -> None:
    widest = CodeBook(16, 16, signed=True)
    codes = np.array([-65535, -32768, 0, 32768, 65535], np.int32)
    assert (
        spike_counts(codes).tolist() == np.abs(widest.encode(codes)).sum(axis=0).tolist() == [16, 1, 0, 1, 16]
    )
