"""What each instruction does, on arrays.

Two executors of the same definition: ``parallel`` takes all time-steps of a code at once, ``serial`` sends
them one by one, doubling the membrane in between, and compares with scaled thresholds as the text says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError
from snnc.isa.geometry import search, windows
from snnc.isa.program import Step
from snnc.ops.exact import integer_matmul

__all__ = ["SEMANTICS"]

Array = npt.NDArray[Any]
_ROOT_BITS = 31
Semantics = Callable[[Step, Mapping[str, Array], bool], Array]


def _planes(codes: Array, steps: int) -> list[Array]:
    """Return the spikes of each time-step, the most significant first."""
    magnitude, sign = np.abs(codes.astype(np.int64)), np.sign(codes).astype(np.int64)
    return [(magnitude >> (steps - 1 - t) & 1) * sign for t in range(steps)]


def _checked(step: Step, codes: Array) -> int:
    steps = step.instruction.fields["t"]
    if codes.size and max(int(codes.max()), -int(codes.min())) >> steps:
        raise InputError("SNN368", f"instruction {step.index}: a code needs more than {steps} time-steps")
    return steps


def _charge(step: Step, codes: Array, serial: bool, deliver: Callable[[Array], Array]) -> Array:
    """Sum what spikes deliver over the window."""
    steps = _checked(step, codes)
    if not serial:
        return deliver(codes)
    membrane: Array | None = None
    for spikes in _planes(codes, steps):
        arriving = deliver(spikes)
        membrane = arriving if membrane is None else 2 * membrane + arriving
    return np.asarray(membrane)


def _product(a: Array, b: Array) -> Array:
    return integer_matmul(a, b, np.int64)


def _smm(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    fields = step.instruction.fields
    total = _charge(step, given["lhs"], serial, lambda spikes: _product(spikes, given["rhs"]))
    total = -total if fields["sub"] else total
    return total + given["acc"] if fields["add"] else total


def _window_sum(step: Step, given: Mapping[str, Array], serial: bool, *, depthwise: bool) -> Array:
    weights, acc = given["w"], given["acc"]
    kernel = weights.shape[1:3] if depthwise else weights.shape[:2]

    def deliver(spikes: Array) -> Array:
        total = np.zeros(acc.shape, np.int64)
        for i, j, (rows, columns), seen in windows(spikes, kernel, acc.shape[1:3], step.instruction.fields):
            if depthwise:
                total[:, rows, columns] += seen.astype(np.int64) * weights[0, i, j]
            else:
                total[:, rows, columns] += _product(seen, weights[i, j])
        return total

    total = _charge(step, given["inp"], serial, deliver)
    return total + acc if step.instruction.fields["add"] else total


def _sconv(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    return _window_sum(step, given, serial, depthwise=False)


def _sdwc(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    return _window_sum(step, given, serial, depthwise=True)


def _pool(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    fields, out = step.instruction.fields, given["dst"].shape
    source = given["src"].astype(np.int64)
    name = ("sum", "max", "min")[fields["f"]]
    bound = np.iinfo(np.int64)
    start = {"sum": 0, "max": bound.min, "min": bound.max}[name]
    join = {"sum": np.add, "max": np.maximum, "min": np.minimum}[name]
    total = given["dst"].astype(np.int64) if fields["add"] else np.full(out, start, np.int64)
    for _, _, (rows, columns), seen in windows(source, (fields["kh"], fields["kw"]), out[1:3], fields):
        total[:, rows, columns] = join(total[:, rows, columns], seen)
    return total


def _red(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    source = given["src"].astype(np.int64)
    kind = step.instruction.fields["f"]
    if kind == 0:
        return np.asarray(source.sum(axis=-1, keepdims=True))
    if kind == 3:
        return np.asarray((_times(source, source) if serial else source * source).sum(axis=-1, keepdims=True))
    return np.asarray((source.max if kind == 1 else source.min)(axis=-1, keepdims=True))


def _times(value: Array, gate: Array) -> Array:
    """Multiply by shift and add, gated by the bits of the second factor."""
    total = np.zeros(np.broadcast_shapes(value.shape, gate.shape), np.int64)
    shifted, rest = value.astype(np.int64), np.abs(gate.astype(np.int64))
    while rest.any():
        total += np.where(rest & 1, shifted, 0)
        shifted, rest = shifted << 1, rest >> 1
    return np.where(gate < 0, -total, total)


def _fire(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    thresholds, values = given["thr"], given["src"][0]
    return np.asarray(given["lut"][0, 0, 0].take(search(values, thresholds)))[None]


def _fireg(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    thresholds, lut = given["thr"], given["lut"][0, 0, 0]
    shifted = given["src"][0].astype(np.int64) << step.instruction.fields["f"]
    gain = np.maximum(given["gain"][0].astype(np.int64), 1)
    if not serial:
        return np.asarray(lut.take(search(np.floor_divide(shifted, gain), thresholds)))[None]
    reached = np.zeros(shifted.shape, np.intp)
    for j in range(thresholds.shape[-1]):
        reached += shifted >= gain * thresholds[..., j].astype(np.int64)
    return np.asarray(lut.take(reached))[None]


def _valu(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    fields = step.instruction.fields
    other: Any = fields["imm"] if fields["useimm"] else given["b"].astype(np.int64)
    join = (np.add, np.subtract, np.maximum, np.minimum)[fields["f"]]
    return np.asarray(join(given["a"].astype(np.int64), other))


def _sha(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    fields = step.instruction.fields
    factor = np.asarray(fields["imm"], np.int64) if fields["useimm"] else given["b"].astype(np.int64)
    value = given["a"].astype(np.int64)
    return _times(value, factor) if serial else value * factor


def _sew(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    held = given["b"].astype(np.int64)
    return _charge(step, given["a"], serial, lambda spikes: spikes.astype(np.int64) * held)


def _shr(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    shift = step.instruction.fields["sh"]
    return np.asarray((given["a"].astype(np.int64) + ((1 << shift) >> 1)) >> shift)


def _isqrt(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    rest = given["a"].astype(np.int64)
    if rest.size and rest.max() >> (2 * _ROOT_BITS) > 0:
        raise InputError("SNN368", f"instruction {step.index}: a root of what is beyond 2^62 - 1")
    root = np.zeros_like(rest)
    for bit in range(_ROOT_BITS - 1, -1, -1):
        cost = ((root << 1) + (1 << bit)) << bit
        fits = rest >= cost
        rest = np.where(fits, rest - cost, rest)
        root = np.where(fits, root + (1 << bit), root)
    return np.maximum(root, 1)


def _sel(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    other: Any = 0 if step.instruction.fields["zero"] else given["b"]
    return np.where(given["gate"] != 0, given["a"], other)


def _bits(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    fields = step.instruction.fields
    codes = given["src"].astype(np.int64)
    return np.asarray(np.sign(codes) * (np.abs(codes) >> fields["sh"] & ((1 << fields["bits"]) - 1)))


def _ldx(step: Step, given: Mapping[str, Array], serial: bool) -> Array:
    index, rows = given["index"][0, 0, 0], step.instruction.fields["rows"]
    if index.size and not -rows <= int(index.min()) <= int(index.max()) < rows:
        raise InputError("SNN347", f"an input asks for a row of a table of {rows} rows that is not there")
    blocks, row = np.divmod(np.where(index < 0, index + rows, index), given["table"].shape[2])
    return np.asarray(given["table"][0, blocks, row])[None, None]


#: What each instruction writes into its first operand. Instructions that only move are not listed.
SEMANTICS: Mapping[str, Semantics] = MappingProxyType(
    {
        "LD": lambda step, given, serial: given["src"],
        "ST": lambda step, given, serial: given["src"],
        "MOV": lambda step, given, serial: given["src"],
        "FILL": lambda step, given, serial: np.full(
            given["dst"].shape, step.instruction.fields["imm"], np.int64
        ),
        "LDX": _ldx,
        "SMM": _smm,
        "SCONV": _sconv,
        "SDWC": _sdwc,
        "POOL": _pool,
        "RED": _red,
        "FIRE": _fire,
        "FIREG": _fireg,
        "VALU": _valu,
        "SHA": _sha,
        "SEW": _sew,
        "SHR": _shr,
        "ISQRT": _isqrt,
        "SEL": _sel,
        "BITS": _bits,
    }
)
