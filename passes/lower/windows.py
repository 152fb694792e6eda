"""One tile of a convolution or a pool as instructions, whatever its axes, extents, steps and paddings.

An instruction slides a window over two axes, in numbers of eight or nine bits. A window over more axes, or a
larger one, is the sum (or the maximum) of smaller ones that go on from what the instructions before left. A
single element of a window is a stride: it needs none of the fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from snnc.isa.program import DTYPE_OF
from snnc.isa.table import FORMS
from snnc.passes.lower.folding import WIDEST, Axis, Lowered, Ref, common_axes, fold, loops
from snnc.passes.lower.kernels import Box, Halo, Kernel, View

__all__ = ["WINDOWS", "windows"]

WINDOWS = frozenset({"SCONV", "SDWC", "POOL"})
"""Instructions that slide a window."""

_LIMITS = {item.name: item.high for item in FORMS["POOL"].fields}


@dataclass(frozen=True)
class _Piece:
    """Some elements of a window along one axis, and the outputs that see any of them.

    Attributes:
        begin: First output.
        count: Outputs.
        start: First input.
        extent: Inputs.
        first: First element of the window.
        size: Elements.
        step: Inputs from one output to the next.
        pad: Inputs that are missing before the first.
        gap: Inputs from one element to the next.
        whole: Whether every output of its part of the axis sees an element.
    """

    begin: int
    count: int
    start: int
    extent: int
    first: int
    size: int
    step: int
    pad: int
    gap: int
    whole: bool = False

    @property
    def stride(self) -> int:
        """Inputs from one output to the next, where the piece is a single element."""
        return self.step if self.size == 1 else 1


@dataclass(frozen=True)
class _Slide:
    """How a window slides along one axis of a tile."""

    outputs: int
    inputs: int
    kernel: int
    step: int
    pad: int
    gap: int

    def parts(self, native: bool, pooled: bool) -> list[list[_Piece]]:
        """Return the pieces of the window for each part of the outputs, one that all of them see first.

        Args:
            native: Whether the instruction slides along the axis; else each element is a piece.
            pooled: Whether the window's extent is a field and nothing must not be seen.
        """
        plans = []
        longest = max(1, (WIDEST - 1 - (self.kernel - 1) * self.gap) // self.step + 1)
        for size, chunk in ((self._most(pooled) if native else 1, longest), (self._most(pooled, 1), 1)):
            if chunk == 1 and not native:
                continue
            plans.append(
                [
                    self._pieces(begin, min(self.outputs, begin + chunk), size, pooled)
                    for begin in range(0, self.outputs, chunk)
                ]
            )
        return min(plans, key=lambda plan: sum(map(len, plan)))

    def _most(self, pooled: bool, step: int | None = None) -> int:
        """Return how many elements of the window one instruction takes."""
        taken = self.step if step is None else step
        if taken > _LIMITS["sy"] or self.gap > _LIMITS["dy"]:
            return 1
        limit = _LIMITS["kh"] if pooled else WIDEST
        if self.kernel <= limit and self.pad <= _LIMITS["pt"]:
            return self.kernel
        # A piece that any output sees lacks no more than its own reach, and a step, before the first input.
        return max(1, min(limit, (_LIMITS["pt"] - taken) // self.gap + 1))

    def _pieces(self, begin: int, end: int, size: int, pooled: bool) -> list[_Piece]:
        found = [
            piece
            for first in range(0, self.kernel, size)
            if (piece := self._piece(begin, end, first, min(size, self.kernel - first), pooled)) is not None
        ]
        found.sort(key=lambda piece: not piece.whole)
        return found

    def _piece(self, begin: int, end: int, first: int, size: int, pooled: bool) -> _Piece | None:
        shift = first * self.gap - self.pad
        low = max(begin, -((shift + (size - 1) * self.gap) // self.step))
        high = min(end - 1, (self.inputs - 1 - shift) // self.step)
        if high < low:
            return None
        start = low * self.step + shift
        last = high * self.step + shift + (size - 1) * self.gap
        whole = (low, high) == (begin, end - 1) and (
            size == 1 or not pooled or self._sees(low, high, first, size)
        )
        read = max(0, start)
        return _Piece(
            low,
            high - low + 1,
            read,
            min(self.inputs - 1, last) - read + 1,
            first,
            size,
            self.step if high > low else 1,
            read - start,
            self.gap if size > 1 else 1,
            whole,
        )

    def _sees(self, low: int, high: int, first: int, size: int) -> bool:
        """Whether each of some outputs sees one of some elements."""
        places = np.arange(low, high + 1) * self.step - self.pad
        seen = np.zeros(places.shape, np.bool_)
        for element in range(first, first + size):
            at = places + element * self.gap
            seen |= (at >= 0) & (at < self.inputs)
        return bool(seen.all())


def windows(kernel: Kernel, views: Sequence[View], box: Box, add: bool) -> Iterator[Lowered]:
    """Return the instructions of one tile.

    Args:
        kernel: A convolution or a pool.
        views: Its operands, cut to the tile: result, input, and weights if it has any; the window's axes of
            the weights come first.
        box: The tile: its part of the index space.
        add: Whether sums go on from what is there.
    """
    pooled = kernel.name == "POOL"
    halos = [axis for item in kernel.operands for axis in item.axes if isinstance(axis, Halo)]
    slides = [_slide(halo, box, views) for halo in halos]
    # The two axes along which the window is longest are the instruction's own.
    ranked = sorted(range(len(slides)), key=lambda axis: (slides[axis].kernel, axis))
    native = sorted(ranked[-2:])
    parts = [slide.parts(axis in native, pooled) for axis, slide in enumerate(slides)]
    if not add and not all(part and part[0].whole for axis in parts for part in axis):
        yield from _start(kernel, views[0])
        add = True
    for chosen in product(*parts):
        for number, pieces in enumerate(product(*chosen)):
            yield from _window(kernel, views, pieces, native, add or number > 0)


def _slide(halo: Halo, box: Box, views: Sequence[View]) -> _Slide:
    axis = halo.axis
    return _Slide(
        views[0].shape[axis],
        views[1].shape[axis],
        halo.kernel,
        halo.stride,
        halo.pad_of(*box[axis]),
        halo.dilation,
    )


def _start(kernel: Kernel, result: View) -> Iterator[Lowered]:
    """Write what a window that sees nothing gives: sums are 0, and everything beats the least number."""
    least = int(np.iinfo(DTYPE_OF[result.buffer.dtype]).min) if kernel.fields.get("f") else 0
    axes = tuple(range(len(result.shape)))
    for place in _folded(result, common_axes([result], [axes], len(axes), result)):
        yield Lowered("FILL", {"dst": place}, {"imm": least})


def _folded(view: View, axes: list[Axis]) -> Iterator[Ref]:
    held, unrolled = loops(fold(axes), 4)
    for piece in product(*unrolled):
        offset = view.offset + sum(at * axis.strides[0] for (at, _), axis in zip(piece, held, strict=True))
        dims = [(extent, axis.strides[0]) for (_, extent), axis in zip(piece, held, strict=True)][-4:]
        yield _ref(view, offset, [(1, 0)] * (4 - len(dims)) + dims)


def _window(
    kernel: Kernel, views: Sequence[View], pieces: Sequence[_Piece], native: Sequence[int], add: bool
) -> Iterator[Lowered]:
    """Return the instructions of one piece along each axis; the batch takes what axes are left."""
    result, source = views[0], views[1]
    offsets = [result.offset, source.offset]
    outer = [Axis(result.shape[0], [result.strides[0], source.strides[0]])]
    inner: list[list[tuple[int, int]]] = [[], []]
    fields = {**kernel.fields, "add": int(add)}
    for axis, piece in enumerate(pieces):
        steps = result.strides[axis + 2], source.strides[axis + 2]
        offsets[0] += piece.begin * steps[0]
        offsets[1] += piece.start * steps[1]
        if axis in native:
            inner[0].append((piece.count, steps[0]))
            inner[1].append(
                (piece.count, steps[1] * piece.stride) if piece.size == 1 else (piece.extent, steps[1])
            )
        else:
            outer.append(Axis(piece.count, [steps[0], steps[1] * piece.stride]))
    own = [pieces[axis] for axis in native]
    for names, values in zip((("sy", "pt", "dy"), ("sx", "pl", "dx")), _numbers(own), strict=True):
        fields.update(zip(names, values, strict=True))
    if kernel.name == "POOL":
        fields["kh"], fields["kw"] = ([1, 1] + [piece.size for piece in own])[-2:]
    weights = None if len(views) < 3 else _weights(kernel, views[2], pieces, native)
    outer.sort(key=lambda axis: -abs(axis.strides[0]))
    held, unrolled = loops(fold([axis for axis in outer if axis.extent > 1]), 1)
    for at in product(*unrolled):
        refs: dict[str, Ref] = {}
        for index, item in enumerate(kernel.operands[:2]):
            view = views[index]
            offset = offsets[index] + sum(
                b * axis.strides[index] for (b, _), axis in zip(at, held, strict=True)
            )
            batch = [(extent, axis.strides[index]) for (_, extent), axis in zip(at, held, strict=True)][-1:]
            rows = [(1, 0)] * (2 - len(inner[index])) + inner[index]
            channel = (view.shape[1], view.strides[1])
            refs[item.field] = _ref(view, offset, [*(batch or [(1, 0)]), *rows, channel])
        if weights is not None:
            refs[kernel.operands[2].field] = weights
        yield Lowered(kernel.name, refs, fields)


def _numbers(own: Sequence[_Piece]) -> list[tuple[int, int, int]]:
    """Return step, padding and spacing of rows and columns."""
    found = [(1, 0, 1) if piece.size == 1 else (piece.step, piece.pad, piece.gap) for piece in own]
    return [(1, 0, 1)] * (2 - len(found)) + found


def _weights(kernel: Kernel, view: View, pieces: Sequence[_Piece], native: Sequence[int]) -> Ref:
    """Return the weights of one piece along each axis."""
    offset = view.offset + sum(
        piece.first * stride for piece, stride in zip(pieces, view.strides, strict=False)
    )
    rows = [(pieces[axis].size, view.strides[axis]) for axis in native]
    tail = list(zip(view.shape, view.strides, strict=True))[len(pieces) :]
    return _ref(view, offset, [(1, 0)] * (4 - len(rows) - len(tail)) + rows + tail)


def _ref(view: View, offset: int, dims: Sequence[tuple[int, int]]) -> Ref:
    return Ref(view.buffer, offset, tuple(n for n, _ in dims), tuple(s if n > 1 else 0 for n, s in dims))
