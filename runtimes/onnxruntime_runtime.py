"""onnxruntime: executes any ONNX file; snnc's ops natively, or through the function bodies in the file."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np

from snnc.arrays import InputSpec
from snnc.errors import EnvironmentFailure, InputError, UnsupportedError, Where
from snnc.ir import Model, load, table_rows
from snnc.ir.taps import tensor_names, with_outputs
from snnc.ir.weights import split
from snnc.runtimes import fusion, ort
from snnc.runtimes.common import DEFAULT_BATCH, Array, check_inputs, check_taps, run_in_batches

__all__ = ["OnnxRuntime", "Optimisation", "available_providers", "open_session"]

Optimisation = Literal["none", "sound", "basic", "extended", "all"]

_LEVELS: Mapping[str, str] = {
    "none": "ORT_DISABLE_ALL",
    "sound": "ORT_ENABLE_BASIC",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
#: Rewrites that change what a float network computes: a Pad with zeros in front of a MaxPool is folded into
#: the padding of the MaxPool, which never wins.
_UNSOUND = ("Pad_Fusion",)
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


def _import_onnxruntime() -> ModuleType:
    # It would note a number of this machine in the home folder, to send it with what it observes, and where
    # it cannot, write a warning of its own to the terminal.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentFailure(
            "SNN610", f"onnxruntime cannot be imported: {error}", hint="pip install onnxruntime"
        ) from error
    module: ModuleType = onnxruntime
    return module


def available_providers() -> tuple[str, ...]:
    """Return the execution providers of the installed onnxruntime.

    Raises:
        EnvironmentFailure: SNN610, onnxruntime is not installed.
    """
    return tuple(_import_onnxruntime().get_available_providers())


def open_session(
    content: bytes,
    optimisation: Optimisation,
    threads: int | None = None,
    weights: Mapping[str, Array] | None = None,
    file: str | None = None,
    *,
    native: bool = False,
) -> Any:
    """Open a session on the CPU.

    Args:
        content: A serialised model.
        optimisation: Graph optimisation level; ``"sound"`` is ``"basic"`` without rewrites that change
            results.
        threads: Threads of one operator; None lets onnxruntime choose.
        weights: Initializers that the model names as external data.
        file: File to name in an error.
        native: Whether to register snnc's native operators, if they are installed.

    Raises:
        EnvironmentFailure: SNN610, onnxruntime is not installed; SNN616, it cannot load the native library.
        UnsupportedError: SNN423, onnxruntime refuses the model.
    """
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[optimisation])
    # What it has to say it raises; its log would put lines of its own on stderr.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if native:
        ort.register(options)
    try:
        if weights:
            # Not copied: the session reads the arrays where they are, and keeps them alive.
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), values)
        return onnxruntime.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(_UNSOUND) if optimisation == "sound" else None,
        )
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(
            "SNN423", f"onnxruntime refuses the model: {first}", where=Where(file=file)
        ) from error


class OnnxRuntime:
    """Runs a model in onnxruntime on the CPU.

    Args:
        model_or_path: A model, or the path of an ONNX file (needed for external data).
        optimisation: Graph optimisation level of the session. Converted models give the same bits at every
            level; a *source* model is to be run at ``"none"``, because onnxruntime's optimiser changes
            quantised graphs, or, if it is of floats, at ``"sound"``.
        stock: Whether only onnxruntime's own kernels may run. Otherwise snnc's native operators do, where
            the library is installed; the results are the same.
        threads: Threads of one operator; None lets onnxruntime choose.
        batch_size: Samples evaluated together where the model leaves the batch free.

    Raises:
        EnvironmentFailure: SNN610, onnxruntime is not installed; SNN616, it cannot load the native library.
        UnsupportedError: SNN423, onnxruntime refuses the model; SNN421, a bad input.
    """

    def __init__(
        self,
        model_or_path: Model | str | os.PathLike[str],
        optimisation: Optimisation = "all",
        stock: bool = True,
        *,
        threads: int | None = None,
        batch_size: int = DEFAULT_BATCH,
    ) -> None:
        # The file is read here, where external data is checked; onnxruntime opens no file itself.
        self._file = None if isinstance(model_or_path, Model) else os.fspath(model_or_path)
        self._source = model_or_path if isinstance(model_or_path, Model) else load(model_or_path)
        self._optimisation = optimisation
        self._stock = stock
        self._threads = threads
        self._batch_size = batch_size
        self._messages: dict[tuple[str, ...], tuple[bytes, dict[str, Array]]] = {}
        self._session = self._open(())
        self._tapped: dict[tuple[str, ...], Any] = {}
        rows = table_rows(self._source)
        self._inputs = tuple(_spec(entry, rows) for entry in self._session.get_inputs())
        self._outputs = tuple(entry.name for entry in self._session.get_outputs())

    def at(self, optimisation: Optimisation) -> OnnxRuntime:
        """Return a runtime of the same model at another level; the model is not serialised again.

        Args:
            optimisation: Graph optimisation level of its sessions.

        Raises:
            UnsupportedError: SNN423, onnxruntime refuses the model.
        """
        other = copy.copy(self)
        other._optimisation = optimisation
        other._tapped = {}
        other._session = other._open(())
        return other

    def _open(self, taps: tuple[str, ...]) -> Any:
        native = not self._stock and ort.native_library() is not None
        if not self._stock and not native:
            ort.note_stale()
        if taps not in self._messages:
            message, weights = with_outputs(self._source, taps) if taps else split(self._source)
            if native:
                fusion.prepare(message, weights)
            self._messages[taps] = message.SerializeToString(deterministic=True), weights
        content, weights = self._messages[taps]
        return open_session(content, self._optimisation, self._threads, weights, self._file, native=native)

    @property
    def session(self) -> Any:
        """The ``onnxruntime.InferenceSession`` that runs the model."""
        return self._session

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the model expects, in its order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs, in its order."""
        return self._outputs

    def run(self, inputs: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """Evaluate the model on any number of samples; see `Runtime.run`.

        Args:
            inputs: Arrays by input name, shape (samples, ...).
            taps: Names of inner tensors wanted as well; spikes come as codes. They become outputs of a copy
                of the model, in a second session.

        Returns:
            Outputs by name, then taps, shape (samples, ...).

        Raises:
            InputError: SNN335 to SNN338, names, shapes, types or counts are wrong; SNN333, values
                that are not finite; SNN347, onnxruntime fails on them, for instance on an index
                beyond its table.
            UsageError: SNN250, a tap names no tensor of the model.
            UnsupportedError: SNN423, onnxruntime refuses the model with the taps.
        """
        extra = tuple(tap for tap in dict.fromkeys(taps) if tap not in self._outputs)
        session = self._with_taps(extra) if extra else self._session
        wanted = [*self._outputs, *extra]

        def execute(feeds: dict[str, Array]) -> dict[str, Array]:
            arrays = {name: np.ascontiguousarray(a) for name, a in feeds.items()}
            try:
                results = session.run(wanted, arrays)
            except Exception as error:
                raise _failure(error) from error
            return dict(zip(wanted, results, strict=True))

        return run_in_batches(check_inputs(inputs, self._inputs), self._inputs, execute, self._batch_size)

    def run_into(self, inputs: Mapping[str, Array], results: Mapping[str, Array]) -> None:
        """Evaluate the model on one batch and write its outputs to the arrays of an earlier one.

        New arrays of many megabytes for every batch cost more than the copying: their pages have to be
        found and cleared, and threads wait for each other meanwhile.

        Args:
            inputs: Checked arrays by input name, of the shapes that the earlier batch had.
            results: What `run` gave for that batch, with no taps; overwritten.

        Raises:
            InputError, UnsupportedError: See `run`; also SNN424, an output is not of numbers, is empty, or
                has another shape this time.
        """
        try:
            binding = self._session.io_binding()
            arrays = {name: np.ascontiguousarray(a) for name, a in inputs.items()}
            for name, array in arrays.items():
                binding.bind_cpu_input(name, array)
            for entry in self._session.get_outputs():
                name, held = entry.name, results[entry.name]
                fits = held.size and held.flags.c_contiguous and held.flags.writeable
                # onnxruntime does not look at the type of what it writes to.
                if not fits or _TYPES.get(entry.type) is not held.dtype.type:
                    raise ValueError(f"{name} cannot be written in place")
                binding.bind_output(name, "cpu", 0, held.dtype.type, held.shape, held.ctypes.data)
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise _failure(error) from error

    def _with_taps(self, taps: tuple[str, ...]) -> Any:
        if taps not in self._tapped:
            check_taps(taps, tensor_names(self._source))
            self._tapped[taps] = self._open(taps)
        return self._tapped[taps]


def _failure(error: Exception) -> InputError | UnsupportedError:
    """Return the error for what onnxruntime raised while it ran a model."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "out of data bounds" in str(error):
        return InputError("SNN347", f"an input asks for a row beyond its table: {first}")
    return UnsupportedError("SNN424", f"onnxruntime cannot run the model: {first}")


def _spec(entry: Any, rows: Mapping[str, int]) -> InputSpec:
    dtype = _TYPES.get(entry.type)
    if dtype is None or not entry.shape:
        raise UnsupportedError(
            "SNN421",
            f"the input of type {entry.type} needs an array type, a shape and a sample axis",
            where=Where(tensor=entry.name),
        )
    shape = tuple(dim if isinstance(dim, int) else None for dim in entry.shape)
    return InputSpec(entry.name, np.dtype(dtype), shape, rows.get(entry.name))
