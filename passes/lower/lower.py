"""From a spiking graph to a program of ExpG-1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from snnc.errors import UnsupportedError, Where
from snnc.ir import Model
from snnc.isa.arch import Arch
from snnc.isa.program import Descriptor, Port, Program, Region, Tap
from snnc.isa.table import FORMS
from snnc.passes.lower.kernels import Buffer, Group, View
from snnc.passes.lower.memory import Plan, Span, live_ranges, plan
from snnc.passes.lower.partition import Partition, partition
from snnc.passes.lower.select import Selected, select
from snnc.passes.lower.tile import Macro, Task, Tiling
from snnc.passes.lower.words import assemble_words

__all__ = ["lower"]

_ON_CORE = ("WMEM", "SMEM", "AMEM", "TMEM")
#: Whether the next tile is loaded ahead, and how much of the memories for weights and tables a tile may fill.
_TRIALS = ((True, 0.5), (True, 0.33), (True, 0.2), (False, 0.5), (False, 1.0))


def lower(model: Model, arch: Arch | None = None) -> Program:
    """Compile a spiking network for one core.

    Args:
        model: A converted network.
        arch: The machine; None for the reference sizes.

    Returns:
        The program for one sample.

    Raises:
        UnsupportedError: SNN470 to SNN473, something has no instructions; SNN480, SNN481, it does not fit.
    """
    machine = arch or Arch()
    split = partition(model)
    selected = select(model, split)
    groups = selected.build.groups
    for buffer in _activations(groups):
        if buffer.size > machine.capacity(buffer.memory) // 2:
            buffer.in_dram = True
    trial = 0
    tiling = Tiling(machine)
    while True:
        ahead, share = _TRIALS[trial]
        tasks, inside = tiling.tasks(groups, share)
        order = _program_order(tasks, ahead)
        plans, spans = _plans(order)
        crowded = [memory for memory in _ON_CORE if plans[memory].peak > machine.capacity(memory)]
        if not crowded:
            break
        if not _spill(crowded, plans, spans, machine):
            trial += 1
            if trial == len(_TRIALS):
                _refuse(crowded[0], plans, spans, machine)
    return _program(machine, split, selected, order, plans, spans, inside)


def _activations(groups: Iterable[Group]) -> list[Buffer]:
    found: dict[int, Buffer] = {}
    for group in groups:
        for kernel in group.kernels:
            for item in kernel.operands:
                if item.view.buffer.kind == "activation":
                    found[id(item.view.buffer)] = item.view.buffer
    return list(found.values())


def _program_order(groups: Sequence[Sequence[Task]], ahead: bool) -> list[Macro]:
    """Put tiles one behind the other, the loads of each before the work of the one before it."""
    tasks = [task for group in groups for task in group]
    order: list[Macro] = []
    early: set[int] = set()
    for index, task in enumerate(tasks):
        order += [macro for macro in task.loads if id(macro) not in early]
        if ahead and index + 1 < len(tasks):
            stored = {id(macro.lowered.refs["dst"].buffer) for macro in task.stores}
            worked = {
                id(ref.buffer) for macro in task.work for ref in [next(iter(macro.lowered.refs.values()))]
            }
            for macro in tasks[index + 1].loads:
                sources = {id(ref.buffer) for name, ref in macro.lowered.refs.items() if name != "dst"}
                if sources & (stored | worked):
                    break
                order.append(macro)
                early.add(id(macro))
        order += task.work
        order += task.stores
    return order


def _plans(order: Sequence[Macro]) -> tuple[dict[str, Plan], dict[str, list[Span]]]:
    spans: dict[str, list[Span]] = {memory: [] for memory in (*_ON_CORE, "DRAM")}
    for span in live_ranges(order):
        if span.buffer.kind not in ("constant", "input", "output"):
            spans[span.buffer.home].append(span)
    return {memory: plan(items) for memory, items in spans.items()}, spans


def _spill(crowded: Sequence[str], plans: dict[str, Plan], spans: dict[str, list[Span]], arch: Arch) -> bool:
    """Move what relieves a full memory most to DRAM; return whether anything was moved."""
    moved = False
    for memory in crowded:
        when = plans[memory].crowded
        alive = [span for span in spans[memory] if span.first <= when <= span.last]
        resident = [span for span in alive if span.buffer.kind == "activation" and not span.buffer.in_dram]
        resident = resident or [span for span in spans[memory] if span.buffer.kind == "activation"]
        resident.sort(key=lambda span: -span.buffer.size * (span.last - span.first + 1))
        excess = plans[memory].bound - arch.capacity(memory)
        for span in resident:
            span.buffer.in_dram = moved = True
            excess -= span.buffer.size
            if excess <= 0:
                break
    return moved


def _refuse(memory: str, plans: dict[str, Plan], spans: dict[str, list[Span]], arch: Arch) -> None:
    """Say what does not fit.

    Raises:
        UnsupportedError: SNN481, always.
    """
    worst = max(spans[memory], key=lambda span: span.buffer.size)
    raise UnsupportedError(
        "SNN481",
        f"does not fit: {plans[memory].peak} bytes of {memory} are needed at once, a core has "
        f"{arch.capacity(memory)}",
        where=Where(tensor=worst.buffer.name),
        hint=f"give an architecture with a larger {memory.lower()} (--arch)",
    )


def _address(
    arch: Arch,
    selected: Selected,
    order: Sequence[Macro],
    plans: dict[str, Plan],
    spans: dict[str, list[Span]],
) -> tuple[bytes, list[tuple[str, Descriptor]], int]:
    """Give every buffer its address; return the image of constants, what is in it, and the bytes of DRAM."""
    for memory in _ON_CORE:
        for span in spans[memory]:
            span.buffer.address = plans[memory].offsets[id(span.buffer)]
    used = {id(ref.buffer): ref.buffer for macro in order for ref in macro.lowered.refs.values()}
    image = bytearray()
    constants = []
    for buffer in used.values():
        if buffer.kind == "constant" and buffer.data is not None:
            buffer.address = len(image)
            content = buffer.data.tobytes()
            image += content + bytes(-len(content) % 16)
            shape = (buffer.elements,)
            constants.append((buffer.name, Descriptor("DRAM", buffer.dtype, buffer.address, shape, (1,))))
    end = len(image)
    for view in (*selected.inputs.values(), *selected.outputs.values()):
        if view.buffer.address < 0:
            view.buffer.address = end
            end += -(-view.buffer.size // 16) * 16
    for span in spans["DRAM"]:
        span.buffer.address = end + plans["DRAM"].offsets[id(span.buffer)]
    end += plans["DRAM"].peak
    if end > arch.dram:
        raise UnsupportedError(
            "SNN481",
            f"does not fit: {end} bytes of DRAM are needed, there are {arch.dram}",
            hint="give an architecture with a larger dram (--arch)",
        )
    return bytes(image), constants, end


def _descriptor(view: View) -> Descriptor:
    buffer = view.buffer
    itemsize = buffer.size // max(1, buffer.elements)
    base = buffer.address + view.offset * itemsize
    strides = tuple(s if n > 1 else 0 for n, s in zip(view.shape, view.strides, strict=True))
    return Descriptor(buffer.home, buffer.dtype, base, view.shape, strides)


def _program(
    arch: Arch,
    split: Partition,
    selected: Selected,
    order: Sequence[Macro],
    plans: dict[str, Plan],
    spans: dict[str, list[Span]],
    inside: set[int],
) -> Program:
    image, constants, end = _address(arch, selected, order, plans, spans)
    words = assemble_words(order, arch)
    taps = [
        Tap(words.place[index], macro.tap[0], macro.tap[1], macro.tap[2], _descriptor(macro.tap[3]))
        for index, macro in enumerate(order)
        if macro.tap is not None
    ]
    taps += _whole_taps(selected, order, words.place, inside)
    regions = [
        Region(
            memory,
            span.buffer.name,
            span.buffer.kind,
            span.buffer.address,
            span.buffer.size,
            words.place[span.first],
            words.place[span.last],
        )
        for memory in (*_ON_CORE, "DRAM")
        for span in spans[memory]
    ]
    final = len(words.instructions) - 1
    regions += [
        Region("DRAM", name, "constant", place.base, place.elements * place.itemsize, 0, final)
        for name, place in constants
    ]
    ports = [
        tuple(
            Port(name, _descriptor(view), view.buffer.low, view.buffer.high) for name, view in views.items()
        )
        for views in (selected.inputs, selected.outputs)
    ]
    regions += [
        Region(
            "DRAM", port.tensor, kind, port.place.base, port.place.elements * port.place.itemsize, 0, final
        )
        for kind, group in zip(("input", "output"), ports, strict=True)
        for port in group
    ]
    bounds = {memory: (found.peak, found.bound) for memory, found in plans.items()}
    bounds["DRAM"] = (end, end - plans["DRAM"].peak + plans["DRAM"].bound)
    return Program(
        arch,
        tuple(words.instructions),
        tuple(words.lines),
        image,
        tuple(constants),
        ports[0],
        ports[1],
        tuple(sorted(taps, key=lambda tap: (tap.pc, tap.tensor))),
        tuple(regions),
        bounds,
        _latency(selected.build.groups),
        (tuple(n.name or "" for n in split.before), tuple(n.name or "" for n in split.after)),
    )


def _whole_taps(
    selected: Selected, order: Sequence[Macro], place: Sequence[int], inside: set[int]
) -> list[Tap]:
    """Return where every tensor that has a home of its own can be seen, once the last part is written."""
    last: dict[int, int] = {}
    for index, macro in enumerate(order):
        for item in FORMS[macro.lowered.name].fields:
            if item.role in ("writes", "updates"):
                last[id(macro.lowered.refs[item.name].buffer)] = index
    return [
        Tap(place[last[id(view.buffer)]], name, view.shape, (0,) * len(view.shape), _descriptor(view))
        for name, view in selected.build.made.items()
        if id(view.buffer) not in inside and id(view.buffer) in last and 0 not in view.shape
    ]


def _latency(groups: Sequence[Group]) -> int:
    """Return the time-steps of the longest chain of neurons, each waiting for its whole window."""
    depth: dict[int, int] = {}
    for group in groups:
        for kernel in group.kernels:
            arrives = max((depth.get(id(item.view.buffer), 0) for item in kernel.operands[1:]), default=0)
            key = id(kernel.result.view.buffer)
            depth[key] = max(depth.get(key, 0), arrives + kernel.steps)
    return max(depth.values(), default=0)
