"""Synapses as kernels: products of spikes with weights and held codes, convolutions, pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.cost.events import most_spikes
from snnc.errors import SnncError, UnsupportedError, Where
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


def weights_bound(weights: Array, limits: tuple[int, int], axes: tuple[int, ...]) -> tuple[int, int]:
    """Return the range of sums of inputs times weights, the weights of a sum being along some axes."""
    wide = weights.astype(np.int64)
    up, down = np.maximum(wide, 0).sum(axis=axes), np.minimum(wide, 0).sum(axis=axes)
    high = int((up * limits[1] + down * limits[0]).max(initial=0))
    return int((up * limits[0] + down * limits[1]).min(initial=0)), high


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


def _square(view: View, node: Node) -> View:
    """Return a tensor of channels with two spatial axes.

    Raises:
        UnsupportedError: SNN473, it has more.
    """
    rank = len(view.shape)
    if rank == 4:
        return view
    if rank == 3:
        shape, strides = view.shape, view.strides
        return View(view.buffer, view.offset, (*shape[:2], 1, shape[2]), (*strides[:2], 0, strides[2]))
    raise UnsupportedError(
        "SNN473", f"windows over {rank - 2} axes have no instruction", where=Where(node=node.name)
    )


def _window(
    attrs: Mapping[str, Any], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return kernel, steps, paddings before and spacings over two axes."""
    rank = len(kernel)
    lists = [
        list(kernel),
        list(attrs.get("strides") or [1] * rank),
        list(attrs.get("pads") or [0] * (2 * rank))[:rank],
        list(attrs.get("dilations") or [1] * rank),
    ]
    if rank == 1:
        lists = [[1, lists[0][0]], [1, lists[1][0]], [0, lists[2][0]], [1, lists[3][0]]]
    return lists[0], lists[1], lists[2], lists[3]


def _fields(step: Sequence[int], gap: Sequence[int]) -> dict[str, int]:
    return {"sy": step[0], "sx": step[1], "pt": 0, "pl": 0, "dy": gap[0], "dx": gap[1]}


def _check(node: Node, *numbers: int) -> None:
    if max(numbers) > 256:
        raise UnsupportedError(
            "SNN473", "a window has extents, steps and spacings of 256 at most", where=Where(node=node.name)
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
    """Add a convolution of spikes with weights, (O, C / group, *kernel), one or two spatial axes."""
    size, step, pad, gap = _window(attrs, weights.shape[2:])
    _check(node, *size, *step, *gap)
    source, target = _square(x, node), _square(out, node)
    group = int(attrs.get("group", 1))
    dtype = machine_type(weights, node.name)
    kernel = weights.reshape(*weights.shape[:2], *size)
    per = weights.shape[0] // group
    steps = steps_of(limits)
    tail = {"t": steps, "add": 0}
    halos = tuple(
        Halo(axis + 2, size[axis], step[axis], pad[axis], gap[axis], source.shape[axis + 2])
        for axis in (0, 1)
    )
    name = node.name or ""
    whole = group == 1 or (per == 1 and weights.shape[1] == 1)

    def emit(form: str, acc: View, inp: View, array: Array, mapped: tuple[Any, ...], inner: int) -> None:
        channel: int | str = 1 if form == "SDWC" else "inner"
        held = build.constant(f"{name}.weights", array, dtype, "WMEM")
        item = Kernel(
            form,
            name,
            out.buffer.name,
            (
                Operand("acc", acc, (0, 1, 2, 3)),
                Operand("inp", inp, (0, channel, *halos)),
                Operand("w", held, mapped),
            ),
            {**_fields(step, gap), **tail},
            complete=whole and len(out.shape) == 4,
            inner=inner,
            **_spikes(node, 0, steps),  # type: ignore[arg-type]
        )
        build.add(name, acc.shape, [item])

    if weights.shape[1] == 1 and group > 1:
        # Depthwise; several outputs a channel are as many depthwise convolutions, interleaved.
        for index in range(per):
            acc = _channels(target, index, per, group)
            array = kernel[index::per, 0].transpose(1, 2, 0)[None]
            emit("SDWC", acc, source, array, (None, None, None, 1), 1)
        return
    inputs = weights.shape[1]
    for index in range(group):
        acc = target if group == 1 else _channels(target, index * per, 1, per)
        inp = source if group == 1 else _channels(source, index * inputs, 1, inputs)
        array = kernel[index * per : (index + 1) * per].transpose(2, 3, 1, 0)
        emit("SCONV", acc, inp, array, (None, None, "inner", 1), inputs)


def _channels(view: View, first: int, every: int, count: int) -> View:
    """Return some channels."""
    shape, strides = list(view.shape), list(view.strides)
    offset = view.offset + first * strides[1]
    shape[1], strides[1] = count, strides[1] * every
    return View(view.buffer, offset, tuple(shape), tuple(strides))


def pool(build: Builder, node: Node, x: View, out: View, attrs: Mapping[str, Any], function: str) -> None:
    """Add a pooling; ``function`` is ``sum`` or ``max``."""
    size, step, pad, gap = _window(attrs, attrs["kernel_shape"])
    _check(node, *size, *step, *gap)
    source, target = _square(x, node), _square(out, node)
    halos = tuple(
        Halo(axis + 2, size[axis], step[axis], pad[axis], gap[axis], source.shape[axis + 2])
        for axis in (0, 1)
    )
    kernel = Kernel(
        "POOL",
        node.name or "",
        out.buffer.name,
        (over("dst", target, 4), Operand("src", source, (0, 1, *halos))),
        {"f": _POOL.index(function), "kh": size[0], "kw": size[1], **_fields(step, gap)},
        complete=len(out.shape) == 4,
    )
    build.add(node.name or "", target.shape, [kernel])
