"""Burst attention, adaptive thresholds and unrolled LIF neurons, from torch to spikes or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from torch import Tensor, nn  # noqa: E402

import snnc  # noqa: E402
from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.cost.audit import audit  # noqa: E402
from snnc.debug.verify import verify  # noqa: E402
from snnc.errors import UsageError  # noqa: E402
from snnc.ir import load  # noqa: E402
from snnc.nn import (  # noqa: E402
    LIF,
    AdaptiveLIF,
    AdaptiveTransformer,
    BSViT,
    GroupedChannelAttention,
    Unrolled,
    expg_activation,
    from_temporal_groups,
    from_windows,
    reestimate_batch_norm,
    temporal_groups,
    windows,
)
from snnc.nn.attention import attend  # noqa: E402
from snnc.nn.surrogate import fire  # noqa: E402


def exported(
    module: nn.Module,
    example: Tensor,
    folder: Path,
    exporter: Literal["torchscript", "dynamo"] = "torchscript",
) -> Path:
    path = folder / "net.onnx"
    snnc.export(module, example, path, exporter=exporter)
    return path


def test_burst_attention_is_exported_and_converted(tmp_path: Path, agree: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    network = BSViT(8, width=8, depth=1, heads=2)
    images = torch.rand(16, 1, 8, 8)
    for _ in range(20):
        network(images)
    path = exported(network, images[:1], tmp_path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": images.numpy()})
    with torch.no_grad():
        wanted = network.eval()(images).numpy()
    # The file has two channels for each signed neuron; most images have no membrane next to a threshold.
    assert np.isclose(logits, wanted, atol=1e-5).all(1).mean() > 0.7
    found = agree(load(path), {"x": images[:4].numpy()}, levels=("all",), float64=False)
    assert audit(found.conversion.model).clean
    assert max(int(codes.max()) for codes in found.codes.values()) > 1
    # Q K^T, and the scores with each channel of the values
    assert found.ops.count("SpikeMatMulHeld") == 3


class Steps(nn.Module):
    """LIF neurons, one node for each step of the loop, as networks unrolled in time are exported."""

    def __init__(self, soft: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.soft = nn.Linear(4, 6), nn.Linear(6, 3), soft

    def forward(self, x: Tensor) -> Tensor:
        current = self.first(x)
        v = current / 2
        total = 0
        for _ in range(3):
            spikes = fire(v / 0.25)
            total = total + self.second(spikes)
            rest = v - 0.25 * spikes if self.soft else (1 - spikes) * v
            v = rest / 2 + current / 2
        return total


def test_unrolled_lif_with_soft_reset(tmp_path: Path, agree: Callable[..., Any]) -> None:
    path = exported(Steps(soft=True), torch.zeros(1, 4), tmp_path)
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    found = agree(load(path), {"x": x}, levels=("all",), float64=False)
    assert audit(found.conversion.model).clean
    patterns = np.stack(list(found.codes.values()))
    assert len(found.codes) == 3 and set(np.unique(patterns)) == {0, 1}
    assert len(np.unique(patterns.reshape(3, -1), axis=0)) > 1  # the steps differ: there is state


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_time_folded_into_the_batch_is_taken_apart(
    tmp_path: Path, agree: Callable[..., Any], exporter: Any
) -> None:
    """Neurons that hold T steps one behind the other in the first axis, around layers that do not mind."""
    torch.manual_seed(1)
    neurons = (LIF(3, soft_reset=True, threshold=0.25) for _ in range(2))
    layers = [nn.Linear(8, 12), next(neurons), nn.Linear(12, 6), next(neurons), nn.Linear(6, 3)]
    network = Unrolled(nn.Sequential(*layers), 3).eval()
    snnc.export(network, torch.zeros(1, 8), tmp_path / "net.onnx", exporter=exporter)
    x = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    found = agree(load(tmp_path / "net.onnx"), {"x": x}, levels=("all",), float64=False, weights="wide")
    assert audit(found.conversion.model).clean
    assert len(found.codes) == 6 and any(codes.any() for codes in found.codes.values())
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    (logits,) = found.outputs.values()
    assert np.isclose(logits, wanted, atol=1e-3).all(1).mean() > 0.8


def test_a_hard_reset_takes_codes_of_potentials_and_so_data(tmp_path: Path) -> None:
    """What is kept where no spike was is a function of the potential, which a table of a code holds."""
    path = exported(Steps(soft=False), torch.zeros(1, 4), tmp_path)
    with pytest.raises(UsageError, match=r"SNN261.*calibration data"):
        convert(path)
    model = convert(path, ConvertOptions(calibrate="random:64")).model
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    report = verify(path, model, {"input": x})
    assert report.identical and len(report.agreements[0].tensors) > 6 and audit(model).clean


def test_adapted_thresholds_are_constants_of_the_file(tmp_path: Path, agree: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), AdaptiveLIF(6, 1), nn.Linear(6, 3))
    for _ in range(50):
        network(torch.randn(64, 4))
    path = exported(network, torch.zeros(1, 4), tmp_path)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    found = agree(load(path), {"input": x}, levels=("all",), float64=False)
    (codes,) = found.codes.values()
    assert 0.02 < codes.mean() < 0.25


def test_the_transformer_with_adapted_thresholds_runs_on_spikes(
    tmp_path: Path, agree: Callable[..., Any]
) -> None:
    """Only the intensity-to-latency encoder stays on the host, declared; the thresholds are constants."""
    torch.manual_seed(0)
    network = AdaptiveTransformer(8, width=8, depth=1, heads=2, timesteps=2, tau=1.4427)
    images = torch.rand(32, 1, 8, 8)
    for _ in range(60):
        network(images)
    reestimate_batch_norm(network, [images])
    path = exported(network, images[:1], tmp_path)
    allowed = [node.name for node in load(path).graph if node.op_type in ("Round", "Cast")]
    allowed = [name for name in allowed if name and "encode" in name]
    found = agree(
        load(path), {"x": images[:8].numpy()}, levels=("all",), float64=False, allow_host=tuple(allowed)
    )
    report = audit(found.conversion.model)
    assert report.clean and "HostConv" in str(report)
    network.eval()
    assert all(0.01 < float(rate.mean()) < 0.2 for rate in network.rates(images).values())
    patterns = [set(np.unique(codes)) for codes in found.codes.values()]
    assert all(values <= {0, 1} for values in patterns[:2])


class ShiftedWindows(nn.Module):
    """Attention within windows of a map that was rolled, as `windows` and `attend` make it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        neuron = expg_activation(4, 2)
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.z, self.scores, self.out = neuron(False), neuron(False), neuron(True)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)) for _ in range(4)
        )
        self.codes = nn.ModuleList(neuron(True) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        z = self.z(x)
        q, k, v = (
            windows(code(layer(z)), 2, shift=1)
            for code, layer in zip(self.codes, self.layers[:3], strict=True)
        )
        mixed = attend(q, k, v, self.scores, heads=self.heads, scale=self.scale)
        result: Tensor = self.layers[3](self.out(from_windows(mixed, 2, *x.shape[2:], shift=1)))
        return result


class GroupsAlongEveryAxis(nn.Module):
    """Time-steps folded into channels, attention between channels and in shifted windows, time unfolded."""

    def __init__(self) -> None:
        super().__init__()
        neuron = expg_activation(4, 2)
        self.embed = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.channels, self.windows = GroupedChannelAttention(8, 2, neuron), ShiftedWindows(8, 2)
        self.last, self.head = neuron(False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.embed(temporal_groups(x, 2).flatten(0, 1))
        stream = stream + self.channels(stream)
        stream = stream + self.windows(stream)
        steps = from_temporal_groups(self.last(stream).unflatten(0, (-1, 2)), 2)
        result: Tensor = self.head(steps.mean((1, 3, 4)))
        return result


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_groups_along_time_space_and_channels_run_on_spikes(
    tmp_path: Path, agree: Callable[..., Any], exporter: Literal["torchscript", "dynamo"]
) -> None:
    torch.manual_seed(0)
    network = GroupsAlongEveryAxis()
    clips = torch.randn(16, 4, 3, 4, 4)
    for _ in range(5):
        network(clips)
    reestimate_batch_norm(network, [clips])
    path = exported(network, clips[:1], tmp_path, exporter=exporter)
    found = agree(load(path), {"x": clips[:6].numpy()}, levels=("all",), float64=False)
    assert audit(found.conversion.model).clean
    assert found.ops.count("SpikeMatMulHeld") == 4  # two products of each attention
    assert all(len(np.unique(codes)) > 2 for codes in found.codes.values())
