"""One tile of a kernel as instructions: index spaces folded into the four axes of descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from snnc.isa.program import dense
from snnc.passes.lower.folding import WIDEST, Axis, Lowered, Ref, common_axes, fold, loops
from snnc.passes.lower.kernels import Box, Kernel, View
from snnc.passes.lower.windows import WINDOWS, windows

__all__ = ["instructions", "transfer"]


def _refs(
    views: Sequence[View],
    tails: Sequence[list[tuple[int, int]]],
    axes: list[Axis],
    kept: int,
    widths: Sequence[int],
) -> Iterator[list[Ref]]:
    """Iterate over the pieces; each gives one descriptor per operand.

    Args:
        views: Operands.
        tails: Trailing extents and strides of each operand, none of them looped over.
        axes: Common axes.
        kept: Common axes that a descriptor holds at most.
        widths: Descriptor axes before the tail, for each operand.
    """
    held, unrolled = loops(axes, kept)
    for piece in product(*unrolled):
        result = []
        for index, view in enumerate(views):
            offset = view.offset + sum(
                begin * axis.strides[index] for (begin, _), axis in zip(piece, held, strict=True)
            )
            dims = [(extent, axis.strides[index]) for (_, extent), axis in zip(piece, held, strict=True)]
            # A repeated element needs one stored element only, but keeps its extent.
            dims = dims[len(dims) - kept :] if len(dims) > kept else dims
            dims = [(1, 0)] * (widths[index] - len(dims)) + dims
            dims += tails[index]
            dims = [(1, 0)] * (4 - len(dims)) + dims
            shape, strides = tuple(n for n, _ in dims), tuple(s if n > 1 else 0 for n, s in dims)
            result.append(Ref(view.buffer, offset, shape, strides))
        yield result


def _tail(view: View, count: int) -> list[tuple[int, int]]:
    return list(zip(view.shape, view.strides, strict=True))[len(view.shape) - count :] if count else []


def instructions(kernel: Kernel, views: Sequence[View], box: Box, add: bool) -> Iterator[Lowered]:
    """Return the instructions of one tile of a kernel.

    Args:
        kernel: The kernel.
        views: Its operands, cut to the tile and moved to where they lie on the core.
        box: The tile: its part of the index space.
        add: Whether sums go on from what is there.
    """
    if kernel.name in WINDOWS:
        yield from windows(kernel, views, box, add)
        return
    names = [item.field for item in kernel.operands]
    fields, rank = dict(kernel.fields), len(box)
    if "add" in fields:
        fields["add"] = int(add)
    if kernel.name in ("HGET", "HPUT"):
        refs: Iterator[list[Ref]] = iter([[_all_of(views[0])]])
    elif kernel.name == "SMM":
        refs = _products(kernel, views, rank)
    else:
        refs = _elements(kernel, views, rank)
    for found in refs:
        held = dict(zip(names, found, strict=True))
        if kernel.name in ("VALU", "SHA") and fields["useimm"]:
            held["b"] = held["a"]
        if kernel.name == "SEL" and fields["zero"]:
            held["b"] = held["a"]
        yield Lowered(kernel.name, held, fields)


def _all_of(view: View) -> Ref:
    """Return a descriptor of all of a buffer, whose axes are joined as far as an extent allows."""
    shape = [1]
    for extent in reversed(view.shape):
        if shape[0] * extent <= WIDEST:
            shape[0] *= extent
        else:
            shape.insert(0, extent)
    padded = (1,) * (4 - len(shape)) + tuple(shape)
    return Ref(view.buffer, view.offset, padded, dense(padded))


def _elements(kernel: Kernel, views: Sequence[View], rank: int) -> Iterator[list[Ref]]:
    counts = [kernel.tails.get(item.field, 0) for item in kernel.operands]
    mapped = []
    for item, count in zip(kernel.operands, counts, strict=True):
        axes: list[object] = list(item.axes)
        axes[len(axes) - count :] = [None] * count
        mapped.append(axes)
    tails = [_tail(view, count) for view, count in zip(views, counts, strict=True)]
    if kernel.name == "LDX":
        # Rows and columns are the instruction's own axes.
        yield from _refs(views, tails, [], 0, [0] * len(views))
        return
    axes_ = fold(common_axes(views, mapped, rank, views[0]))
    kept = 4 - max(counts) if max(counts) else 4
    widths = [kept] * len(counts)
    if kernel.name in ("FIRE", "FIREG"):
        widths = [0 if item.field == "lut" else kept for item in kernel.operands]
        # The table of codes belongs to no element.
        yield from _with_table(views, tails, axes_, kept, widths, [item.field for item in kernel.operands])
        return
    yield from _refs(views, tails, axes_, kept, widths)


def _with_table(
    views: Sequence[View],
    tails: Sequence[list[tuple[int, int]]],
    axes: list[Axis],
    kept: int,
    widths: Sequence[int],
    names: Sequence[str],
) -> Iterator[list[Ref]]:
    place = names.index("lut")
    extent, stride = tails[place][0]
    table = Ref(
        views[place].buffer, views[place].offset, (1, 1, 1, extent), (0, 0, 0, stride if extent > 1 else 0)
    )
    for found in _refs(
        views, [[] if i == place else tail for i, tail in enumerate(tails)], axes, kept, widths
    ):
        found[place] = table
        yield found


def _products(kernel: Kernel, views: Sequence[View], rank: int) -> Iterator[list[Ref]]:
    acc, lhs, rhs = views
    lead = [list(item.axes) for item in kernel.operands]
    lead[0][-1:] = [None]
    lead[1][-1:] = [None]
    lead[2][-2:] = [None, None]
    axes = common_axes(views, lead, rank, acc)
    apart = fold([axis for axis in axes if axis.strides[2]])
    rows = fold([axis for axis in axes if not axis.strides[2]])
    tails = [_tail(acc, 1), _tail(lhs, 1), _tail(rhs, 2)]
    # Rows share the weights: one of their axes is the instruction's, others take the place of batches.
    joined = [*apart, *rows[:-1]]
    row = rows[-1:]
    held, unrolled = loops(joined, 2)
    pieces = row[0].extent if row else 1
    chunks = [(begin, min(WIDEST, pieces - begin)) for begin in range(0, pieces, WIDEST)]
    for piece in product(*unrolled):
        for begin, count in chunks:
            result = []
            for index, view in enumerate(views):
                stride = row[0].strides[index] if row else 0
                offset = view.offset + begin * stride
                offset += sum(at * axis.strides[index] for (at, _), axis in zip(piece, held, strict=True))
                dims = [(extent, axis.strides[index]) for (_, extent), axis in zip(piece, held, strict=True)]
                dims = dims[len(dims) - 2 :] if len(dims) > 2 else dims
                dims = [(1, 0)] * (2 - len(dims)) + dims
                if index < 2:
                    dims.append((count, stride))
                dims += tails[index]
                shape, strides = tuple(n for n, _ in dims), tuple(s if n > 1 else 0 for n, s in dims)
                result.append(Ref(view.buffer, offset, shape, strides))
            yield result


def transfer(name: str, target: View, source: View) -> Iterator[Lowered]:
    """Return the instructions that move a tile between DRAM and a core."""
    axes = tuple(range(len(target.shape)))
    folded = fold(common_axes([target, source], [axes, axes], len(axes), target))
    for refs in _refs([target, source], [[], []], folded, 4, [4, 4]):
        yield Lowered(name, {"dst": refs[0], "src": refs[1]})
