"""What a fuzzer calls: each takes any bytes, and may raise nothing but snnc's typed errors for input."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from snnc.arrays import read_arrays
from snnc.errors import InputError, UnsupportedError, UsageError
from snnc.ir import load
from snnc.isa.assembly import assemble, disassemble
from snnc.isa.codec import decode_all
from snnc.settings import read_recipe

__all__ = ["SEEDS", "TARGETS", "mutated"]

ROOT = Path(__file__).resolve().parents[2]
_REFUSALS = (InputError, UnsupportedError, UsageError)
_FOLDER = Path(tempfile.mkdtemp(prefix="snnc-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / f"{os.getpid()}-{name}"
    path.write_bytes(data)
    return path


def admission(data: bytes) -> None:
    """Read a model file: frames, tensors, graph, the ONNX checker."""
    with contextlib.suppress(_REFUSALS):
        load(_file("m.onnx", data))


def recipe(data: bytes) -> None:
    """Read a recipe."""
    with contextlib.suppress(_REFUSALS):
        read_recipe(_file("r.toml", data))


def listing(data: bytes) -> None:
    """Assemble a listing; what is accepted must survive a round trip."""
    try:
        found = assemble(data.decode("utf-8", "replace"), file="listing.s")
    except _REFUSALS:
        return
    assert assemble(disassemble(found)) == found


def words(data: bytes) -> None:
    """Disassemble words; what is accepted must survive a round trip."""
    try:
        found = list(decode_all(data))
    except _REFUSALS:
        return
    assert assemble(disassemble(found)) == found


def arrays(data: bytes) -> None:
    """Read samples."""
    with contextlib.suppress(_REFUSALS):
        read_arrays(_file("x.npz", data))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "admission": admission,
    "recipe": recipe,
    "listing": listing,
    "words": words,
    "arrays": arrays,
}


def _hostile(name: str) -> list[bytes]:
    """Files of the hostile rows."""
    from tests.hostile import data_rows, model_rows

    rows = {
        "admission": [*model_rows.TENSORS, *model_rows.GRAPHS],
        "recipe": data_rows.RECIPES,
        "arrays": data_rows.DATA,
        "listing": data_rows.FORMATS,
        "words": data_rows.FORMATS,
    }[name]
    pattern = {
        "admission": "bad.onnx",
        "recipe": "*.toml",
        "arrays": "bad.np*",
        "listing": "*.s",
        "words": "*.bin",
    }
    found = []
    for row in rows:
        if row.bomb or row.check == 39:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            made = row.make(folder)
            if made is not None:
                (folder / "bad.onnx").write_bytes(
                    made if isinstance(made, bytes) else made.SerializeToString()
                )
            found += [path.read_bytes() for path in folder.rglob(pattern[name]) if path.is_file()]
    return [content for content in found if len(content) < 20_000]


def seeds(name: str) -> list[bytes]:
    """Small files to begin from: sound ones and hostile ones."""
    sound: list[bytes] = []
    if name == "admission":
        paths = sorted((ROOT / "tests" / "sources").glob("*.onnx"))
        sound = [path.read_bytes() for path in paths if path.stat().st_size < 12_000]
    if name in ("listing", "words"):
        from tests.hostile.data_rows import kit

        sound = [kit()["bundle/model.s" if name == "listing" else "bundle/model.bin"]]
    if name == "recipe":
        sound = [b'timesteps = 4\ngroups = 2\n\n[[layers]]\nmatch = "*"\nweights = "int4"\n']
    return [*sound, *_hostile(name)]


class _Seeds(dict[str, list[bytes]]):
    def __missing__(self, name: str) -> list[bytes]:
        self[name] = seeds(name)
        return self[name]


#: Seeds by target, made when they are first asked for.
SEEDS = _Seeds()
_INTERESTING = (0, 1, 2, 7, 8, 15, 16, 32, 63, 64, 127, 128, 254, 255)


def mutated(data: bytes, generator: random.Random, others: list[bytes]) -> bytes:
    """Return a file a few changes away: bytes, numbers, pieces taken out, doubled, or of other files."""
    content = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 3, 6))):
        at = generator.randrange(len(content) + 1)
        kind = generator.randrange(6)
        if kind == 0 and at < len(content):
            content[at] = generator.choice(_INTERESTING)
        elif kind == 1 and at < len(content):
            content[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del content[at : at + generator.choice((1, 2, 4, 16, 100))]
        elif kind == 3:
            size = generator.choice((1, 2, 8, 40, 200))
            content[at:at] = content[at : at + size]
        elif kind == 4:
            content[at:at] = generator.choice(
                (b"\xff" * 9 + b"\x01", b"\x00", b"\x80\x80\x01", b'"', b"[", b"=")
            )
        else:
            other = generator.choice(others)
            begin = generator.randrange(len(other) + 1)
            content[at : at + generator.choice((0, 20))] = other[
                begin : begin + generator.choice((4, 30, 300))
            ]
    return bytes(content[:100_000])
