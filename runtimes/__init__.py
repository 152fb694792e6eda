"""The runtimes: numpy (packed and time-stepped) and onnxruntime, all with the same bits."""

from __future__ import annotations

if __name__ != "snnc.runtimes":
    raise ImportError(
        f"this folder is the package 'snnc.runtimes', but it was imported as {__name__!r}: "
        "write 'import snnc.runtimes'"
    )

import difflib

from snnc.errors import UsageError
from snnc.ir import Model
from snnc.runtimes.common import DEFAULT_BATCH, Runtime
from snnc.runtimes.numpy_runtime import NumpyPacked, NumpyTimestep, input_specs
from snnc.runtimes.onnxruntime_runtime import OnnxRuntime, Optimisation

__all__ = [
    "DEFAULT_BATCH",
    "RUNTIMES",
    "NumpyPacked",
    "NumpyTimestep",
    "OnnxRuntime",
    "Optimisation",
    "Runtime",
    "create",
    "input_specs",
]

RUNTIMES = ("numpy", "numpy-timestep", "ort", "ort-stock")
"""Names that `create` knows."""


def create(
    name: str, model: Model, *, batch_size: int = DEFAULT_BATCH, threads: int | None = None
) -> Runtime:
    """Make a runtime for a model.

    Args:
        name: ``numpy`` (packed codes), ``numpy-timestep`` (the definition: spikes step by step),
            ``ort-stock`` (onnxruntime with nothing of ours registered), or ``ort`` (onnxruntime with
            snnc's native operators where they are installed).
        model: What it runs: of the spike dialect for numpy, any model for onnxruntime.
        batch_size: Samples evaluated together where the model leaves the batch free.
        threads: Threads of one onnxruntime operator; None lets onnxruntime choose. numpy's are set by the
            environment.

    Raises:
        UsageError: SNN251, there is no such runtime.
        UnsupportedError: SNN421 to SNN423, the model cannot be run there.
        EnvironmentFailure: SNN610, onnxruntime is not installed.
    """
    if name == "numpy":
        return NumpyPacked(model, batch_size=batch_size)
    if name == "numpy-timestep":
        return NumpyTimestep(model, batch_size=batch_size)
    if name in {"ort", "ort-stock"}:
        return OnnxRuntime(model, stock=name == "ort-stock", threads=threads, batch_size=batch_size)
    near = difflib.get_close_matches(name, RUNTIMES, n=1)
    raise UsageError(
        "SNN251",
        f"there is no runtime '{name}'",
        hint=f"did you mean {near[0]}?" if near else f"runtimes: {', '.join(RUNTIMES)}",
    )
