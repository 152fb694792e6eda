"""Builds the native library with the machine's C++ compiler; needs the standard library of Python only.

    python runtimes/native/build.py            # beside the sources
    python runtimes/native/build.py --sanitize # with the address and undefined-behaviour sanitizers

Installation from source calls `build` (hatch_build.py). Nothing else needs it: without the library
converted networks run through the function bodies in their files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = [
    "LOOP_FLAGS",
    "SOURCES",
    "build",
    "compiler",
    "digest",
    "digest_in",
    "is_current",
    "is_x86",
    "library_name",
]

HERE = Path(__file__).resolve().parent
_WIDE = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512")
_COMMON = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-pthread")
# Doubles and floats in the library hold integers or are rounded as written: never fused, never reassociated.
_EXACT = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
LOOP_FLAGS: dict[str, tuple[str, ...]] = {
    "kernels_avx2.cpp": ("-mavx2",),
    "kernels_avx512.cpp": _WIDE,
    "kernels_vnni.cpp": (*_WIDE, "-mavx512vnni"),
    "kernels_amx.cpp": (*_WIDE, "-mavx512vnni", "-mamx-tile", "-mamx-int8"),
}
_NEWEST = "kernels_amx.cpp"  # left out where the compiler does not know these instructions
_MARK = b"snnc-native-sources:"  # library.cpp puts it before the digest
SOURCES = tuple(sorted(path.name for path in HERE.glob("*.cpp")))


def library_name() -> str:
    """Return the file name of the library on this platform."""
    return {"darwin": "libsnnc_ort.dylib", "win32": "snnc_ort.dll"}.get(sys.platform, "libsnnc_ort.so")


def compiler() -> str | None:
    """Return the C++ compiler to use: $CXX, or the first that is found; None if there is none."""
    named = os.environ.get("CXX")
    if named:
        return named
    return next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def digest() -> str:
    """Return the digest of the sources that a library is made of, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for path in sorted(HERE.iterdir()):
        if path.suffix in {".cpp", ".h", ".inl"}:
            content = path.read_bytes()
            total.update(f"{path.name} {len(content)}\n".encode())
            total.update(content)
    return total.hexdigest()


def digest_in(library: Path) -> str | None:
    """Return the digest of the sources that a library was made of; None if the file has none.

    The file is read, not loaded.
    """
    _, mark, rest = library.read_bytes().partition(_MARK)
    return rest[:64].decode("ascii", "replace") if mark else None


def is_current(library: Path) -> bool:
    """Say whether a library was made of the sources as they are."""
    return library.is_file() and digest_in(library) == digest()


def is_x86(command: list[str]) -> bool:
    """Say whether a compiler makes programs for x86-64."""
    machine = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=False).stdout
    return (machine or platform.machine()).startswith(("x86_64", "amd64", "AMD64"))


def build(target: Path, extra: tuple[str, ...] = (), optimise: str | None = None) -> str | None:
    """Compile and link the library.

    Args:
        target: Where it goes; replaced in one step.
        extra: More flags for compiler and linker.
        optimise: Flag of optimisation; None: -O3.

    Returns:
        None, or why there is no library, in one line.
    """
    found = compiler()
    if found is None:
        return "there is no C++ compiler (c++, g++ or clang++, or the one that CXX names)"
    command = found.split()
    sources = digest()
    try:
        x86 = is_x86(command)
        with tempfile.TemporaryDirectory() as folder:

            def compile_one(name: str) -> str:
                place = str(Path(folder) / f"{name}.o")
                level = optimise or "-O3"
                flags = [*_COMMON, *_EXACT, level, *extra, *LOOP_FLAGS.get(name, ())]
                flags += ["-DSNNC_X86"] if x86 else []
                flags += [f'-DSNNC_SOURCES="{sources}"'] if name == "library.cpp" else []
                _run([*command, *flags, "-c", str(HERE / name), "-o", place])
                return place

            names = [name for name in SOURCES if x86 or name not in LOOP_FLAGS]
            with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
                if _NEWEST in names and not _knows(command, LOOP_FLAGS[_NEWEST]):
                    names.remove(_NEWEST)
                    extra = (*extra, "-DSNNC_NO_AMX")
                objects = list(pool.map(compile_one, names))
            linked = Path(folder) / library_name()
            _run([*command, "-shared", "-pthread", *extra, *objects, "-o", str(linked)])
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{os.getpid()}.part")
            shutil.copy2(linked, part)
            part.replace(target)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        lines = [line for line in said.splitlines() if "error" in line] or said.splitlines() or [repr(error)]
        return f"{found} failed: {lines[0].strip()}"
    return None


def _knows(command: list[str], flags: tuple[str, ...]) -> bool:
    """Say whether the compiler takes these flags."""
    done = subprocess.run(
        [*command, *flags, "-x", "c++", "-fsyntax-only", "-"],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


def main() -> int:
    """Build beside the sources; the exit status says whether it worked."""
    parser = argparse.ArgumentParser(description="Build the native library of snnc for onnxruntime.")
    parser.add_argument("--sanitize", action="store_true", help="address and undefined-behaviour sanitizers")
    parser.add_argument("--output", type=Path, default=HERE / library_name())
    options = parser.parse_args()
    if options.sanitize:
        flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-fno-omit-frame-pointer")
        problem = build(options.output, flags, "-O1")
    else:
        problem = build(options.output)
    print(problem or f"built {options.output}")
    return int(problem is not None)


if __name__ == "__main__":
    raise SystemExit(main())
