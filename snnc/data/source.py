"""What a source of samples is, and batches of any size made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from snnc.arrays import InputSpec, match_inputs, refuse_not_finite, sample_count
from snnc.errors import InputError, SnncError, Where

__all__ = ["Array", "Batches", "Chunk", "Samples", "first_samples", "misread"]

Array = npt.NDArray[Any]
#: Some samples, by input name; a single array under the key "" fits a network with one input.
Chunk = Mapping[str, Array]
_BATCH = 64


class Samples(Protocol):
    """A source of samples that can be read any number of times.

    Attributes:
        name: What to call it in messages.
        kind: What it is, for the record in a converted file; no path.
        count: Number of samples, or None where it shows only when all are read.
    """

    name: str
    kind: str
    count: int | None

    def chunks(self, inputs: Sequence[InputSpec]) -> Iterator[Chunk]:
        """Read all samples from the beginning, some at a time, at most a few megabytes.

        Args:
            inputs: What the network expects; a source may shape its samples after it, but need not check.
        """
        ...


class Batches:
    """Batches of equal size from a source, checked against what a network expects.

    Args:
        samples: The source.
        inputs: What the network expects.
        size: Samples a batch; the last one may hold fewer, and the last one before samples of another shape.

    Attributes:
        done: Samples given out so far, in this reading.
        digest: Digest (sha256) of all samples as the network sees them, after they were read once; it depends
            neither on the kind of source nor on the size of the batches.
    """

    def __init__(self, samples: Samples, inputs: Sequence[InputSpec], size: int) -> None:
        self._samples = samples
        self._inputs = tuple(inputs)
        self._size = size
        self.done = 0
        self.digest: str | None = None

    @property
    def count(self) -> int | None:
        """Number of samples, where it is known before all are read."""
        return self._samples.count if self._samples.count is not None or self.digest is None else self.done

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yield batches.

        Raises:
            InputError: SNN335 to SNN338, names, shapes, types or counts are wrong, or there are no samples;
                SNN333, values that are not finite.
        """
        hashes = {spec.name: hashlib.sha256() for spec in self._inputs}
        held: list[dict[str, Array]] = []
        waiting = 0
        self.done = 0
        for chunk in self._samples.chunks(self._inputs):
            part = self._checked(chunk)
            for name, array in part.items():
                # As bytes: not every element type has a buffer.
                hashes[name].update(np.ascontiguousarray(array).view(np.uint8).data)
            if held and _form(held[0]) != _form(part):
                # Samples of another length, where the network leaves one free, do not go into one array.
                self.done += waiting
                yield _joined(held)
                held, waiting = [], 0
            held.append(part)
            waiting += sample_count(part)
            if waiting < self._size:
                continue
            whole = _joined(held)
            full = waiting - waiting % self._size
            for start in range(0, full, self._size):
                self.done += self._size
                yield {name: array[start : start + self._size] for name, array in whole.items()}
            waiting -= full
            held = [{name: array[full:] for name, array in whole.items()}] if waiting else []
        if waiting:
            self.done += waiting
            yield _joined(held)
        if not self.done:
            raise InputError("SNN338", "holds no samples", where=Where(file=self._samples.name))
        texts = [f"{spec}={hashes[spec.name].hexdigest()}" for spec in self._inputs]
        self.digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def _checked(self, chunk: Chunk) -> dict[str, Array]:
        # The place of a wrong sample is counted from the first one, not from its chunk.
        where = f"{self._samples.name}" if not self.done else f"{self._samples.name}, from sample {self.done}"
        arrays = {name: np.asarray(array) for name, array in chunk.items()}
        matched = match_inputs(arrays, self._inputs, file=where)
        for name, array in matched.items():
            refuse_not_finite(array, Where(file=where, tensor=name))
        return matched


def _form(part: Mapping[str, Array]) -> list[tuple[int, ...]]:
    return [array.shape[1:] for array in part.values()]


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def first_samples(
    samples: Samples, inputs: Sequence[InputSpec], limit: int | None = None
) -> dict[str, Array]:
    """Return all samples, or the first ones, as one array an input.

    Args:
        samples: The source.
        inputs: What the network expects.
        limit: Number of samples wanted at most.

    Raises:
        InputError: see `Batches`; SNN336, samples differ in shape.
    """
    parts: list[dict[str, Array]] = []
    count = 0
    for batch in Batches(samples, inputs, min(limit or _BATCH, _BATCH)):
        if parts and _form(parts[0]) != _form(batch):
            if limit is not None:
                break
            raise InputError(
                "SNN336",
                f"samples differ in shape: {_form(parts[0])}, then {_form(batch)}",
                where=Where(file=samples.name),
                hint="give samples of one shape at a time",
            )
        parts.append(batch)
        count += sample_count(batch)
        if limit is not None and count >= limit:
            break
    joined = _joined(parts)
    return joined if limit is None else {name: array[:limit] for name, array in joined.items()}


def misread(name: str, error: BaseException) -> SnncError:
    """Return the error for a source that raised something of its own."""
    if isinstance(error, SnncError):
        return error
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return InputError("SNN344", f"raised {type(error).__name__}: {first}", where=Where(file=name))
