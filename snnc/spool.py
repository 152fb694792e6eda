"""Large arrays in temporary files that are mapped into memory, in place of the heap.

A conversion makes integers and thresholds of half the size of the weights it reads, and needs each of them
now and then. In a file, the system keeps what is in use and takes back the rest whenever others need memory.
The files have no name: they are gone with the last array, however the process ends.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import threading
import weakref
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["LARGE", "let_go", "spooled"]

#: Arrays of fewer bytes stay in the heap: a mapping is made of pages.
LARGE = 1 << 18
#: Size of a file; it takes room for what was written only.
_SEGMENT = 1 << 26
_ALIGNMENT = 64
#: A file is begun only where so many times its size is free: others need the folder, too.
_SPARE = 4

Array = npt.NDArray[Any]


class _Segment:
    """One file, mapped as a whole, filled from its beginning on.

    Args:
        size: Its size in bytes.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, size: int) -> None:
        self.owner = os.getpid()
        self._size = size
        self._used = 0
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="snnc-", buffering=0)  # noqa: SIM115
        try:
            if shutil.disk_usage(tempfile.gettempdir()).free < _SPARE * size:
                raise OSError("too little room")
            self._file.truncate(size)
            self.map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise
        # The mapping does without it; whoever still writes keeps the segment.
        weakref.finalize(self, self._file.close)

    def reserve(self, size: int) -> int | None:
        """Return where an array of this size goes, None if it does not fit."""
        place = self._used
        if place + size > self._size:
            return None
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return place

    def write(self, content: memoryview, place: int) -> None:
        """Write bytes to a place that was reserved.

        Raises:
            OSError: The disk is full.
        """
        while content:
            # Not through the mapping: a full disk is an error here, and the end of the process there.
            done = os.pwrite(self._file.fileno(), content, place)
            content, place = content[done:], place + done


_LOCK = threading.Lock()
_CURRENT: list[_Segment] = []
_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def spooled(array: Array) -> Array:
    """Return a read-only array of the same content, in a file if it is large and there is room for it.

    Args:
        array: Numbers; small ones, and those for which there is no file, are returned as they are.
    """
    if array.nbytes < LARGE or array.dtype.hasobject or not hasattr(os, "pwrite"):
        return array
    content = np.ascontiguousarray(array)
    try:
        segment, place = _room(content.nbytes)
        segment.write(content.reshape(-1).view(np.uint8).data, place)
    except (OSError, ValueError):
        return array
    found = np.frombuffer(segment.map, content.dtype, content.size, place)
    return found.reshape(content.shape)


def let_go() -> None:
    """Let the system take back the memory of all that is spooled; what is read again is fetched again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for held in list(_MAPS):
            held.madvise(mmap.MADV_DONTNEED)


def _room(size: int) -> tuple[_Segment, int]:
    """Return a file, and where in it an array of this size goes."""
    with _LOCK:
        # A process that was forked writes to files of its own.
        segment = _CURRENT[0] if _CURRENT and _CURRENT[0].owner == os.getpid() else None
        place = segment.reserve(size) if segment is not None else None
        if segment is None or place is None:
            segment = _Segment(max(size, _SEGMENT))
            place = segment.reserve(size) or 0
            _MAPS.add(segment.map)
            _CURRENT[:] = [segment]
        return segment, place
