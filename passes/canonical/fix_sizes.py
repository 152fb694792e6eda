"""Pass ``fix-sizes``: open sizes of the network's inputs get their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from snnc.errors import UsageError, Where
from snnc.ir import Model, Shape, Value
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["OPEN_SIZES", "FixSizes", "OpenSize", "open_sizes"]

#: What a user can do about a size that is not known.
OPEN_SIZES = "give open sizes a number: --size NAME=NUMBER; or export with fixed sizes but for the batch"

_SIZE = re.compile(r"(?P<name>.+)=(?P<number>[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class OpenSize:
    """A dimension of a network input that no number fixes.

    Attributes:
        value: The input.
        axis: Its axis.
        symbol: Name of the dimension in the file; None if it has none.
    """

    value: Value
    axis: int
    symbol: str | None

    @property
    def name(self) -> str:
        """What a user calls it: its name in the file, or input and axis."""
        return self.symbol or self.place

    @property
    def place(self) -> str:
        """Input and axis."""
        return f"{self.value.name}:{self.axis}"


def open_sizes(model: Model) -> Iterator[OpenSize]:
    """Yield all dimensions of the inputs of a model that are no numbers, the batch (axis 0) among them."""
    for value in model.graph.inputs:
        if value.is_initializer() or value.shape is None:
            continue
        for axis, dim in enumerate(value.shape):
            if not isinstance(dim, int):
                yield OpenSize(value, axis, dim.value)


@dataclass(frozen=True)
class FixSizes:
    """Give open dimensions of the inputs the numbers that the network is converted for.

    Sums over tokens, the masks and the tables of positions depend on the length of a sequence, and so do the
    proofs that sums fit their integers.

    Attributes:
        sizes: ``NAME=NUMBER``, NAME being the name of a dimension or an input and an axis (``x:2``).

    Matches:
        Inputs with an open dimension that has a number here.
    Leaves alone:
        Other dimensions; the batch (axis 0) unless it is named.
    Keeps:
        Names. Shapes of inner values and outputs are forgotten, to be inferred again.

    Raises:
        UsageError: SNN291, a text is no size; SNN292, no input has such an open dimension, or it has two
            numbers.
    """

    sizes: tuple[str, ...] = ()

    name: ClassVar[str] = "fix-sizes"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"shapes-known"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Fix; see the class."""
        wanted = _parsed(self.sizes)
        found = list(open_sizes(model))
        known = {name for size in found for name in (size.name, size.place)}
        for name in wanted:
            if name not in known:
                names = ", ".join(dict.fromkeys(size.name for size in found)) or "none"
                raise UsageError(
                    "SNN292",
                    f"no input has an open size {name!r}",
                    where=Where(pass_name=self.name),
                    hint=f"open sizes: {names}",
                )
        rewrites = []
        numbers: dict[str, int] = {}
        for size in found:
            number = wanted.get(size.place, wanted.get(size.name))
            if number is None or size.value.shape is None:
                continue
            dims = [dim if isinstance(dim, int) else dim.value for dim in size.value.shape]
            dims[size.axis] = number
            size.value.shape = Shape(dims)
            rewrites.append(Rewrite("fix-size", (), (), f"{size.place} = {number}"))
            numbers[size.name] = number
        if rewrites:
            for node in model.graph:
                for value in node.outputs:
                    if value.shape is not None and any(not isinstance(dim, int) for dim in value.shape):
                        value.shape = None
        fixed = ", ".join(f"{name} = {number}" for name, number in numbers.items())
        note = (
            f"converted for {fixed} alone; for another number convert again with --size, or pad the samples"
        )
        return PassResult(rewrites, [], [note] if numbers else [])


def _parsed(sizes: tuple[str, ...]) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for text in sizes:
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise UsageError("SNN291", f"{text!r} is no size", hint="write NAME=NUMBER, such as sequence=128")
        name, number = match["name"].strip(), int(match["number"])
        if wanted.setdefault(name, number) != number:
            raise UsageError("SNN292", f"the size {name!r} has two numbers")
    return wanted
