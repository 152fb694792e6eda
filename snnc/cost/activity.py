"""What one instruction of ExpG-1 does: additions, comparisons, bytes, cycles; counted, expected, at worst."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.cost.fanout import spike_counts
from snnc.isa.arch import Arch
from snnc.isa.codec import WORD_BYTES
from snnc.isa.geometry import windows
from snnc.isa.order import GIVES, TAKES
from snnc.isa.program import Descriptor, Line, Step

__all__ = ["Activity", "estimated", "measured"]

Array = npt.NDArray[Any]
_FRAME = frozenset({"NOP", "HALT", "TDESC", "TSTRIDE"})
_ROOT_DIGITS = 31
_HEAD = 4


@dataclass(frozen=True)
class Activity:
    """What one instruction does.

    Attributes:
        cycles: Cycles of its queue.
        sops: Synaptic operations: one spike at one synapse.
        additions: Other additions and subtractions.
        comparisons: Comparisons.
        traffic: Bytes read and written, by memory; ``IMEM`` is the instruction itself, ``NOC``
            counts a byte for each hop.
    """

    cycles: int
    sops: int = 0
    additions: int = 0
    comparisons: int = 0
    traffic: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Spikes:
    """Spikes of an operand: their number, how many codes are not zero, and the most of one code."""

    total: float
    codes: float
    most: int


Count = Callable[[Array], _Spikes]


def popcount(values: Array) -> Array:
    """Return the set bits of the magnitude of each number."""
    rest = np.abs(values.astype(np.int64))
    total = spike_counts(rest & 0xFFFF).astype(np.int64)
    while (rest := rest >> 16).any():
        total = total + spike_counts(rest & 0xFFFF)
    return np.asarray(total)


def _counted(values: Array) -> _Spikes:
    bits = popcount(values)
    return _Spikes(int(bits.sum()), int(np.count_nonzero(values)), int(bits.max(initial=0)))


def _assumed(spikes: float, most: int) -> Count:
    def count(values: Array) -> _Spikes:
        return _Spikes(values.size * spikes, values.size, most)

    return count


def measured(step: Step, given: Mapping[str, Array], arch: Arch, hops: int = 0) -> Activity:
    """Count what an instruction did.

    Args:
        step: The instruction.
        given: Its operands as they were when it ran.
        arch: The machine.
        hops: Routers that a message which it gives passes.
    """
    return _activity(step, given, arch, _counted, hops)


def estimated(step: Step, line: Line, arch: Arch, hops: int = 0, *, worst: bool) -> Activity:
    """Estimate what an instruction will do, without data.

    Args:
        step: The instruction.
        line: What is known of the codes that it reads.
        arch: The machine.
        hops: Routers that a message which it gives passes.
        worst: Every code has its most spikes; otherwise every code of a book is as likely as any other.
    """
    if step.instruction.name in _FRAME:
        return _frame()
    most = line.spikes or step.instruction.fields.get("t", 1)
    mean = float(most) if worst else line.mean or most / 2
    given = {name: np.broadcast_to(np.int8(0), place.shape) for name, place in step.operands.items()}
    return _activity(step, given, arch, _assumed(mean, most), hops)


def _frame() -> Activity:
    return Activity(1, traffic={"IMEM": WORD_BYTES})


def _stored(place: Descriptor) -> int:
    """Return the bytes of the elements that are stored; repeated ones are read once."""
    extents = (n for n, stride in zip(place.shape, place.strides, strict=True) if stride)
    return math.prod(extents) * place.itemsize


def _activity(step: Step, given: Mapping[str, Array], arch: Arch, count: Count, hops: int) -> Activity:
    name = step.instruction.name
    if name in _FRAME:
        return _frame()
    if name in GIVES | TAKES:
        return _message(step, arch, hops)
    traffic: dict[str, int] = {"IMEM": WORD_BYTES}
    updated = step.instruction.form.operands("updates")
    for operand, place in step.operands.items():
        doubled = 2 if operand in updated and step.instruction.fields["add"] else 1
        if not (operand in ("rhs", "w") or (name == "LDX" and operand == "table")):
            traffic[place.memory] = traffic.get(place.memory, 0) + doubled * _stored(place)
    if name in ("LD", "ST", "LDX", "HGET", "HPUT"):
        size = _stored(step.operands["src" if name == "HGET" else "dst"])
        if name == "LDX":
            traffic["DRAM"] = traffic.get("DRAM", 0) + size
        return Activity(arch.dma_latency + -(-size // arch.dma_bytes), traffic=traffic)
    cycles, sops, additions, comparisons, rows = _RULES[name](step, given, arch.lanes, count)
    weights = step.operands.get("rhs") or step.operands.get("w")
    if weights is not None:
        traffic[weights.memory] = traffic.get(weights.memory, 0) + math.ceil(rows) * weights.itemsize
    return Activity(
        max(1, math.ceil(cycles)), math.ceil(sops), math.ceil(additions), math.ceil(comparisons), traffic
    )


def _message(step: Step, arch: Arch, hops: int) -> Activity:
    """A message is a word of 32 bits with its address and tag, and its elements."""
    sizes = [(place.memory, place.elements * place.itemsize) for place in step.operands.values()]
    traffic = {"IMEM": WORD_BYTES, **dict(sizes)}
    size = _HEAD + sum(size for _, size in sizes)
    if step.instruction.name in GIVES:
        traffic["NOC"] = size * hops
    return Activity(-(-size // arch.noc_bytes), traffic=traffic)


#: Cycles, synaptic operations, other additions, comparisons, weights read.
_Numbers = tuple[float, float, float, float, float]


def _smm(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    spikes, width = count(given["lhs"]), given["rhs"].shape[3]
    beats, rows = -(-width // lanes), math.prod(given["acc"].shape[:3])
    return (spikes.total + 2 * rows) * beats, spikes.total * width, 0, 0, spikes.codes * width


def _sconv(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    shape, kernel, width = given["acc"].shape, given["w"].shape[:2], given["w"].shape[3]
    beats = -(-width // lanes)
    total = codes = 0.0
    for _, _, _, seen in windows(given["inp"], kernel, shape[1:3], step.instruction.fields):
        spikes = count(seen)
        total, codes = total + spikes.total, codes + spikes.codes
    return (total + 2 * math.prod(shape[:3])) * beats, total * width, 0, 0, codes * width


def _sdwc(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    shape, kernel = given["acc"].shape, given["w"].shape[1:3]
    cycles = total = codes = 0.0
    for _, _, _, seen in windows(given["inp"], kernel, shape[1:3], step.instruction.fields):
        spikes = count(seen)
        total, codes = total + spikes.total, codes + spikes.codes
        cycles += -(-seen.size // lanes) * max(1, spikes.most)
    return cycles, total, 0, 0, codes


def _pool(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    fields, out = step.instruction.fields, given["dst"].shape
    seen = [
        part.size for _, _, _, part in windows(given["src"], (fields["kh"], fields["kw"]), out[1:3], fields)
    ]
    merges = sum(seen) if fields["add"] else max(0, sum(seen) - math.prod(out))
    cycles = sum(-(-size // lanes) for size in seen)
    return (cycles, 0, merges, 0, 0) if fields["f"] == 0 else (cycles, 0, 0, merges, 0)


def _red(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    source, results = given["src"], math.prod(given["src"].shape[:3])
    beats, merges = -(-source.size // lanes), source.size - results
    kind = step.instruction.fields["f"]
    if kind == 3:
        spikes = count(source)
        return beats * max(1, spikes.most), 0, max(0.0, spikes.total - spikes.codes) + merges, 0, 0
    return (beats, 0, merges, 0, 0) if kind == 0 else (beats, 0, 0, merges, 0)


def _fire(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    size, rounds = given["src"].size, given["thr"].shape[3].bit_length()
    beats = -(-size // lanes) * rounds
    if "gain" not in given:
        return beats, 0, 0, size * rounds, 0
    gain = count(np.broadcast_to(given["gain"], given["src"].shape))
    # Each comparison needs the gain times a threshold: as many additions as the gain has further bits.
    return beats * max(1, gain.most), 0, rounds * max(0.0, gain.total - gain.codes), size * rounds, 0


def _each(additions: int, comparisons: int = 0, rounds: int = 1) -> Any:
    def rule(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
        size = given["dst"].size
        return -(-size // lanes) * rounds, 0, size * additions, size * comparisons, 0

    return rule


def _valu(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    size = given["dst"].size
    adds = step.instruction.fields["f"] < 2
    return -(-size // lanes), 0, size * adds, size * (not adds), 0


def _sha(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    fields, shape = step.instruction.fields, given["dst"].shape
    if fields["useimm"]:
        bits = abs(fields["imm"]).bit_count()
        factor = _Spikes(math.prod(shape) * bits, math.prod(shape) * bool(bits), bits)
    else:
        factor = count(np.broadcast_to(given["b"], shape))
    return -(-math.prod(shape) // lanes) * max(1, factor.most), 0, max(0.0, factor.total - factor.codes), 0, 0


def _sew(step: Step, given: Mapping[str, Array], lanes: int, count: Count) -> _Numbers:
    spikes, size = count(np.broadcast_to(given["a"], given["dst"].shape)), given["dst"].size
    return -(-size // lanes) * max(1, spikes.most), spikes.total, 0, 0, 0


_RULES: Mapping[str, Any] = {
    "SMM": _smm,
    "SCONV": _sconv,
    "SDWC": _sdwc,
    "POOL": _pool,
    "RED": _red,
    "FIRE": _fire,
    "FIREG": _fire,
    "VALU": _valu,
    "SHA": _sha,
    "SEW": _sew,
    "SHR": _each(1),
    "ISQRT": _each(_ROOT_DIGITS, _ROOT_DIGITS, _ROOT_DIGITS),
    "MOV": _each(0),
    "SEL": _each(0),
    "BITS": _each(0),
    "FILL": _each(0),
}
