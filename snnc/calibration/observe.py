"""Calibration: run a float network on samples and keep what the step search needs, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.calibration.stand_in import quantised_stand_in
from snnc.data import Batches, Samples
from snnc.ir import DataType, Model, concrete_shapes
from snnc.ir.rewrite import drop_unused
from snnc.ops import attach_functions
from snnc.passes.quantise.histogram import Distribution, Histogram
from snnc.passes.quantise.insert_quantisers import TensorSample

__all__ = ["Calibration"]

#: Bytes of observed tensors that a batch may take; a sample needs what it needs.
_BYTES_AT_ONCE = 128 << 20
_MOST_AT_ONCE = 8
_VALUES_KEPT = 1 << 18


class Calibration:
    """Observes tensors of a network on calibration data, batch by batch, in one pass for all of them.

    Args:
        samples: Calibration data.
        progress: Called with samples done and samples in all, or None where that is not known.

    Attributes:
        count: Samples read; 0 before the first pass.
        digest: Digest of the samples as the network sees them.
    """

    def __init__(self, samples: Samples, progress: Callable[[int, int | None], None] | None = None) -> None:
        self.samples = samples
        self._progress = progress
        self.count = 0
        self.digest = ""

    def __call__(
        self,
        model: Model,
        axes: Mapping[str, tuple[int, ...]],
        places: Mapping[str, tuple[tuple[int, int], ...]] | None = None,
    ) -> Mapping[str, Distribution]:
        """Run the model and count the values of tensors.

        Args:
            model: A model in the quant dialect or on its way into it; not changed.
            axes: For each tensor wanted, the axes along which channels are told apart.
            places: For each tensor, axes of which one place alone counts, and that place.

        Returns:
            How the values of each tensor are spread.
        """
        histograms = {name: Histogram(along) for name, along in axes.items()}
        chosen = places or {}

        def add(name: str, array: npt.NDArray[Any]) -> None:
            for axis, place in chosen.get(name, ()):
                array = np.take(array, [place], axis=axis)
            histograms[name].add(array)

        self.each_batch(model, list(axes), add)
        return {name: histogram.distribution() for name, histogram in histograms.items()}

    def sample(self, model: Model, names: Sequence[str]) -> Mapping[str, TensorSample]:
        """Run the model and keep some values of tensors, evenly spread over all samples.

        Args:
            model: As above.
            names: Tensors wanted.
        """
        gatherers = {name: _Gatherer() for name in names}
        self.each_batch(model, list(names), lambda name, array: gatherers[name].add(array))
        return {name: gatherer.sample() for name, gatherer in gatherers.items()}

    def each_batch(
        self, model: Model, names: Sequence[str], take: Callable[[str, npt.NDArray[Any]], None]
    ) -> None:
        """Run a model on all samples and hand each tensor wanted to a function, batch by batch.

        Args:
            model: As above.
            names: Tensors wanted.
            take: Called with the name and the values of a tensor.
        """
        from snnc.runtimes import OnnxRuntime

        size = _samples_at_once(model, names)
        runtime = OnnxRuntime(_showing(model, names), optimisation="basic", batch_size=size)
        fixed = runtime.inputs[0].shape[0] if runtime.inputs else None
        batches = Batches(self.samples, runtime.inputs, fixed or size)
        for batch in batches:
            found = batch | runtime.run(batch)
            for name in names:
                take(name, found[name])
            if self._progress is not None:
                self._progress(batches.done, batches.count)
        self.count, self.digest = batches.done, batches.digest or ""
        if self._progress is not None:
            self._progress(self.count, self.count)


def _showing(model: Model, names: Sequence[str]) -> Model:
    """Return a copy that can be run and whose outputs are the tensors wanted, but for inputs."""
    copy = quantised_stand_in(model)
    values = {value.name: value for node in copy.graph for value in node.outputs}
    shown = [values[name] for name in names if name in values]
    if shown:
        copy.graph.outputs.clear()
    for value in shown:
        if value.dtype is None:
            value.dtype = DataType.FLOAT
        copy.graph.outputs.append(value)
    drop_unused(copy)
    attach_functions(copy)
    return copy


def _samples_at_once(model: Model, names: Sequence[str]) -> int:
    """Return how many samples may be run together so that the tensors wanted stay small."""
    shapes = concrete_shapes(model, 1)
    known = [math.prod(shapes[name]) * 4 for name in names if name in shapes]
    return max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // max(1, sum(known))))


class _Gatherer:
    """Keeps some rows of one tensor, evenly spread, of about the same number for any number of samples."""

    def __init__(self) -> None:
        self._rows: list[npt.NDArray[np.float32]] = []
        self._stride = 1
        self._seen = 0
        self._low, self._high = np.inf, -np.inf

    def add(self, batch: npt.NDArray[Any]) -> None:
        """Take up one batch, samples on axis 0."""
        rows = batch.reshape(-1, batch.shape[-1]) if batch.ndim > 1 else batch.reshape(-1, 1)
        self._low = min(self._low, float(rows.min()))
        self._high = max(self._high, float(rows.max()))
        start = -self._seen % self._stride
        self._seen += len(rows)
        self._rows.append(rows[start :: self._stride].astype(np.float32))
        while sum(kept.size for kept in self._rows) > _VALUES_KEPT and sum(map(len, self._rows)) > 1:
            # An odd factor, so that what is kept does not sit in one column of an image.
            whole = np.concatenate(self._rows)
            self._rows = [whole[::3]]
            self._stride *= 3

    def sample(self) -> TensorSample:
        """Return what was kept."""
        return TensorSample(np.concatenate(self._rows), self._low, self._high)
