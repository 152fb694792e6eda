"""Who made each element, and which cores have it: what has to be sent before a group can run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.passes.lower.kernels import Box, Buffer, Group, View

__all__ = ["Holdings", "Message", "Share", "boxes"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Share:
    """The part of a group's index space that a core has."""

    core: int
    box: Box


@dataclass(frozen=True)
class Message:
    """Elements that one core sends to another.

    Attributes:
        sender: The core that has them.
        receiver: The core that needs them.
        view: Which.
    """

    sender: int
    receiver: int
    view: View


@dataclass
class _Held:
    """The state of one buffer: who made each element, -1 for nobody, and which cores have it."""

    owner: npt.NDArray[np.int16]
    has: npt.NDArray[np.bool_]


def stored(view: View) -> View:
    """Return a view with each stored element once."""
    shape = tuple(n if stride else 1 for n, stride in zip(view.shape, view.strides, strict=True))
    return View(view.buffer, view.offset, shape, view.strides)


def boxes(mask: npt.NDArray[np.bool_]) -> Iterator[Box]:
    """Cut what is true of an array into boxes that cover all of it and nothing else."""
    if not mask.any():
        return
    if mask.all():
        yield tuple((0, extent) for extent in mask.shape)
        return
    best: tuple[int, int, list[int]] | None = None
    for axis in range(mask.ndim):
        rows = np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1)
        changes = (np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1).tolist()
        if changes and (best is None or len(changes) < best[0]):
            best = (len(changes), axis, changes)
    assert best is not None  # neither all true nor all false
    _, axis, changes = best
    for begin, end in zip([0, *changes], [*changes, mask.shape[axis]], strict=True):
        # All of a piece is the same along the axis: look at its first slice.
        first = mask[tuple(slice(begin, begin + 1) if a == axis else slice(None) for a in range(mask.ndim))]
        for box in boxes(first):
            yield (*box[:axis], (begin, end), *box[axis + 1 :])


class Holdings:
    """What every core has, group by group.

    Args:
        cores: Number of cores.
        inside: Buffers that live inside tiles, by identity; nobody else ever needs them.
    """

    def __init__(self, cores: int, inside: set[int]) -> None:
        self.cores, self.inside = cores, inside
        self._held: dict[int, _Held] = {}

    def _of(self, buffer: Buffer) -> _Held:
        if id(buffer) not in self._held:
            self._held[id(buffer)] = _Held(
                np.full(buffer.elements, -1, np.int16), np.zeros((self.cores, buffer.elements), np.bool_)
            )
        return self._held[id(buffer)]

    def sent(self, buffer: Buffer) -> bool:
        """Whether a buffer lies on cores, so that its parts are sent."""
        return buffer.kind == "activation" and not buffer.in_dram and id(buffer) not in self.inside

    def missing(self, core: int, view: View) -> int:
        """Return how many elements of a view a core does not have."""
        return int(np.count_nonzero(~_look(self._of(view.buffer).has[core], stored(view))))

    def exchange(self, group: Group, shares: Sequence[Share]) -> list[Message]:
        """Return what is sent before a group runs, and note what it makes."""
        found: list[Message] = []
        made: list[tuple[int, View]] = []
        for share in shares:
            for kernel in group.kernels if group.kernels[0].name != "HGET" else ():
                for item in kernel.operands[1:]:
                    if self.sent(item.view.buffer):
                        part = stored(item.view.part(item.box(share.box, (0, kernel.inner))))
                        found += self._fetch(share.core, part)
                result = kernel.result
                buffer = result.view.buffer
                if id(buffer) not in self.inside and buffer.kind in ("activation", "output"):
                    part = result.view.part(result.box(share.box))
                    made.append((share.core, part))
                    _look(self._of(buffer).has[share.core], part)[...] = True
        for core, part in made:
            held = self._of(part.buffer)
            _look(held.owner, part)[...] = core
            for other in range(self.cores):
                _look(held.has[other], part)[...] = False
        for core, part in made:
            _look(self._of(part.buffer).has[core], part)[...] = True
        return found

    def _fetch(self, core: int, part: View) -> Iterator[Message]:
        held = self._of(part.buffer)
        has, owner = _look(held.has[core], part), _look(held.owner, part)
        wanted = ~has & (owner >= 0)
        for sender in np.unique(owner[wanted]).tolist():
            for box in boxes(wanted & (owner == sender)):
                yield Message(sender, core, part.part(box))
        has[...] = True

    def owned(self, view: View) -> Iterator[tuple[int, Box]]:
        """Iterate over cores with the parts of a view that they made last."""
        owner = _look(self._of(view.buffer).owner, view)
        for core in np.unique(owner).tolist():
            if core >= 0:
                for box in boxes(owner == core):
                    yield core, box


def _look(flat: Array, view: View) -> Array:
    """Return the elements of a flat array that a view names."""
    strides = tuple(stride * flat.itemsize for stride in view.strides)
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides)
