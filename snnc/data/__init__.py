"""Samples of network inputs: calibration data, data to judge with, data to run.

Whatever the source, samples come in batches, checked against what the network expects, in memory that does
not grow with their number.
"""

from snnc.data.named import load_samples, named_samples, open_samples, source_files
from snnc.data.source import Batches, Samples, first_samples

__all__ = [
    "Batches",
    "Samples",
    "first_samples",
    "load_samples",
    "named_samples",
    "open_samples",
    "source_files",
]
