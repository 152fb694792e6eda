"""A small trained-looking network, converted, and samples for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.ir import load, save

SOURCES = Path(__file__).resolve().parents[1] / "sources"


@dataclass(frozen=True)
class Case:
    """A source, what was made of it, and samples."""

    source: Path
    converted: Path
    samples: dict[str, Any]
    labels: Any


def converted(folder: Path, source: Path, name: str, options: ConvertOptions) -> Case:
    """Convert a source on noise."""
    (value,) = load(source).graph.inputs
    assert value.shape is not None
    shape = [dim if isinstance(dim, int) else 1 for dim in value.shape.dims][1:]
    random = np.random.default_rng(0)
    samples = random.standard_normal((12, *shape)).astype(np.float32)
    made = convert(source, options, calibration={value.name: samples})
    save(made.model, folder / name)
    return Case(source, folder / name, {value.name or "": samples}, random.integers(0, 4, 12))


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A float vision transformer, calibrated on noise."""
    options = ConvertOptions(timesteps=4, groups=2)
    return converted(tmp_path_factory.mktemp("report"), SOURCES / "vit_dynamo.onnx", "vit.snn.onnx", options)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A network that needs no calibration, where it does not matter which is reported."""
    folder = tmp_path_factory.mktemp("small")
    return converted(folder, SOURCES / "qcfs_dynamo.onnx", "cnn.snn.onnx", ConvertOptions())


@pytest.fixture(scope="session")
def built(case: Case) -> Callable[..., Any]:
    """Build a report, once for each choice of arguments."""
    from snnc.report.content import Plan, build

    made: dict[bool, Any] = {}

    def make(*, source: bool) -> Any:
        if source not in made:
            plan = Plan(samples=8, verified=4, points=((4, 2), (4, 4)))
            labels = case.labels if source else None
            given = case.source if source else None
            made[source] = build(case.converted, case.samples, labels, given, plan=plan)
        return made[source]

    return make
