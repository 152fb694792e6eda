"""The overflow proof: the words executed on intervals, so that one run stands for all inputs.

Every element of every memory holds the smallest and the largest value it can have. Weights, thresholds and
tables are known exactly; inputs have the range that their port declares. The same run shows that no
instruction finds what it stops at: a code with more bits than time-steps, thresholds that do not ascend, a
row that a table does not have.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError
from snnc.isa.codec import decode_all
from snnc.isa.geometry import search, windows
from snnc.isa.order import in_turn, peer
from snnc.isa.program import Descriptor, Program, Step, follow, strided
from snnc.isa.proofs import Finding

__all__ = ["Overflow", "Reach", "bound"]

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]
#: Half of what 64 bits hold: bounds are computed in float64, whose rounding stays below the other half.
_WIDEST = 2**62


@dataclass(frozen=True)
class Overflow:
    """An instruction whose result may not fit its element type.

    Attributes:
        pc: Index of the instruction.
        low: Smallest value it may write.
        high: Largest one.
        dtype: Element type.
    """

    pc: int
    low: int
    high: int
    dtype: str


@dataclass
class Reach:
    """What the proof found.

    Attributes:
        overflows: Results that may not fit.
        stops: Instructions that may find what the machine stops at.
        ranges: Smallest and largest value that each instruction may write, by its index.
    """

    overflows: list[Overflow]
    ranges: dict[int, tuple[int, int]]
    stops: list[Finding] = field(default_factory=list)

    @property
    def accumulator_bits(self) -> int:
        """Bits of the widest result, its sign included."""
        widest = max((max(abs(low), abs(high)) for low, high in self.ranges.values()), default=0)
        return int(widest).bit_length() + 1


class _Memory:
    """Intervals, one element per first byte; constants are read from the image."""

    def __init__(self, size: int, image: npt.NDArray[np.uint8] | None = None) -> None:
        self.image = image
        self.begin = 0 if image is None else image.size
        self.low = np.zeros(max(0, size - self.begin), np.int64)
        self.high = np.zeros_like(self.low)

    def look(self, place: Descriptor) -> Pair:
        if self.image is not None and place.span[1] <= self.begin:
            exact = strided(self.image, place)
            return exact, exact
        if place.span[0] < self.begin:
            text = (
                f"bytes {place.span[0]}..{place.span[1]} of DRAM begin in the {self.begin} bytes of constants"
            )
            raise InputError("SNN366", text)
        strides = tuple(stride * place.itemsize * 8 for stride in place.strides)
        start = place.base - self.begin
        low, high = (
            np.lib.stride_tricks.as_strided(array[start:], place.shape, strides)
            for array in (self.low, self.high)
        )
        return low, high


def bound(program: Program, binary: bytes) -> Reach:
    """Bound every result of a program.

    Args:
        program: Constants, ports and machine.
        binary: Its words.

    Returns:
        The range of what each instruction writes, and what may overflow.

    Raises:
        InputError: SNN366, a tensor lies half in the constants.
    """
    steps = list(follow(decode_all(binary)))
    reach: dict[tuple[int, str], int] = {(-1, "DRAM"): len(program.image)}
    for port in (*program.inputs, *program.outputs):
        reach[-1, "DRAM"] = max(reach[-1, "DRAM"], port.place.span[1])
    for step in steps:
        for place, _ in step.accesses():
            space = _space(step, place)
            reach[space] = max(reach.get(space, 0), place.span[1])
    padded = np.zeros(-(-len(program.image) // 8) * 8, np.uint8)
    padded[: len(program.image)] = np.frombuffer(program.image, np.uint8)
    memory = {space: _Memory(size, padded if space[0] < 0 else None) for space, size in reach.items()}
    for port in program.inputs:
        low, high = memory[-1, "DRAM"].look(port.place)
        low[...], high[...] = port.limits()
    result = Reach([], {})
    messages: dict[tuple[int, int], deque[Pair]] = defaultdict(deque)
    for step in in_turn(steps):
        if step.operands:
            _execute(step, program, memory, messages, result)
    return result


def _space(step: Step, place: Descriptor) -> tuple[int, str]:
    return (-1 if place.memory == "DRAM" else step.core, place.memory)


def _execute(
    step: Step,
    program: Program,
    memory: Mapping[tuple[int, str], _Memory],
    messages: dict[tuple[int, int], deque[Pair]],
    result: Reach,
) -> None:
    given = {name: memory[_space(step, place)].look(place) for name, place in step.operands.items()}
    name = step.instruction.name
    if name == "SEND":
        low, high = given["src"]
        messages[step.core, peer(step)].append((low.copy(), high.copy()))
        return
    if name == "HGET":
        return
    if name == "HPUT":
        port = program.inputs[step.instruction.fields["port"]]
        low, high = (np.full(given["dst"][0].shape, value) for value in (port.low, port.high))
    elif name == "RECV":
        low, high = messages[peer(step), step.core].popleft()
    else:
        if (why := _stop(step, given)) is not None:
            result.stops.append(Finding("stop", step.index, f"{name}: {why}"))
        for least, most in _between(step, given):
            if max(-least, most) > _WIDEST:
                result.overflows.append(Overflow(step.index, least, most, "i64"))
        low, high = _RULES[name](step, given)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            result.stops.append(Finding("stop", step.index, f"{name}: a window sees nothing"))
            low, high = (np.nan_to_num(item, posinf=_WIDEST, neginf=-_WIDEST) for item in (low, high))
    target = step.operands[step.instruction.form.operands("writes", "updates")[0]]
    least, most = (int(low.min()), int(high.max())) if low.size else (0, 0)
    result.ranges[step.index] = (least, most)
    limits = {"i64": (-_WIDEST, _WIDEST)}.get(target.dtype)
    if limits is None:
        bits, signed = int(target.dtype[1:]), target.dtype[0] == "i"
        limits = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if least < limits[0] or most > limits[1]:
        result.overflows.append(Overflow(step.index, least, most, target.dtype))
    into = memory[_space(step, target)].look(target)
    into[0][...] = np.clip(low, -_WIDEST, _WIDEST).astype(np.int64).reshape(target.shape)
    into[1][...] = np.clip(high, -_WIDEST, _WIDEST).astype(np.int64).reshape(target.shape)


def _stop(step: Step, given: Mapping[str, Pair]) -> str | None:
    """Return what an instruction may stop at, or None."""
    fields, name = step.instruction.fields, step.instruction.name
    if "t" in fields:
        low, high = given["lhs" if name == "SMM" else "a" if name == "SEW" else "inp"]
        if max(-int(low.min(initial=0)), int(high.max(initial=0))) >> fields["t"]:
            return f"a code may need more than {fields['t']} time-steps"
    if name in ("FIRE", "FIREG"):
        low, high = given["thr"]
        if (low != high).any() or (np.diff(low.astype(np.int64), axis=-1) < 0).any():
            return "its thresholds do not ascend"
    if name == "LDX":
        low, high = given["index"]
        if int(low.min(initial=0)) < -fields["rows"] or int(high.max(initial=0)) >= fields["rows"]:
            return "its table has no such row"
    return None


def _between(step: Step, given: Mapping[str, Pair]) -> Iterator[tuple[int, int]]:
    """Iterate over the ranges of what an instruction computes on the way."""
    fields, name = step.instruction.fields, step.instruction.name
    if name == "FIREG":
        low, high = given["src"]
        yield int(low.min(initial=0)) << fields["f"], int(high.max(initial=0)) << fields["f"]
        gain, limits = max(1, int(given["gain"][1].max(initial=1))), given["thr"][0]
        yield gain * int(limits.min(initial=0)), gain * int(limits.max(initial=0))
    elif name == "ISQRT":
        # Roots are those of numbers below 2^62: the largest that is one of them is one too many.
        yield 0, int(given["a"][1].max(initial=0)) + 1
    elif name == "SHR":
        half = (1 << fields["sh"]) >> 1
        low, high = given["a"]
        yield int(low.min(initial=0)), int(high.max(initial=0)) + half


def _real(pair: Pair) -> Pair:
    return pair[0].astype(np.float64), pair[1].astype(np.float64)


def _product(x: Pair, w: Pair) -> Pair:
    """Bound a matrix product; the weights may be intervals too."""
    (low, high), (least, most) = _real(x), _real(w)
    if np.array_equal(least, most):
        up, down = np.maximum(most, 0), np.minimum(most, 0)
        return low @ up + high @ down, high @ up + low @ down
    if low.min(initial=0) >= 0 and least.min(initial=0) >= 0:
        return low @ least, high @ most
    reach = np.maximum(np.abs(low), np.abs(high)) @ np.maximum(np.abs(least), np.abs(most))
    return -reach, reach


def _times(x: Pair, w: Pair) -> Pair:
    (low, high), (least, most) = _real(x), _real(w)
    corners = [low * least, low * most, high * least, high * most]
    return np.minimum.reduce(corners), np.maximum.reduce(corners)


def _smm(step: Step, given: Mapping[str, Pair]) -> Pair:
    low, high = _product(given["lhs"], given["rhs"])
    if step.instruction.fields["sub"]:
        low, high = -high, -low
    return _onto(step, given, low, high)


def _onto(step: Step, given: Mapping[str, Pair], low: Array, high: Array) -> Pair:
    if not step.instruction.fields["add"]:
        return low, high
    return low + given["acc"][0], high + given["acc"][1]


def _window(step: Step, given: Mapping[str, Pair]) -> Pair:
    fields, depthwise = step.instruction.fields, step.instruction.name == "SDWC"
    weights, shape = given["w"][0], given["acc"][0].shape
    kernel = weights.shape[1:3] if depthwise else weights.shape[:2]
    low, high = np.zeros(shape), np.zeros(shape)
    seen = zip(
        windows(given["inp"][0], kernel, shape[1:3], fields),
        windows(given["inp"][1], kernel, shape[1:3], fields),
        strict=True,
    )
    for (i, j, (rows, columns), least), (_, _, _, most) in seen:
        weight = weights[0, i, j] if depthwise else weights[i, j]
        part = (_times if depthwise else _product)((least, most), (weight, weight))
        # What a window leaves out does not count; what it sees adds to the range.
        low[:, rows, columns] += part[0]
        high[:, rows, columns] += part[1]
    return _onto(step, given, low, high)


def _pool(step: Step, given: Mapping[str, Pair]) -> Pair:
    fields, shape = step.instruction.fields, given["dst"][0].shape
    kind = fields["f"]
    results = []
    for array, held in zip(given["src"], given["dst"], strict=True):
        start = (0.0, -np.inf, np.inf)[kind]
        join = (np.add, np.maximum, np.minimum)[kind]
        total = held.astype(np.float64) if fields["add"] else np.full(shape, start)
        for _, _, (rows, columns), seen in windows(array, (fields["kh"], fields["kw"]), shape[1:3], fields):
            total[:, rows, columns] = join(total[:, rows, columns], seen)
        results.append(total)
    return results[0], results[1]


def _red(step: Step, given: Mapping[str, Pair]) -> Pair:
    low, high = _real(given["src"])
    kind = step.instruction.fields["f"]
    if kind == 3:
        squares = np.maximum(low * low, high * high)
        return np.zeros((*low.shape[:-1], 1)), squares.sum(axis=-1, keepdims=True)
    join = (np.sum, np.max, np.min)[kind]
    return join(low, axis=-1, keepdims=True), join(high, axis=-1, keepdims=True)


def _fire(step: Step, given: Mapping[str, Pair]) -> Pair:
    codes = given["lut"][0][0, 0, 0]
    shape = given["src"][0].shape
    if step.instruction.name == "FIRE" and (np.diff(codes.astype(np.int64)) >= 0).all():
        thresholds = given["thr"][0]
        found = [codes.take(search(np.asarray(values)[0], thresholds))[None] for values in given["src"]]
        return found[0], found[1]
    return np.full(shape, codes.min()), np.full(shape, codes.max())


def _other(step: Step, given: Mapping[str, Pair]) -> Pair:
    fields = step.instruction.fields
    if fields["useimm"]:
        exact = np.asarray(fields["imm"])
        return exact, exact
    return given["b"]


def _valu(step: Step, given: Mapping[str, Pair]) -> Pair:
    (low, high), (least, most) = _real(given["a"]), _real(_other(step, given))
    kind = step.instruction.fields["f"]
    if kind == 1:
        return low - most, high - least
    join = (np.add, np.add, np.maximum, np.minimum)[kind]
    return join(low, least), join(high, most)


def _shr(step: Step, given: Mapping[str, Pair]) -> Pair:
    shift = step.instruction.fields["sh"]
    half = (1 << shift) >> 1
    low, high = ((array.astype(np.int64) + half) >> shift for array in given["a"])
    return low, high


def _isqrt(step: Step, given: Mapping[str, Pair]) -> Pair:
    # What is negative has the root of 0, as in the machine.
    low, high = (np.maximum(np.sqrt(np.maximum(array, 0).astype(np.float64)), 1) for array in given["a"])
    return np.floor(low) - (low > 1), np.ceil(high)


def _sel(step: Step, given: Mapping[str, Pair]) -> Pair:
    zero = np.zeros((1, 1, 1, 1), np.int64)
    other = (zero, zero) if step.instruction.fields["zero"] else given["b"]
    return np.minimum(given["a"][0], other[0]), np.maximum(given["a"][1], other[1])


def _bits(step: Step, given: Mapping[str, Pair]) -> Pair:
    fields = step.instruction.fields
    low, high = given["src"]
    reach = np.maximum(np.abs(low), np.abs(high)) >> fields["sh"]
    most = np.minimum(reach, (1 << fields["bits"]) - 1)
    return np.where(low < 0, -most, 0), np.where(high > 0, most, 0)


def _ldx(step: Step, given: Mapping[str, Pair]) -> Pair:
    table, shape = given["table"][0][0], given["dst"][0].shape
    return np.broadcast_to(table.min(axis=(0, 1)), shape), np.broadcast_to(table.max(axis=(0, 1)), shape)


def _same(step: Step, given: Mapping[str, Pair]) -> Pair:
    return given["src"][0].copy(), given["src"][1].copy()


def _fill(step: Step, given: Mapping[str, Pair]) -> Pair:
    value = np.full(given["dst"][0].shape, step.instruction.fields["imm"])
    return value, value


_RULES: Mapping[str, Any] = {
    "LD": _same,
    "ST": _same,
    "MOV": _same,
    "FILL": _fill,
    "LDX": _ldx,
    "SMM": _smm,
    "SCONV": _window,
    "SDWC": _window,
    "POOL": _pool,
    "RED": _red,
    "FIRE": _fire,
    "FIREG": _fire,
    "VALU": _valu,
    "SHA": lambda step, given: _times(given["a"], _other(step, given)),
    "SEW": lambda step, given: _times(given["a"], given["b"]),
    "SHR": _shr,
    "ISQRT": _isqrt,
    "SEL": _sel,
    "BITS": _bits,
}
