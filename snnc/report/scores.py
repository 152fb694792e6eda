"""Accuracy of the converted network beside its source's, on all samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.debug.distance import OutputDistance
from snnc.errors import SnncError
from snnc.ir import Model, clone
from snnc.ops import attach_functions
from snnc.runtimes import OnnxRuntime, create

__all__ = ["interval", "score"]

Array = npt.NDArray[Any]


def score(
    model: Model, source: Model | None, inputs: Mapping[str, Array], labels: Array | None
) -> tuple[dict[str, Any], dict[str, Array] | None]:
    """Run both networks on all samples and compare their outputs with each other and with the classes.

    The source runs without onnxruntime's optimiser, which changes quantised graphs.

    Args:
        model: The converted network.
        source: What it was converted from, if known.
        inputs: Samples by input name.
        labels: Classes, if known.

    Returns:
        ``samples``; ``rows``, one per network, with correct answers and a 95 % interval; ``outputs``, the
        distance of each output from the source's; ``absent``, why something is missing. And the source's
        outputs, None where it was not given or cannot be run.
    """
    count = sample_count(inputs)
    executor = create("ort", model)
    found = executor.run(inputs)
    expected, absent = None, None
    if source is None:
        absent = "the source was not given (--source MODEL.onnx)"
    else:
        try:
            runnable = clone(source)
            attach_functions(runnable)
            reference = OnnxRuntime(runnable, optimisation="none")
            expected = {
                name: array for name, array in reference.run(inputs).items() if name in reference.outputs
            }
        except SnncError as error:
            absent = f"the source cannot be run: {error.message}"
    rows = []
    first = executor.outputs[0]
    for who, results in (("source", expected), ("spiking", found)):
        if results is not None and labels is not None and first in results:
            right = int(np.count_nonzero(_classes(results[first], count) == labels))
            low, high = interval(right, count)
            rows.append({"who": who, "correct": right, "share": right / count, "low": low, "high": high})
    outputs = []
    for name in executor.outputs:
        if expected is None or name not in expected or expected[name].shape != found[name].shape:
            continue
        distance = OutputDistance(name)
        distance.add(expected[name], found[name])
        outputs.append(
            {
                "output": name,
                "sqnr_db": distance.decibel,
                "exact": distance.noise == 0.0,
                "cosine": distance.cosine,
                "largest_error": distance.largest_error,
                "same_class": distance.agreeing / distance.samples,
            }
        )
    return {"samples": count, "rows": rows, "outputs": outputs, "absent": absent}, expected


def _classes(scores: Array, count: int) -> Array:
    return np.asarray(scores.reshape(count, -1).argmax(axis=1))


def interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of a share: where the true one lies with 95 % certainty.

    Args:
        right: Successes.
        count: Trials, at least 1.
        z: Quantile of the normal distribution.
    """
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)
