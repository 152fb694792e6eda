"""The last step: addresses and words become a program with its memory map, ports and taps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from snnc.errors import UnsupportedError, Where
from snnc.isa.arch import Arch
from snnc.isa.program import Descriptor, Port, Program, Region, Tap
from snnc.isa.table import FORMS
from snnc.passes.lower.kernels import Group, View
from snnc.passes.lower.laid import DRAM, ON_CORE, Laid
from snnc.passes.lower.locals import view_on
from snnc.passes.lower.partition import Partition
from snnc.passes.lower.select import Selected
from snnc.passes.lower.sites import sites
from snnc.passes.lower.tile import Macro
from snnc.passes.lower.words import Words, assemble_words

__all__ = ["finish"]


def finish(arch: Arch, split: Partition, selected: Selected, laid: Laid) -> Program:
    """Make the program of instructions whose memories are planned.

    Args:
        arch: The machine.
        split: Which nodes run where.
        selected: Groups, views and ports.
        laid: Instructions in order, and the plan of every memory.

    Raises:
        UnsupportedError: SNN481, DRAM is too small.
    """
    image, constants, end = _address(arch, selected, laid)
    words = assemble_words(laid.order, arch)
    taps = [
        Tap(words.place[index], macro.tap[0], macro.tap[1], macro.tap[2], _descriptor(macro.tap[3]))
        for index, macro in enumerate(laid.order)
        if macro.tap is not None
    ]
    taps += _home_taps(arch, selected, laid, words.place)
    inputs, outputs = (
        tuple(
            Port(
                name,
                _descriptor(view),
                view.buffer.low,
                view.buffer.high,
                name in split.late,
                view.buffer.channels,
            )
            for name, view in views.items()
        )
        for views in (selected.inputs, selected.outputs)
    )
    bounds = [
        {memory: (laid.plans[core, memory].peak, laid.plans[core, memory].bound) for memory in ON_CORE}
        for core in range(arch.cores)
    ]
    dram = laid.plans[DRAM]
    most = {memory: max((core[memory] for core in bounds), key=lambda pair: pair[0]) for memory in ON_CORE}
    return Program(
        arch,
        tuple(words.instructions),
        tuple(words.lines),
        image,
        tuple(constants),
        inputs,
        outputs,
        tuple(sorted(taps, key=lambda tap: (tap.pc, tap.tensor, tap.begin))),
        tuple(_regions(arch, laid, words, constants, {"input": inputs, "output": outputs})),
        {**most, "DRAM": (end, end - dram.peak + dram.bound)},
        _latency(selected.build.groups),
        (tuple(n.name or "" for n in split.before), tuple(n.name or "" for n in split.after)),
        tuple(bounds),
        sites(arch.cores, _traffic(laid.order)),
    )


def _traffic(order: Sequence[Macro]) -> Counter[tuple[int, int]]:
    """Return the bytes that cores send each other."""
    found: Counter[tuple[int, int]] = Counter()
    for macro in order:
        if macro.lowered.name == "SEND":
            found[macro.core, macro.peer] += _descriptor_bytes(macro)
    return found


def _descriptor_bytes(macro: Macro) -> int:
    ref = macro.lowered.refs["src"]
    count = 1
    for extent in ref.shape:
        count *= extent
    return count * (ref.buffer.size // max(1, ref.buffer.elements))


def _regions(
    arch: Arch,
    laid: Laid,
    words: Words,
    constants: Sequence[tuple[str, Descriptor]],
    ports: Mapping[str, Sequence[Port]],
) -> Iterator[Region]:
    final = len(words.instructions) - 1
    for (core, memory), spans in laid.spans.items():
        for span in spans:
            whole = core < 0 and arch.cores > 1
            first, last = (0, final) if whole else (words.place[span.first], words.place[span.last])
            buffer = span.buffer
            yield Region(
                memory, buffer.name, buffer.kind, buffer.address, buffer.size, first, last, max(0, core)
            )
    for name, place in constants:
        yield Region("DRAM", name, "constant", place.base, place.elements * place.itemsize, 0, final)
    for kind, group in ports.items():
        for port in group:
            size = port.place.elements * port.place.itemsize
            yield Region("DRAM", port.tensor, kind, port.place.base, size, 0, final)


def _address(arch: Arch, selected: Selected, laid: Laid) -> tuple[bytes, list[tuple[str, Descriptor]], int]:
    """Give every buffer its address; return the image of constants, what is in it, and the bytes of DRAM."""
    for space, spans in laid.spans.items():
        if space != DRAM:
            for span in spans:
                span.buffer.address = laid.plans[space].offsets[id(span.buffer)]
    used = {id(ref.buffer): ref.buffer for macro in laid.order for ref in macro.lowered.refs.values()}
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
    for span in laid.spans[DRAM]:
        span.buffer.address = end + laid.plans[DRAM].offsets[id(span.buffer)]
    end += laid.plans[DRAM].peak
    if end > arch.dram:
        # The largest thing that lies there, and who uses it first.
        users = [(ref.buffer, macro.node) for macro in laid.order for ref in macro.lowered.refs.values()]
        large, user = max((item for item in users if item[0].home == "DRAM"), key=lambda item: item[0].size)
        raise UnsupportedError(
            "SNN481",
            f"does not fit: {end} bytes of DRAM are needed, there are {arch.dram}; this takes most of them",
            where=Where(node=user, tensor=large.name),
            hint="give an architecture with a larger dram (--arch)",
        )
    return bytes(image), constants, end


def _descriptor(view: View) -> Descriptor:
    buffer = view.buffer
    itemsize = buffer.size // max(1, buffer.elements)
    base = buffer.address + view.offset * itemsize
    strides = tuple(s if n > 1 else 0 for n, s in zip(view.shape, view.strides, strict=True))
    return Descriptor(buffer.home, buffer.dtype, base, view.shape, strides)


def _home_taps(arch: Arch, selected: Selected, laid: Laid, place: Sequence[int]) -> list[Tap]:
    """Return where every tensor that has a home of its own can be seen, once its last part is written."""
    last: dict[tuple[int, int], int] = {}
    for index, macro in enumerate(laid.order):
        if macro.lowered.name == "RECV":
            continue
        for item in FORMS[macro.lowered.name].fields:
            if item.role in ("writes", "updates"):
                buffer = macro.lowered.refs[item.name].buffer
                last[id(buffer.origin or buffer), macro.core] = index
    found = []
    for name, view in selected.build.made.items():
        if id(view.buffer) in laid.inside or 0 in view.shape:
            continue
        if arch.cores == 1:
            parts = iter([(0, tuple((0, extent) for extent in view.shape))])
        else:
            parts = laid.holdings.owned(view)
        for core, box in parts:
            if (id(view.buffer), core) in last:
                part = view_on(view.part(box), core, laid.copies)
                begin = tuple(begin for begin, _ in box)
                pc = place[last[id(view.buffer), core]]
                found.append(Tap(pc, name, view.shape, begin, _descriptor(part)))
    return found


def _latency(groups: Sequence[Group]) -> int:
    """Return the time-steps of the longest chain of neurons, each waiting for its whole window."""
    depth: dict[int, int] = {}
    taken = 0  # by the host
    for group in groups:
        for kernel in group.kernels:
            if group.host:
                key = id(kernel.result.view.buffer)
                taken = max(taken, depth.get(key, 0))
                depth[key] = max(depth.get(key, 0), taken)
                continue
            arrives = max((depth.get(id(item.view.buffer), 0) for item in kernel.operands[1:]), default=0)
            key = id(kernel.result.view.buffer)
            depth[key] = max(depth.get(key, 0), arrives + kernel.steps)
    return max(depth.values(), default=0)
