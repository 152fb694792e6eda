"""The Verilog units give what the words gave, on vectors that the compiler emits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from snnc.data import load_samples
from snnc.emit.profile import profile
from snnc.emit.vectors import Vectors

RTL = Path(__file__).resolve().parents[2] / "runtimes" / "expg1" / "rtl"
needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


def vectors_of(compiled, name):
    made = compiled(name)
    feeds = load_samples("random:1", made.runtime().inputs, seed=2)
    return profile(made, feeds).vectors


def simulate(files: dict[str, bytes], unit: str, folder: Path) -> str:
    for name, content in files.items():
        if name.startswith(f"rtl/{unit}/"):
            (folder / Path(name).name).write_bytes(content)
    parameters = (folder / "parameters.txt").read_text().split()
    sources = [str(RTL / f"expg1_{unit}.v"), str(RTL / f"tb_{unit}.v")]
    build = ["iverilog", "-g2005", "-o", "tb", "-s", f"tb_{unit}", *parameters, *sources]
    subprocess.run(build, check=True, cwd=folder, capture_output=True)
    return subprocess.run(["vvp", "tb"], check=True, cwd=folder, capture_output=True, text=True).stdout


@needs_icarus
@pytest.mark.parametrize("unit", ["fire", "row"])
@pytest.mark.parametrize("name", ["residual", "attention"])
def test_units_agree_with_the_simulator(compiled, tmp_path, name, unit):
    files = vectors_of(compiled, name)
    said = simulate(files, unit, tmp_path)
    count = int(said.split(":")[1].split()[0])
    assert count > 0 and said.strip().endswith(", 0 errors"), said


@needs_icarus
@pytest.mark.parametrize(("unit", "file"), [("fire", "place"), ("row", "sum")])
def test_canary_a_wrong_vector_is_an_error(compiled, tmp_path, unit, file):
    files = dict(vectors_of(compiled, "residual"))
    name = f"rtl/{unit}/{file}.hex"
    first, rest = files[name].split(b"\n", 1)
    files[name] = b"%0*x" % (len(first), int(first, 16) ^ 1) + b"\n" + rest
    assert simulate(files, unit, tmp_path).strip().endswith(", 1 errors")


def test_vectors_are_emitted_without_icarus_too(compiled):
    files = vectors_of(compiled, "residual")
    assert {name.split("/")[1] for name in files} == {"fire", "row"}
    assert Vectors().files == {}
