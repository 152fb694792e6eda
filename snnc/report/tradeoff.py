"""What T and G buy: the source converted at several of them, each measured on held-out samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.debug.distance import OutputDistance
from snnc.errors import SnncError, UsageError
from snnc.runtimes import Runtime, create

__all__ = ["default_points", "measure_points", "parse_points"]

Array = npt.NDArray[Any]
#: Samples that spikes and operations of a point are counted on.
_COUNTED = 16
_LARGEST_T = 16


def parse_points(text: str) -> list[tuple[int, int]]:
    """Read ``8:4,4:2``: T and G of each point.

    Raises:
        UsageError: SNN254, the text is something else, or G is above T.
    """
    points = []
    for part in text.split(","):
        left, colon, right = part.strip().partition(":")
        if not (colon and left.isdecimal() and right.isdecimal() and len(left) < 3 and len(right) < 3):
            raise UsageError("SNN254", f"{part.strip()!r} is no point", hint="write T:G, such as 8:4,4:2")
        timesteps, groups = int(left), int(right)
        if not 1 <= groups <= timesteps <= _LARGEST_T:
            raise UsageError(
                "SNN254", f"T = {timesteps} with G = {groups} is no code", hint="1 <= G <= T <= 16"
            )
        points.append((timesteps, groups))
    return list(dict.fromkeys(points))


def default_points(timesteps: int) -> list[tuple[int, int]]:
    """Return the points that a network of T time-steps is measured at.

    T, three quarters of it and half of it, each with G = 1, 2, half of the steps and all of them; with all T
    steps also G = 3 and 4.

    Args:
        timesteps: T of the converted network.
    """
    found = []
    for steps in sorted({max(2, timesteps // 2), max(2, 3 * timesteps // 4), timesteps}):
        groups = {1, 2, steps // 2, steps} | ({3, 4} if steps == timesteps else set())
        found += [(steps, count) for count in sorted(groups) if 1 <= count <= steps]
    return found


def measure_points(
    source: str | os.PathLike[str],
    options: ConvertOptions,
    points: Sequence[tuple[int, int]],
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    labels: Array | None,
    *,
    calibrated: bool,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Convert a source at several T and G and measure each.

    Quantisers of a network that was calibrated are chosen anew for each point, on the first half of the
    samples; all points are measured on the other half.

    Args:
        source: The ONNX file.
        options: Options of the conversion; T and G are replaced, rules for single layers stay out.
        points: T and G of each point.
        inputs: Samples by input name.
        expected: Outputs of the source in float, by name.
        labels: Classes of the samples, if known.
        calibrated: Whether the converted file was calibrated.
        progress: Called with points done and points in all.

    Returns:
        ``samples``, ``calibrated_on``, and ``points``; a point that could not be converted has ``refused``.
    """
    count = sample_count(inputs)
    half = count // 2 if calibrated and count > 1 else 0
    held = {name: array[half:] for name, array in inputs.items()}
    rows: list[dict[str, Any]] = []
    for number, (timesteps, groups) in enumerate(points, start=1):
        row: dict[str, Any] = {"timesteps": timesteps, "groups": groups}
        asked = replace(options, timesteps=timesteps, groups=groups, layers=(), calibrate=None, auto=None)
        try:
            given = {name: array[:half] for name, array in inputs.items()} if half else None
            model = convert(source, asked, calibration=given).model
            runtime = create("numpy", model)
            row.update(_judge(runtime, held, {n: a[half:] for n, a in expected.items()}, labels, half))
            few = {name: array[:_COUNTED] for name, array in held.items()}
            cost = measure(model, few, runtime.run)
            row.update(
                spikes_per_neuron=cost.spikes_per_neuron,
                sops=cost.sops,
                energy_pj=cost.energy.with_host,
                energy_integer_pj=cost.energy.integer,
                latency_timesteps=cost.latency,
            )
        except SnncError as error:
            row["refused"] = f"{error.code}: {error.message}"
        rows.append(row)
        if progress is not None:
            progress(number, len(points))
    return {
        "samples": count - half,
        "counted": min(_COUNTED, count - half),
        "calibrated_on": half or None,
        "points": rows,
    }


def _judge(
    runtime: Runtime,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    labels: Array | None,
    offset: int,
) -> dict[str, Any]:
    found = runtime.run(inputs)
    name = next(name for name in runtime.outputs if name in expected)
    distance = OutputDistance(name)
    distance.add(expected[name], found[name])
    right = None
    if labels is not None:
        truth = labels[offset:]
        right = int(np.count_nonzero(found[name].reshape(len(truth), -1).argmax(axis=1) == truth))
    return {
        "sqnr_db": distance.decibel,
        "same_class": distance.agreeing / distance.samples,
        "accuracy": None if right is None else right / distance.samples,
    }
