"""Random networks: oracle, float64, both numpy runtimes and onnxruntime at four levels give the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError

#: Refused because worst-case codes would leave 32 bits (or 24, where pools need them).
DO_NOT_FIT = {"SNN438", "SNN441", "SNN445"}
LEVELS = ("none", "basic", "extended", "all")


def searching(examples: int) -> Any:
    """Settings: shrinking a network takes longer than reading it."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


@dataclass
class Grower:
    """Grows a network op by op, as drawn; every tensor is coded before a product reads it."""

    draw: Any
    net: Any
    partition: str
    made: list[str] = field(default_factory=list)

    def book(self, signed: bool | None = None) -> tuple[CodeBook, str]:
        timesteps = self.draw(st.integers(1, 8))
        groups = self.draw(st.integers(1, timesteps))
        signed = self.draw(st.booleans()) if signed is None else signed
        book = CodeBook(timesteps, groups, self.partition, signed)  # type: ignore[arg-type]
        if self.draw(st.integers(0, 3)) == 0:  # some ranges are narrower, one-sided for signed ones
            low, high = sorted(self.draw(st.tuples(*[st.integers(0, book.levels - 1)] * 2)))
            if high > low and 0 in book.codes[low : high + 1]:
                book = book.restricted(int(book.codes[low]), int(book.codes[high]))
        ties = ["away", "up", "even"] if book.is_uniform else ["away", "up"]
        return book, self.draw(st.sampled_from(ties))

    def code(self, value: str, channels: tuple[int, ...] | None = None, signed: bool | None = None) -> str:
        """A neuron; its step is one number, or one for each channel."""
        book, ties = self.book(signed)
        step = np.float32(self.draw(st.sampled_from([0.05, 0.11, 0.25, 0.5, 2.0**-6, 1.3])))
        if channels is not None and self.draw(st.integers(0, 2)) == 0:
            step = (step * self.net.random.uniform(0.5, 2, channels)).astype(np.float32)
        return str(self.net.quantise(value, step, book, ties=ties))

    def activation(self, value: str) -> str:
        if self.draw(st.integers(0, 3)) == 0:
            value = self.net.op("Relu", [value])
        return value

    def affine(self, value: str, shape: tuple[int, ...]) -> str:
        """A batch normalisation that could not be folded: factors of both signs, or dead."""
        factors = self.net.random.uniform(0.3, 2, shape) * self.net.random.choice([-1, 1, 1, 0], shape)
        value = self.net.op("Mul", [value, self.net.const(factors)])
        return str(self.net.op("Add", [value, self.net.const(self.net.normal(*shape))]))


@st.composite
def images(draw: st.DrawFn, make: Any) -> Any:
    """A convolutional network: (N, C, H, W) to logits."""
    net = make(draw(st.integers(0, 2**16)))
    partition = draw(st.sampled_from(["interleaved", "contiguous"]))
    grow = Grower(draw, net, partition)
    channels, side = draw(st.integers(1, 3)), draw(st.integers(4, 7))
    x = net.input(["N", channels, side, side])
    width = 4
    if draw(st.booleans()):
        stream = net.conv(x, (width, channels, 3, 3), bias=draw(st.booleans()))
    else:
        stream = net.conv(grow.code(x, (channels, 1, 1)), (width, channels, 3, 3))
    coded = grow.code(grow.activation(stream), (width, 1, 1))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(["conv", "depthwise", "residual", "pool", "max", "concat", "affine", "pad"])
        )
        if kind == "conv":
            attrs = {"group": draw(st.sampled_from([1, 2]))}
            value = net.conv(coded, (width, width // attrs["group"], 3, 3), **attrs)
        elif kind == "depthwise":
            value = net.conv(coded, (width, 1, 3, 3), group=width)
        elif kind == "residual":
            branch = net.conv(coded, (width, width, 1, 1))
            other = draw(st.sampled_from(["spikes", "shortcut", "both"]))
            partner = coded if other != "shortcut" else net.conv(coded, (width, width, 3, 3))
            value = net.op(draw(st.sampled_from(["Add", "Sub"])), [branch, partner])
            if other == "both":
                value = net.op("Add", [net.conv(coded, (width, width, 1, 1)), value])
        elif kind == "pool":
            pads = draw(st.sampled_from([0, 1]))
            include = draw(st.sampled_from([0, 1]))
            coded = (
                net.op(
                    "AveragePool", [coded], kernel_shape=[3, 3], pads=[pads] * 4, count_include_pad=include
                )
                if draw(st.booleans())
                else net.op("AveragePool", [coded], kernel_shape=[2, 2])
            )
            value = coded
        elif kind == "max":
            value = net.conv(coded, (width, width, 1, 1)) if draw(st.booleans()) else coded
            value = net.op("MaxPool", [value], kernel_shape=[2, 2], pads=[1, 1, 1, 1])
        elif kind == "concat":
            parts = [net.conv(coded, (2, width, 1, 1)), net.conv(coded, (2, width, 3, 3))]
            value = net.op("Concat", parts, axis=1)
        elif kind == "affine":
            value = grow.affine(net.conv(coded, (width, width, 3, 3)), (width, 1, 1))
        else:
            widths = net.const([0, 0, 1, 0, 0, 0, 0, 1], np.int64)
            value = net.conv(net.op("Pad", [coded, widths]), (width, width, 2, 2), pads=[0] * 4)
        coded = grow.code(grow.activation(value), (width, 1, 1))
    pooled = net.op("GlobalAveragePool", [coded])
    if draw(st.booleans()):
        pooled = grow.code(pooled)
    logits = net.matmul(net.op("Flatten", [pooled]), (width, 3))
    net.output(net.op("Add", [logits, net.const(net.normal(3))]))
    return net, partition


@st.composite
def sequences(draw: st.DrawFn, make: Any) -> Any:
    """A transformer without softmax: (N, T, D) to logits."""
    net = make(draw(st.integers(0, 2**16)))
    partition = draw(st.sampled_from(["interleaved", "contiguous"]))
    grow = Grower(draw, net, partition)
    tokens, width, heads = draw(st.integers(2, 4)), 4, draw(st.sampled_from([1, 2]))
    stream = net.matmul(net.input(["N", tokens, 3]), (3, width))
    if draw(st.booleans()):
        stream = net.op("Add", [stream, net.const(net.normal(1, tokens, width))])
    for _ in range(draw(st.integers(1, 2))):
        coded = grow.code(stream, (width,))
        if draw(st.booleans()):
            split = net.const([-1, tokens, heads, width // heads], np.int64)
            q, k, v = (
                net.op(
                    "Transpose",
                    [net.op("Reshape", [grow.code(net.matmul(coded, (width, width))), split])],
                    perm=p,
                )
                for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
            )
            scores = net.op("Mul", [net.op("MatMul", [q, k]), net.const((width // heads) ** -0.5)])
            mixed = net.op("MatMul", [grow.code(scores, signed=False), v])
            mixed = net.op("Transpose", [mixed], perm=[0, 2, 1, 3])
            mixed = net.op("Reshape", [mixed, net.const([-1, tokens, width], np.int64)])
            branch = net.matmul(grow.code(mixed), (width, width))
        else:
            hidden = grow.code(grow.activation(net.matmul(coded, (width, 6))), (6,))
            branch = net.op("Add", [net.matmul(hidden, (6, width)), net.const(net.normal(width))])
        stream = net.op("Add", [stream, branch])
    coded = grow.code(stream)
    net.output(net.matmul(net.op("ReduceMean", [coded], axes=[1], keepdims=0), (width, 3)), coded)
    return net, partition


def check(data: st.DataObject, networks: Any, net: Any, agree: Any, near_tie: Any) -> None:
    made, partition = data.draw(networks(net))
    weights = data.draw(st.sampled_from(["int8", "int4", "int16", "wide"]))
    feeds = made.feeds(batch=3, spread=data.draw(st.sampled_from([0.1, 1.0, 30.0])))
    try:
        # Readouts in float32 of large sums with a large bias lose more than single ones.
        agree(made, feeds, levels=LEVELS, weights=weights, partition=partition, tolerance=1e-4)
    except near_tie:
        reject()
    except UnsupportedError as error:
        if error.code not in DO_NOT_FIT:
            raise
        reject()


@searching(12)
@given(st.data())
def test_convolutional_networks(net: Any, agree: Any, near_tie: Any, data: st.DataObject) -> None:
    check(data, images, net, agree, near_tie)


@searching(8)
@given(st.data())
def test_attention_networks(net: Any, agree: Any, near_tie: Any, data: st.DataObject) -> None:
    check(data, sequences, net, agree, near_tie)


@pytest.mark.slow
@pytest.mark.parametrize("networks", [images, sequences], ids=["images", "sequences"])
@searching(300)
@given(data=st.data())
def test_many_networks(net: Any, agree: Any, near_tie: Any, networks: Any, data: st.DataObject) -> None:
    check(data, networks, net, agree, near_tie)
