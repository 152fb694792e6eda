"""Which core does which part of a group, and the order of the whole program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, product
from math import prod

from snnc.isa.arch import Arch
from snnc.isa.program import DTYPE_OF
from snnc.passes.lower.expand import transfer
from snnc.passes.lower.folding import Lowered
from snnc.passes.lower.holdings import Holdings, Message, Share
from snnc.passes.lower.kernels import Box, Group, Kernel, View
from snnc.passes.lower.tile import Macro, Task, Tiling

__all__ = ["Spread", "arrange", "one_core"]


def one_core(groups: Sequence[Sequence[Task]], ahead: bool) -> list[Macro]:
    """Put tiles one behind the other, the loads of each before the work of the one before it."""
    tasks = [task for group in groups for task in group]
    order: list[Macro] = []
    early: set[int] = set()
    for index, task in enumerate(tasks):
        order += [macro for macro in task.loads if id(macro) not in early]
        if ahead and index + 1 < len(tasks):
            taken = _written(task)
            for macro in tasks[index + 1].loads:
                if _sources(macro) & taken:
                    break
                order.append(macro)
                early.add(id(macro))
        order += task.work
        order += task.stores
    return order


def _written(task: Task) -> set[int]:
    stored = {id(macro.lowered.refs["dst"].buffer) for macro in task.stores}
    return stored | {
        id(ref.buffer) for macro in task.work for ref in [next(iter(macro.lowered.refs.values()))]
    }


def _sources(macro: Macro) -> set[int]:
    return {id(ref.buffer) for name, ref in macro.lowered.refs.items() if name != "dst"}


def arrange(
    groups: Sequence[Group],
    shares: Sequence[Sequence[Share]],
    holdings: Holdings,
    tiling: Tiling,
    share: float,
    ahead: bool,
) -> list[Macro]:
    """Put the tiles of all cores, and what they send each other, in one order.

    Args:
        groups: Groups in order.
        shares: Who does what of each group.
        holdings: What every core has; empty.
        tiling: How groups are cut.
        share: How much of the memories for weights and tables one tile may fill.
        ahead: Whether the next tile is loaded ahead.
    """
    count = holdings.cores
    slots: list[list[list[Macro]]] = [[[] for _ in range(count + 1)] for _ in groups]
    tasks: list[list[tuple[int, Task]]] = [[] for _ in range(count)]
    for place, (group, parts) in enumerate(zip(groups, shares, strict=True)):
        slots[place][0] = [
            macro
            for message in holdings.exchange(group, parts)
            for macro in _message(group.names[0], message)
        ]
        for part in parts:
            made = tiling.tiles(group, holdings.inside, share, part.box, part.core)
            tasks[part.core] += [(place, task) for task in made]
    written = [group.written for group in groups]
    for core in range(count):
        early: set[int] = set()
        for index, (place, task) in enumerate(tasks[core]):
            own = slots[place][core + 1]
            own += [macro for macro in task.loads if id(macro) not in early]
            if ahead and index + 1 < len(tasks[core]):
                then, following = tasks[core][index + 1]
                taken = _written(task).union(*written[place:then])
                for macro in following.loads:
                    if _sources(macro) & taken or not _in_dram(macro):
                        break
                    own.append(macro)
                    early.add(id(macro))
            own += task.work
            own += task.stores
    return [macro for slot in slots for part in slot for macro in part]


def _in_dram(macro: Macro) -> bool:
    return all(ref.buffer.in_dram for name, ref in macro.lowered.refs.items() if name != "dst")


def _message(node: str, message: Message) -> Iterator[Macro]:
    """Return what sends and what takes a message; each pair is one behind the other."""
    name = message.view.buffer.name
    for lowered in transfer("MOV", message.view, message.view):
        for form, field, core, peer in (
            ("SEND", "src", message.sender, message.receiver),
            ("RECV", "dst", message.receiver, message.sender),
        ):
            half = Lowered(form, {field: lowered.refs[field]})
            yield Macro(half, node, name, f"{message.sender}>{message.receiver}", core=core, peer=peer)


class Spread:
    """Chooses who does what, and remembers it.

    Args:
        arch: The machine.
    """

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        self._chosen: dict[int, tuple[Group, list[Share]]] = {}

    def shares(self, groups: Sequence[Group], inside: set[int]) -> list[list[Share]]:
        """Return the parts of every group; of equally fast ones those that move least."""
        holdings = Holdings(self.arch.cores, inside)
        found = []
        for group in groups:
            if id(group) not in self._chosen:
                self._chosen[id(group)] = (group, self._choose(group, holdings))
            shares = self._chosen[id(group)][1]
            holdings.exchange(group, shares)
            found.append(shares)
        return found

    def _choose(self, group: Group, holdings: Holdings) -> list[Share]:
        if group.host:
            return [Share(0, tuple((0, extent) for extent in group.extents))]
        best: tuple[tuple[float, float], list[Share]] | None = None
        for shares in self._candidates(group):
            price = self._price(group, shares, holdings)
            if best is None or price < best[0]:
                best = (price, shares)
        assert best is not None
        return best[1]

    def _candidates(self, group: Group) -> Iterator[list[Share]]:
        cores, extents = self.arch.cores, group.extents
        whole = tuple((0, extent) for extent in extents)
        free = [axis for axis in range(len(extents)) if _may_split(group, axis)]
        splits: list[dict[int, int]] = [{axis: min(cores, extents[axis])} for axis in free]
        for first, second in combinations(free, 2):
            for parts in range(2, cores):
                if cores % parts == 0 and parts <= extents[first] and cores // parts <= extents[second]:
                    splits.append({first: parts, second: cores // parts})
        for split in splits:
            pieces = [_pieces(extent, split.get(axis, 1)) for axis, extent in enumerate(extents)]
            yield [Share(core, box) for core, box in enumerate(product(*pieces))]
        yield [Share(0, whole)]

    def _price(self, group: Group, shares: Sequence[Share], holdings: Holdings) -> tuple[float, float]:
        """Return estimated cycles, and bytes moved."""
        slowest, moved = 0.0, 0
        for share in shares:
            work, loads, taken = 0.0, 0, 0
            seen: set[tuple[int, Box]] = set()
            for kernel in group.kernels:
                work += _work(kernel, share.box, self.arch.lanes)
                for item in kernel.operands:
                    buffer, box = item.view.buffer, item.box(share.box, (0, kernel.inner))
                    if (id(buffer), box) in seen or id(buffer) in holdings.inside or kernel.name == "LDX":
                        continue
                    seen.add((id(buffer), box))
                    size = DTYPE_OF[buffer.dtype].itemsize
                    if buffer.in_dram:
                        loads += size * _elements(item.view.part(box))
                    elif item is not kernel.result:
                        taken += size * holdings.missing(share.core, item.view.part(box))
            slowest = max(slowest, max(work, loads / self.arch.dma_bytes) + taken / self.arch.noc_bytes)
            moved += loads + taken
        return slowest, moved


def _may_split(group: Group, axis: int) -> bool:
    """Whether parts along an axis make different elements of everything that the group makes."""
    if axis in group.fixed or group.extents[axis] < 2:
        return False
    return all(
        any(
            follows == axis and extent == group.extents[axis]
            for follows, extent in zip(kernel.result.axes, kernel.result.view.shape, strict=True)
        )
        for kernel in group.kernels
    )


def _pieces(extent: int, parts: int) -> list[tuple[int, int]]:
    edges = [extent * place // parts for place in range(parts + 1)]
    return list(pairwise(edges))


def _elements(view: View) -> int:
    return prod(n if stride else 1 for n, stride in zip(view.shape, view.strides, strict=True))


def _work(kernel: Kernel, box: Box, lanes: int) -> float:
    """Return about how many cycles a part of a kernel takes; less than all lanes are no faster."""
    made = prod(end - begin for begin, end in kernel.result.box(box))
    rounds = 1.0
    for item in kernel.operands:
        if item.field in ("rhs", "w"):
            shape = [end - begin for begin, end in item.box(box, (0, kernel.inner))]
            spikes = kernel.mean or max(1.0, kernel.spikes / 2)
            if kernel.name == "SDWC":
                return made / lanes * prod(shape[:-1]) * max(1, kernel.spikes)
            inner = shape[-2] if item.field == "rhs" else prod(shape[:-1])
            return made / shape[-1] * (inner * spikes + 2) * -(-shape[-1] // lanes)
        if item.field == "thr":
            rounds *= item.view.shape[-1].bit_length()
    return max(made, prod(end - begin for begin, end in box)) / lanes * rounds
