"""What all runtimes share: the protocol, checked inputs, and any number of samples on any batch size."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from snnc.arrays import InputSpec, match_inputs, sample_count
from snnc.errors import InputError, UnsupportedError, UsageError, Where

__all__ = ["DEFAULT_BATCH", "Array", "Runtime", "check_inputs", "check_taps", "one_sample", "run_in_batches"]

Array = npt.NDArray[Any]

DEFAULT_BATCH = 64
"""Samples evaluated together where the model leaves the batch free."""

#: Bytes of a batch, filled up to the size that a model fixes.
_LARGEST_FILLED = 4 << 30


@runtime_checkable
class Runtime(Protocol):
    """Something that executes a model."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the model expects, in its order."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs, in its order."""
        ...

    def run(self, inputs: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """Evaluate the model on any number of samples.

        Args:
            inputs: Arrays by input name, shape (samples, ...).
            taps: Names of inner tensors wanted as well; spikes come as codes.

        Returns:
            Outputs by name, then taps, shape (samples, ...).

        Raises:
            InputError: SNN335 to SNN338, names, shapes, types or counts are wrong; SNN333, values
                that are not finite.
            UsageError: SNN250, a tap names no tensor of the model.
        """
        ...


def check_inputs(inputs: Mapping[str, Array], specs: Sequence[InputSpec]) -> dict[str, Array]:
    """Check arrays against what a model expects.

    Args:
        inputs: Arrays by name, axis 0 counts samples.
        specs: What the model expects.

    Returns:
        Arrays by input name, in the model's order.

    Raises:
        InputError: SNN335 to SNN338, names, shapes, types or counts are wrong; SNN333, values
                that are not finite.
    """
    unknown = [name for name in inputs if name not in {spec.name for spec in specs}]
    if unknown and len(specs) > 1:
        raise InputError("SNN335", f"the model has no input {', '.join(map(repr, unknown))}")
    matched = match_inputs({name: np.asarray(array) for name, array in inputs.items()}, specs)
    for spec in specs:
        fixed, array = spec.shape[0] if spec.shape else None, matched[spec.name]
        size = math.prod(array.shape[1:]) * array.dtype.itemsize
        # A batch that the model fixes is filled up, whatever size the file says it has.
        if fixed is not None and fixed > len(array) and fixed * size > _LARGEST_FILLED:
            raise InputError(
                "SNN336",
                f"the model takes {fixed} samples at once, {fixed * size} bytes, and there are {len(array)}",
                where=Where(tensor=spec.name),
                hint="export the model with another batch size, or a free one",
            )
    for name, array in matched.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            place = [int(index) for index in np.argwhere(~finite)[0]]
            raise InputError(
                "SNN333", f"holds values that are not finite, the first at {place}", where=Where(tensor=name)
            )
    return matched


def check_taps(taps: Sequence[str], names: Iterable[str]) -> None:
    """Check that every tap names a tensor.

    Raises:
        UsageError: SNN250, one does not; the hint lists names like it.
    """
    known = set(names)
    for tap in taps:
        if tap not in known:
            near = difflib.get_close_matches(tap, sorted(known), n=3)
            hint = f"did you mean {', '.join(near)}?" if near else None
            raise UsageError("SNN250", "the model has no such tensor", where=Where(tensor=tap), hint=hint)


def _fixed_batch(specs: Sequence[InputSpec]) -> int | None:
    """Return the batch size that the model fixes, or None if it is free.

    Raises:
        UnsupportedError: SNN420, the inputs do not agree on one.
    """
    sizes = {spec.shape[0] for spec in specs}
    if sizes == {None}:
        return None
    if len(sizes) > 1:
        raise UnsupportedError(
            "SNN420",
            "the inputs do not agree on a batch size: " + "; ".join(map(str, specs)),
            hint="every input of the model needs the samples on axis 0",
        )
    return sizes.pop()


def one_sample(inputs: Mapping[str, Array], specs: Sequence[InputSpec]) -> dict[str, Array]:
    """Return the first sample, or as many as a model of a fixed batch takes at once.

    Raises:
        UnsupportedError: SNN420, the inputs do not agree on a batch size.
    """
    size = _fixed_batch(specs) or 1
    return {
        name: np.concatenate([array[:size], np.repeat(array[:1], max(0, size - len(array)), axis=0)])
        for name, array in inputs.items()
    }


def run_in_batches(
    inputs: Mapping[str, Array],
    specs: Sequence[InputSpec],
    execute: Callable[[dict[str, Array]], dict[str, Array]],
    batch_size: int,
) -> dict[str, Array]:
    """Evaluate a model of some batch size on any number of samples.

    A model of a fixed batch gets exactly that many samples each time: the last batch is filled up with its
    last sample, and what comes out for the filling is cut off.

    Args:
        inputs: Checked arrays by input name, shape (samples, ...).
        specs: What the model expects.
        execute: Evaluates one batch.
        batch_size: Samples per batch where the model leaves it free.

    Returns:
        Results by name, concatenated along axis 0.

    Raises:
        InputError: SNN336, a result does not hold the samples along axis 0, so batches cannot be joined.
        UnsupportedError: SNN420, the inputs do not agree on a batch size.
    """
    total = sample_count(inputs)
    fixed = _fixed_batch(specs)
    size = fixed or min(batch_size, total)
    if size == total:
        return execute(dict(inputs))
    parts: dict[str, list[Array]] = {}
    for start in range(0, total, size):
        feeds = {name: array[start : start + size] for name, array in inputs.items()}
        real = min(size, total - start)
        if fixed is not None and real < fixed:
            feeds = {
                name: np.concatenate([array, np.repeat(array[-1:], fixed - real, axis=0)])
                for name, array in feeds.items()
            }
        held = fixed if fixed is not None else real
        for name, result in execute(feeds).items():
            if result.ndim == 0 or result.shape[0] % held:
                raise InputError(
                    "SNN336",
                    f"has shape {result.shape} for {held} samples, so batches cannot be joined",
                    where=Where(tensor=name),
                    hint=f"give exactly {held} samples",
                )
            parts.setdefault(name, []).append(result[: result.shape[0] // held * real])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
