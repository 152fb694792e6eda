"""Code books: spike patterns, their integer codes, and the thresholds between them."""

from snnc.coding.breakpoints import BreakPoint, Ties
from snnc.coding.codebook import CodeBook
from snnc.coding.grid import Partition
from snnc.coding.patterns import IllegalCode
from snnc.coding.serial import Firing, fire_serially
from snnc.coding.step import optimal_step

__all__ = [
    "BreakPoint",
    "CodeBook",
    "Firing",
    "IllegalCode",
    "Partition",
    "Ties",
    "fire_serially",
    "optimal_step",
]
