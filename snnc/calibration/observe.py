"""Calibration: run a float network on samples and keep what the step search needs, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snnc.calibration.stand_in import quantised_stand_in
from snnc.cores import cores
from snnc.data import Batches, Samples
from snnc.errors import SnncError
from snnc.ir import DataType, Model, concrete_shapes
from snnc.ir.rewrite import drop_unused
from snnc.ops import attach_functions
from snnc.passes.quantise.histogram import Distribution, Histogram
from snnc.passes.quantise.insert_quantisers import TensorSample
from snnc.spool import let_go

if TYPE_CHECKING:
    from snnc.runtimes import OnnxRuntime

__all__ = ["Calibration"]

#: Bytes of observed tensors that a batch may take; a sample needs what it needs.
_BYTES_AT_ONCE = 128 << 20
_MOST_AT_ONCE = 8
#: Bytes of observed tensors of all batches that are run at the same time, and how many these are at most.
_BYTES_IN_FLIGHT = 3 * _BYTES_AT_ONCE
_MOST_IN_FLIGHT = 8
_VALUES_KEPT = 1 << 18

Batch = Mapping[str, npt.NDArray[Any]]


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
            take: Called with the name and the values of a tensor, which it must not keep: later batches are
                written to the same arrays.
        """
        from snnc.runtimes import OnnxRuntime

        each = _bytes_of_sample(model, names)
        size = max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // each))
        # One thread an operator: the last bits of a float product depend on how it is shared out, and the
        # same input is to give the same bytes on any machine. Several batches run at once instead.
        runtime = OnnxRuntime(_showing(model, names), optimisation="sound", threads=1, batch_size=size)
        let_go()  # it keeps weights in a form of its own
        fixed = runtime.inputs[0].shape[0] if runtime.inputs else None
        batches = Batches(self.samples, runtime.inputs, fixed or size)
        in_flight = min(_MOST_IN_FLIGHT, _BYTES_IN_FLIGHT // (each * (fixed or size)))
        outputs = _Reused(runtime, fixed or size, concrete_shapes(model, fixed or size))
        done = 0
        for batch, results in _in_order(batches, outputs.run, in_flight):
            found = {**batch, **results}
            for name in names:
                take(name, found[name])
            outputs.give_back(results)
            del found, results  # before the next ones are waited for
            done += len(next(iter(batch.values()))) if batch else 0
            if self._progress is not None:
                self._progress(done, batches.count)
        self.count, self.digest = batches.done, batches.digest or ""
        if self._progress is not None:
            self._progress(self.count, self.count)


class _Reused:
    """Runs batches, and lets later ones write to the arrays of those that are done with.

    Args:
        runtime: What runs them.
        size: Samples of a batch; the last one, or one of another form, may hold fewer.
        shapes: Shapes of tensors in such a batch; those that depend on more may be missing.
    """

    def __init__(self, runtime: OnnxRuntime, size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._runtime = runtime
        self._size = size
        self._shapes = [shapes.get(name) for name in runtime.outputs]
        self._spare: deque[Batch] = deque()
        self._works = True

    def run(self, batch: Batch) -> Batch:
        """Return the outputs for a batch; may be called by several threads."""
        results = self._arrays(batch)
        if results is not None:
            try:
                self._runtime.run_into(batch, results)
                return results
            except SnncError:
                # Outputs of other shapes or types, or the batch cannot be run at all: `run` says why.
                self._works = False
        return self._runtime.run(batch)

    def give_back(self, results: Batch) -> None:
        """Take the outputs for a batch, which nobody reads any more."""
        if self._works and [results[name].shape for name in self._runtime.outputs] == self._shapes:
            self._spare.append(results)

    def _arrays(self, batch: Batch) -> Batch | None:
        """Return arrays for the outputs, None if they are not known to fit."""
        full = all(len(array) == self._size for array in batch.values())
        if not (self._works and full) or None in self._shapes:
            return None
        try:
            return self._spare.pop()
        except IndexError:
            pass
        # In one block: huge pages are quicker to get than many small ones.
        shapes = [shape for shape in self._shapes if shape is not None]
        block = np.empty(sum(map(math.prod, shapes)), np.float32)
        ends = accumulate(map(math.prod, shapes))
        parts = [
            block[end - math.prod(shape) : end].reshape(shape)
            for shape, end in zip(shapes, ends, strict=True)
        ]
        return dict(zip(self._runtime.outputs, parts, strict=True))


def _in_order(
    batches: Iterable[Batch], run: Callable[[Batch], Batch], in_flight: int
) -> Iterator[tuple[Batch, Batch]]:
    """Run batches on several cores and give each with its results, in the order in which they come.

    Args:
        batches: Batches of inputs.
        run: Runs one of them; may be called by several threads.
        in_flight: Batches that may be held at the same time, the one given out included.
    """
    workers = min(cores(), in_flight)
    if workers < 2:
        for batch in batches:
            yield batch, run(batch)
        return
    waiting: deque[tuple[Batch, Future[Batch]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(run, batch)))
            # While the results of one are looked at, the others keep the cores busy: one more would wait.
            if len(waiting) >= workers:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(batch: Batch, future: Future[Batch]) -> tuple[Batch, Batch]:
    return batch, future.result()


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


def _bytes_of_sample(model: Model, names: Sequence[str]) -> int:
    """Return about how many bytes the tensors wanted take for one sample."""
    shapes = concrete_shapes(model, 1)
    return max(1, sum(math.prod(shapes[name]) * 4 for name in names if name in shapes))


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
