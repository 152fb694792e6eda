"""Code books: spike patterns, their integer codes, and the thresholds between them."""

from snnc.coding.codebook import BreakPoint, CodeBook, IllegalCode, Ties
from snnc.coding.grid import Partition
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
