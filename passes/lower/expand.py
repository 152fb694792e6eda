"""One tile of a kernel as instructions: index spaces folded into the four axes of descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from snnc.isa.program import dense
from snnc.passes.lower.kernels import Buffer, Halo, Kernel, View

__all__ = ["FARTHEST", "WIDEST", "Lowered", "Ref", "instructions", "transfer"]

#: The largest extent of a descriptor.
WIDEST = 1 << 16
#: The largest stride of a descriptor.
FARTHEST = (1 << 25) - 1
_WINDOWS = frozenset({"SCONV", "SDWC", "POOL"})
#: From ONNX order (batch, channel, rows, columns) to the machine's (batch, rows, columns, channel).
_CHANNELS_LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class Ref:
    """A descriptor whose buffer has no address yet.

    Attributes:
        buffer: The buffer.
        offset: Index of the first element.
        shape: Four extents.
        strides: Four strides, in elements.
    """

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Lowered:
    """An instruction whose operands have no address yet.

    Attributes:
        name: Mnemonic.
        refs: Operand of each register field.
        fields: The other fields.
    """

    name: str
    refs: Mapping[str, Ref]
    fields: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Axis:
    """One axis of an index space with the stride of every operand on it."""

    extent: int
    strides: list[int]


def _axes(views: Sequence[View], mapped: Sequence[Sequence[object]], rank: int, lead: View) -> list[_Axis]:
    """Return the axes that matter, slowest first as the result is stored."""
    found: list[tuple[int, _Axis]] = []
    for axis in range(rank):
        extent, strides, weight = 1, [], 0
        for view, axes in zip(views, mapped, strict=True):
            stride = 0
            for place, follows in enumerate(axes):
                if follows == axis and view.shape[place] > 1:
                    extent, stride = max(extent, view.shape[place]), view.strides[place]
            strides.append(stride)
            if view is lead:
                weight = abs(stride)
        if extent > 1:
            found.append((weight, _Axis(extent, strides)))
    return [axis for _, axis in sorted(found, key=lambda item: -item[0])]


def _fold(axes: list[_Axis]) -> list[_Axis]:
    """Join neighbouring axes that are one run in every operand."""
    folded: list[_Axis] = []
    for axis in axes:
        if folded:
            outer = folded[-1]
            one_run = all(a == b * axis.extent for a, b in zip(outer.strides, axis.strides, strict=True))
            if one_run and outer.extent * axis.extent <= WIDEST:
                folded[-1] = _Axis(outer.extent * axis.extent, axis.strides)
                continue
        folded.append(axis)
    return folded


def _loops(axes: list[_Axis], kept: int) -> tuple[list[_Axis], list[list[tuple[int, int]]]]:
    """Split axes into those that descriptors hold and pieces (begin, extent) of those that are unrolled."""
    unrolled: list[list[tuple[int, int]]] = []
    held: list[_Axis] = []
    for place, axis in enumerate(axes):
        if place < len(axes) - kept:
            unrolled.append([(index, 1) for index in range(axis.extent)])
            held.append(axis)
        else:
            unrolled.append(
                [(begin, min(WIDEST, axis.extent - begin)) for begin in range(0, axis.extent, WIDEST)]
            )
            held.append(axis)
    return held, unrolled


def _refs(
    views: Sequence[View],
    tails: Sequence[list[tuple[int, int]]],
    axes: list[_Axis],
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
    held, unrolled = _loops(axes, kept)
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


def instructions(
    kernel: Kernel, views: Sequence[View], rank: int, pads: tuple[int, int], add: bool
) -> Iterator[Lowered]:
    """Return the instructions of one tile of a kernel.

    Args:
        kernel: The kernel.
        views: Its operands, cut to the tile and moved to where they lie on the core.
        rank: Axes of the index space.
        pads: Padding before the tile's rows and columns, for windows.
        add: Whether sums go on from what is there.
    """
    names = [item.field for item in kernel.operands]
    fields = dict(kernel.fields)
    if "add" in fields:
        fields["add"] = int(add)
    if kernel.name in ("HGET", "HPUT"):
        refs: Iterator[list[Ref]] = iter([[_all_of(views[0])]])
    elif kernel.name == "SMM":
        refs = _products(kernel, views, rank)
    elif kernel.name in _WINDOWS:
        fields["pt"], fields["pl"] = pads
        refs = _windows(kernel, views)
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
    axes_ = _fold(_axes(views, mapped, rank, views[0]))
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
    axes: list[_Axis],
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
    axes = _axes(views, lead, rank, acc)
    apart = _fold([axis for axis in axes if axis.strides[2]])
    rows = _fold([axis for axis in axes if not axis.strides[2]])
    tails = [_tail(acc, 1), _tail(lhs, 1), _tail(rhs, 2)]
    # Rows share the weights: one of their axes is the instruction's, others take the place of batches.
    joined = [*apart, *rows[:-1]]
    row = rows[-1:]
    held, unrolled = _loops(joined, 2)
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


def _windows(kernel: Kernel, views: Sequence[View]) -> Iterator[list[Ref]]:
    result = []
    for item, view in zip(kernel.operands, views, strict=True):
        order = range(4) if item.field == "w" else _CHANNELS_LAST
        shape = tuple(view.shape[axis] for axis in order)
        strides = tuple(view.strides[axis] if view.shape[axis] > 1 else 0 for axis in order)
        result.append(Ref(view.buffer, view.offset, shape, strides))
    yield result


def transfer(name: str, target: View, source: View) -> Iterator[Lowered]:
    """Return the instructions that move a tile between DRAM and a core."""
    axes = tuple(range(len(target.shape)))
    folded = _fold(_axes([target, source], [axes, axes], len(axes), target))
    for refs in _refs([target, source], [[], []], folded, 4, [4, 4]):
        yield Lowered(name, {"dst": refs[0], "src": refs[1]})


def pads_of(kernel: Kernel, box: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the padding before a tile's rows and columns."""
    halos: list[Halo] = kernel.halos
    if len(halos) != 2:
        return 0, 0
    return halos[0].pad_of(*box[halos[0].axis]), halos[1].pad_of(*box[halos[1].axis])
