"""What the operands of an instruction must be, by the table: extents, memories, elements written once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from snnc.isa.program import Descriptor, Step

__all__ = ["fault"]

_SAME_TYPE = frozenset({"LD", "ST"})
#: Elements of a descriptor that are looked at one by one; more of them are not in the memory of a core.
_MOST = 1 << 24


def fault(step: Step) -> str | None:
    """Return why the operands of an instruction are not what the table says, or None.

    Args:
        step: The instruction with its operands.
    """
    letters: dict[str, int] = {}
    roles = [item for item in step.instruction.form.fields if item.role]
    for item in roles:
        if (found := _extents(item.extents, step.operands[item.name], letters)) is not None:
            return f"{item.name}: {found}"
    for item in roles:
        place = step.operands[item.name]
        if (place.memory == "DRAM") != item.dram:
            return f"{item.name} lies in {place.memory}"
    for item in roles:
        if item.role == "reads":
            continue
        place = step.operands[item.name]
        if not _apart(place):
            return f"{item.name} is written and has an element twice"
        for other in roles:
            if other is not item and _meet(place, step.operands[other.name]):
                return f"{item.name} is written and shares bytes with {other.name}"
    if step.instruction.name in _SAME_TYPE:
        dst, src = step.operands["dst"], step.operands["src"]
        if dst.dtype != src.dtype:
            return f"{src.dtype} cannot be moved as {dst.dtype}"
    return None


def _extents(wanted: tuple[str, ...], place: Descriptor, letters: dict[str, int]) -> str | None:
    """Compare four extents with their letters; a letter that is new gets its number."""
    for name, extent in zip(wanted, place.shape, strict=True):
        letter, _, more = name.partition("+")
        number = extent - int(more or 0)
        if letters.setdefault(letter, 1 if letter == "1" else number) != number:
            return f"extents {list(place.shape)} are not {', '.join(wanted)}{_known(letters)}"
    return None


def _known(letters: Mapping[str, int]) -> str:
    said = ", ".join(f"{letter} = {number}" for letter, number in letters.items() if letter != "1")
    return f" with {said}" if said else ""


def _apart(place: Descriptor) -> bool:
    """Whether every element of a descriptor has an address of its own."""
    reach, nested = 0, True
    for stride, extent in sorted(
        (abs(s), n) for n, s in zip(place.shape, place.strides, strict=True) if n > 1
    ):
        nested = nested and stride > reach
        reach += stride * (extent - 1)
    if nested:
        return True
    return place.elements <= min(reach + 1, _MOST) and _bytes(place).size == place.elements * place.itemsize


def _meet(first: Descriptor, second: Descriptor) -> bool:
    """Whether two descriptors have a byte in common; if they are too large to look at, they have."""
    if first.memory != second.memory:
        return False
    if first.span[1] <= second.span[0] or second.span[1] <= first.span[0]:
        return False
    if max(first.elements, second.elements) > _MOST:
        return True
    return np.intersect1d(_bytes(first), _bytes(second), assume_unique=True).size > 0


def _bytes(place: Descriptor) -> npt.NDArray[np.int64]:
    """Return the addresses of the bytes of a descriptor, each once."""
    found = np.full(1, place.base, np.int64)
    for extent, stride in zip(place.shape, place.strides, strict=True):
        if not stride:
            continue
        found = np.unique(found[:, None] + np.arange(extent) * (stride * place.itemsize))
    return np.unique(found[:, None] + np.arange(place.itemsize))
