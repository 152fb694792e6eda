"""Open sizes of a network's inputs, such as the length of a sequence: which numbers it is converted for."""

from __future__ import annotations

from collections.abc import Iterator

from snnc.arrays import match_inputs
from snnc.data import Samples
from snnc.errors import InputError, UsageError, Where
from snnc.ir import Model
from snnc.passes.canonical.fix_sizes import OpenSize, open_sizes
from snnc.runtimes import input_specs

__all__ = ["any_sizes", "require_sizes", "sizes_of_samples"]

#: What stands for an open size while nothing but the form of a network is looked at.
_ANY = 32


def sizes_of_samples(model: Model, given: tuple[str, ...], samples: Samples) -> tuple[str, ...]:
    """Return the numbers of a model's open sizes: those that the user gave, and those of the samples.

    Args:
        model: A model; not changed.
        given: ``NAME=NUMBER`` of the user.
        samples: Calibration data.

    Returns:
        The given ones, then one for each open size that is left, by its name or by input and axis.

    Raises:
        InputError: SNN348, samples differ in a size, or one name stands for two sizes.
    """
    left = list(_left(model, given))
    if not left:
        return given
    specs = input_specs(model)
    found: dict[str, int] = {}
    for chunk in samples.chunks(specs):
        arrays = match_inputs(chunk, specs, file=samples.name)
        for size in left:
            number = arrays[size.value.name or ""].shape[size.axis]
            if found.setdefault(size.name, number) != number:
                raise InputError(
                    "SNN348",
                    f"{size.name!r} is {found[size.name]} and {number}; converting needs one",
                    where=Where(file=samples.name, tensor=size.value.name),
                    hint=f"pad all samples to one length; --size {size.name}=NUMBER checks it",
                )
    return (*given, *(f"{name}={number}" for name, number in found.items()))


def require_sizes(model: Model, given: tuple[str, ...]) -> None:
    """Refuse a model with open sizes that neither the user nor samples give numbers.

    Raises:
        UsageError: SNN293, naming them.
    """
    names = list(dict.fromkeys(size.name for size in _left(model, given)))
    if names:
        flags = " ".join(f"--size {name}=NUMBER" for name in names)
        raise UsageError(
            "SNN293",
            f"sizes of the inputs are open: {', '.join(names)}",
            hint=f"add --calibrate x.npz, whose sizes are taken, or {flags}",
        )


def any_sizes(model: Model, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the given sizes and some number for every other open one."""
    return (*given, *dict.fromkeys(f"{size.name}={_ANY}" for size in _left(model, given)))


def _left(model: Model, given: tuple[str, ...]) -> Iterator[OpenSize]:
    """Yield open sizes other than the batch that nobody has given a number."""
    known = {text.rpartition("=")[0].strip() for text in given}
    batch = {size.symbol for size in open_sizes(model) if size.axis == 0 and size.symbol}
    for size in open_sizes(model):
        if size.axis and size.symbol not in batch and not known & {size.name, size.place}:
            yield size
