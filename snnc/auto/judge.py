"""Measuring a conversion on samples that it has not seen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.compile import Conversion
from snnc.cost import CostReport, measure
from snnc.data import load_samples
from snnc.errors import InputError, UsageError
from snnc.ir import load
from snnc.ops import attach_functions
from snnc.runtimes import NumpyPacked, OnnxRuntime

__all__ = ["Array", "Judge", "Trial", "divergence"]

Array = npt.NDArray[Any]
_BATCH = 16


@dataclass(frozen=True)
class Trial:
    """What a converted network did on the held-out samples.

    Attributes:
        loss: Points of accuracy lost against the float network, or points of samples that get another class.
        spikes: Mean spikes of a neuron.
        energy: Picojoules of a sample in the papers' convention, the host's included.
        cost: The whole cost report.
    """

    loss: float
    spikes: float
    energy: float
    cost: CostReport


class Judge:
    """Samples in two halves, and what the float network says of them.

    Args:
        source: ONNX file of the float network.
        data: Calibration data as the user named them.
        seed: Seed of random data.
        labels: Class of every sample, or None.
        most: Most samples to use.
        classes: The outputs must be scores of classes.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        data: str,
        seed: int,
        labels: Array | None,
        most: int,
        classes: bool,
    ) -> None:
        model = load(source)
        attach_functions(model)
        runtime = OnnxRuntime(model, "sound", batch_size=_BATCH)
        samples = load_samples(data, runtime.inputs, seed=seed)
        count = sample_count(samples)
        if labels is not None and len(labels) != count:
            raise InputError("SNN339", f"there are {len(labels)} labels for {count} samples")
        if count < 4:
            raise UsageError(
                "SNN282", f"--auto needs 4 samples at least, half of them to judge on, not {count}"
            )
        # Evenly spread over the data, which may be sorted by class.
        places = np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))
        self.fit = {name: array[places[::2]] for name, array in samples.items()}
        self._held_out = {name: array[places[1::2]] for name, array in samples.items()}
        self.fitted, self.judged = len(places[::2]), len(places[1::2])
        self._labels = None if labels is None else (labels[places[::2]], labels[places[1::2]])
        self._output = runtime.outputs[0]
        self._float = [runtime.run(half)[self._output] for half in (self.fit, self._held_out)]
        if classes and (self._float[0].ndim < 2 or self._float[0].shape[-1] < 2):
            raise UsageError(
                "SNN283",
                f"the output {self._output!r} holds no scores of classes, so that a loss is not defined",
                hint="give a budget: --auto energy=0.5x or --auto spikes=1",
            )

    def few(self, count: int) -> dict[str, Array]:
        """Return some samples of the half that is not held out, evenly spread."""
        places = np.unique(np.linspace(0, self.fitted - 1, min(count, self.fitted)).astype(int))
        return {name: array[places] for name, array in self.fit.items()}

    def loss_of(self, outputs: Array) -> float:
        """Return the loss on the half that is not held out, in points."""
        return self._loss(0, outputs)

    def trial(self, conversion: Conversion) -> Trial:
        """Measure a conversion on the held-out half."""
        runtime = NumpyPacked(conversion.model)
        found: list[Array] = []

        def run(batch: Mapping[str, Array], taps: Sequence[str]) -> Mapping[str, Array]:
            results = runtime.run(batch, taps)
            found.append(results[self._output])
            return results

        cost = measure(conversion.model, self._held_out, run, batch=_BATCH)
        energy = cost.energy
        return Trial(self._loss(1, np.concatenate(found)), cost.spikes_per_neuron, energy.with_host, cost)

    def _loss(self, half: int, outputs: Array) -> float:
        expected = self._float[half]
        if expected.ndim < 2:
            return 0.0
        if self._labels is None:
            return 100.0 * float(np.mean(expected.argmax(axis=-1) != outputs.argmax(axis=-1)))
        truth = self._labels[half]
        right = [
            np.mean(each.reshape(len(truth), -1).argmax(axis=1) == truth) for each in (expected, outputs)
        ]
        return 100.0 * float(right[0] - right[1])


def divergence(expected: Array, found: Array) -> float:
    """Return how far outputs moved: the Kullback-Leibler divergence of their softmax, or a relative error."""
    a, b = (array.astype(np.float64) for array in (expected, found))
    if a.ndim < 2 or a.shape[-1] < 2:
        return float(((a - b) ** 2).mean() / max(float((a**2).mean()), 1e-30))
    logs = [_log_softmax(array) for array in (a, b)]
    return max(0.0, float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=-1).mean()))


def _log_softmax(array: Array) -> Array:
    centred = array - array.max(axis=-1, keepdims=True)
    return np.asarray(centred - np.log(np.exp(centred).sum(axis=-1, keepdims=True)))
