"""Comparing a converted network with its source, with the quantised oracle, and across all runtimes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.compile import choices_of_file, load_spiking, options_of_file, quantise, repairs_of_file
from snnc.debug.distance import Counterpart, Distance, OutputDistance, counterparts
from snnc.errors import InputError, InternalError, MismatchError, SnncError, Where
from snnc.ir import AI_SNNC, Model, load, model_digest
from snnc.ir.taps import elements_per_sample
from snnc.ops import attach_functions
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime, Runtime
from snnc.runtimes.common import check_inputs
from snnc.runtimes.oracle import QuantisedOracle

__all__ = [
    "Agreement",
    "Comparison",
    "VerifyReport",
    "batch_size",
    "batches",
    "coded_tensors",
    "cut",
    "fill",
    "verify",
]

Array = npt.NDArray[Any]
LEVELS = ("none", "basic", "extended", "all")
_BATCH = 64
_TAPPED_ELEMENTS = 1 << 24


@dataclass
class Comparison:
    """One tensor of one runtime against the oracle.

    Attributes:
        tensor: Name.
        elements: Number of elements compared.
        mismatches: Elements whose code (or whose 32 bits, for outputs) differ.
        first: Index (sample first), expected and found value of the first difference.
    """

    tensor: str
    elements: int = 0
    mismatches: int = 0
    first: tuple[tuple[int, ...], float, float] | None = None

    def add(self, expected: Array, found: Array, offset: int) -> None:
        """Compare one batch; ``offset`` is the number of its first sample."""
        self.elements += expected.size
        if expected.shape != found.shape:
            self.mismatches += max(1, expected.size)
            return
        if expected.dtype == np.float32:
            differs = expected.view(np.int32) != np.ascontiguousarray(found, dtype=np.float32).view(np.int32)
        else:
            differs = expected.astype(np.int64) != found.astype(np.int64)
        count = int(np.count_nonzero(differs))
        if count and self.first is None:
            index = tuple(int(i) for i in np.argwhere(differs)[0])
            self.first = ((index[0] + offset, *index[1:]), float(expected[index]), float(found[index]))
        self.mismatches += count


@dataclass
class Agreement:
    """All tensors of one runtime against the oracle, in graph order, outputs last."""

    runtime: str
    tensors: dict[str, Comparison] = field(default_factory=dict)

    @property
    def mismatches(self) -> int:
        """Number of differing codes and outputs."""
        return sum(comparison.mismatches for comparison in self.tensors.values())

    @property
    def identical(self) -> bool:
        """Whether every code and every output bit is the same."""
        return self.mismatches == 0

    @property
    def first(self) -> Comparison | None:
        """The first tensor, in graph order, that differs."""
        return next((comparison for comparison in self.tensors.values() if comparison.mismatches), None)


@dataclass
class VerifyReport:
    """The outcome of ``snnc verify``.

    Attributes:
        samples: Number of samples compared.
        agreements: One entry a runtime, against the quantised oracle.
        distances: Outputs of the oracle against those of the source in float; empty where the source
            cannot be run.
        tensors: Coded tensors of the oracle, times their steps, against the source's tensors of the same
            meaning, by the name of the coded tensor in the converted file, in graph order.
        accuracy: Correct samples by name (``source``, ``oracle`` and each runtime), where labels were given.
        notes: What was left out, and why.
    """

    samples: int
    agreements: list[Agreement]
    distances: list[OutputDistance]
    accuracy: dict[str, int]
    notes: list[str]
    tensors: dict[str, Distance] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Whether every runtime equals the oracle in every code and every output bit."""
        return all(agreement.identical for agreement in self.agreements)

    def first_mismatch(self) -> MismatchError | None:
        """Return the error that names the first differing tensor, index and both values, or None."""
        for agreement in self.agreements:
            comparison = agreement.first
            if comparison is None:
                continue
            detail = ""
            if comparison.first is not None:
                index, expected, found = comparison.first
                detail = f"; first at {index}: expected {expected:g}, found {found:g}"
            return MismatchError(
                "SNN510",
                f"{agreement.runtime} differs from the quantised network in {comparison.mismatches} of "
                f"{comparison.elements} elements{detail}",
                where=Where(tensor=comparison.tensor),
            )
        return None


def coded_tensors(model: Model) -> dict[str, str]:
    """Return the spiking tensors that neurons and encoders emit, in graph order.

    Returns:
        By name in the file, the name of the tensor of the quantised network that it stands for. They differ
        where a graph output, which has the user's name, is itself a code.
    """
    return {
        node.outputs[0].name or "": node.metadata_props.get("snnc.tensor") or node.outputs[0].name or ""
        for node in model.graph
        if node.domain == AI_SNNC and node.op_type in ("ExpGIF", "ExpGIFGain", "Encode")
    }


def verify(
    source: str | os.PathLike[str],
    converted: str | os.PathLike[str] | Model,
    inputs: Mapping[str, Array],
    labels: Array | None = None,
    *,
    runtimes: Mapping[str, Callable[[Model], Runtime]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Compare source, quantised oracle and every runtime, tensor by tensor.

    The quantised network is made again from the source with the options the converted file records, so
    the oracle does not depend on the file that is being judged.

    Args:
        source: The ONNX file the model was converted from.
        converted: The ``.snn.onnx`` file, or its model.
        inputs: Data by input name, axis 0 counts samples; a single array may have any name.
        labels: Class of every sample, for accuracies of the first output.
        runtimes: What to compare; default numpy packed, numpy time-stepped, and onnxruntime at four
            optimisation levels.
        progress: Called with samples done and samples in all.

    Returns:
        The report; whether all is identical is for the caller to judge.

    Raises:
        InputError: SNN339, labels do not match the samples; others from reading the files.
        MismatchError: SNN511, the file's spiking tensors are not those of the source's network.
    """
    model = load_spiking(converted) if not isinstance(converted, Model) else converted
    try:
        quantised = quantise(source, options_of_file(model), choices_of_file(model), repairs_of_file(model))
    except InternalError as error:
        if error.code != "SNN161":
            raise
        # The file records the quantisers of its own source, and this one needs another.
        raise MismatchError(
            "SNN511",
            "the converted file records no quantiser for this tensor: it was made from another model",
            where=Where(file=os.fspath(source), tensor=error.where.tensor),
            hint="give the model the file was converted from, or convert it again",
        ) from None
    taps = coded_tensors(model)
    _check_tensors(quantised, list(taps.values()))
    _check_outputs(quantised, model, os.fspath(source))
    made = {name: make(model) for name, make in (runtimes or default_runtimes()).items()}
    first = next(iter(made.values()))
    arrays = check_inputs(inputs, first.inputs)
    count = sample_count(arrays)
    if labels is not None and len(labels) != count:
        raise InputError("SNN339", f"there are {len(labels)} labels for {count} samples")
    report = VerifyReport(count, [Agreement(name) for name in made], [], {}, [])
    reference = _Source.open(source, quantised, model, taps, report)
    oracle = QuantisedOracle(quantised)
    fixed = first.inputs[0].shape[0]
    size = fixed or batch_size(model, taps)
    for start, batch in batches(arrays, count, size):
        outputs, codes = oracle.run_batch(fill(batch, fixed), list(taps.values()))
        expected, spikes = cut(outputs, batch, fixed), cut(codes, batch, fixed)
        truth = labels[start : start + len(next(iter(batch.values())))] if labels is not None else None
        _judge(report, "oracle", expected, first.outputs, truth)
        for agreement, runtime in zip(report.agreements, made.values(), strict=True):
            found = runtime.run(batch, list(taps))
            if taps and isinstance(runtime, OnnxRuntime):
                # Taps are outputs of a copy, where they block fusions: outputs come from the file as it is.
                found = {**found, **runtime.run(batch)}
            wanted = {name: spikes[meant] for name, meant in taps.items()}
            for name, array in {**wanted, **{name: expected[name] for name in first.outputs}}.items():
                agreement.tensors.setdefault(name, Comparison(name)).add(array, found[name], start)
            _judge(report, agreement.runtime, found, first.outputs, truth)
        if reference is not None:
            found = reference.measure(report, batch, expected, spikes)
            _judge(report, "source", found, first.outputs, truth)
        if progress is not None:
            progress(min(start + size, count), count)
    return report


def default_runtimes() -> dict[str, Callable[[Model], Runtime]]:
    """Return every runtime that must agree: numpy twice, onnxruntime at four optimisation levels."""
    opened: list[tuple[Model, OnnxRuntime]] = []

    def at(level: Any) -> Callable[[Model], Runtime]:
        def make(model: Model) -> Runtime:
            for known, runtime in opened:
                if known is model:
                    return runtime.at(level)
            opened.append((model, OnnxRuntime(model, optimisation=level)))
            return opened[-1][1]

        return make

    return {
        "numpy": NumpyPacked,
        "numpy-timestep": NumpyTimestep,
        **{f"onnxruntime ({level})": at(level) for level in LEVELS},
    }


def _check_tensors(quantised: Model, taps: Sequence[str]) -> None:
    known = [
        node.outputs[0].name or ""
        for node in quantised.graph
        if node.domain == AI_SNNC and node.op_type == "Quantise"
    ]
    missing = sorted(set(known) ^ set(taps))
    if missing:
        raise MismatchError(
            "SNN511",
            f"the spiking tensors are not those of the source's network: {', '.join(missing[:5])}",
            hint="give the model the file was converted from, or convert it again",
        )


def _check_outputs(quantised: Model, model: Model, source: str) -> None:
    ours, theirs = ([value.name or "" for value in each.graph.outputs] for each in (model, quantised))
    if ours != theirs:
        raise MismatchError(
            "SNN511",
            f"its outputs are {', '.join(theirs)}, those of the converted network {', '.join(ours)}",
            where=Where(file=source),
            hint="give the model the file was converted from, or convert it again",
        )


class _Source:
    """The float source, run without onnxruntime's optimiser, which changes quantised graphs."""

    def __init__(self, runtime: Runtime, pairs: Mapping[str, Counterpart]) -> None:
        self._runtime = runtime
        self._pairs = pairs
        self._taps = list(dict.fromkeys(pair.tensor for pair in pairs.values()))

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        quantised: Model,
        converted: Model,
        taps: Mapping[str, str],
        report: VerifyReport,
    ) -> _Source | None:
        """Return the source, or None (with a note) where it cannot run."""
        try:
            model = load(source)
            if converted.metadata_props.get("snnc.source", digest := model_digest(model)) != digest:
                report.notes.append(
                    f"the converted file was made from another model than {os.fspath(source)}"
                )
            attach_functions(model)
            runtime = OnnxRuntime(model, optimisation="none")
        except SnncError as error:
            report.notes.append(
                f"the source itself cannot be run, so its distance is not measured: {error.message}"
            )
            return None
        pairs, alone = counterparts(quantised, model)
        if alone:
            report.notes.append(
                f"{len(alone)} coded tensors stand for no tensor of the source: {', '.join(alone)}"
            )
        names = {meant: name for name, meant in taps.items()}
        return cls(runtime, {names[pair.code]: pair for pair in pairs})

    def measure(
        self,
        report: VerifyReport,
        batch: Mapping[str, Array],
        expected: Mapping[str, Array],
        codes: Mapping[str, Array],
    ) -> dict[str, Array]:
        """Add one batch to the distances; return the source's outputs.

        Args:
            report: What to add to.
            batch: Inputs.
            expected: The oracle's outputs.
            codes: The oracle's codes.
        """
        found = self._runtime.run(batch, self._taps)
        if not report.distances:
            report.distances = [OutputDistance(name) for name in self._runtime.outputs if name in expected]
        for distance in report.distances:
            distance.add(found[distance.tensor], expected[distance.tensor])
        for name, pair in self._pairs.items():
            meant, quantised = found[pair.tensor], codes[pair.code].astype(np.float32) * pair.step
            # A layout that a pass changed on the way, or integers of a lifted operator, cannot be compared.
            if meant.shape == quantised.shape and meant.dtype.kind == "f":
                report.tensors.setdefault(name, Distance(pair.tensor)).add(meant, quantised)
        return {name: found[name] for name in self._runtime.outputs}


def batch_size(model: Model, tensors: Iterable[str]) -> int:
    """Return how many samples are compared together, so that all compared tensors fit into some 100 MB.

    Args:
        model: The converted model.
        tensors: Names of the tensors compared.
    """
    return min(_BATCH, max(1, _TAPPED_ELEMENTS // elements_per_sample(model, tensors)))


def batches(arrays: Mapping[str, Array], count: int, step: int) -> Iterator[tuple[int, dict[str, Array]]]:
    """Iterate over slices of ``step`` samples, each with the number of its first sample."""
    for start in range(0, count, step):
        yield start, {name: array[start : start + step] for name, array in arrays.items()}


def fill(batch: Mapping[str, Array], fixed: int | None) -> dict[str, Array]:
    """Fill a batch up to the model's fixed size with its last sample."""
    if fixed is None:
        return dict(batch)
    return {
        name: np.concatenate([array, np.repeat(array[-1:], fixed - len(array), axis=0)])
        for name, array in batch.items()
    }


def cut(results: Mapping[str, Array], batch: Mapping[str, Array], fixed: int | None) -> dict[str, Array]:
    """Drop what was computed for the filling; an inner tensor may hold several rows a sample."""
    size = len(next(iter(batch.values())))
    if fixed is None or size == fixed:
        return dict(results)
    return {name: array[: array.shape[0] // fixed * size] for name, array in results.items()}


def _judge(
    report: VerifyReport, who: str, results: Mapping[str, Array], outputs: Sequence[str], truth: Array | None
) -> None:
    if truth is None:
        return
    scores = results[outputs[0]].reshape(len(truth), -1)
    correct = int(np.count_nonzero(scores.argmax(axis=1) == truth))
    report.accuracy[who] = report.accuracy.get(who, 0) + correct
