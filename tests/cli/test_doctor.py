"""The environment is told, and what will not work ends with exit status 6."""

from __future__ import annotations

import pytest

from snnc.debug import environment
from snnc.errors import EnvironmentFailure
from snnc.runtimes.environment import onnxruntime_limits


def test_a_healthy_machine(snnc, validate):
    result = snnc("doctor")
    assert result.exit_code == 0, result.stderr
    assert "healthy" in result.stdout
    content = validate(snnc("doctor", "--json").stdout, "doctor")
    assert content["healthy"]
    versions = {entry["name"]: entry["version"] for entry in content["versions"]}
    assert versions["onnxruntime"] and versions["python"]
    assert content["onnx_limits"]["ir_written"] == 10


def test_limits_are_found_by_loading():
    limits = onnxruntime_limits()
    assert limits.ir is not None and limits.ir >= 10
    assert limits.opset is not None and limits.opset >= 17


@pytest.mark.parametrize(
    ("version", "needed", "within"),
    [
        ("1.24.0", ">=1.24,<2", True),
        ("1.23.9", ">=1.24,<2", False),
        ("2.0", ">=1.24,<2", False),
        ("2.13.0+cpu", ">=2.10,<3", True),
        ("1", "", True),
    ],
)
def test_ranges(version, needed, within):
    assert environment._within(version, needed) is within


def broken_onnxruntime():
    raise EnvironmentFailure("SNN610", "onnxruntime cannot be imported: no", hint="pip install onnxruntime")


SICK = {
    "onnxruntime is missing": ("_limits", broken_onnxruntime, "cannot be imported"),
    "a version is too old": (
        "_installed",
        lambda name: "1.2.0" if name == "onnx" else "99" if name.startswith("onnxruntime-") else "2.12",
        "overwrite each other",
    ),
    "no space": ("_LITTLE_SPACE", 1 << 80, "MB left"),
}


@pytest.mark.parametrize("name", list(SICK))
def test_a_sick_machine_is_told_what_to_do(snnc, validate, monkeypatch, name):
    attribute, value, text = SICK[name]
    monkeypatch.setattr(environment, attribute, value)
    result = snnc("doctor")
    assert result.exit_code == 6
    assert "error: SNN620" in result.stderr and text in result.stderr
    as_json = snnc("doctor", "--json")
    assert as_json.exit_code == 6
    assert not validate(as_json.stdout, "doctor")["healthy"]


def test_a_temporary_folder_that_cannot_be_written(snnc, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    result = snnc("doctor")
    assert result.exit_code == 6
    assert "TMPDIR cannot be written" in result.stderr
