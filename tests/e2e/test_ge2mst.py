"""A Ge2mS-T from torch through the command line: groups, held operands, depthwise convolutions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

import snnc  # noqa: E402
from snnc.cli.group import cli  # noqa: E402
from snnc.ir import load  # noqa: E402
from snnc.models import ge2mst  # noqa: E402
from snnc.nn import reestimate_batch_norm  # noqa: E402

TINY = {
    "widths": (4, 4, 8, 8, 8),
    "depths": (1, 1, 1, 1),
    "heads": (2, 2, 2),
    "chunks": (2, 2, 1),
    "stem_kernel": 3,
    "stem_stride": 1,
    "strides": (1, 2, 1, 2),
    "classes": 5,
}


def trained(**choices):
    """A tiny network after a few steps, so that thresholds and BatchNorm are not those of a new one."""
    torch.manual_seed(0)
    network = ge2mst("small", **TINY | choices)
    frames = choices.get("events")
    shape = (16, *frames, 8, 8) if frames else (16, 3, 8, 8)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    images = torch.rand(*shape)
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(network(images), torch.arange(16) % 5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    reestimate_batch_norm(network, [images])
    return network, images[:6].numpy()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({"depths": (0, 1, 0, 0)}, id="block"),
        pytest.param({}, id="images", marks=pytest.mark.slow),
        pytest.param(
            {"events": (2, 2), "channels": 4, "groups": 4, "attention_groups": 1, "weight_bits": 6},
            id="events",
            marks=pytest.mark.slow,
        ),
    ],
)
def files(request, tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("ge2mst")
    network, images = trained(**request.param)
    np.savez(folder / "x.npz", x=images)
    example = torch.from_numpy(images[:1])
    snnc.export(network, example, folder / "net.onnx", exporter="torchscript")
    done = CliRunner().invoke(cli, ["convert", str(folder / "net.onnx"), "--quiet"])
    assert done.exit_code == 0, done.output
    blocks = sum(len(part.parts) for part in network.modules() if hasattr(part, "parts"))
    return folder, blocks


def run(*arguments: object):
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_all_runtimes_and_the_oracle_agree(files):
    folder, _ = files
    x = folder / "x.npz"
    result = run("verify", folder / "net.onnx", folder / "net.snn.onnx", "--data", x, "--json")
    assert len(result["runtimes"]) == 6
    assert all(runtime["identical"] for runtime in result["runtimes"])


def test_nothing_multiplies(files):
    folder, blocks = files
    result = run("audit", folder / "net.snn.onnx", "--json")
    assert result["multiplication_free"]
    ops = Counter(node.op_type for node in load(folder / "net.snn.onnx").graph)
    assert ops["SpikeMatMulHeld"] == 2 * blocks  # q with held k, and the scores with held v
    assert not set(ops) & {"Softmax", "Where", "MatMul", "Conv"}


def test_operations_stay_below_the_bound_in_every_layer(files):
    folder, _ = files
    result = run("inspect", folder / "net.snn.onnx", "--data", folder / "x.npz", "--json")
    figures = result["cost"]["per_image"]
    assert 0 < figures["sops"] < figures["sop_bound"]
    synapses = [layer for layer in result["cost"]["layers"] if layer["kind"] == "synapse"]
    assert all(layer["sops"] <= layer["limit"] * layer["macs"] for layer in synapses)
    assert sum(layer["sops"] > 0 for layer in synapses) > 0.8 * len(synapses)
