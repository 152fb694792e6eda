"""Assignments to slices and places, as both exporters write them, and choices by a constant mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is an extra")
import torch
import torch.nn.functional as F

from snnc.compile import ConvertOptions, convert
from snnc.debug.verify import verify
from snnc.runtimes import OnnxRuntime

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of itself

PLACES = torch.tensor([0, 3, 5])
CHOSEN = torch.tensor([True, False, True, True, False, False])[:, None]


def behind_the_first(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1:] = y[:, 1:] + F.gelu(x[:, 1:])
    return y


def zeros_in_the_last_axis(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[..., :3] = 0
    return y


def two_halves(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(x.shape[0], 6, 16)
    y[:, :, :8] = x
    y[:, :, 8:] = F.silu(x)
    return y[:, :, 4:12]


def places(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, PLACES] = F.gelu(2 * x[:, PLACES])
    return y


def a_block(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, :-1, :4] = x[:, 1:, :4]
    y[:, 1:, 4:6] = x[:, :-1, 4:6]
    return y


def pairs(x: torch.Tensor) -> torch.Tensor:
    i, j = torch.triu_indices(6, 6, offset=1)
    return (x @ x.transpose(1, 2))[:, i, j].repeat(1, 2)[:, :8, None] * torch.ones(8)


def masked(x: torch.Tensor) -> torch.Tensor:
    return x.masked_fill(CHOSEN, 0.0)


def masked_by_a_number(x: torch.Tensor) -> torch.Tensor:
    return torch.where(CHOSEN, F.silu(x), torch.tensor(0.5))


def one_or_the_other(x: torch.Tensor) -> torch.Tensor:
    return torch.where(CHOSEN, F.silu(x), F.gelu(x))


FORMS = (
    behind_the_first,
    zeros_in_the_last_axis,
    two_halves,
    places,
    a_block,
    pairs,
    masked,
    masked_by_a_number,
    one_or_the_other,
)


class Network(torch.nn.Module):
    """A layer, what is tried, and a layer."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.between(F.relu(self.first(x)))).mean(1)


@pytest.mark.parametrize(
    ("between", "dynamo"),
    [*((form, False) for form in FORMS), (behind_the_first, True), (a_block, True), (pairs, True)],
)
def test_it_converts(between: Callable[[torch.Tensor], torch.Tensor], dynamo: bool, tmp_path: Path) -> None:
    network, x = Network(between).eval(), torch.randn(48, 6, 8, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "network.onnx"
    names = {"input_names": ["x"], "output_names": ["y"]}
    if dynamo:
        free = ({0: torch.export.Dim("n")},)
        torch.onnx.export(network, (x[:2],), path, dynamo=True, dynamic_shapes=free, verbose=False, **names)
    else:
        axes = {"x": {0: "n"}}
        torch.onnx.export(network, (x[:2],), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    np.savez(tmp_path / "x.npz", x=x.numpy())
    model = convert(path, ConvertOptions(calibrate=str(tmp_path / "x.npz"))).model
    report = verify(path, model, {"x": x[:5].numpy()})
    assert sum(entry.mismatches for entry in report.agreements) == 0
    with torch.no_grad():
        expected = network(x).numpy()
    found = OnnxRuntime(model).run({"x": x.numpy()})["y"]
    noise = float(np.square(found - expected).mean() / np.square(expected - expected.mean(0)).mean())
    assert noise < 10**-2
