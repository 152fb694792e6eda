"""Vectors for the Verilog units in ``runtimes/expg1/rtl``: one FIRE and one SMM of the golden sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.isa.geometry import search
from snnc.isa.program import Step

__all__ = ["LANES", "Vectors"]

Array = npt.NDArray[Any]
LANES = 4
_MOST = 256


@dataclass
class Vectors:
    """Collects the first FIRE and the first SMM that a run retires.

    Attributes:
        files: Name and content of each file.
    """

    files: dict[str, bytes] = field(default_factory=dict)

    def watch(self, step: Step, given: Mapping[str, Array], written: Array | None) -> None:
        """Look at a retired instruction."""
        name = step.instruction.name
        if name == "FIRE" and "rtl/fire/potential.hex" not in self.files:
            self._fire(given)
        if name == "SMM" and "rtl/row/code.hex" not in self.files and not step.instruction.fields["sub"]:
            self._row(step, given, written)

    def _fire(self, given: Mapping[str, Array]) -> None:
        values, thresholds = given["src"][0], given["thr"]
        kept = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in thresholds.strides[:-1])
        stored = np.ascontiguousarray(thresholds[kept])
        count = stored.shape[-1]
        first = np.arange(stored.size // count).reshape(stored.shape[:-1]) * count
        chosen = np.linspace(0, values.size - 1, min(_MOST, values.size)).astype(int)
        place = search(values, thresholds).reshape(-1)[chosen]
        table = np.broadcast_to(first, values.shape).reshape(-1)[chosen]
        self._put("fire/potential", values.reshape(-1)[chosen], 16)
        self._put("fire/table", table, 8)
        self._put("fire/threshold", stored.reshape(-1), 16)
        self._put("fire/count", np.array([count]), 8)
        self._put("fire/place", place, 8)
        numbers = {"N": len(chosen), "K": stored.size, "DEPTH": int(count).bit_length()}
        self._parameters("fire", numbers)

    def _row(self, step: Step, given: Mapping[str, Array], written: Array | None) -> None:
        if written is None or step.instruction.fields["add"]:
            return
        codes, rows, sums = given["lhs"][0, 0], given["rhs"][0, 0], written[0, 0]
        limit = min(len(codes), max(1, _MOST // max(1, codes.shape[1])))
        lanes = np.zeros((rows.shape[0], LANES), np.int64)
        lanes[:, : min(LANES, rows.shape[1])] = rows[:, :LANES]
        expected = np.zeros((limit, LANES), np.int64)
        expected[:, : min(LANES, rows.shape[1])] = sums[:limit, :LANES]
        self._put("row/code", codes[:limit].reshape(-1), 8)
        self.files["rtl/row/weight.hex"] = _packed(lanes, 8)
        self.files["rtl/row/sum.hex"] = _packed(expected, 16)
        self._parameters("row", {"M": limit, "K": codes.shape[1], "LANES": LANES, "STEPS": 16})

    def _put(self, name: str, values: Array, digits: int) -> None:
        self.files[f"rtl/{name}.hex"] = _packed(np.asarray(values).reshape(-1, 1), digits)

    def _parameters(self, unit: str, numbers: Mapping[str, int]) -> None:
        text = "".join(f"-Ptb_{unit}.{name}={number}\n" for name, number in numbers.items())
        self.files[f"rtl/{unit}/parameters.txt"] = text.encode()


def _packed(rows: Array, digits: int) -> bytes:
    """Return lines of two's complement, the first column in the lowest digits."""

    def lines() -> Iterator[str]:
        mask = (1 << (4 * digits)) - 1
        for row in rows.astype(np.int64).tolist():
            yield "".join(f"{int(value) & mask:0{digits}x}" for value in reversed(row)) + "\n"

    return "".join(lines()).encode()
