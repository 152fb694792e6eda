"""Traces of a simulated sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy.typing as npt

from snnc.emit.compiled import Compiled
from snnc.emit.listing import trace_csv
from snnc.emit.profile import profile
from snnc.emit.waves import trace_vcd
from snnc.files import OutputFile
from snnc.runtimes.common import one_sample
from snnc.runtimes.expg1.machine import Order

__all__ = ["trace_output"]


def trace_output(
    compiled: Compiled, samples: Mapping[str, npt.NDArray[Any]], target: str, *, order: Order
) -> OutputFile:
    """Return the trace of the first sample, ``.csv`` or ``.vcd``, as a file to be written."""
    counted = profile(compiled, one_sample(samples, compiled.runtime().inputs), order=order)
    text = (
        trace_vcd(counted) if target.endswith(".vcd") else "".join(f"{line}\n" for line in trace_csv(counted))
    )
    content = text.encode()
    return target, lambda stream: _put(stream, content)


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
