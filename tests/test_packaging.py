"""What a wheel holds: snnc with passes and runtimes inside it, and nothing else."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
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


def test_links_are_relative_and_committed():
    for name in ("passes", "runtimes"):
        link = ROOT / "snnc" / name
        if not link.is_symlink():
            pytest.skip("not a checkout: the links exist only there")
        assert str(link.readlink()) == f"../{name}"
