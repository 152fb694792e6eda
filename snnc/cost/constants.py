"""What one operation costs: the one table of energy prices, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PRICES", "SRAM_SIZES", "Price", "price"]


@dataclass(frozen=True)
class Price:
    """Energy of one operation.

    Attributes:
        picojoules: Energy, pJ.
        meaning: What the operation is.
        source: Where the number is printed.
    """

    picojoules: float
    meaning: str
    source: str


_HOROWITZ = (
    'M. Horowitz, "Computing\'s energy problem (and what we can do about it)", ISSCC 2014, 45 nm, 0.9 V'
)
_REPRINT = f"{_HOROWITZ}; reprinted in PMC8934428, table T3"

#: Energy prices at 45 nm by name. ``mac`` and ``ac`` are the papers' convention: 32-bit floats throughout.
PRICES = MappingProxyType(
    {
        "mac": Price(
            4.6,
            "float32 multiply and accumulate",
            f"iCGY96/syops-counter 4232f77, README: 'MAC 4.6pJ'; the sum of 3.7 and 0.9 of {_REPRINT}",
        ),
        "ac": Price(
            0.9, "float32 accumulate", f"iCGY96/syops-counter 4232f77, README: 'AC 0.9pJ'; {_REPRINT}"
        ),
        "int32_add": Price(0.1, "int32 add", _REPRINT),
        "int32_multiply": Price(3.1, "int32 multiply", _REPRINT),
        "int8_add": Price(0.03, "int8 add", _HOROWITZ),
        "int8_multiply": Price(0.2, "int8 multiply", _HOROWITZ),
        "int8_mac": Price(
            0.3,
            "int8 multiply, int32 accumulate",
            f"the sum of 0.2 (int8 multiply) and 0.1 (int32 add): {_HOROWITZ}",
        ),
        "sram_8k_64bit": Price(10.0, "64 bits from a memory of 8 KiB", _REPRINT),
        "sram_32k_64bit": Price(20.0, "64 bits from a memory of 32 KiB", _HOROWITZ),
        "sram_1m_64bit": Price(100.0, "64 bits from a memory of 1 MiB", _HOROWITZ),
        "noc_hop_32bit": Price(
            2.0,
            "32 bits from one router of the network on chip to the next; 22 nm, not 45 nm",
            "SENECA, PMC10326429, energy of operations: 2 pJ for an event of 32 bits",
        ),
        "dram_64bit": Price(1300.0, "64 bits from DRAM, the lower end of 1.3 to 2.6 nJ", _HOROWITZ),
    }
)


#: Sizes of memory, in bytes, whose energy is published, and the names of the prices.
SRAM_SIZES = MappingProxyType(
    {8 * 1024: "sram_8k_64bit", 32 * 1024: "sram_32k_64bit", 1024 * 1024: "sram_1m_64bit"}
)


def price(name: str) -> float:
    """Return the energy of one operation, unit: pJ.

    Args:
        name: A key of `PRICES`.
    """
    return PRICES[name].picojoules
