"""Neurons, norms and membrane arithmetic as kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import Node
from snnc.ops.types import numpy_dtype
from snnc.passes.lower.builder import Builder, machine_type, over
from snnc.passes.lower.kernels import Kernel, Operand, View
from snnc.passes.lower.views import pad_rank

__all__ = ["constant_or_view", "copy", "fill", "neuron", "norm_gain", "norm_potential", "pointwise", "reduce"]

Array = npt.NDArray[Any]
_ALU = ("add", "sub", "max", "min")
_RED = ("sum", "max", "min", "squares")
_IMMEDIATE = 1 << 32


def pointwise(
    build: Builder,
    node: str,
    form: str,
    out: View,
    operands: Mapping[str, View],
    fields: Mapping[str, int] | None = None,
    *,
    complete: bool = True,
    spikes: int = 0,
) -> None:
    """Add one instruction that treats every element alike; operands broadcast."""
    build.add(node, out.shape, [element(node, form, out, operands, fields, complete=complete, spikes=spikes)])


def element(
    node: str,
    form: str,
    out: View,
    operands: Mapping[str, View],
    fields: Mapping[str, int] | None = None,
    *,
    complete: bool = True,
    spikes: int = 0,
) -> Kernel:
    """Return the kernel of `pointwise`."""
    rank = len(out.shape)
    items = (over("dst", out, rank), *(over(name, view, rank) for name, view in operands.items()))
    return Kernel(form, node, out.buffer.name, items, dict(fields or {}), complete=complete, spikes=spikes)


def with_immediate(view: View, value: int) -> tuple[dict[str, View], dict[str, int]]:
    """Return operands and fields of an instruction whose last operand is a number."""
    return {"a": view, "b": view}, {"useimm": 1, "imm": value}


def constant_or_view(
    build: Builder, node: str, source: View | Array, rank: int, order: tuple[int, ...]
) -> View | int:
    """Return an operand as a view, as a constant in memory, or as a number where it is only one."""
    if isinstance(source, View):
        return source
    flat = source.reshape(-1)
    if flat.size and (flat == flat[0]).all() and abs(int(flat[0])) < _IMMEDIATE:
        return int(flat[0])
    padded = source.reshape((1,) * (rank - source.ndim) + source.shape)
    return build.constant(f"{node}.constant", padded, machine_type(source, node), "TMEM", order)


def copy(build: Builder, node: str, out: View, source: View, *, complete: bool = True) -> None:
    """Add a move."""
    pointwise(build, node, "MOV", out, {"src": source}, complete=complete)


def fill(build: Builder, node: str, out: View, value: int, *, complete: bool = True) -> None:
    """Add a fill."""
    pointwise(build, node, "FILL", out, {}, {"imm": value}, complete=complete)


def _moved(view: View, axis: int) -> tuple[View, tuple[int, ...]]:
    """Return a view with one axis put last, and where its axes were."""
    axes = (*(i for i in range(len(view.shape)) if i != axis), axis)
    return (
        View(
            view.buffer, view.offset, tuple(view.shape[i] for i in axes), tuple(view.strides[i] for i in axes)
        ),
        axes,
    )


def reduction(
    node: str, out: View, source: View, axis: int, function: str, *, complete: bool = True
) -> Kernel:
    """Return the kernel that joins an axis; ``out`` keeps it with extent 1."""
    source_view, axes = _moved(source, axis)
    out_view, _ = _moved(out, axis)
    return Kernel(
        "RED",
        node,
        out.buffer.name,
        (Operand("dst", out_view, axes), Operand("src", source_view, axes)),
        {"f": _RED.index(function)},
        complete=complete,
        tails={"dst": 1, "src": 1},
    )


def reduce(
    build: Builder,
    node: str,
    out: View,
    source: View,
    axes: Sequence[int],
    function: str,
    *,
    complete: bool = True,
) -> None:
    """Add the sum, maximum or minimum over some axes; ``out`` keeps them with extent 1."""
    ordered = sorted(axes)
    for place, axis in enumerate(reversed(ordered)):
        last = place == len(ordered) - 1
        shape = tuple(1 if i == axis else n for i, n in enumerate(source.shape))
        target = (
            out
            if last
            else build.fresh(f"{out.buffer.name}.part{axis}", shape, out.buffer.dtype, source.order())
        )
        build.add(
            node,
            source.shape,
            [reduction(node, target, source, axis, function, complete=last and complete)],
            fixed=(axis,),
        )
        source = target


def neuron(
    build: Builder,
    node: Node,
    v: View,
    gain: View | None,
    thresholds: Array,
    rows: Array,
    out: View,
    attrs: Mapping[str, Any],
) -> None:
    """Add ExpG-IF: thresholds of each element's row, the codes of the intervals, perhaps a gain."""
    name, rank = node.name or "", len(v.shape)
    codes = np.asarray(attrs["codes"], dtype=np.int64)
    kept = len(codes) - 1
    if kept == 0:
        fill(build, name, out, int(codes[0]))
        return
    placed = rows.reshape((1,) * (rank - rows.ndim) + rows.shape)
    if thresholds.shape[0] == 1:
        placed = np.zeros((1,) * rank, dtype=np.int64)
    table = thresholds[placed][..., :kept]
    thr = build.constant(f"{name}.thresholds", table, "i32", "TMEM", (*v.order(), rank))
    lut = build.constant(
        f"{name}.codes", codes.astype(numpy_dtype(attrs["code_type"])), out.buffer.dtype, "TMEM"
    )
    axes = tuple(range(rank))
    items = [over("dst", out, rank), over("src", v, rank)]
    items += [Operand("thr", thr, (*axes, None)), Operand("lut", lut, (None,))]
    fields = {}
    if gain is not None:
        items.append(over("gain", gain, rank))
        fields["f"] = int(attrs["fraction_bits"])
    book = CodeBook.from_attributes(dict(attrs))
    kernel = Kernel(
        "FIRE" if gain is None else "FIREG",
        name,
        out.buffer.name,
        tuple(items),
        fields,
        complete=True,
        tails={"thr": 1, "lut": 1},
        steps=book.timesteps,
    )
    build.add(name, v.shape, [kernel])


def norm_potential(
    build: Builder, node: str, r: View, sign: Array, out: View, axes: Sequence[int], centred: bool
) -> None:
    """Add ``sign * (C r - sum of r)``."""
    count = prod(r.shape[axis] for axis in axes)
    mirrored = bool((sign < 0).any())
    scaled = build.fresh(f"{node}.scaled", r.shape, "i64", r.order())
    upright = build.fresh(f"{node}.upright", r.shape, "i64", r.order()) if mirrored else out
    kernels: list[Kernel] = []
    operands, fields = with_immediate(r, count)
    times = scaled if centred else upright
    kernels.append(element(node, "SHA", times, operands, fields, complete=times is out))
    if centred:
        total = _joined(build, node, kernels, r, axes, "sum")
        kernels.append(
            element(
                node,
                "VALU",
                upright,
                {"a": scaled, "b": total},
                {"f": _ALU.index("sub"), "useimm": 0, "imm": 0},
                complete=upright is out,
            )
        )
    if mirrored:
        spread = sign.reshape((1,) * (len(r.shape) - sign.ndim) + sign.shape)
        held = build.constant(f"{node}.sign", spread.astype(np.int8), "i8", "TMEM", r.order())
        kernels.append(element(node, "SHA", out, {"a": upright, "b": held}, {"useimm": 0, "imm": 0}))
    build.add(node, r.shape, kernels, fixed=axes)


def norm_gain(
    build: Builder, node: str, r: View, out: View, axes: Sequence[int], centred: bool, epsilon: int
) -> None:
    """Add ``max(1, isqrt(C sum of r^2 - (sum of r)^2 + epsilon))``."""
    count = prod(r.shape[axis] for axis in axes)
    kernels: list[Kernel] = []

    def new(suffix: str) -> View:
        return build.fresh(f"{node}.{suffix}", out.shape, "i64", out.order())

    squares = _joined(build, node, kernels, r, axes, "squares")
    radicand = new("weighted")
    kernels.append(element(node, "SHA", radicand, *with_immediate(squares, count), complete=False))
    if centred:
        total = _joined(build, node, kernels, r, axes, "sum")
        mean, spread = new("mean"), new("spread")
        kernels.append(reduction(node, mean, total, max(axes), "squares", complete=False))
        fields = {"f": _ALU.index("sub"), "useimm": 0, "imm": 0}
        kernels.append(element(node, "VALU", spread, {"a": radicand, "b": mean}, fields, complete=False))
        radicand = spread
    if epsilon:
        raised = new("raised")
        operands, imm = with_immediate(radicand, epsilon)
        kernels += _add_large(build, node, raised, operands, imm, epsilon, out)
        radicand = raised
    kernels.append(element(node, "ISQRT", out, {"a": radicand}))
    build.add(node, r.shape, kernels, fixed=axes)


def _add_large(
    build: Builder,
    node: str,
    raised: View,
    operands: dict[str, View],
    imm: dict[str, int],
    epsilon: int,
    out: View,
) -> list[Kernel]:
    """Return the kernels that add a constant, which may be wider than an immediate."""
    if abs(epsilon) < _IMMEDIATE:
        return [element(node, "VALU", raised, operands, {"f": 0, **imm}, complete=False)]
    held = build.constant(f"{node}.epsilon", np.full((1,) * len(out.shape), epsilon, np.int64), "i64", "TMEM")
    fields = {"f": 0, "useimm": 0, "imm": 0}
    return [element(node, "VALU", raised, {"a": operands["a"], "b": held}, fields, complete=False)]


def _joined(
    build: Builder, node: str, kernels: list[Kernel], source: View, axes: Sequence[int], function: str
) -> View:
    """Append kernels that join some axes in 64 bits; return what keeps them with extent 1."""
    for axis in sorted(axes, reverse=True):
        shape = tuple(1 if i == axis else n for i, n in enumerate(source.shape))
        target = build.fresh(f"{node}.{function}{axis}", shape, "i64", source.order())
        kernels.append(reduction(node, target, source, axis, function, complete=False))
        source, function = target, "sum" if function == "squares" else function
    return pad_rank(source, len(source.shape))
