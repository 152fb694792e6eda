"""What a bundle keeps of a program beside its words: machine, ports, lines, memory map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from snnc import strict
from snnc.errors import InputError
from snnc.isa.arch import MOST_CORES, arch_from
from snnc.isa.codec import decode_all
from snnc.isa.operands import fault
from snnc.isa.program import Channels, Descriptor, Line, Port, Program, Region, Tap, follow
from snnc.isa.table import DTYPES, MEMORIES

__all__ = ["program_from", "record_of"]

_LARGEST = 1 << 48
"""More than any address, extent or count."""


def _place(item: Descriptor) -> list[Any]:
    return [item.memory, item.dtype, item.base, list(item.shape), list(item.strides)]


def _whole(item: Any, low: int = 0, high: int = _LARGEST) -> int:
    if isinstance(item, bool) or not isinstance(item, int) or not low <= item <= high:
        raise ValueError(f"{item!r} is no number from {low} to {high}")
    return item


def _wholes(items: Any, low: int = 0, high: int = _LARGEST) -> tuple[int, ...]:
    if not isinstance(items, list):
        raise TypeError(f"{items!r} is no list")
    return tuple(_whole(item, low, high) for item in items)


def _text(item: Any) -> str:
    if not isinstance(item, str):
        raise TypeError(f"{item!r} is no text")
    return item


def _descriptor(item: Any, *memories: str) -> Descriptor:
    memory, dtype, base, shape, strides = item
    if memory not in (memories or MEMORIES) or dtype not in DTYPES:
        raise ValueError(f"{memory!r} of {dtype!r}")
    found = Descriptor(memory, dtype, _whole(base), _wholes(shape), _wholes(strides, -_LARGEST))
    if len(found.shape) != len(found.strides):
        raise ValueError("a place has as many strides as extents")
    return found


def _line(item: Any) -> Line:
    node, tensor, tile, spikes, mean = item
    if isinstance(mean, bool) or not isinstance(mean, int | float):
        raise TypeError(f"{mean!r} is no number")
    return Line(_text(node), _text(tensor), _text(tile), _whole(spikes), float(mean))


def _port(item: Any) -> Port:
    name, place, low, high, *rest = item
    late, channels = (rest[0], rest[1:]) if rest else (False, [])
    if not isinstance(late, bool):
        raise TypeError(f"{late!r} is no truth value")
    found, (least, most) = _descriptor(place, "DRAM"), _wholes([low, high], -_LARGEST)
    return Port(_text(name), found, least, most, late, *(_channels(each, found) for each in channels))


def _channels(item: Any, place: Descriptor) -> Channels:
    axis, *limits = item
    axis = _whole(axis, 0, len(place.shape) - 1)
    lows, highs = (_wholes(each, -_LARGEST) for each in limits)
    if not len(lows) == len(highs) == place.shape[axis]:
        raise ValueError(f"axis {axis} has {place.shape[axis]} indices, not {len(lows)} and {len(highs)}")
    return Channels(axis, lows, highs)


def _recorded(port: Port) -> list[Any]:
    item: list[Any] = [port.tensor, _place(port.place), port.low, port.high, port.late]
    return item if (own := port.channels) is None else [*item, [own.axis, own.lows, own.highs]]


def _tap(item: Any, count: int) -> Tap:
    pc, name, shape, begin, place = item
    found = Tap(_whole(pc, 0, count - 1), _text(name), _wholes(shape), _wholes(begin), _descriptor(place))
    for extent, first, part in zip(found.shape, found.begin, found.place.shape, strict=True):
        _whole(first + part, 0, extent)
    return found


def _region(item: Any) -> Region:
    memory, name, kind, *numbers = item
    if memory not in MEMORIES:
        raise ValueError(f"there is no memory {memory!r}")
    return Region(memory, _text(name), _text(kind), *_wholes(numbers))


def _bounds(item: Any) -> dict[str, tuple[int, int]]:
    found = {memory: _wholes(pair) for memory, pair in item.items()}
    return {memory: (peak, bound) for memory, (peak, bound) in found.items() if memory in MEMORIES}


def record_of(program: Program) -> bytes:
    """Return the JSON document ``program.json`` of a bundle; repeated lines are written once."""
    seen: dict[Line, int] = {}
    order = [seen.setdefault(line, len(seen)) for line in program.lines]
    content = {
        "arch": asdict(program.arch),
        "constants": [[name, _place(place)] for name, place in program.constants],
        "inputs": [_recorded(port) for port in program.inputs],
        "outputs": [[port.tensor, _place(port.place), port.low, port.high] for port in program.outputs],
        "lines": [[line.node, line.tensor, line.tile, line.spikes, line.mean] for line in seen],
        "line_of": order,
        "taps": [
            [tap.pc, tap.tensor, list(tap.shape), list(tap.begin), _place(tap.place)] for tap in program.taps
        ],
        "regions": [list(asdict(region).values()) for region in program.regions],
        "bounds": {memory: list(pair) for memory, pair in program.bounds.items()},
        "latency": program.latency,
        "host": [list(names) for names in program.host],
        "core_bounds": [
            {memory: list(pair) for memory, pair in bounds.items()} for bounds in program.core_bounds
        ],
        "sites": [list(site) for site in program.sites],
    }
    return (json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n").encode()


def program_from(record: bytes, binary: bytes, image: bytes) -> Program:
    """Return the program of a bundle.

    Raises:
        InputError: SNN369, the record is damaged, or the words do not end; SNN360, SNN361, the words are;
            SNN364, so is its machine; SNN365, SNN368, operands are not what the table says.
    """
    instructions = tuple(decode_all(binary))
    if not instructions or instructions[-1].name != "HALT":
        raise InputError("SNN369", "its words do not end with HALT")
    count = len(instructions)
    try:
        content: Mapping[str, Any] = strict.loads(record)
        lines = [_line(item) for item in content["lines"]]
        program = Program(
            arch_from(content["arch"]),
            instructions,
            tuple(lines[index] for index in _wholes(content["line_of"])),
            image,
            tuple((_text(name), _descriptor(place)) for name, place in content["constants"]),
            tuple(_port(item) for item in content["inputs"]),
            tuple(_port(item) for item in content["outputs"]),
            tuple(_tap(item, count) for item in content["taps"]),
            tuple(_region(item) for item in content["regions"]),
            _bounds(content["bounds"]),
            _whole(content["latency"]),
            (tuple(map(_text, content["host"][0])), tuple(map(_text, content["host"][1]))),
            tuple(_bounds(bounds) for bounds in content["core_bounds"]),
            tuple(
                (column, row) for column, row in (_wholes(site, 0, MOST_CORES) for site in content["sites"])
            ),
        )
        cores = sum(item.name == "HALT" for item in instructions)
        sizes = len(program.lines), len(program.sites), len(program.core_bounds)
        if sizes != (count, cores, cores):
            raise ValueError(f"it is about {sizes[0]} words of {sizes[1]} cores, not {count} of {cores}")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise InputError("SNN369", f"the record of the program is damaged: {error}") from error
    for step in follow(instructions):
        if (wrong := fault(step)) is not None:
            raise InputError("SNN368", f"instruction {step.index}, {step.instruction.name}: {wrong}")
    return program
