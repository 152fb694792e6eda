"""From a spiking graph to a program of ExpG-1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from snnc.errors import UnsupportedError, Where
from snnc.ir import Model
from snnc.isa.arch import Arch
from snnc.isa.program import Program
from snnc.passes.lower.finish import finish
from snnc.passes.lower.holdings import Holdings
from snnc.passes.lower.kernels import Buffer, Group
from snnc.passes.lower.laid import DRAM, ON_CORE, Laid
from snnc.passes.lower.locals import Copies, local_copies
from snnc.passes.lower.memory import Span, live_ranges, plan
from snnc.passes.lower.partition import partition
from snnc.passes.lower.select import select
from snnc.passes.lower.spread import Spread, arrange, one_core
from snnc.passes.lower.tile import Tiling

__all__ = ["lower"]

_NO_COPIES: Copies = {}
#: Whether the next tile is loaded ahead, and how much of the memories for weights and tables a tile may fill.
_TRIALS = ((True, 0.5), (True, 0.33), (True, 0.2), (False, 0.5), (False, 1.0))


def lower(model: Model, arch: Arch | None = None) -> Program:
    """Compile a spiking network.

    Args:
        model: A converted network.
        arch: The machine; None for one core of the reference sizes.

    Returns:
        The program for one sample.

    Raises:
        UnsupportedError: SNN470 to SNN472, something has no instructions; SNN480, SNN481, it does not fit.
    """
    machine = arch or Arch()
    split = partition(model)
    selected = select(model, split)
    groups = selected.build.groups
    for buffer in _activations(groups):
        if buffer.size > machine.cores * machine.capacity(buffer.memory) // 2:
            buffer.in_dram = True
    trial = 0
    tiling, spread = Tiling(machine), Spread(machine)
    while True:
        ahead, share = _TRIALS[trial]
        laid = _lay_out(machine, groups, tiling, spread, ahead, share)
        crowded = [space for space in laid.plans if laid.plans[space].peak > machine.capacity(space[1])]
        crowded = [space for space in crowded if space[0] >= 0]
        if not crowded:
            break
        if not _spill(crowded, laid, machine):
            trial += 1
            if trial == len(_TRIALS):
                _refuse(crowded[0], laid, machine)
    return finish(machine, split, selected, laid)


def _lay_out(
    arch: Arch, groups: list[Group], tiling: Tiling, spread: Spread, ahead: bool, share: float
) -> Laid:
    inside = tiling.settle(groups, share)
    holdings, copies = Holdings(arch.cores, inside), _NO_COPIES
    if arch.cores == 1:
        whole = [tuple((0, extent) for extent in group.extents) for group in groups]
        tiles = [tiling.tiles(group, inside, share, box, 0) for group, box in zip(groups, whole, strict=True)]
        order = one_core(tiles, ahead)
    else:
        shares = spread.shares(groups, inside)
        order, copies = local_copies(arrange(groups, shares, holdings, tiling, share, ahead))
    spaces = [(core, memory) for core in range(arch.cores) for memory in ON_CORE]
    spans: dict[tuple[int, str], list[Span]] = {space: [] for space in [*spaces, DRAM]}
    for span in live_ranges(order):
        if span.buffer.kind in ("constant", "input", "output"):
            continue
        if span.buffer.home != "DRAM":
            spans[order[span.first].core, span.buffer.home].append(span)
        else:
            # What several cores use is alive all the time: they are at different places of their programs.
            spans[DRAM].append(span if arch.cores == 1 else Span(span.buffer, 0, len(order)))
    return Laid(
        order, inside, holdings, copies, spans, {space: plan(items) for space, items in spans.items()}
    )


def _activations(groups: Iterable[Group]) -> list[Buffer]:
    found: dict[int, Buffer] = {}
    for group in groups:
        for kernel in group.kernels:
            for item in kernel.operands:
                if item.view.buffer.kind == "activation":
                    found[id(item.view.buffer)] = item.view.buffer
    return list(found.values())


def _spill(crowded: Sequence[tuple[int, str]], laid: Laid, arch: Arch) -> bool:
    """Move what relieves a full memory most to DRAM; return whether anything was moved."""
    moved = False
    for space in crowded:
        when = laid.plans[space].crowded
        spans = laid.spans[space]
        alive = [span for span in spans if span.first <= when <= span.last]
        resident = [span for span in alive if span.buffer.kind == "activation" and not span.buffer.in_dram]
        resident = resident or [span for span in spans if span.buffer.kind == "activation"]
        resident.sort(key=lambda span: -span.buffer.size * (span.last - span.first + 1))
        excess = laid.plans[space].bound - arch.capacity(space[1])
        for span in resident:
            (span.buffer.origin or span.buffer).in_dram = moved = True
            excess -= span.buffer.size
            if excess <= 0:
                break
    return moved


def _refuse(space: tuple[int, str], laid: Laid, arch: Arch) -> None:
    """Say what does not fit.

    Raises:
        UnsupportedError: SNN481, always.
    """
    core, memory = space
    found = laid.plans[space]
    alive = [span for span in laid.spans[space] if span.first <= found.crowded <= span.last]
    worst = max(alive, key=lambda span: span.buffer.size)
    where = "" if arch.cores == 1 else f" of core {core}"
    raise UnsupportedError(
        "SNN481",
        f"does not fit: {found.peak} bytes of {memory}{where} are needed at once, a core has "
        f"{arch.capacity(memory)}",
        where=Where(node=laid.order[worst.first].node, tensor=worst.buffer.name),
        hint=f"give an architecture with a larger {memory.lower()} (--arch); more cores may help (--cores)",
    )
