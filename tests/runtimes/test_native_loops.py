"""Inner loops of every instruction set give the same numbers; those of aarch64 too, if it can be emulated."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from snnc.runtimes.native import build

HERE = Path(__file__).parent
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = ("-std=c++17", "-O2", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


def program(folder: Path, command: Sequence[str], x86: bool) -> Path:
    """Compile the loops and what runs them for one architecture."""
    loops = [name for name in build.SOURCES if name.startswith("kernels_") and (x86 or "baseline" in name)]
    flags = [*FLAGS, f"-I{build.HERE}", *(["-DSNNC_X86"] if x86 else [])]
    objects = []
    for name in [*loops, "neuron.cpp", "op.cpp", "dispatch.cpp", str(HERE / "native_loops.cpp")]:
        objects.append(str(folder / f"{Path(name).name}.o"))
        own = build.LOOP_FLAGS.get(name, ())
        subprocess.run(
            [*command, *flags, *own, "-c", str(build.HERE / name), "-o", objects[-1]], check=True, timeout=300
        )
    found = folder / "loops"
    subprocess.run([*command, *FLAGS, *objects, "-static", "-o", str(found)], check=True, timeout=60)
    return found


def digests(command: Sequence[str], isa: str = "") -> list[str]:
    environ = {**os.environ, "SNNC_NATIVE_ISA": isa} if isa else {**os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environ)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What this machine's loops give, the same with every instruction set that it has."""
    compiler = build.compiler()
    if compiler is None or not build.is_x86(compiler.split()):
        pytest.skip("there is no C++ compiler for x86 here")
    found = str(program(tmp_path_factory.mktemp("x86"), compiler.split(), True))
    lines = digests([found])
    for isa in ("baseline", "avx2", "avx512", "avx512-vnni"):
        assert digests([found], isa) == lines, isa
    return lines


@pytest.mark.slow
def test_instruction_sets_agree_in_every_mode_of_a_neuron(wanted: list[str]) -> None:
    modes = {line.split()[3] for line in wanted if line.startswith("fire")}
    assert modes == {"0", "1", "2", "3"}
    assert len(wanted) > 100


@pytest.mark.slow
def test_emulated_aarch64_agrees(wanted: list[str], tmp_path: Path) -> None:
    if shutil.which(CROSS) is None or shutil.which(EMULATOR) is None:
        pytest.skip(f"{CROSS} and {EMULATOR} are not installed")
    assert digests([EMULATOR, str(program(tmp_path, [CROSS], False))]) == wanted
