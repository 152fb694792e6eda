"""What a machine has that matters to snnc, and what of it will not work."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from snnc.errors import SnncError

__all__ = ["Environment", "Finding", "Limits", "Place", "Version", "look_around"]

_PACKAGES = (
    ("numpy", ""),
    ("onnx", ""),
    ("onnx-ir", ""),
    ("onnx-graphsurgeon", ""),
    ("onnxruntime", "runs sources and converted models"),
    ("networkx", ""),
    ("click", ""),
    ("rich", ""),
    ("torch", "only for training and export: pip install 'snnc[torch]'"),
    ("pillow", "only for images as data: pip install 'snnc[images]'"),
)
_TOOLS = (("iverilog", "Icarus Verilog, only for the RTL tests of ExpG-1"), ("vvp", "runs what it compiles"))
#: Less free space than that will not hold a dump of a middling network.
_LITTLE_SPACE = 200 * 10**6
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)\s*(?:\[[^]]*\])?\s*([<>=!~,.0-9a-z* ]*)")


@dataclass(frozen=True)
class Version:
    """One package.

    Attributes:
        name: Its name.
        version: What is installed, None if it is not.
        needed: The range that snnc asks for, empty if none.
        note: What it is for.
    """

    name: str
    version: str | None
    needed: str
    note: str


@dataclass(frozen=True)
class Limits:
    """Versions of the ONNX format.

    Attributes:
        written: IR version that snnc writes.
        oldest: Oldest opset that it reads.
        newest: Newest opset that it reads: the newest of the installed onnx.
        onnx_ir: IR version that the installed onnx writes unless told otherwise.
        runtime_ir: Newest IR version that onnxruntime loads.
        runtime_opset: Newest opset that it loads.
        providers: Its execution providers.
    """

    written: int
    oldest: int
    newest: int
    onnx_ir: int
    runtime_ir: int | None
    runtime_opset: int | None
    providers: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A folder that snnc writes to; ``free`` in bytes, None where it cannot be told."""

    name: str
    path: str
    writable: bool
    free: int | None


@dataclass(frozen=True)
class Finding:
    """Something that will not work, and what to do about it."""

    what: str
    do: str


@dataclass(frozen=True)
class Environment:
    """Everything ``snnc doctor`` tells.

    Attributes:
        versions: Python, snnc and packages.
        native: Path of the library of native kernels, None if there is none.
        native_reason: Why there is none.
        limits: Versions of the format, None if onnx or onnxruntime does not work.
        tools: Programs by name, path or None, and what each is for.
        places: Folders that are written to.
        findings: What will not work.
        notes: What is worth knowing.
    """

    versions: tuple[Version, ...]
    native: str | None
    native_reason: str | None
    limits: Limits | None
    tools: tuple[tuple[str, str | None, str], ...]
    places: tuple[Place, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def look_around() -> Environment:
    """Look at versions, onnxruntime, tools and folders."""
    versions = tuple(_versions())
    findings = [*_wrong_versions(versions), *_bad_pairs()]
    limits, native = None, None
    reason: str | None = "onnx or onnxruntime does not work"
    # Imported here: this command has to work where these packages do not.
    try:
        limits = _limits()
        from snnc.runtimes.environment import native_library

        library = native_library()
        native, reason = library.path, library.reason
    except SnncError as error:
        findings.append(Finding(error.message, error.hint or "pip install --force-reinstall onnxruntime"))
    except ImportError as error:
        findings.append(
            Finding(f"a package cannot be imported: {error}", "pip install --force-reinstall snnc")
        )
    if limits is not None and (limits.runtime_ir is None or limits.runtime_opset is None):
        findings.append(
            Finding(f"onnxruntime does not load IR {limits.written}, opset 17", "pip install -U onnxruntime")
        )
    places = tuple(_places())
    findings += [
        Finding(f"{place.name} cannot be written: {place.path}", "set TMPDIR" if "TMP" in place.name else "")
        for place in places
        if not place.writable and place.name != "current folder"
    ]
    findings += [
        Finding(f"{place.name} has {place.free / 1e6:.0f} MB left: {place.path}", "free some space")
        for place in places
        if place.free is not None and place.free < _LITTLE_SPACE
    ]
    tools = tuple((name, shutil.which(name), note) for name, note in _TOOLS)
    notes = tuple(_notes(limits, places))
    return Environment(versions, native, reason, limits, tools, places, tuple(findings), notes)


def _versions() -> Iterator[Version]:
    from snnc import __version__

    needed = dict(_needed())
    yield Version("python", platform.python_version(), ">=3.11", sys.executable)
    yield Version("snnc", __version__, "", "")
    for name, note in _PACKAGES:
        yield Version(name, _installed(name), needed.get(name, ""), note)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _needed() -> Iterator[tuple[str, str]]:
    """Yield package and range of everything that snnc asks for, extras too."""
    try:
        requirements = metadata.requires("snnc") or []
    except metadata.PackageNotFoundError:
        return
    for text in requirements:
        match = _REQUIREMENT.match(text.split(";")[0])
        if match:
            yield match[1].lower().replace("_", "-"), match[2].strip()


def _wrong_versions(versions: tuple[Version, ...]) -> Iterator[Finding]:
    optional = {name for name, note in _PACKAGES if note.startswith("only ")}
    for entry in versions:
        if entry.version is None and entry.name not in optional:
            yield Finding(f"{entry.name} is not installed", f"pip install '{entry.name}{entry.needed}'")
        elif entry.version is not None and not _within(entry.version, entry.needed):
            yield Finding(
                f"{entry.name} {entry.version} is not in the tested range {entry.needed}",
                f"pip install '{entry.name}{entry.needed}'",
            )


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _within(version: str, needed: str) -> bool:
    """Whether a version lies in a range of ``>=`` and ``<`` bounds; others are not judged."""
    have = _numbers(version)
    for bound in filter(None, (part.strip() for part in needed.split(","))):
        limit = _numbers(bound.lstrip("<>=!~"))
        width = max(len(have), len(limit))
        left, right = (numbers + (0,) * (width - len(numbers)) for numbers in (have, limit))
        if (bound.startswith(">=") and left < right) or (bound.startswith("<") and left >= right):
            return False
    return True


def _bad_pairs() -> Iterator[Finding]:
    """Yield combinations of packages that are known not to work together."""
    runtimes = [
        name
        for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
        if _installed(name)
    ]
    if len(runtimes) > 1:
        yield Finding(
            f"{' and '.join(runtimes)} are both installed and overwrite each other's files",
            f"pip uninstall -y {' '.join(runtimes)}; pip install {runtimes[0]}",
        )
    if _installed("onnx-weekly") and _installed("onnx"):
        yield Finding(
            "onnx and onnx-weekly are both installed", "pip uninstall -y onnx-weekly onnx; pip install onnx"
        )


def _limits() -> Limits:
    from snnc.ir.limits import IR_VERSION, OLDEST_OPSET, newest_ir, newest_opset
    from snnc.runtimes.environment import onnxruntime_limits
    from snnc.runtimes.onnxruntime_runtime import available_providers

    found = onnxruntime_limits()
    return Limits(
        IR_VERSION,
        OLDEST_OPSET,
        newest_opset(),
        newest_ir(),
        found.ir,
        found.opset,
        available_providers(),
    )


def _places() -> Iterator[Place]:
    temporary = os.environ.get("TMPDIR")
    if temporary:
        # tempfile takes another folder without a word where this one does not work.
        yield _place("TMPDIR", temporary)
    else:
        try:
            yield _place("TMP folder", tempfile.gettempdir())
        except FileNotFoundError:
            yield Place("TMP folder", "none", False, None)
    try:
        yield _place("current folder", str(Path.cwd()))
    except FileNotFoundError:
        yield Place("current folder", "deleted", False, None)


def _place(name: str, path: str) -> Place:
    try:
        with tempfile.TemporaryFile(dir=path) as stream:
            stream.write(b"x")
        writable = True
    except OSError:
        writable = False
    try:
        free: int | None = shutil.disk_usage(path).free
    except OSError:
        free = None
    return Place(name, path, writable, free)


def _notes(limits: Limits | None, places: tuple[Place, ...]) -> Iterator[str]:
    if limits is not None:
        yield f"snnc reads opsets {limits.oldest} to {limits.newest} and writes IR {limits.written}"
        ir, opset = limits.runtime_ir, limits.runtime_opset
        if ir is not None and opset is not None and (limits.onnx_ir > ir or limits.newest > opset):
            yield (
                f"onnx {_installed('onnx')} writes IR {limits.onnx_ir} and opset {limits.newest} unless told "
                f"otherwise; onnxruntime {_installed('onnxruntime')} loads at most IR {ir} and opset "
                f"{opset}: export sources with a lower opset"
            )
    if os.environ.get("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION") == "python":
        yield "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python makes reading models many times slower"
    for place in places:
        if place.name == "current folder" and not place.writable:
            yield "the current folder cannot be written: give outputs a path with -o"
