"""Tiling: groups cut so that what a tile needs fits the memories, operands moved in and results moved out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, product
from typing import Any

from snnc.errors import InternalError, UnsupportedError, Where
from snnc.isa.arch import Arch
from snnc.isa.program import DTYPE_OF
from snnc.passes.lower.expand import instructions, transfer
from snnc.passes.lower.folding import Lowered
from snnc.passes.lower.kernels import Box, Buffer, Group, Kernel, Operand, View, join

__all__ = ["Macro", "Task", "Tiling", "transients"]

_MEMORIES = ("WMEM", "SMEM", "AMEM", "TMEM")


@dataclass(frozen=True)
class Macro:
    """One instruction with what it is for.

    Attributes:
        lowered: The instruction.
        node: ONNX node.
        tensor: Tensor that it makes or moves.
        tile: Which part of it.
        spikes: Most spikes of one code that it reads.
        mean: Their mean if every code is as likely as any other.
        tap: Tensor, extents, begin and place of a part that is complete behind it.
        core: The core that executes it.
        peer: The core at the other end of a message.
    """

    lowered: Lowered
    node: str
    tensor: str
    tile: str
    spikes: int = 0
    mean: float = 0.0
    tap: tuple[str, tuple[int, ...], tuple[int, ...], View] | None = None
    core: int = 0
    peer: int = 0


@dataclass
class Task:
    """One tile: what is loaded, computed and stored."""

    loads: list[Macro] = field(default_factory=list)
    work: list[Macro] = field(default_factory=list)
    stores: list[Macro] = field(default_factory=list)


def transients(groups: Sequence[Group]) -> set[int]:
    """Return the buffers, by identity, that live inside the tiles of one group only."""
    homes: dict[int, set[int]] = {}
    kinds: dict[int, str] = {}
    for group in groups:
        for kernel in group.kernels:
            for item in kernel.operands:
                buffer = item.view.buffer
                homes.setdefault(id(buffer), set()).add(id(group))
                kinds[id(buffer)] = buffer.kind
    inner = {key for key, users in homes.items() if len(users) == 1 and kinds[key] == "activation"}
    for group in groups:
        for key in group.written & inner:
            if not _passes_tilewise(group, key):
                inner.discard(key)
    return inner & {key for group in groups for key in group.written}


def _passes_tilewise(group: Group, key: int) -> bool:
    """Whether a buffer is written and read element by element, and read at all, inside a group."""
    items = [item for kernel in group.kernels for item in kernel.operands if id(item.view.buffer) == key]
    return len(items) > 1 and all(isinstance(axis, int) for item in items for axis in item.axes)


@dataclass
class _Cut:
    """How a group is cut: parts on each axis, and parts of the sums."""

    parts: list[int]
    inner: int = 1


def _box_of(extents: Sequence[int], parts: Sequence[int], index: Sequence[int]) -> Box:
    box = []
    for extent, count, place in zip(extents, parts, index, strict=True):
        size = -(-extent // count)
        box.append((place * size, min(extent, (place + 1) * size)))
    return tuple(box)


def _counts(extents: Sequence[int], parts: Sequence[int]) -> list[int]:
    """Return how many boxes there are on each axis; the last may be smaller."""
    return [-(-extent // -(-extent // count)) for extent, count in zip(extents, parts, strict=True)]


def _inner_parts(kernel: Kernel, count: int) -> list[tuple[int, int]]:
    size = -(-kernel.inner // min(count, kernel.inner))
    return [(begin, min(kernel.inner, begin + size)) for begin in range(0, kernel.inner, size)]


def _bytes(item: Operand, box: Box) -> int:
    total = DTYPE_OF[item.view.buffer.dtype].itemsize
    for (begin, end), stride in zip(box, item.view.strides, strict=True):
        total *= end - begin if stride else 1
    return total


def _usage(group: Group, cut: _Cut, inside: set[int]) -> dict[str, int]:
    """Return the bytes that the largest tile needs at once in each memory, beside what lives there anyway."""
    counts = _counts(group.extents, cut.parts)
    worst = dict.fromkeys(_MEMORIES, 0)
    written = group.written
    for index in {tuple(0 for _ in counts), tuple(min(1, count - 1) for count in counts)}:
        box = _box_of(group.extents, cut.parts, index)
        # Memory, bytes, first and last kernel; what is loaded or stored is there for the whole tile.
        needs: dict[tuple[int, Box], tuple[str, int, int, int]] = {}
        last = len(group.kernels) - 1
        for place, kernel in enumerate(group.kernels):
            inner = _inner_parts(kernel, cut.inner)[0]
            for item in kernel.operands:
                buffer = item.view.buffer
                passing = id(buffer) in inside
                if (not buffer.in_dram and not passing) or kernel.in_dram(item):
                    continue
                local = item.box(box, inner)
                key = (id(buffer), () if passing or id(buffer) in written else local)
                size = -(-_bytes(item, local) // 16) * 16
                begin = needs[key][2] if key in needs else place if passing else 0
                needs[key] = (buffer.memory, size, begin, place if passing else last)
        for memory in _MEMORIES:
            alive = [0] * (last + 2)
            for where, size, begin, end in needs.values():
                if where == memory:
                    alive[begin] += size
                    alive[end + 1] -= size
            worst[memory] = max(worst[memory], *accumulate(alive))
    return worst


def _choose(
    group: Group, arch: Arch, inside: set[int], shares: Mapping[str, float]
) -> _Cut | tuple[str, int, int]:
    """Return how to cut a group, or memory, bytes needed and bytes there are where no cut is fine enough."""
    cut = _Cut([1] * len(group.extents))
    budget = {memory: int(arch.capacity(memory) * shares[memory]) for memory in _MEMORIES}

    def excess(trial: _Cut) -> tuple[float, dict[str, int]]:
        use = _usage(group, trial, inside)
        return sum(max(0.0, use[m] / max(1, budget[m]) - 1) for m in _MEMORIES), use

    # Of equally good cuts the one across the axis that is stored slowest: tiles are runs of bytes then.
    order = group.kernels[-1].result
    slow = {
        axis: place
        for place, at in enumerate(order.view.order())
        for axis in [order.axes[at]]
        if isinstance(axis, int)
    }
    slow = {axis: slow.get(axis, len(group.extents)) for axis in range(len(group.extents))}
    over, use = excess(cut)
    deepest = max((kernel.inner for kernel in group.kernels), default=1)
    while over > 0:
        best: tuple[float, int, _Cut] | None = None
        for axis in range(-1, len(group.extents)):
            trial = _Cut(list(cut.parts), cut.inner)
            if axis < 0:
                if cut.inner >= deepest:
                    continue
                trial.inner = _finer(cut.inner, deepest)
            else:
                if axis in group.fixed or cut.parts[axis] >= group.extents[axis]:
                    continue
                trial.parts[axis] = _finer(cut.parts[axis], group.extents[axis])
            value, _ = excess(trial)
            # Cutting sums costs additions of partial sums; it is the last resort.
            rank = (value, len(group.extents) if axis < 0 else slow[axis])
            if best is None or rank < best[:2]:
                best = (*rank, trial)
        if best is None or best[0] >= over:
            worst = max(_MEMORIES, key=lambda m: use[m] / max(1, budget[m]))
            return worst, use[worst], budget[worst]
        cut = best[2]
        over, use = excess(cut)
    return cut


def _finer(parts: int, extent: int) -> int:
    """Return the next number of parts that makes them smaller."""
    size = -(-extent // parts)
    return -(-extent // max(1, -(-size // 2))) if size > 1 else extent


class _Tiler:
    """Cuts the part of one group that a core has."""

    def __init__(self, group: Group, cut: _Cut, inside: set[int], share: Box, core: int) -> None:
        self.group, self.cut, self.inside, self.share, self.core = group, cut, inside, share, core
        self.written = group.written
        self.held: dict[tuple[int, Box], View] = {}

    def tasks(self) -> Iterator[Task]:
        own = [end - begin for begin, end in self.share]
        # As many parts as make tiles no larger than those of the whole.
        sizes = [-(-extent // n) for extent, n in zip(self.group.extents, self.cut.parts, strict=True)]
        parts = [-(-extent // size) for extent, size in zip(own, sizes, strict=True)]
        counts = _counts(own, parts)
        for index in product(*(range(count) for count in counts)):
            inner = _box_of(own, parts, index)
            yield from self._tile(
                tuple((at + b, at + e) for (at, _), (b, e) in zip(self.share, inner, strict=True))
            )

    def _tile(self, box: Box) -> Iterator[Task]:
        task = Task()
        before, self.held = self.held, {}
        local: dict[int, tuple[Buffer, dict[int, int]]] = {}
        stores: dict[tuple[int, Box], tuple[Kernel, Operand, View]] = {}
        label = ",".join(f"{begin}:{end}" for begin, end in box)
        for kernel in self.group.kernels:
            parts = _inner_parts(kernel, self.cut.inner)
            for step, inner in enumerate(parts):
                views = [
                    self._place(kernel, item, box, inner, task, before, local, label)
                    for item in kernel.operands
                ]
                result = kernel.result
                if result.view.buffer.in_dram and not self.group.host:
                    stores[id(result.view.buffer), result.box(box)] = (kernel, result, views[0])
                made = list(instructions(kernel, views, box, step > 0))
                for number, lowered in enumerate(made):
                    last = number == len(made) - 1 and step == len(parts) - 1
                    tap = None
                    if last and kernel.complete and id(kernel.result.view.buffer) in self.inside:
                        whole = kernel.result.view
                        begin = tuple(b for b, _ in kernel.result.box(box))
                        tap = (kernel.tensor, whole.shape, begin, views[0])
                    target = task.loads if kernel.name == "LDX" else task.work
                    target.append(
                        Macro(
                            lowered,
                            kernel.node,
                            kernel.tensor,
                            label,
                            kernel.spikes,
                            kernel.mean,
                            tap,
                            self.core,
                        )
                    )
                if len(parts) > 1 and step < len(parts) - 1:
                    yield task
                    task = Task()
        for (_, part), (kernel, item, view) in stores.items():
            for lowered in transfer("ST", item.view.part(part), view):
                task.stores.append(Macro(lowered, kernel.node, kernel.tensor, label, core=self.core))
        yield task

    def _place(
        self,
        kernel: Kernel,
        item: Operand,
        box: Box,
        inner: tuple[int, int],
        task: Task,
        before: dict[tuple[int, Box], View],
        local: dict[int, tuple[Buffer, dict[int, int]]],
        label: str,
    ) -> View:
        """Return where a tile of an operand lies on the core, and load it if it is not there."""
        buffer = item.view.buffer
        part = item.box(box, inner)
        if kernel.in_dram(item):
            return item.view.part(part)
        if id(buffer) in self.inside or (buffer.in_dram and id(buffer) in self.written):
            return self._inside(item, part, local)
        if not buffer.in_dram:
            return item.view.part(part)
        key = (id(buffer), part)
        if key in self.held:
            return self.held[key]
        if key in before:
            self.held[key] = before[key]
            return before[key]
        source = item.view.part(part)
        staged = _staging(source, f"{buffer.name}[{label}]")
        self.held[key] = staged
        for lowered in transfer("LD", _stored(staged), _stored(source)):
            task.loads.append(Macro(lowered, kernel.node, buffer.name, label, core=self.core))
        return staged

    def _inside(self, item: Operand, part: Box, local: dict[int, tuple[Buffer, dict[int, int]]]) -> View:
        """Return the tile of what the group makes itself."""
        buffer = item.view.buffer
        shape = tuple(end - begin for begin, end in part)
        if id(buffer) not in local:
            order = item.view.order()
            strides: dict[int, int] = {}
            size = 1
            for axis in reversed(order):
                follows = item.axes[axis]
                if isinstance(follows, int) and shape[axis] > 1:
                    strides[follows] = size
                size *= shape[axis]
            local[id(buffer)] = (Buffer(buffer.name, buffer.dtype, size, buffer.memory, "staging"), strides)
        tile, strides = local[id(buffer)]
        found = tuple(
            strides.get(axis, 0) if isinstance(axis, int) and extent > 1 else 0
            for axis, extent in zip(item.axes, shape, strict=True)
        )
        return View(tile, 0, shape, found)


def _stored(view: View) -> View:
    """Return a view with each stored element once."""
    shape = tuple(n if stride else 1 for n, stride in zip(view.shape, view.strides, strict=True))
    return View(view.buffer, view.offset, shape, view.strides)


def _staging(source: View, name: str) -> View:
    """Return a place on the core for a tile, laid out as its source, without gaps."""
    once = _stored(source)
    buffer = Buffer(name, source.buffer.dtype, once.elements, source.buffer.memory, "staging")
    packed = View.whole(buffer, once.shape, once.order())
    strides = tuple(stride if old else 0 for old, stride in zip(source.strides, packed.strides, strict=True))
    return View(buffer, 0, source.shape, strides)


class Tiling:
    """Cuts groups, and remembers how each was cut.

    Args:
        arch: The machine.
    """

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        self._cuts: dict[tuple[Any, ...], tuple[Group, _Cut | None]] = {}
        self._tasks: dict[tuple[Any, ...], list[Task]] = {}

    def settle(self, groups: list[Group], share: float) -> set[int]:
        """Find how every group is cut.

        Args:
            groups: Groups in order; those that do not fit as they are joined are taken apart, in place.
            share: How much of the memories for weights and tables one tile may fill.

        Returns:
            The buffers that live inside tiles, by identity.

        Raises:
            UnsupportedError: SNN480, even the smallest tile of a node does not fit.
        """
        inside = transients(groups)
        place = 0
        while place < len(groups):
            group = groups[place]
            if self._cut(group, inside, share) is None:
                # The last of the joined nodes goes its own way; what it read gets a home.
                groups[place : place + 1] = [join(group.parts[:-1]), group.parts[-1]]
                inside = transients(groups)
            else:
                place += 1
        # What was taken apart changes only what passed between the parts.
        return inside

    def _key(self, group: Group, inside: set[int], share: float) -> tuple[Any, ...]:
        buffers = {id(item.view.buffer): item.view.buffer for k in group.kernels for item in k.operands}
        state = tuple((key, buffer.in_dram, key in inside) for key, buffer in buffers.items())
        return (id(group), share, state)

    def _cut(self, group: Group, inside: set[int], share: float) -> _Cut | None:
        key = self._key(group, inside, share)
        if key not in self._cuts:
            # The group is kept, so that its identity is not given to another one.
            self._cuts[key] = (group, _fit(group, self.arch, inside, share))
        return self._cuts[key][1]

    def tiles(self, group: Group, inside: set[int], share: float, box: Box, core: int) -> list[Task]:
        """Return the tiles of the part of a group that a core has.

        Args:
            group: A group that was settled.
            inside: Buffers that live inside tiles, by identity.
            share: As it was settled.
            box: The part of its index space.
            core: The core.
        """
        key = (*self._key(group, inside, share), box, core)
        if key not in self._tasks:
            cut = self._cut(group, inside, share)
            if cut is None:
                raise InternalError(
                    "SNN173", "a group that was cut does not fit", where=Where(node=group.names[0])
                )
            self._tasks[key] = list(_Tiler(group, cut, inside, box, core).tasks())
        return self._tasks[key]


def _fit(group: Group, arch: Arch, inside: set[int], tables: float) -> _Cut | None:
    found: _Cut | tuple[str, int, int] = ("", 0, 0)
    for share in (0.4, 0.7, 1.0):
        shares = {"WMEM": max(tables, share), "TMEM": max(tables, share), "SMEM": share, "AMEM": share}
        if share < 1.0:
            shares |= {"WMEM": tables, "TMEM": tables}
        found = _choose(group, arch, inside, shares)
        if isinstance(found, _Cut):
            # A sum in parts would load its weights for every tile anew.
            return None if found.inner > 1 and len(group.parts) > 1 else found
    memory, need, have = found  # type: ignore[misc]
    if len(group.parts) > 1:
        return None
    raise UnsupportedError(
        "SNN480",
        f"does not fit: the smallest tile needs {need} bytes of {memory}, a core has {have}",
        where=Where(node=group.names[0]),
        hint=f"give an architecture with a larger {memory.lower()} (--arch)"
        + (", or convert with fewer levels (--groups, --timesteps)" if memory == "TMEM" else ""),
    )
