"""Calibration: run a float network on samples and keep what the step search needs, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.ir import Model, clone
from snnc.ops import attach_functions
from snnc.passes.quantise.insert_quantisers import TensorSample

__all__ = ["Calibration"]

Array = npt.NDArray[Any]
_BATCH = 8
_VALUES_PER_TENSOR = 1 << 18


class Calibration:
    """Observes tensors of a network on calibration data, batch by batch.

    Args:
        inputs: Calibration data by input name, or a function that returns it for the model's inputs.
        progress: Called with samples done and samples in all.
    """

    def __init__(
        self,
        inputs: Callable[[Sequence[Any]], Mapping[str, Array]],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._inputs = inputs
        self._progress = progress
        self.samples = 0

    def __call__(self, model: Model, names: Sequence[str]) -> Mapping[str, TensorSample]:
        """Run the model and sample the named tensors.

        Args:
            model: Any model onnxruntime can run once function bodies are attached; not changed.
            names: Tensors wanted.
        """
        from snnc.runtimes import OnnxRuntime

        copy = clone(model)
        attach_functions(copy)
        runtime = OnnxRuntime(copy, optimisation="basic", batch_size=_BATCH)
        arrays = dict(self._inputs(runtime.inputs))
        count = sample_count(arrays)
        self.samples = count
        gathered: dict[str, _Gatherer] = {name: _Gatherer(count) for name in names}
        for start in range(0, count, _BATCH):
            batch = {name: array[start : start + _BATCH] for name, array in arrays.items()}
            # Of an input there is nothing to tap.
            found = {**batch, **runtime.run(batch, [name for name in names if name not in batch])}
            for name in names:
                gathered[name].add(found[name])
            if self._progress is not None:
                self._progress(min(start + _BATCH, count), count)
        return {name: gatherer.sample() for name, gatherer in gathered.items()}


class _Gatherer:
    """Keeps an evenly spaced subset of one tensor's rows, of the same size for any number of samples."""

    def __init__(self, count: int) -> None:
        self._quota = max(1, _VALUES_PER_TENSOR // count)
        self._rows: list[Array] = []
        self._low, self._high = np.inf, -np.inf
        self._peaks: Array | None = None

    def add(self, batch: Array) -> None:
        """Take up one batch, samples on axis 0."""
        rows = batch.reshape(-1, batch.shape[-1]) if batch.ndim > 1 else batch.reshape(-1, 1)
        self._low = min(self._low, float(rows.min()))
        self._high = max(self._high, float(rows.max()))
        peaks = np.abs(rows).max(axis=0)
        self._peaks = peaks if self._peaks is None else np.maximum(self._peaks, peaks)
        wanted = max(1, self._quota * len(batch) // rows.shape[1])
        # A stride prime to usual sizes, so that the subset does not sit in one column of an image.
        stride = max(1, len(rows) // wanted)
        stride += 1 - stride % 2 if stride > 1 else 0
        self._rows.append(rows[::stride].astype(np.float32))

    def sample(self) -> TensorSample:
        """Return what was kept."""
        peaks = self._peaks if self._peaks is not None else np.zeros(1, dtype=np.float32)
        return TensorSample(np.concatenate(self._rows), self._low, self._high, peaks)
