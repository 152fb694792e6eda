"""The simulator of ExpG-1: it executes the words of a program, nothing else."""

from snnc.runtimes.expg1.machine import Machine
from snnc.runtimes.expg1.runtime import Expg1

__all__ = ["Expg1", "Machine"]
