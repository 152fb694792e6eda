"""Calibration: what a float network does on a few inputs, and what is chosen from it."""

from snnc.calibration.inputs import observe_inputs
from snnc.calibration.observe import Calibration

__all__ = ["Calibration", "observe_inputs"]
