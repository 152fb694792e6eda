"""Writing a bundle and reading it back."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc import strict
from snnc.cost.machine import constants_file
from snnc.emit.accelergy import action_counts, reference_table
from snnc.emit.compiled import Compiled
from snnc.emit.containers import elf, note, readmemh, safetensors
from snnc.emit.listing import listing, memory_map, trace_csv
from snnc.emit.profile import Profile
from snnc.emit.record import program_from, record_of
from snnc.emit.report import report
from snnc.emit.routing import routing
from snnc.emit.waves import trace_vcd
from snnc.errors import EnvironmentFailure, InputError, Problem, SnncError, UsageError, Where
from snnc.files import open_regular
from snnc.ir import Model, load, save
from snnc.isa.assembly import disassemble
from snnc.isa.codec import WORD_BYTES
from snnc.isa.intervals import Reach
from snnc.isa.order import first_of
from snnc.isa.program import Program, follow
from snnc.isa.table import VERSION

__all__ = [
    "MANIFEST",
    "NETWORK",
    "check_files",
    "check_folder",
    "open_bundle",
    "report_of",
    "routes_of",
    "write_bundle",
]

Array = npt.NDArray[Any]
MANIFEST = "MANIFEST.json"
_FORMAT = "expg1-bundle"
NETWORK = "host.snn.onnx"
_RECORD, _BINARY, _IMAGE, _REPORT = "program.json", "model.bin", "mem/dram.bin", "report.json"
_ROUTES = "routing.json"


def _contents(
    compiled: Compiled, counted: Profile, feeds: Mapping[str, Array]
) -> Iterator[tuple[str, bytes]]:
    """Iterate over the files of a bundle, the model aside."""
    program = compiled.program
    version = f"{VERSION[0]}.{VERSION[1]}".encode()
    yield "model.s", disassemble(program.instructions).encode()
    yield "model.lst", _text(listing(compiled, counted))
    yield _BINARY, compiled.binary
    debug = "".join(f"{line.node}\t{line.tensor}\t{line.tile}\n" for line in program.lines).encode()
    texts = list(_texts(compiled))
    yield (
        "model.elf",
        elf(
            [
                *((f".text.core{core}", text, 1, 6) for core, text in enumerate(texts)),
                (".dram.params", program.image, 1, 2),
                (".note.expg", note("ExpG", 1, version), 7, 0),
                (".debug_onnx", debug, 1, 0),
            ]
        ),
    )
    yield _IMAGE, program.image
    yield "mem/dram.hex", readmemh(program.image, 16)
    for core, text in enumerate(texts):
        yield f"mem/core{core}_imem.hex", readmemh(text, 16)
    yield "weights.safetensors", safetensors(_weights(program))
    yield "memmap.csv", _text(memory_map(compiled))
    yield _ROUTES, (json.dumps(routing(program)) + "\n").encode()
    yield "arch.json", program.arch.to_json().encode()
    yield "constants_45nm.json", constants_file()
    yield _REPORT, (json.dumps(report(compiled, counted), indent=2) + "\n").encode()
    yield "cost/ERT.yaml", _text(reference_table(compiled))
    yield "cost/action_counts.yaml", _text(action_counts(compiled, counted))
    yield _RECORD, record_of(program)
    yield (
        "golden/in.safetensors",
        safetensors({**feeds, **{f"port/{k}": v for k, v in counted.ports.items()}}),
    )
    yield (
        "golden/out.safetensors",
        safetensors({**counted.outputs, **{f"port/{k}": v for k, v in counted.device.items()}}),
    )
    yield from counted.vectors.items()
    yield "golden/trace.csv", _text(trace_csv(counted))
    yield "golden/trace.vcd", trace_vcd(counted).encode()


def _texts(compiled: Compiled) -> Iterator[bytes]:
    """Iterate over the words of each core."""
    begins = [*first_of(follow(compiled.program.instructions)).values(), len(compiled.program.instructions)]
    for begin, end in pairwise(begins):
        yield compiled.binary[begin * WORD_BYTES : end * WORD_BYTES]


def _text(lines: Iterator[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _weights(program: Program) -> dict[str, Array]:
    """Return the constants by name; a name that is used twice gets its address as well."""
    found: dict[str, Array] = {}
    for name, place in program.constants:
        key = name if name not in found else f"{name}@{place.base}"
        dtype = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "i64": "<i8"}[
            place.dtype
        ]
        found[key] = np.frombuffer(program.image, dtype, place.elements, place.base)
    return found


def check_folder(target: str, *, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse a place for a bundle before any work is done.

    Args:
        target: Folder that is going to be written.
        force: Whether a bundle that is there may be replaced.
        inputs: Files that are read and must survive even with ``force``.

    Raises:
        UsageError: SNN230, it exists and ``force`` is not set; SNN231, it holds an input; SNN286, it holds
            more than a bundle.
        EnvironmentFailure: SNN603, the folder above it does not exist.
    """
    path, where = Path(target), Where(file=target)
    if path.exists() or path.is_symlink():
        if path.is_symlink() or not path.is_dir() or (any(path.iterdir()) and not _is_bundle(path)):
            raise UsageError(
                "SNN286",
                "is not a bundle, and is not replaced by one",
                where=where,
                hint="name another folder",
            )
        extra = next(iter(sorted({*_present(path)} - _listed(path))), None)
        if extra is not None:
            raise UsageError(
                "SNN286",
                f"holds {extra!r}, which is no part of the bundle and would be lost",
                where=where,
                hint="move that elsewhere, or name another folder",
            )
        real = path.resolve()
        for source in inputs:
            if real in Path(source).resolve().parents:
                raise UsageError(
                    "SNN231",
                    f"the output would replace the input {os.fspath(source)!r}",
                    where=where,
                    hint="name another folder; an input is never overwritten, not even with --force",
                )
        if any(path.iterdir()) and not force:
            raise UsageError(
                "SNN230", "the output exists already", where=where, hint="add --force to replace it"
            )
    elif not path.absolute().parent.is_dir():
        raise EnvironmentFailure(
            "SNN603",
            "the folder of the output does not exist",
            where=where,
            hint=shlex.join(["mkdir", "-p", str(path.parent)]),
        )


def write_bundle(
    compiled: Compiled, counted: Profile, feeds: Mapping[str, Array], target: str, *, force: bool = False
) -> dict[str, str]:
    """Write a bundle; it appears complete or not at all.

    Args:
        compiled: The program.
        counted: One simulated sample, which becomes the golden one.
        feeds: Its inputs.
        target: Folder.
        force: Whether a bundle that is there may be replaced.

    Returns:
        SHA-256 of every file.

    Raises:
        UsageError: SNN230, SNN286, see `check_folder`.
        EnvironmentFailure: SNN603, it cannot be written.
    """
    check_folder(target, force=force)
    path = Path(target).absolute()
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", dir=path.parent))
        for name, content in _contents(compiled, counted, feeds):
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        save(compiled.model, temporary / NETWORK)
        hashes = {
            file.relative_to(temporary).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(temporary.rglob("*"))
            if file.is_file()
        }
        manifest = {"format": _FORMAT, "isa": ".".join(map(str, VERSION)), "sha256": hashes}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        current = os.umask(0)
        os.umask(current)
        temporary.chmod(0o777 & ~current)
        old = None
        if path.exists():
            # Moved aside first: there is a complete bundle on the disk at any moment.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", dir=path.parent))
            path.rename(old / path.name)
        try:
            temporary.rename(path)
        except OSError:
            if old is not None:
                (old / path.name).rename(path)
            raise
        finally:
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        temporary = None
    except OSError as error:
        raise EnvironmentFailure(
            "SNN603", f"cannot be written: {error.strerror or error}", where=Where(file=target)
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return hashes


def open_bundle(folder: str, words: str | None = None) -> Compiled:
    """Read a bundle; every file that is used must have the hash of the manifest.

    Args:
        folder: The bundle.
        words: A binary file, to be executed in place of the bundle's own words; it must have as many.

    Raises:
        InputError: SNN369, it is no bundle, or a file is not the one that was written; SNN360 to SNN368, its
            words or its record are damaged.
    """
    path = Path(folder)
    files = _checked(path, (_RECORD, NETWORK, _IMAGE, *([_BINARY] if words is None else [])))
    binary = files[_BINARY] if words is None else _read(Path(words))
    model = load(path / NETWORK)
    try:
        program = program_from(files[_RECORD], binary, files[_IMAGE])
        _same_tensors(program, model)
    except InputError as error:
        error.in_file(words or folder)
        raise
    return Compiled(model, program, binary, Reach([], {}))


def _same_tensors(program: Program, model: Model) -> None:
    """Check that what a program reads from the host and gives to it are tensors of its network.

    Raises:
        InputError: SNN369, one is not, or has another shape.
    """
    known = {value.name: value for value in model.graph.inputs}
    known |= {value.name: value for node in model.graph for value in node.outputs}
    for port in (*program.inputs, *program.outputs):
        where = Where(tensor=port.tensor)
        if port.tensor not in known:
            raise InputError("SNN369", "is no tensor of the network", where=where)
        # The first axis holds the samples, of which a program takes one.
        shape = known[port.tensor].shape
        wanted = [] if shape is None else list(shape)[1:]
        if all(isinstance(n, int) for n in wanted) and list(port.place.shape[1:]) != wanted and shape:
            text = f"has shape {list(port.place.shape)}, in the network {[1, *wanted]}"
            raise InputError("SNN369", text, where=where)


def routes_of(folder: str) -> dict[str, Any]:
    """Return the routing table of a bundle.

    Raises:
        InputError: SNN369, it is no bundle, or a file is not the one that was written.
    """
    return _document(folder, _ROUTES, "routing table")


def report_of(folder: str) -> dict[str, Any]:
    """Return the report of a bundle.

    Raises:
        InputError: SNN369, it is no bundle, or a file is not the one that was written.
    """
    return _document(folder, _REPORT, "report")


def _document(folder: str, name: str, what: str) -> dict[str, Any]:
    files = _checked(Path(folder), (name, NETWORK))
    try:
        return dict(strict.loads(files[name]))
    except (ValueError, TypeError) as error:
        raise InputError("SNN369", f"its {what} is damaged: {error}", where=Where(file=folder)) from error


def check_files(folder: str) -> None:
    """Check that a bundle holds the files of its manifest and nothing else, used or not.

    Raises:
        InputError: SNN369, it is no bundle, or files are changed, missing or added; all are listed.
    """
    path = Path(folder)
    hashes = _manifest(path)
    present = _present(path)
    wrong = [f"{name!r} is not in the manifest" for name in present if name not in {MANIFEST, *hashes}]
    for name, wanted in hashes.items():
        if name not in present:
            wrong.append(f"{name!r} is missing")
            continue
        digest = hashlib.sha256()
        with open_regular(path / name) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        if digest.hexdigest() != wanted:
            wrong.append(f"{name!r} is not the file that the manifest lists")
    if wrong:
        raise InputError(
            "SNN369",
            f"{len(wrong)} of its files are not as its manifest says",
            where=Where(file=folder),
            problems=[Problem(text) for text in sorted(wrong)[:20]],
        )


def _present(path: Path) -> list[str]:
    """Return the places of everything in a folder but folders, sorted."""
    return [each.relative_to(path).as_posix() for each in sorted(path.rglob("*")) if not _is_folder(each)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_bundle(path: Path) -> bool:
    """Whether a folder has the manifest of a bundle, of whatever version."""
    try:
        content = strict.loads(_read(path / MANIFEST))
        return content["format"] == _FORMAT and isinstance(content["sha256"], dict)
    except (SnncError, ValueError, KeyError, TypeError):
        return False


def _listed(path: Path) -> set[str]:
    """Return the places of what belongs to a bundle; nothing of an empty folder."""
    return {MANIFEST, *strict.loads(_read(path / MANIFEST))["sha256"]} if any(path.iterdir()) else set()


def _manifest(path: Path) -> dict[str, str]:
    """Return the hash of each file by its place, from the manifest."""
    if path.is_dir() and not (path / MANIFEST).is_file():
        raise InputError(
            "SNN369",
            f"is no bundle: it has no {MANIFEST}",
            where=Where(file=str(path)),
            hint="snnc emit writes bundles",
        )
    try:
        manifest = strict.loads(_read(path / MANIFEST))
        hashes = dict(manifest["sha256"])
        version = str(manifest["isa"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("SNN369", f"is no bundle: {error}", where=Where(file=str(path))) from error
    if version != (spoken := ".".join(map(str, VERSION))):
        raise InputError(
            "SNN369",
            f"is for ExpG {version[:40]}; this snnc speaks {spoken}",
            where=Where(file=str(path)),
            hint="write the bundle again: snnc emit MODEL.snn.onnx -o DIRECTORY",
        )
    return hashes


def _checked(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read files of a bundle; each must have the hash of the manifest."""
    hashes = _manifest(path)
    files = {}
    for name in names:
        files[name] = _read(path / name)
        if hashlib.sha256(files[name]).hexdigest() != hashes.get(name):
            raise InputError(
                "SNN369", "is not the file that the manifest lists", where=Where(file=str(path / name))
            )
    return files


def _read(path: Path) -> bytes:
    with open_regular(path) as stream:
        return stream.read()
