"""Random networks of codes: quantisers everywhere, every tensor coded before a product reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnc.coding import CodeBook
from tests.campaign.floats import Choose


@dataclass
class Grower:
    """Grows a network op by op, as drawn; every tensor is coded before a product reads it."""

    choose: Choose
    net: Any
    partition: str
    made: list[str] = field(default_factory=list)

    def one_of(self, options: Sequence[Any]) -> Any:
        """Draw one of several."""
        return options[self.choose(0, len(options) - 1)]

    def book(self, signed: bool | None = None) -> tuple[CodeBook, str]:
        timesteps = self.choose(1, 8)
        groups = self.choose(1, timesteps)
        signed = bool(self.choose(0, 1)) if signed is None else signed
        book = CodeBook(timesteps, groups, self.partition, signed)  # type: ignore[arg-type]
        if self.choose(0, 3) == 0:  # some ranges are narrower, one-sided for signed ones
            low, high = sorted(self.choose(0, book.levels - 1) for _ in range(2))
            if high > low and 0 in book.codes[low : high + 1]:
                book = book.restricted(int(book.codes[low]), int(book.codes[high]))
        ties = ["away", "up", "even"] if book.is_uniform else ["away", "up"]
        return book, self.one_of(ties)

    def code(self, value: str, channels: tuple[int, ...] | None = None, signed: bool | None = None) -> str:
        """A neuron; its step is one number, or one for each channel."""
        book, ties = self.book(signed)
        step = np.float32(self.one_of([0.05, 0.11, 0.25, 0.5, 2.0**-6, 1.3]))
        if channels is not None and self.choose(0, 2) == 0:
            step = (step * self.net.random.uniform(0.5, 2, channels)).astype(np.float32)
        return str(self.net.quantise(value, step, book, ties=ties))

    def activation(self, value: str) -> str:
        if self.choose(0, 3) == 0:
            value = self.net.op("Relu", [value])
        return value

    def affine(self, value: str, shape: tuple[int, ...]) -> str:
        """A batch normalisation that could not be folded: factors of both signs, or dead."""
        factors = self.net.random.uniform(0.3, 2, shape) * self.net.random.choice([-1, 1, 1, 0], shape)
        value = self.net.op("Mul", [value, self.net.const(factors)])
        return str(self.net.op("Add", [value, self.net.const(self.net.normal(*shape))]))


def images(choose: Choose, make: Any) -> tuple[Any, str]:
    """A convolutional network: (N, C, H, W) to logits."""
    net = make(choose(0, 2**16))
    partition = ["interleaved", "contiguous"][choose(0, 1)]
    grow = Grower(choose, net, partition)
    channels, side = choose(1, 3), choose(4, 7)
    x = net.input(["N", channels, side, side])
    width = 4
    if choose(0, 1):
        stream = net.conv(x, (width, channels, 3, 3), bias=bool(choose(0, 1)))
    else:
        stream = net.conv(grow.code(x, (channels, 1, 1)), (width, channels, 3, 3))
    coded = grow.code(grow.activation(stream), (width, 1, 1))
    for _ in range(choose(1, 3)):
        kind = grow.one_of(["conv", "depthwise", "residual", "pool", "max", "concat", "affine", "pad"])
        if kind == "conv":
            attrs = {"group": grow.one_of([1, 2])}
            value = net.conv(coded, (width, width // attrs["group"], 3, 3), **attrs)
        elif kind == "depthwise":
            value = net.conv(coded, (width, 1, 3, 3), group=width)
        elif kind == "residual":
            branch = net.conv(coded, (width, width, 1, 1))
            other = grow.one_of(["spikes", "shortcut", "both"])
            partner = coded if other != "shortcut" else net.conv(coded, (width, width, 3, 3))
            value = net.op(grow.one_of(["Add", "Sub"]), [branch, partner])
            if other == "both":
                value = net.op("Add", [net.conv(coded, (width, width, 1, 1)), value])
        elif kind == "pool":
            pads = grow.one_of([0, 1])
            include = grow.one_of([0, 1])
            coded = (
                net.op(
                    "AveragePool", [coded], kernel_shape=[3, 3], pads=[pads] * 4, count_include_pad=include
                )
                if bool(choose(0, 1))
                else net.op("AveragePool", [coded], kernel_shape=[2, 2])
            )
            value = coded
        elif kind == "max":
            value = net.conv(coded, (width, width, 1, 1)) if choose(0, 1) else coded
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
    if choose(0, 1):
        pooled = grow.code(pooled)
    logits = net.matmul(net.op("Flatten", [pooled]), (width, 3))
    net.output(net.op("Add", [logits, net.const(net.normal(3))]))
    return net, partition


def sequences(choose: Choose, make: Any) -> tuple[Any, str]:
    """A transformer without softmax: (N, T, D) to logits."""
    net = make(choose(0, 2**16))
    partition = ["interleaved", "contiguous"][choose(0, 1)]
    grow = Grower(choose, net, partition)
    tokens, width, heads = choose(2, 4), 4, grow.one_of([1, 2])
    stream = net.matmul(net.input(["N", tokens, 3]), (3, width))
    if choose(0, 1):
        stream = net.op("Add", [stream, net.const(net.normal(1, tokens, width))])
    for _ in range(choose(1, 2)):
        coded = grow.code(stream, (width,))
        if choose(0, 1):
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
