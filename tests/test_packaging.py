"""What a wheel holds: snnc with passes and runtimes inside it, and nothing else."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(wheel_file):
    with zipfile.ZipFile(wheel_file) as archive:
        yield archive


def test_only_snnc_reaches_site_packages(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (info,) = tops - {"snnc"}
    assert info.startswith("snnc-")
    assert info.endswith(".dist-info")


def test_every_source_file_is_in_the_wheel_once(wheel):
    names = wheel.namelist()
    assert len(names) == len(set(names))
    expected = set()
    for folder, prefix in (("snnc", "snnc"), ("passes", "snnc/passes"), ("runtimes", "snnc/runtimes")):
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT / folder)
            # The two links inside snnc/ lead to the folders that are mapped anyway.
            if folder == "snnc" and inside.parts[0] in ("passes", "runtimes"):
                continue
            expected.add(f"{prefix}/{inside.as_posix()}")
    assert {name for name in names if name.endswith(".py")} == expected
    assert "snnc/passes/__init__.py" in names
    assert "snnc/runtimes/__init__.py" in names


def test_marker_and_schemas_are_in_the_wheel(wheel):
    names = set(wheel.namelist())
    assert "snnc/py.typed" in names
    schemas = {f"snnc/cli/schemas/{path.name}" for path in (ROOT / "snnc/cli/schemas").glob("*.json")}
    assert schemas
    assert schemas <= names


def test_what_init_and_report_write_from_is_in_the_wheel(wheel):
    from snnc.demo import HELD

    names = set(wheel.namelist())
    assert {f"snnc/demo/{name}" for name in HELD} <= names
    assert {f"snnc/report/assets/page.{kind}" for kind in ("html", "css", "js")} <= names


def test_console_script(wheel):
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(entry_points).decode())
    assert dict(parser["console_scripts"]) == {"snnc": "snnc.cli:main"}


def test_torch_is_an_extra_and_pulls_nothing_else_in(wheel):
    (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    lines = wheel.read(metadata).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist:")]
    assert any(line.startswith("Requires-Dist: torch") for line in required)
    for line in required:
        if "torch" in line or "onnxscript" in line:
            assert "extra == 'torch'" in line


def test_wheel_runs_from_another_folder(wheel_file, tmp_path):
    """Unpacked wheel, empty folder, no checkout on the path: the command and all packages work."""
    with zipfile.ZipFile(wheel_file) as content:
        content.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop())\n"
        "import snnc, snnc.passes, snnc.runtimes, snnc.pipeline\n"
        "assert snnc.passes.__file__.startswith(sys.path[0]), snnc.passes.__file__\n"
        "sys.argv = ['snnc', '--version']\n"
        "from snnc.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "site")],
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("snnc, version ")


def test_the_wheel_carries_the_native_library(wheel, wheel_file):
    made = [name for name in wheel.namelist() if name.startswith("snnc/runtimes/native/")]
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("there is no C++ compiler here")
    assert any(name.endswith((".so", ".dylib", ".dll")) for name in made)
    assert not any(name.endswith("problem.txt") for name in made)
    assert wheel_file.name.startswith("snnc-")
    assert not wheel_file.name.endswith("-none-any.whl")


#: What somebody without a compiler does: looks, converts, and runs where the kernels would run.
WITHOUT_KERNELS = """
import sys
import numpy as np
from snnc.compile import ConvertOptions, convert
from snnc.runtimes import NumpyPacked, OnnxRuntime, ort
assert ort.native_library() is None
assert "compiler" in ort.native_problem()
assert not ort.register(None)
with np.load(sys.argv[1].replace("cnn_t4g2.onnx", "sample.npz")) as data:
    x = data["x"][:4]
model = convert(sys.argv[1], ConvertOptions(timesteps=4, groups=2)).model
(found,), (wanted,) = (
    runtime.run({"x": x}).values() for runtime in (OnnxRuntime(model, stock=False), NumpyPacked(model))
)
assert found.tobytes() == wanted.tobytes()
"""


def test_installs_and_runs_without_a_compiler(tmp_path):
    """From source, with no compiler in reach: a pure wheel that says why, and function bodies that run."""
    if find_spec("hatchling") is None:
        pytest.skip("the build backend hatchling is not installed here; `make test` has it")
    source, site = tmp_path / "source", tmp_path / "site"
    leave_out = shutil.ignore_patterns("libsnnc_ort*", "problem.txt", "__pycache__")
    for name in ("snnc", "passes", "runtimes"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=leave_out)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    more = settings["tool"]["hatch"]["build"]["targets"]["wheel"].get("force-include", {})
    for name in ("pyproject.toml", "README.md", "LICENSE", *more):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SNNC", "CXX"))
    }
    environ["PATH"] = str(tmp_path)

    def run(*command, cwd):
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    built = run("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=source)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "no native operators: there is no C++ compiler" in built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(site)
    environ["PYTHONPATH"] = str(site)
    doctor = run("-m", "snnc", "doctor", cwd=tmp_path)
    assert "none: there is no C++ compiler" in " ".join(doctor.stdout.split()), doctor.stdout + doctor.stderr
    model = ROOT / "examples" / "models" / "fashion_cnn_t4g2.onnx"
    done = run("-c", WITHOUT_KERNELS, model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_links_are_relative_and_committed():
    for name in ("passes", "runtimes"):
        link = ROOT / "snnc" / name
        if not link.is_symlink():
            pytest.skip("not a checkout: the links exist only there")
        assert str(link.readlink()) == f"../{name}"
