"""Comparing any two states of a network: which tensors differ, by how much, and on which samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.compile import choices_of_file, options_of_file, quantise, repairs_of_file
from snnc.debug.distance import Distance, OutputDistance, counterparts
from snnc.debug.states import State, Tensor
from snnc.debug.verify import Comparison, batch_size, batches
from snnc.errors import InputError, MismatchError, SnncError, Where
from snnc.ir import model_digest
from snnc.runtimes.common import check_inputs

__all__ = ["CompareReport", "Limits", "Pair", "Row", "compare", "pair_tensors"]

Array = npt.NDArray[Any]

#: Least SQNR of outputs, in dB, where both states compute in float: rounding in another order leaves 100.
FLOAT_DECIBEL = 80.0
#: Least SQNR of outputs, in dB, between a network in float and a coded one; codes of 4 steps leave 17.
CODED_DECIBEL = 10.0


@dataclass(frozen=True)
class Limits:
    """How much two states may differ.

    Attributes:
        bits: Every code and every output bit must be the same; None: if both states are exact.
        decibel: Least SQNR of each output in dB, where bits may differ; None: 80 if neither state is coded,
            else 10.
        agreement: Least share of samples with the same class, 0..1; None asks for none.
        error: Largest error of an output; None asks for none.
    """

    bits: bool | None = None
    decibel: float | None = None
    agreement: float | None = None
    error: float | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """A tensor of one state and what it is in the other.

    Attributes:
        first: In the first state.
        second: In the second state.
        step: What one unit of a code is worth; None where both are real, or both codes.
    """

    first: Tensor
    second: Tensor
    step: Array | None = None


@dataclass(eq=False)
class Row:
    """One tensor of both states.

    Attributes:
        tensor: Its name in the second state, and in the first where that differs.
        first: Its name in the first state.
        distance: Errors: of real numbers, or of codes where both states give codes.
        codes: Code by code, where both states are coded; None for a tensor that is real in one of them.
        output: Whether it is an output.
        classes: Whether it holds scores of classes.
    """

    tensor: str
    first: str
    distance: Distance
    codes: Comparison | None
    output: bool = False
    classes: bool = False

    @property
    def differs(self) -> bool:
        """Whether a code, or for real numbers a value, is not the same."""
        return self.codes.mismatches > 0 if self.codes is not None else self.distance.noise > 0


@dataclass
class CompareReport:
    """The outcome of ``snnc compare``.

    Attributes:
        first: Name and kind of the first state.
        second: Name and kind of the second state.
        samples: Number of samples compared.
        bits: Whether equal bits were required.
        limits: What was required, defaults filled in.
        rows: Inner tensors in the second state's graph order, then outputs.
        differing: Numbers of the samples that differ: in any bit where bits are required, else in class or
            by more than the limit.
        notes: What was left out, and why.
        unpaired: Number of inner tensors of the second state that the first does not have.
        reasons: Why the comparison failed; empty if it passed.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    samples: int
    bits: bool
    limits: Limits
    rows: list[Row] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unpaired: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the states agree within the limits."""
        return not self.reasons

    @property
    def outputs(self) -> list[Row]:
        """The rows of the network's outputs."""
        return [row for row in self.rows if row.output]

    @property
    def first_difference(self) -> Row | None:
        """The first row that breaks the limits, in graph order, or that differs most; None if all is well.

        A row breaks the limits by a bit that differs, where bits must agree, or by an SQNR below the limit.
        """
        if self.passed:
            return None
        limit = self.limits.decibel or 0.0
        for row in self.rows:
            low = row.distance.noise > 0 and (row.distance.decibel or -np.inf) < limit
            if row.differs if self.bits else low:
                return row
        return min(self.rows, key=_order, default=None)

    def mismatch(self) -> MismatchError | None:
        """Return the error that names the first difference, or None if the comparison passed."""
        if self.passed:
            return None
        row = self.first_difference
        return MismatchError(
            "SNN550",
            self.reasons[0] + (f"; first difference: {_detail(row)}" if row is not None else ""),
            where=Where(tensor=None if row is None else row.tensor),
            hint=f"snnc bisect {self.first[0]} --data … names the pass" if self.first[1] == "float" else None,
        )


def compare(
    first: State,
    second: State,
    inputs: Mapping[str, Array],
    limits: Limits | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CompareReport:
    """Run two states on the same samples and compare every tensor that both have.

    Args:
        first: What is expected.
        second: What is judged.
        inputs: Data by input name, axis 0 counts samples; a single array may have any name.
        limits: How much they may differ; default `Limits`.
        progress: Called with samples done and samples in all.

    Raises:
        InputError: SNN357, the states have no output in common; others if the data do not fit.
    """
    try:
        arrays = check_inputs(inputs, second.inputs)
    except SnncError as error:
        error.in_file(second.name)
        raise
    if {spec.name for spec in first.inputs} != set(arrays):
        raise InputError(
            "SNN357",
            f"inputs differ: {_names(first.inputs)} and {_names(second.inputs)}",
            hint="give two states of one network",
        )
    outputs = [name for name in second.outputs if name in first.outputs]
    if not outputs:
        raise InputError(
            "SNN357",
            f"no output in common: {', '.join(first.outputs)} and {', '.join(second.outputs)}",
            hint="give two states of one network",
        )
    filled = _filled(limits or Limits(), first, second)
    count = sample_count(arrays)
    report = CompareReport(
        (first.name, first.kind), (second.name, second.kind), count, bool(filled.bits), filled
    )
    pairs = pair_tensors(first, second, report.notes)
    report.unpaired = len(second.tensors) - len(pairs)
    rows = {pair.second.name: _row(pair) for pair in pairs}
    ends = {name: _output_row(name) for name in outputs}
    size = min(
        batch_size(first.model, [pair.first.name for pair in pairs]),
        batch_size(second.model, [pair.second.name for pair in pairs]),
    )
    fixed = [spec.shape[0] for state in (first, second) for spec in state.inputs if spec.shape[0]]
    size = max([size, *(each for each in fixed if each)])
    flags = np.zeros(count, dtype=bool)
    shapes: set[str] = set()
    for start, batch in batches(arrays, count, size):
        wanted, seen = first.run(batch, [pair.first.name for pair in pairs])
        found, tapped = second.run(batch, [pair.second.name for pair in pairs])
        part = flags[start : start + sample_count(batch)]
        for pair in pairs:
            left, right = seen[pair.first.name], tapped[pair.second.name]
            if (
                left.shape != right.shape
                and left.size == right.size
                and "bundle" in (first.kind, second.kind)
            ):
                right = right.reshape(left.shape)
            if left.shape != right.shape:
                shapes.add(pair.second.name)
                continue
            _add(rows[pair.second.name], pair, left, right, start, part if report.bits else None)
        for name, row in ends.items():
            _add_output(row, wanted[name], found[name], start, part, report)
        if progress is not None:
            progress(min(start + size, count), count)
    if shapes:
        report.notes.append(
            f"{len(shapes)} tensors have another shape in the other state: {', '.join(sorted(shapes)[:5])}"
        )
    report.rows = [*(row for name, row in rows.items() if row.distance.elements), *ends.values()]
    report.differing = [int(each) for each in np.flatnonzero(flags)]
    report.reasons = _reasons(report)
    return report


def pair_tensors(first: State, second: State, notes: list[str]) -> list[Pair]:
    """Find the tensors that two states have both, in the second one's graph order.

    Args:
        first: One state.
        second: The other.
        notes: Gets a line if steps could not be found.
    """
    steps = _steps_of_source(first, second, notes)
    known = {name: tensor for tensor in first.tensors for name in reversed(tensor.meanings)}
    known |= {tensor.name: tensor for tensor in first.tensors}
    pairs = []
    for tensor in second.tensors:
        site, step = steps.get(tensor.meanings[0], (None, None))
        names = [*tensor.meanings, *([site] if site else [])]
        match = next((known[name] for name in names if name in known), None)
        if match is None:
            continue
        worth = next((each for each in (match.step, tensor.step, step) if each is not None), None)
        if match.coded != tensor.coded and worth is None:
            continue
        pairs.append(Pair(match, tensor, worth))
    return pairs


def _steps_of_source(
    first: State, second: State, notes: list[str]
) -> dict[str, tuple[str | None, Array | None]]:
    """Quantise a source again, as a converted file says, to learn what its codes are worth.

    Returns:
        By the name of a coded tensor in the quantised network, the source's tensor and the step.
    """
    source = next((state for state in (first, second) if state.kind in ("float", "quantised")), None)
    spiking = next((state for state in (first, second) if state.kind in ("spike", "bundle")), None)
    if source is None or spiking is None or "snnc.format" not in spiking.model.metadata_props:
        return {}
    model = spiking.model
    if model.metadata_props.get("snnc.source") != model_digest(source.model):
        if source.kind == "float":
            notes.append(f"{spiking.name} was not made from {source.name}: only outputs are compared")
        return {}
    try:
        quantised = quantise(
            source.model, options_of_file(model), choices_of_file(model), repairs_of_file(model)
        )
    except SnncError as error:
        notes.append(f"the source cannot be quantised again, so only outputs are compared: {error.message}")
        return {}
    pairs, alone = counterparts(quantised, source.model)
    if alone:
        notes.append(f"{len(alone)} coded tensors stand for no tensor of the source")
    return {pair.code: (pair.tensor, pair.step) for pair in pairs}


def _filled(limits: Limits, first: State, second: State) -> Limits:
    bits = limits.bits if limits.bits is not None else first.exact and second.exact and limits.decibel is None
    both_float = first.kind == second.kind == "float"
    least = FLOAT_DECIBEL if both_float else CODED_DECIBEL
    return Limits(
        bits, limits.decibel if limits.decibel is not None else least, limits.agreement, limits.error
    )


def _names(specs: Sequence[Any]) -> str:
    return ", ".join(str(spec) for spec in specs)


def _row(pair: Pair) -> Row:
    codes = _codes_of(pair)
    comparison = Comparison(pair.second.name) if codes else None
    return Row(pair.second.name, pair.first.name, Distance(pair.first.name), comparison)


def _codes_of(pair: Pair) -> bool:
    """Whether both sides are codes, or real numbers on the grid of one."""
    return all(each.coded or each.step is not None for each in (pair.first, pair.second))


def _output_row(name: str) -> Row:
    return Row(name, name, OutputDistance(name), Comparison(name), output=True)


def _add(
    row: Row, pair: Pair, left: Array, right: Array, start: int, flags: npt.NDArray[np.bool_] | None
) -> None:
    if row.codes is not None:
        first, second = _as_codes(left, pair.first), _as_codes(right, pair.second)
        row.codes.add(first, second, start)
        if flags is not None and len(flags) and first.shape[0] % len(flags) == 0:
            flags |= (first != second).reshape(len(flags), -1).any(axis=1)
    row.distance.add(_as_reals(left, pair.first, pair.step), _as_reals(right, pair.second, pair.step))


def _as_codes(array: Array, tensor: Tensor) -> Array:
    if tensor.coded or tensor.step is None:
        return array.astype(np.int64)
    return np.rint(array.astype(np.float64) / tensor.step).astype(np.int64)


def _as_reals(array: Array, tensor: Tensor, step: Array | None) -> Array:
    return array.astype(np.float64) * step if tensor.coded and step is not None else array


def _add_output(
    row: Row, left: Array, right: Array, start: int, flags: npt.NDArray[np.bool_], report: CompareReport
) -> None:
    if left.shape != right.shape:
        raise InputError(
            "SNN357",
            f"has shape {list(left.shape)} and {list(right.shape)}",
            where=Where(tensor=row.tensor),
            hint="give two states of one network",
        )
    if row.codes is not None:
        row.codes.add(left, right.astype(left.dtype), start)
    row.distance.add(left, right)
    row.classes = is_classes(left)
    if len(left) % max(1, len(flags)) or not len(flags):
        return
    rows = [array.reshape(len(flags), -1) for array in (left, right)]
    if report.bits:
        flags |= (rows[0] != rows[1]).any(axis=1)
        return
    wanted, found = (array.astype(np.float64) for array in rows)
    noise = ((wanted - found) ** 2).sum(axis=1)
    ratio = 10.0 ** ((report.limits.decibel or 0.0) / 10)
    flags |= noise * ratio > np.maximum((wanted**2).sum(axis=1), np.finfo(np.float32).tiny)
    if row.classes:
        flags |= wanted.argmax(axis=1) != found.argmax(axis=1)


def is_classes(scores: Array) -> bool:
    """Whether an output holds scores of classes: one row of several numbers for each sample."""
    return scores.ndim == 2 and scores.shape[1] > 1


def _reasons(report: CompareReport) -> list[str]:
    reasons = []
    if report.bits:
        wrong = [row for row in report.rows if row.differs]
        if wrong:
            total = sum(row.codes.mismatches for row in wrong if row.codes is not None)
            reasons.append(
                f"{total} codes or values of {len(wrong)} tensors differ, where every bit must agree"
            )
    for row in report.outputs:
        distance, limits = row.distance, report.limits
        decibel = distance.decibel
        silent = distance.signal == 0.0 and distance.noise > 0.0
        if not report.bits and (silent or (decibel is not None and decibel < (limits.decibel or 0.0))):
            said = "no signal" if decibel is None else f"{decibel:.1f} dB"
            reasons.append(f"output {row.tensor} has an SQNR of {said}, below {limits.decibel:g} dB")
        if limits.error is not None and distance.largest_error > limits.error:
            reasons.append(
                f"output {row.tensor} is off by {distance.largest_error:.4g}, more than {limits.error:g}"
            )
        if limits.agreement is not None and isinstance(distance, OutputDistance):
            share = distance.agreeing / max(1, distance.samples)
            if share < limits.agreement:
                reasons.append(
                    f"output {row.tensor} names the same class for {share:.2%}, below {limits.agreement:.2%}"
                )
    return reasons


def _order(row: Row) -> float:
    return float("inf") if row.distance.decibel is None else row.distance.decibel


def _detail(row: Row) -> str:
    if row.codes is not None and row.codes.mismatches:
        text = f"{row.codes.mismatches} of {row.codes.elements} differ"
        if row.codes.first is not None:
            index, expected, found = row.codes.first
            text += f", the first at {list(index)}: {expected:g} and {found:g}"
        return text
    decibel = row.distance.decibel
    return f"largest error {row.distance.largest_error:.4g}" + (
        f", SQNR {decibel:.1f} dB" if decibel is not None else ""
    )
