"""Finding the pass after which a property of a network fails, and the tensor, node and rewrite in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.debug.compare import CompareReport, Limits, compare
from snnc.debug.locate import Place, locate, spoiled
from snnc.debug.script import Script
from snnc.debug.states import State, state_of
from snnc.debug.steps import Failure, Step
from snnc.errors import InputError, MismatchError, SnncError, UsageError, Where
from snnc.runtimes.common import check_inputs

__all__ = ["METRICS", "Bisection", "Judgement", "Metric", "bisect"]

Array = npt.NDArray[Any]
Metric = Literal["claims", "sqnr", "accuracy", "agreement", "script"]
METRICS: tuple[Metric, ...] = ("claims", "sqnr", "accuracy", "agreement", "script")

#: Approximating passes whose cost depends on what the user asked for: codes, weights, another attention.
#: The other ones change no more than the last bits of real numbers.
_COSTLY = frozenset(
    {
        "to-float32",
        "recode",
        "group-attention",
        "split-softmax",
        "gate-masks",
        "encode-input",
        "insert-quantisers",
        "integer-weights",
    }
)
#: SQNR in dB that rounding of real numbers in another order leaves at least, and what is left of a network of
#: codes, where it flips some of them.
_ROUNDING, _FLIPPED = 80.0, 30.0
#: What such rounding costs at most, in dB, where codes have cost something already.
_FLIPS = 6.0
#: A tensor that is worse than this share of the threshold, in dB, is spoiled; coarse codes leave 9 dB.
_SPOILED = 0.8
_DEFAULTS: Mapping[str, float] = {"claims": 10.0, "sqnr": 10.0, "agreement": 0.9}
#: What evaluating a graph raises that a pass left in a state that no runtime was made for.
_BROKEN = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
#: Accuracy that may be lost unless the user says how much is too much.
_LOST = 0.02


@dataclass(frozen=True)
class Judgement:
    """What was found out about one state.

    Attributes:
        index: Number of the pass, from 1; 0 for the source.
        name: Name of the pass.
        semantics: ``exact`` or ``approximate``.
        value: The metric: dB, a share, an exit status; None where there is no noise, or nothing was measured.
        good: Whether the property holds.
        text: The value in words, or why the property fails.
    """

    index: int
    name: str
    semantics: str
    value: float | None
    good: bool
    text: str


@dataclass
class Bisection:
    """The outcome of ``snnc bisect``.

    Attributes:
        metric: What was asked.
        threshold: From where on the property holds; None for a script.
        samples: Number of samples used.
        judgements: The states that were judged, in order.
        guilty: The first state with which the property fails; None if it holds to the end.
        failure: A pass that raised, where every state before it is good.
        place: Where in the guilty state, as far as that can be told.
        step: The guilty step.
        before: The step before it.
    """

    metric: Metric
    threshold: float | None
    samples: int
    judgements: list[Judgement] = field(default_factory=list)
    guilty: Judgement | None = None
    failure: Failure | None = None
    place: Place | None = None
    step: Step | None = None
    before: Step | None = None

    def error(self) -> MismatchError | None:
        """Return the error that names pass, tensor and node, or None if the property holds."""
        if self.failure is not None:
            return MismatchError(
                "SNN551", f"the pass failed: {self.failure.error}", where=Where(pass_name=self.failure.name)
            )
        if self.guilty is None:
            return None
        place = self.place
        return MismatchError(
            "SNN551",
            f"is the first pass after which the property fails: {self.guilty.text}",
            where=Where(
                pass_name=self.guilty.name,
                node=None if place is None else place.node,
                tensor=None if place is None else place.tensor,
            ),
        )


def bisect(
    steps: Sequence[Step],
    failure: Failure | None,
    inputs: Mapping[str, Array] | None,
    metric: Metric = "claims",
    threshold: float | None = None,
    *,
    labels: Array | None = None,
    script: Script | None = None,
    binary: bool = False,
    progress: Callable[[Judgement], None] | None = None,
) -> Bisection:
    """Find the first pass after which a property fails.

    Args:
        steps: The states, the source first.
        failure: The pass that raised, if one did.
        inputs: Samples by input name; a script needs none, but without them no tensor is named.
        metric: The property. ``claims``: no pass costs more than its kind may. ``sqnr``: the outputs stay
            that near to the source's. ``accuracy``: enough samples are classified as their labels say.
            ``agreement``: as the source does. ``script``: a command ends with 0.
        threshold: From where on the property holds: dB, or a share.
        labels: Class of each sample, for ``accuracy``.
        script: The command, for ``script``.
        binary: Halve the range instead of going through all states: fewer are judged, but the pass found is
            the first only if the property never recovers.
        progress: Called with each judgement.

    Raises:
        UsageError: SNN296, samples, labels or a command are missing.
        InputError: SNN356, the property already fails for the source.
    """
    judge = _Judge(steps, inputs, metric, threshold, labels, script)
    result = Bisection(metric, judge.threshold, judge.count)

    def look(place: int) -> Judgement:
        found = judge(place)
        result.judgements.append(found)
        if progress is not None:
            progress(found)
        return found

    first = look(0)
    if not first.good:
        raise InputError(
            "SNN356",
            f"the property fails before the first pass: {first.text}",
            hint="compare data, labels and threshold with the source",
        )
    guilty = _halve(len(steps), look) if binary and metric != "claims" else _walk(len(steps), look)
    result.judgements.sort(key=lambda each: each.index)
    if guilty is None:
        result.failure = failure
        return result
    result.step, result.before = steps[guilty], steps[guilty - 1]
    result.guilty = next(each for each in result.judgements if each.index == result.step.index)
    result.place = judge.locate(guilty)
    return result


def _walk(count: int, look: Callable[[int], Judgement]) -> int | None:
    return next((place for place in range(1, count) if not look(place).good), None)


def _halve(count: int, look: Callable[[int], Judgement]) -> int | None:
    good, bad = 0, count - 1
    if bad == 0 or look(bad).good:
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if look(middle).good else (good, middle)
    return bad


class _Judge:
    """Judges states; keeps the last two that were run, and the source's outputs."""

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Mapping[str, Array] | None,
        metric: Metric,
        threshold: float | None,
        labels: Array | None,
        script: Script | None,
    ) -> None:
        self._steps, self._metric, self._labels, self._script = steps, metric, labels, script
        if metric == "script" and script is None:
            raise UsageError("SNN296", "there is no script", hint="add --script 'COMMAND {}'")
        if metric != "script" and inputs is None:
            raise UsageError("SNN296", "this metric needs samples", hint="add --data x.npz")
        if metric == "accuracy" and labels is None:
            raise UsageError("SNN296", "accuracy needs labels", hint="add --labels y.npy")
        self._states: dict[int, State] = {}
        self._outputs: dict[int, dict[str, Array]] = {}
        self._decibels: dict[int, float] = {}
        self._inputs: dict[str, Array] = {}
        self.count = 0
        self.threshold = threshold if threshold is not None else _DEFAULTS.get(metric)
        if inputs is not None:
            self._inputs = check_inputs(inputs, self._state(0).inputs)
            self.count = sample_count(self._inputs)
            if labels is not None and len(labels) < self.count:
                raise InputError("SNN339", f"there are {len(labels)} labels for {self.count} samples")
        if metric == "accuracy" and threshold is None:
            self.threshold = round(max(0.0, self._accuracy(self._run(0)) - _LOST), 6)

    def __call__(self, place: int) -> Judgement:
        step = self._steps[place]
        try:
            value, good, text = self._measure(place)
        except SnncError as error:
            if error.exit_code in (2, 6) or place == 0:
                raise
            value, good, text = None, False, f"the state cannot be run: {error.message}"
        except _BROKEN as error:
            if place == 0:
                raise
            text = f"the state cannot be run: {type(error).__name__}: {error}"
            value, good = None, False
        return Judgement(step.index, step.name, step.semantics, value, good, text)

    def locate(self, place: int) -> Place | None:
        """Name tensor, node and rewrite of a state in which something differs from the state before."""
        if not self._inputs:
            return None
        step = self._steps[place]
        for settled in (None, False):
            try:
                if settled is not None:
                    # The oracle does not take a state that is wrong in this way; onnxruntime may.
                    for each in (place - 1, place):
                        opened, name = self._steps[each].open(), self._steps[each].name
                        self._states[each] = state_of(opened, name, settled=settled)
                report, state = self._against_previous(place), self._state(place)
                return locate(report, state.model, step, float_only=state.kind == "float")
            except (SnncError, *_BROKEN):
                continue
        return None

    def _measure(self, place: int) -> tuple[float | None, bool, str]:
        limit = self.threshold or 0.0
        if self._metric == "script" and self._script is not None:
            status = self._script.status(self._steps[place].open())
            return float(status), status == 0, f"exit status {status}"
        outputs = self._run(place)
        if self._metric == "accuracy":
            share = self._accuracy(outputs)
            return share, share >= limit, f"accuracy {share:.2%}" + _below(share, limit, f"{limit:.2%}")
        if self._metric == "agreement":
            share = _agreement(self._first(self._run(0)), self._first(outputs))
            return share, share >= limit, f"agreement {share:.2%}" + _below(share, limit, f"{limit:.2%}")
        decibel = self._decibel(place)
        value = None if np.isinf(decibel) else decibel
        text = "no error" if decibel == np.inf else f"SQNR {decibel:.1f} dB"
        if decibel < limit:
            return value, False, text + _below(decibel, limit, f"{limit:g} dB")
        if self._metric == "claims" and place > 0:
            said = self._broken_claim(place, decibel)
            if said is not None:
                return value, False, said
        return value, True, text

    def _broken_claim(self, place: int, decibel: float) -> str | None:
        """Say which claim of its pass a state breaks, if any."""
        step, previous = self._steps[place], self._decibel(place - 1)
        if self._state(place).exact and self._state(place - 1).exact:
            report = self._against_previous(place)
            return None if report.passed else f"{report.reasons[0]}, after an exact pass"
        if step.semantics == "approximate" and step.name in _COSTLY:
            row = spoiled(
                self._against_previous(place), self._state(place).model, (self.threshold or 0.0) / 2
            )
            return None if row is None else f"{row.tensor} is spoiled, though what it is made from is not"
        in_float = self._state(place).kind == self._state(place - 1).kind == "float"
        least = _ROUNDING if in_float else _FLIPPED
        if step.semantics == "approximate":
            least = min(least, previous - _FLIPS)
        near = min(_sqnr(old, self._run(place)[name]) for name, old in self._run(place - 1).items())
        if near >= least and decibel >= min(least, previous - _FLIPS):
            return None
        kind = "an exact pass" if step.semantics == "exact" else "a pass that only rounds"
        if decibel < previous - 1.0:
            return f"SQNR falls from {_decibels(previous)} to {_decibels(decibel)} after {kind}"
        return f"outputs are only within {_decibels(near)} of those before {kind}"

    def _against_previous(self, place: int) -> CompareReport:
        return compare(self._state(place - 1), self._state(place), self._inputs, Limits())

    def _state(self, place: int) -> State:
        if place not in self._states:
            step = self._steps[place]
            # Only the newest two are kept: sessions are large.
            for old in [each for each in self._states if each not in (0, place - 1)]:
                del self._states[old]
            self._states[place] = state_of(step.open(), step.name, settled=step.settled)
        return self._states[place]

    def _run(self, place: int) -> dict[str, Array]:
        if place not in self._outputs:
            state = self._state(place)
            missing = [name for name in self._state(0).outputs if name not in state.outputs]
            if missing:
                raise InputError("SNN357", f"the state has lost the outputs {', '.join(missing)}")
            self._outputs[place] = state.run(self._inputs)[0]
        return self._outputs[place]

    def _decibel(self, place: int) -> float:
        """Return the SQNR of all outputs to those of the source."""
        if place not in self._decibels:
            wanted, found = self._run(0), self._run(place)
            worst = min((_sqnr(wanted[name], found[name]) for name in wanted), default=np.inf)
            self._decibels[place] = worst
        return self._decibels[place]

    def _first(self, outputs: Mapping[str, Array]) -> Array:
        return outputs[self._state(0).outputs[0]]

    def _accuracy(self, outputs: Mapping[str, Array]) -> float:
        scores = self._first(outputs).reshape(self.count, -1)
        truth = np.asarray(self._labels)[: self.count]
        return float(np.mean(scores.argmax(axis=1) == truth))


def _sqnr(wanted: Array, found: Array) -> float:
    if wanted.shape != found.shape:
        return -np.inf
    signal, other = wanted.astype(np.float64), found.astype(np.float64)
    # A network may overflow; what is not finite is judged below.
    with np.errstate(all="ignore"):
        noise = float(((signal - other) ** 2).sum())
        power = float((signal**2).sum())
    if noise == 0.0:
        return float(np.inf)
    return float(10 * np.log10(power / noise)) if power > 0 and np.isfinite(noise) else -np.inf


def _agreement(wanted: Array, found: Array) -> float:
    rows = [array.reshape(len(array), -1).argmax(axis=1) for array in (wanted, found)]
    return float(np.mean(rows[0] == rows[1]))


def _below(value: float, limit: float, text: str) -> str:
    return f", below {text}" if value < limit else ""


def _decibels(value: float) -> str:
    return "no error" if value == np.inf else f"{value:.1f} dB"
