"""Memory between passes."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What stays lies between what is freed, so that the heap cannot shrink by itself.
_PROGRAM = """
import os
from pathlib import Path
from snnc.pipeline.garbage import give_back

def resident():
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGESIZE")

held = [b"x" * (100_000 + number) for number in range(2000)]
stay = held[::50]
before = resident()
del held
give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and glibc's allocator")
def test_free_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150_000_000
