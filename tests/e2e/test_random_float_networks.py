"""Random float networks, calibrated and converted: equal bits in all runtimes, near the source, or a refusal.

What a float network may hold is drawn op by op: convolutions, linear layers, norms, activation functions in
several forms, attention with masks, pools, gates, joins, layouts. A rewrite that is silently wrong does not
come near the source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, event, given, reject, settings
from hypothesis import strategies as st

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import UnsupportedError
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime
from tests.campaign.floats import Builder

RUNTIMES = {"numpy": NumpyPacked, "numpy-timestep": NumpyTimestep, "onnxruntime": OnnxRuntime}
#: What T = G = 8 reaches on random weights: a wrong rewrite is far below, the worst drawn well above.
DECIBEL = 20.0
#: Refused because worst-case codes would leave 32 bits (or 24, where pools and products need them).
DO_NOT_FIT = {"SNN438", "SNN441", "SNN445"}
SAMPLES = 24


def check(builder: Builder, folder: Path) -> float | None:
    """Convert a network and check what must hold; return the decibel of its output."""
    path = folder / "net.onnx"
    onnx.save(builder.build(), path)
    feeds = builder.samples(SAMPLES, 1)
    np.savez(folder / "x.npz", **feeds)
    conversion = convert(path, ConvertOptions(8, 8, calibrate=str(folder / "x.npz")))
    # Few samples clip others; what is asked here is whether the rewrites are right.
    seen = {name: array[:4] for name, array in feeds.items()}
    report = verify(path, conversion.model, seen, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert audit(conversion.model).clean
    (distance,) = report.distances
    return distance.decibel


def searching(examples: int) -> Any:
    """Settings: shrinking a network takes longer than reading it."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def _one(data: st.DataObject, folder: Path, *, tokens: bool) -> None:
    builder = Builder(lambda low, high: data.draw(st.integers(low, high)), tokens)
    try:
        decibel = check(builder, folder)
    except UnsupportedError as error:
        event(f"refused {error.code}")
        assert error.code in DO_NOT_FIT, f"{builder.log}: {error}"
        reject()
    assert decibel is None or decibel >= DECIBEL, f"{decibel:.1f} dB: {builder.log}"


@searching(5)
@given(data=st.data())
def test_token_networks_slice(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    _one(data, tmp_path_factory.mktemp("tokens"), tokens=True)


@searching(5)
@given(data=st.data())
def test_image_networks_slice(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    _one(data, tmp_path_factory.mktemp("images"), tokens=False)


@pytest.mark.slow
@searching(150)
@given(data=st.data())
def test_token_networks(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    _one(data, tmp_path_factory.mktemp("tokens"), tokens=True)


@pytest.mark.slow
@searching(150)
@given(data=st.data())
def test_image_networks(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    _one(data, tmp_path_factory.mktemp("images"), tokens=False)
