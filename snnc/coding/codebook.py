"""The code book: which spike patterns a neuron may emit and which value each one stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from snnc.coding import grid
from snnc.coding.arguments import MOST_TIMESTEPS, check_bounds, check_partition, check_signed, integer
from snnc.coding.breakpoints import BreakPoint, Ties, closed_flags, closed_thresholds
from snnc.coding.grid import Partition
from snnc.coding.patterns import IllegalCode, code_of, row_of
from snnc.coding.serial import fire_serially
from snnc.errors import UsageError

__all__ = ["CodeBook"]


@dataclass(frozen=True, init=False)
class CodeBook:
    """The legal spike patterns of a window of T time-steps, and the integer code of each.

    Step t (1 .. T) weighs ``2**(T - t)``. The steps are dealt out to G groups, and a pattern is legal if it
    has at most one spike in each group; its code is the sum of the weights of its spikes. A signed book also
    holds the mirror image of each pattern, all of its spikes negative. A spike tensor's value is
    ``step * code``. Books are equal if their fields are.

    Attributes:
        timesteps: Number of time-steps T, 1 .. 16.
        groups: Number of groups G, 1 .. T; no pattern has more spikes.
        partition: ``"interleaved"`` puts step t into group ``(t - 1) mod G``; ``"contiguous"`` makes
            blocks of neighbouring steps, the first ``T mod G`` one step longer.
        signed: Whether patterns of negative spikes are legal too.
        smallest: Smallest admitted code, always explicit.
        largest: Largest admitted code, always explicit.

    Source:
        Ge2mS-T (arXiv 2604.08894), ExpG-IF; semantics notes 1.1 to 1.6 and 6.2.

    Example:
        >>> CodeBook(4, 2).codes.tolist()
        [0, 1, 2, 3, 4, 6, 8, 9, 12]
    """

    timesteps: int
    groups: int
    partition: Partition
    signed: bool
    smallest: int
    largest: int

    def __init__(
        self,
        timesteps: int,
        groups: int,
        partition: Partition = "interleaved",
        signed: bool = False,
        smallest: int | None = None,
        largest: int | None = None,
    ) -> None:
        """Check the arguments and fill in the bounds.

        Args:
            timesteps: Number of time-steps T, 1 .. 16.
            groups: Number of groups G, 1 .. T.
            partition: ``"interleaved"`` or ``"contiguous"``.
            signed: Whether patterns of negative spikes are legal too.
            smallest: Smallest admitted code; None for 0, or for ``-magnitude`` when signed. Codes below it
                are dropped. It need not be 0 or less: whoever pads with zeros checks that 0 is admitted.
            largest: Largest admitted code; None for ``magnitude``.

        Raises:
            UsageError: SNN201 timesteps, SNN202 groups, SNN203 partition, SNN204 signed, SNN205 smallest or
                largest: out of range, of the wrong type, or (smallest, largest) not a code of the book.
        """
        timesteps = integer("SNN201", "timesteps", timesteps, least=1, most=MOST_TIMESTEPS)
        groups = integer("SNN202", "groups", groups, least=1, most=timesteps)
        check_partition(partition)
        check_signed(signed)
        magnitudes = grid.magnitudes(timesteps, groups, partition)
        smallest, largest = check_bounds(magnitudes, signed, smallest, largest)
        # The class is frozen, so its own fields are set through the back door.
        object.__setattr__(self, "timesteps", timesteps)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "partition", partition)
        object.__setattr__(self, "signed", bool(signed))
        object.__setattr__(self, "smallest", smallest)
        object.__setattr__(self, "largest", largest)

    @classmethod
    def uniform(cls, smallest: int, largest: int) -> CodeBook:
        """Return the book with the fewest time-steps that holds every integer of a range.

        Args:
            smallest: Smallest integer; the book is signed if it is negative.
            largest: Largest integer.

        Returns:
            A book with G = T whose codes are exactly ``smallest .. largest``.

        Raises:
            UsageError: SNN205, if the range is empty or needs more than 16 time-steps.
        """
        reach = 2**MOST_TIMESTEPS - 1
        smallest = integer("SNN205", "smallest", smallest, least=-reach, most=reach)
        largest = integer("SNN205", "largest", largest, least=-reach, most=reach)
        timesteps = max(1, abs(smallest).bit_length(), abs(largest).bit_length())
        return cls(timesteps, timesteps, "interleaved", smallest < 0, smallest, largest)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> CodeBook:
        """Rebuild a book from the attributes of a node; see `to_attributes`.

        Args:
            attributes: Holds at least the six keys of `to_attributes`; others are ignored. ``partition`` may
                be bytes, as ONNX stores it.

        Returns:
            The book.

        Raises:
            UsageError: SNN206 for a missing key, SNN201 to SNN205 for a bad value.
        """
        missing = [key for key in cls.__dataclass_fields__ if key not in attributes]
        if missing:
            raise UsageError("SNN206", f"code book attributes are missing: {', '.join(missing)}")
        partition = attributes["partition"]
        if isinstance(partition, bytes):
            partition = partition.decode("utf-8", "replace")
        signed = attributes["signed"]
        return cls(
            attributes["timesteps"],
            attributes["groups"],
            partition,
            bool(signed) if signed in (0, 1) else signed,
            attributes["smallest"],
            attributes["largest"],
        )

    def to_attributes(self) -> dict[str, int | str]:
        """Return the fields as ONNX attribute values: ``signed`` as 0 or 1, bounds always explicit."""
        return {
            "timesteps": self.timesteps,
            "groups": self.groups,
            "partition": self.partition,
            "signed": int(self.signed),
            "smallest": self.smallest,
            "largest": self.largest,
        }

    def restricted(self, smallest: int, largest: int) -> CodeBook:
        """Return the book of those codes that lie in a range as well.

        Args:
            smallest: Lower end, inclusive; need not be a code.
            largest: Upper end, inclusive; need not be a code.

        Returns:
            The same patterns, fewer of them.

        Raises:
            UsageError: SNN205, if no code of the book lies in the range.
        """
        kept = self.codes[(self.codes >= smallest) & (self.codes <= largest)]
        if not kept.size:
            raise UsageError(
                "SNN205", f"no code of {self} lies between smallest {smallest} and largest {largest}"
            )
        return CodeBook(self.timesteps, self.groups, self.partition, self.signed, int(kept[0]), int(kept[-1]))

    @property
    def _tables(self) -> grid.Tables:
        return grid.tables(
            self.timesteps,
            self.groups,
            self.partition,
            signed=self.signed,
            smallest=self.smallest,
            largest=self.largest,
        )

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """Admitted codes, int32 (levels,), ascending, read-only."""
        return self._tables.codes

    @property
    def patterns(self) -> npt.NDArray[np.int8]:
        """Spike pattern of each code, int8 (levels, T), most significant step first, read-only."""
        return self._tables.patterns

    @property
    def spikes(self) -> npt.NDArray[np.uint8]:
        """Number of spikes of each code, uint8 (levels,), read-only."""
        return self._tables.spikes

    @property
    def levels(self) -> int:
        """Number of admitted codes."""
        return self.codes.size

    @property
    def magnitude(self) -> int:
        """Largest code M of the grid before ``smallest`` and ``largest`` restrict it."""
        return int(grid.magnitudes(self.timesteps, self.groups, self.partition)[-1])

    @property
    def max_abs(self) -> int:
        """Largest magnitude among the admitted codes."""
        return max(abs(self.smallest), abs(self.largest))

    @property
    def is_uniform(self) -> bool:
        """Whether the admitted codes are consecutive integers."""
        return self.levels == self.largest - self.smallest + 1

    @property
    def weights(self) -> npt.NDArray[np.int32]:
        """What a spike of each step is worth, int32 (T,): 2**(T-1) .. 1, in units of the step."""
        return np.int32(1) << np.arange(self.timesteps - 1, -1, -1, dtype=np.int32)

    @property
    def group_of_step(self) -> tuple[int, ...]:
        """Group (0 .. G-1) of each step, most significant step first."""
        return grid.group_of_step(self.timesteps, self.groups, self.partition)

    @property
    def comparisons(self) -> int:
        """Comparisons of a binary search over the break points, the sign included: ceil(log2(levels))."""
        return (self.levels - 1).bit_length()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Narrowest of uint8 (no negative code), int8, int16 and int32 that holds the admitted codes."""
        for kind in (np.uint8, np.int8, np.int16):
            bounds = np.iinfo(kind)
            if bounds.min <= self.smallest and self.largest <= bounds.max:
                return np.dtype(kind)
        return np.dtype(np.int32)

    @property
    def twice_midpoints(self) -> npt.NDArray[np.int32]:
        """Twice the break points, int32 (levels - 1,), ascending: the sums of neighbouring codes."""
        return self.codes[:-1] + self.codes[1:]

    def closed(self, ties: Ties = "away") -> npt.NDArray[np.bool_]:
        """Return which break points belong to the code above them.

        Args:
            ties: ``"away"`` from zero (what symmetric quantisers do), ``"up"``, or to the ``"even"`` code
                (QuantizeLinear, torch.round), which needs consecutive codes.

        Returns:
            bool (levels - 1,).

        Raises:
            UsageError: SNN208, if ``ties`` is unknown, or ``"even"`` on codes that are not consecutive.
        """
        return closed_flags(self.codes, ties)

    def break_points(self, ties: Ties = "away") -> tuple[BreakPoint, ...]:
        """Return the ``levels - 1`` break points, ascending; see `closed` for ``ties`` and errors."""
        return _break_points(self, ties)

    def thresholds(self, ties: Ties = "away") -> npt.NDArray[np.float64]:
        """Return float64 thresholds, in units of the step, that ``u >= threshold`` decides as the book does.

        An open break point becomes the next float64 above it.

        Args:
            ties: See `closed`.

        Returns:
            float64 (levels - 1,), ascending.

        Raises:
            UsageError: SNN208, see `closed`.
        """
        return _thresholds(self, ties)

    def nearest(self, u: npt.ArrayLike, ties: Ties = "away") -> npt.NDArray[np.int32]:
        """Return the nearest code of each number; outside the book, the first or the last.

        Args:
            u: Numbers in units of the step, any shape, taken as float64. Not-a-number gives the smallest
                code, as it reaches no threshold.
            ties: See `closed`.

        Returns:
            int32 codes of the same shape.

        Raises:
            UsageError: SNN208, see `closed`.
        """
        values = np.asarray(u, np.float64)
        rows = np.searchsorted(self.thresholds(ties), values, side="right")
        return np.asarray(self.codes[np.where(np.isnan(values), 0, rows)])

    def rows(self, codes: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Return the position of each code in `codes`.

        Args:
            codes: Admitted codes, integers, any shape.

        Returns:
            int32 of the same shape.

        Raises:
            IllegalCode: SNN310, if an element is not an admitted code or not an integer.
        """
        wanted = np.asarray(codes)
        found, illegal = row_of(wanted, self._tables.rows, self.smallest)
        if illegal.any():
            raise IllegalCode("SNN310", f"{wanted[illegal].flat[0]} is not a code of {self}")
        return found

    def encode(self, codes: npt.ArrayLike) -> npt.NDArray[np.int8]:
        """Return the spike pattern of each code.

        Args:
            codes: Admitted codes, integers, any shape.

        Returns:
            int8 ``(T, *shape)`` in {-1, 0, 1}; step 0 is the most significant.

        Raises:
            IllegalCode: SNN310, if an element is not an admitted code or not an integer.
        """
        return np.ascontiguousarray(self.patterns.T)[:, self.rows(codes)]

    def decode(self, patterns: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Return the code of each spike pattern.

        Args:
            patterns: Legal patterns, integers in {-1, 0, 1}, shape ``(T, *shape)``.

        Returns:
            int32 of shape ``shape``.

        Raises:
            IllegalCode: SNN311, if the first axis is not T long, or a pattern is not in the book.
        """
        codes = code_of(np.asarray(patterns), self.timesteps)
        _, illegal = row_of(codes, self._tables.rows, self.smallest)
        if illegal.any():
            raise IllegalCode(
                "SNN311", f"a pattern adds up to {codes[illegal].flat[0]}, not a code of {self}"
            )
        return codes

    def spike_count(self, codes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return the number of spikes of each code.

        Args:
            codes: Admitted codes, integers, any shape.

        Returns:
            uint8 of the same shape, at most G.

        Raises:
            IllegalCode: SNN310, if an element is not an admitted code or not an integer.
        """
        return np.asarray(self.spikes[self.rows(codes)])

    def fire(
        self, potential: npt.ArrayLike, thresholds: npt.ArrayLike | Sequence[BreakPoint]
    ) -> npt.NDArray[np.int8]:
        """Emit spike patterns step by step, by threshold comparisons alone.

        The result equals ``encode(codes[k])`` with k the number of thresholds reached.

        Args:
            potential: Membrane potentials, any shape, integer or float.
            thresholds: Either `BreakPoint` objects, with the potential in units of the step, or an
                array of ``levels - 1`` ascending numbers in the potential's unit along axis 0, reached by
                ``potential >= threshold``; its further axes broadcast against ``potential``.

        Returns:
            int8 ``(T, *shape)`` in {-1, 0, 1}; step 0 is the most significant.

        Raises:
            UsageError: SNN209, if there are not ``levels - 1`` thresholds, or some are break points and
                some are none.

        Source:
            Semantics note 1.6.
        """
        if isinstance(thresholds, Sequence) and all(isinstance(item, BreakPoint) for item in thresholds):
            limits: npt.NDArray[Any] = closed_thresholds(cast(Sequence[BreakPoint], thresholds))
        else:
            limits = np.asarray(thresholds)
        return fire_serially(self.codes, self.timesteps, np.asarray(potential), limits).patterns


@lru_cache(maxsize=64)
def _break_points(book: CodeBook, ties: Ties) -> tuple[BreakPoint, ...]:
    pairs = zip(book.twice_midpoints.tolist(), book.closed(ties).tolist(), strict=True)
    return tuple(BreakPoint(twice_midpoint, closed) for twice_midpoint, closed in pairs)


@lru_cache(maxsize=64)
def _thresholds(book: CodeBook, ties: Ties) -> npt.NDArray[np.float64]:
    middle = book.twice_midpoints / 2
    limits = np.where(book.closed(ties), middle, np.nextafter(middle, np.inf))
    limits.setflags(write=False)
    return limits
