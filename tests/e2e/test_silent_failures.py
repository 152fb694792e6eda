"""Failures that other converters make without a word, each as a network on which they would show.

An activation left unconverted, a position embedding added once per time-step, a normalisation that loses its
bias, energy counted as zero: the result of each is wrong by more than any code's resolution, whatever T is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.debug.verify import VerifyReport, verify
from snnc.runtimes import NumpyPacked, NumpyTimestep

TOKENS, DIM = 6, 8


def gelu(made: Any, folder: Path) -> Path:
    """Linear, GELU in its exact form, linear."""
    hidden = made.matmul(made.input(["N", DIM]), (DIM, 24))
    gate = made.op("Erf", [made.op("Div", [hidden, made.const(np.sqrt(2.0))])])
    product = made.op("Mul", [hidden, made.op("Add", [gate, made.const(1.0)])])
    made.output(made.matmul(made.op("Mul", [product, made.const(0.5)]), (24, 5)))
    return made.save(folder)


def position_embedding(made: Any, folder: Path) -> Path:
    """Tokens plus a table many times their size, then a normalisation that would hide a common factor."""
    tokens = made.matmul(made.input(["N", TOKENS, DIM]), (DIM, DIM))
    table = made.const(made.random.normal(size=(1, TOKENS, DIM)) * 4)
    return _normalised(made, made.op("Add", [tokens, table]), np.ones(DIM), np.zeros(DIM), folder)


def bias_of_normalisation(made: Any, folder: Path) -> Path:
    """A LayerNorm whose bias is larger than what it normalises."""
    tokens = made.matmul(made.input(["N", TOKENS, DIM]), (DIM, DIM))
    bias = made.random.normal(size=DIM) * 5
    return _normalised(made, tokens, made.random.uniform(0.5, 1.5, DIM), bias, folder)


def _normalised(made: Any, value: str, scale: Any, bias: Any, folder: Path) -> Path:
    inputs = [value, made.const(scale), made.const(bias)]
    made.output(made.matmul(made.op("LayerNormalization", inputs, axis=-1), (DIM, 5)))
    return made.save(folder)


NETWORKS = {
    "gelu": (gelu, (DIM,)),
    "position embedding": (position_embedding, (TOKENS, DIM)),
    "bias of a normalisation": (bias_of_normalisation, (TOKENS, DIM)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_more_time_steps_come_closer_to_the_float_network(name: str, net: Any, tmp_path: Path) -> None:
    """What is left unconverted, repeated or dropped stays wrong at any T; resolution alone does not."""
    build, shape = NETWORKS[name]
    source = build(net(opset=17), tmp_path)
    data = np.random.default_rng(5).normal(size=(64, *shape)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=data)

    def judged(timesteps: int) -> VerifyReport:
        options = ConvertOptions(
            timesteps=timesteps, groups=timesteps, weights="wide", calibrate=str(tmp_path / "x.npz")
        )
        model = convert(source, options).model
        return verify(
            source, model, {"x": data}, runtimes={"packed": NumpyPacked, "time-stepped": NumpyTimestep}
        )

    reports = {timesteps: judged(timesteps) for timesteps in (3, 6, 9)}
    decibel = {timesteps: report.distances[0].decibel or 0.0 for timesteps, report in reports.items()}
    assert all(report.identical for report in reports.values())
    # A step of half the size is worth 6 dB a time-step; two thirds of that are demanded.
    assert decibel[6] > decibel[3] + 12 and decibel[9] > decibel[6] + 12, decibel
    assert decibel[9] > 40, decibel


def test_every_synapse_that_receives_spikes_costs_energy(net: Any, tmp_path: Path) -> None:
    source = bias_of_normalisation(net(opset=17), tmp_path)
    data = np.random.default_rng(6).normal(size=(16, TOKENS, DIM)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=data)
    model = convert(source, ConvertOptions(calibrate=str(tmp_path / "x.npz"))).model
    totals = measure(model, {"x": data}, NumpyPacked(model).run).totals()
    # Every spike of the normalised tokens meets five weights; each meeting is 0.9 pJ.
    assert totals["spikes"] > 0
    assert totals["sops"] == pytest.approx(5 * totals["spikes"])
    assert totals["energy_spikes_pj"] == pytest.approx(0.9 * totals["sops"])
    assert totals["energy_with_host_pj"] > totals["energy_spikes_pj"]
