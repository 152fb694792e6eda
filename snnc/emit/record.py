"""What a bundle keeps of a program beside its words: machine, ports, lines, memory map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from snnc import strict
from snnc.errors import InputError
from snnc.isa.arch import Arch
from snnc.isa.codec import decode_all
from snnc.isa.program import Descriptor, Line, Port, Program, Region, Tap

__all__ = ["program_from", "record_of"]


def _place(item: Descriptor) -> list[Any]:
    return [item.memory, item.dtype, item.base, list(item.shape), list(item.strides)]


def _descriptor(item: Any) -> Descriptor:
    memory, dtype, base, shape, strides = item
    return Descriptor(str(memory), str(dtype), int(base), tuple(map(int, shape)), tuple(map(int, strides)))


def record_of(program: Program) -> bytes:
    """Return the JSON document ``program.json`` of a bundle; repeated lines are written once."""
    seen: dict[Line, int] = {}
    order = [seen.setdefault(line, len(seen)) for line in program.lines]
    content = {
        "arch": asdict(program.arch),
        "constants": [[name, _place(place)] for name, place in program.constants],
        "inputs": [
            [port.tensor, _place(port.place), port.low, port.high, port.late] for port in program.inputs
        ],
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
        InputError: SNN369, the record is damaged, or the words do not end; SNN360, SNN361, the words are.
    """
    instructions = tuple(decode_all(binary))
    if not instructions or instructions[-1].name != "HALT":
        raise InputError("SNN369", "its words do not end with HALT")
    try:
        content: Mapping[str, Any] = strict.loads(record)
        lines = [Line(*item) for item in content["lines"]]
        return Program(
            Arch(**content["arch"]),
            instructions,
            tuple(lines[index] for index in content["line_of"]),
            image,
            tuple((name, _descriptor(place)) for name, place in content["constants"]),
            tuple(
                Port(name, _descriptor(place), low, high, late)
                for name, place, low, high, late in content["inputs"]
            ),
            tuple(Port(name, _descriptor(place), low, high) for name, place, low, high in content["outputs"]),
            tuple(
                Tap(pc, name, tuple(shape), tuple(begin), _descriptor(place))
                for pc, name, shape, begin, place in content["taps"]
            ),
            tuple(Region(*item) for item in content["regions"]),
            {memory: (pair[0], pair[1]) for memory, pair in content["bounds"].items()},
            content["latency"],
            (tuple(content["host"][0]), tuple(content["host"][1])),
            tuple(
                {memory: (pair[0], pair[1]) for memory, pair in bounds.items()}
                for bounds in content["core_bounds"]
            ),
            tuple((int(column), int(row)) for column, row in content["sites"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise InputError("SNN369", f"the record of the program is damaged: {error}") from error
