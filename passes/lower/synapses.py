"""Synapses as kernels: products of spikes with weights and held codes, convolutions, pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.cost.events import most_spikes
from snnc.errors import SnncError
from snnc.ir import AI_SNNC, Node, Value, attributes
from snnc.passes.lower.builder import Builder, machine_type, over
from snnc.passes.lower.kernels import Halo, Kernel, Operand, View
from snnc.passes.lower.views import pad_rank

__all__ = ["conv", "matmul", "pool", "steps_of"]

Array = npt.NDArray[Any]
_POOL = ("sum", "max", "min")


def steps_of(limits: tuple[int, int]) -> int:
    """Return the bits of the largest magnitude in a range: the time-steps in which it is sent."""
    return max(1, max(abs(limits[0]), abs(limits[1])).bit_length())


def _spikes(node: Node, index: int, steps: int) -> dict[str, float]:
    """Return the most spikes of one wire, and their mean over the codes of its book.

    Merged wires go on as plain binary numbers: any of their bits may be set.
    """
    try:
        most = min(steps, most_spikes(node.inputs[index]))
    except SnncError:
        return {"spikes": steps, "mean": steps / 2}
    book = book_behind(node.inputs[index])
    return {"spikes": most, "mean": steps / 2 if book is None else float(book.spikes.mean())}


def book_behind(value: Value | None) -> CodeBook | None:
    """Return the book of the neuron that a value comes from through layout ops alone, or None."""
    while value is not None and (node := value.producer()) is not None:
        attrs = attributes(node)
        if node.domain == AI_SNNC:
            return CodeBook.from_attributes(attrs) if {"timesteps", "groups"} <= set(attrs) else None
        value = node.inputs[0] if node.inputs else None
    return None


def matmul(build: Builder, node: Node, x: View, rhs: View, out: View, limits: tuple[int, int]) -> None:
    """Add ``out = x rhs``; leading axes of either broadcast.

    Args:
        build: Where kernels go.
        node: The node.
        x: Spikes, (..., M, K).
        rhs: Weights or held codes, (..., K, N).
        out: Membranes, (..., M, N).
        limits: Range of the spikes.
    """
    rank = len(out.shape)
    lead = tuple(range(rank - 1))
    left, right = pad_rank(x, rank), pad_rank(rhs, rank)
    steps = steps_of(limits)
    kernel = Kernel(
        "SMM",
        node.name or "",
        out.buffer.name,
        (
            Operand("acc", out, (*lead, rank - 1)),
            Operand("lhs", left, (*lead, "inner")),
            Operand("rhs", right, (*lead[:-1], "inner", rank - 1)),
        ),
        {"t": steps, "add": 0, "sub": 0},
        complete=True,
        inner=x.shape[-1],
        tails={"acc": 1, "lhs": 1, "rhs": 2},
        **_spikes(node, 0, steps),  # type: ignore[arg-type]
    )
    build.add(node.name or "", out.shape, [kernel])


def _halos(attrs: Mapping[str, Any], kernel: Sequence[int], source: View) -> tuple[Halo, ...]:
    """Return how a window slides over the axes behind the channels."""
    rank = len(kernel)
    step = list(attrs.get("strides") or [1] * rank)
    pad = list(attrs.get("pads") or [0] * (2 * rank))[:rank]
    gap = list(attrs.get("dilations") or [1] * rank)
    return tuple(
        Halo(axis + 2, kernel[axis], step[axis], pad[axis], gap[axis], source.shape[axis + 2])
        for axis in range(rank)
    )


def conv(
    build: Builder,
    node: Node,
    x: View,
    weights: Array,
    out: View,
    attrs: Mapping[str, Any],
    limits: tuple[int, int],
) -> None:
    """Add a convolution of spikes with weights, (O, C / group, *kernel)."""
    halos = _halos(attrs, weights.shape[2:], x)
    group = int(attrs.get("group", 1))
    dtype = machine_type(weights, node.name)
    per, inputs = weights.shape[0] // group, weights.shape[1]
    steps = steps_of(limits)
    name = node.name or ""
    every = tuple(range(len(out.shape)))
    whole = group == 1 or (per == 1 and inputs == 1)

    def emit(form: str, acc: View, inp: View, array: Array, inner: int) -> None:
        channel, last = (1, (1,)) if form == "SDWC" else ("inner", ("inner", 1))
        held = build.constant(f"{name}.weights", array, dtype, "WMEM")
        item = Kernel(
            form,
            name,
            out.buffer.name,
            (
                Operand("acc", acc, every),
                Operand("inp", inp, (0, channel, *halos)),
                Operand("w", held, (*(None for _ in halos), *last)),
            ),
            {"t": steps},
            complete=whole,
            inner=inner,
            **_spikes(node, 0, steps),  # type: ignore[arg-type]
        )
        build.add(name, acc.shape, [item])

    if inputs == 1 and group > 1:
        # Depthwise; several outputs a channel are as many depthwise convolutions, interleaved.
        for index in range(per):
            emit("SDWC", _channels(out, index, per, group), x, np.moveaxis(weights[index::per, 0], 0, -1), 1)
        return
    for index in range(group):
        acc = out if group == 1 else _channels(out, index * per, 1, per)
        inp = x if group == 1 else _channels(x, index * inputs, 1, inputs)
        array = np.moveaxis(weights[index * per : (index + 1) * per], (0, 1), (-1, -2))
        emit("SCONV", acc, inp, array, inputs)


def _channels(view: View, first: int, every: int, count: int) -> View:
    """Return some channels."""
    shape, strides = list(view.shape), list(view.strides)
    offset = view.offset + first * strides[1]
    shape[1], strides[1] = count, strides[1] * every
    return View(view.buffer, offset, tuple(shape), tuple(strides))


def pool(build: Builder, node: Node, x: View, out: View, attrs: Mapping[str, Any], function: str) -> None:
    """Add a pooling; ``function`` is ``sum`` or ``max``."""
    halos = _halos(attrs, attrs["kernel_shape"], x)
    kernel = Kernel(
        "POOL",
        node.name or "",
        out.buffer.name,
        (over("dst", out, len(out.shape)), Operand("src", x, (0, 1, *halos))),
        {"f": _POOL.index(function)},
        complete=True,
    )
    build.add(node.name or "", out.shape, [kernel])
