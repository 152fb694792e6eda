"""The built wheel in an environment of its own, with the dependencies it declares and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "models" / "fashion_cnn_t4g2.onnx"

#: Stands where torch would be: says that somebody asked for it, and behaves as if it were absent.
DECOY = """
import os, pathlib
pathlib.Path(os.environ["SNNC_TEST_DECOY"]).write_text(__name__)
raise ModuleNotFoundError(__name__, name=__name__)
"""


def requirements(entry: Distribution, extra: str = "") -> list[Requirement]:
    """What a distribution asks for on this machine, extras left out."""
    found = [Requirement(text) for text in entry.requires or ()]
    return [need for need in found if need.marker is None or need.marker.evaluate({"extra": extra})]


def closure(needs: Sequence[Requirement]) -> dict[str, Distribution]:
    """Distributions that satisfy some requirements, with all they ask for themselves."""
    found: dict[str, Distribution] = {}
    stack = list(needs)
    while stack:
        need = stack.pop()
        if need.name.lower() not in found:
            entry = distribution(need.name)
            assert need.specifier.contains(entry.version, prereleases=True), need
            found[need.name.lower()] = entry
            stack += requirements(entry)
    return found


@pytest.fixture(scope="module")
def environment(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, links to its declared dependencies, and decoys for torch."""
    if find_spec("pip") is None:
        pytest.skip("needs pip to install the wheel; `make test` has it")
    folder = tmp_path_factory.mktemp("wheel")
    home = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel_file], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    installed = next(Distribution.discover(name="snnc", path=[str(site)]))
    dependencies = closure(requirements(installed))
    assert "torch" not in dependencies
    assert {"numpy", "onnx", "onnxruntime", "click"} <= set(dependencies)
    for entry in dependencies.values():
        for top in {file.parts[0] for file in entry.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(entry.locate_file(top))))
    for name in ("torch", "onnxscript"):
        (site / f"{name}.py").write_text(DECOY)
    return home


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed command in an empty folder, away from the checkout."""

    def call(*arguments: Any) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [environment / "bin" / "snnc", *map(str, arguments)],
            cwd=tmp_path,
            env={**clean, "SNNC_TEST_DECOY": str(tmp_path / "decoy")},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_the_main_job_needs_neither_the_checkout_nor_torch(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    data = np.load(MODEL.with_name("fashion_sample.npz"))
    np.savez(tmp_path / "x.npz", x=data["x"][:8])
    outputs = set()
    done = run("convert", MODEL, "-o", "m.snn.onnx", "--timesteps", 4, "--groups", 2)
    assert done.returncode == 0, done.stderr
    # The others are compared by `verify`.
    for runtime in ("numpy", "ort-stock"):
        done = run(
            "run", "m.snn.onnx", "--input", "x.npz", "--output", f"{runtime}.npz", "--runtime", runtime
        )
        assert done.returncode == 0, done.stderr
        outputs.add((tmp_path / f"{runtime}.npz").read_bytes())
    assert len(outputs) == 1
    done = run("verify", MODEL, "m.snn.onnx", "--data", "x.npz")
    assert done.returncode == 0, done.stderr
    assert "bit-identical" in done.stdout
    assert run("inspect", "m.snn.onnx", "--data", "x.npz").returncode == 0
    assert not (tmp_path / "decoy").exists(), f"imported {(tmp_path / 'decoy').read_text()}"


def test_decoys_would_be_noticed(
    environment: Path, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Canary: asking for snnc.nn trips the decoy, and the error says which extra is missing."""
    done = subprocess.run(
        [environment / "bin" / "python", "-c", "import snnc.nn"],
        cwd=tmp_path,
        env={**os.environ, "SNNC_TEST_DECOY": str(tmp_path / "decoy")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert (tmp_path / "decoy").read_text() == "torch"
    assert "snnc[torch]" in done.stderr
