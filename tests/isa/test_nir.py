"""NIR files: read back by the ``nir`` package, executed by others, refused where NIR has no words."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

nir = pytest.importorskip("nir", reason="nir is an optional extra of snnc")

from snnc.cli.group import cli  # noqa: E402
from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.data import load_samples  # noqa: E402
from snnc.emit.nir_export import export_nir  # noqa: E402
from snnc.emit.nir_nodes import square  # noqa: E402
from snnc.errors import UnsupportedError  # noqa: E402
from snnc.ir import Model, save  # noqa: E402
from snnc.runtimes import create  # noqa: E402
from tests.isa.norse_reader import difference, norse_path  # noqa: E402

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"


def conv(node: Any, x: np.ndarray) -> np.ndarray:
    """A convolution by its definition."""
    pads = [(0, 0), *((int(p), int(p)) for p in node.padding)]
    x = np.pad(x, pads)
    (rows, columns), (sy, sx), (dy, dx) = node.weight.shape[2:], node.stride, node.dilation
    height = (x.shape[1] - (rows - 1) * dy - 1) // sy + 1
    width = (x.shape[2] - (columns - 1) * dx - 1) // sx + 1
    total = np.zeros((node.weight.shape[0], height, width), np.float32)
    for i in range(rows):
        for j in range(columns):
            part = x[:, i * dy : i * dy + sy * height : sy, j * dx : j * dx + sx * width : sx]
            total += np.einsum("oc,chw->ohw", node.weight[:, :, i, j], part[:, :height, :width])
    return total + node.bias[:, None, None]


def execute(content: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Execute one step of a NIR graph from what the primitives of NIR are documented to do."""
    graph = nir.read(io.BytesIO(content))
    values: dict[str, np.ndarray] = {}
    todo = list(graph.nodes)
    while todo:
        name = next(n for n in todo if all(source in values for source, target in graph.edges if target == n))
        node = graph.nodes[name]
        todo.remove(name)
        x = sum((values[source] for source, target in graph.edges if target == name), np.float32(0))
        if isinstance(node, nir.Input):
            values[name] = feeds[name].astype(np.float32)
        elif isinstance(node, nir.Conv2d):
            assert node.groups == 1
            values[name] = conv(node, x)
        elif isinstance(node, nir.Affine):
            values[name] = node.weight @ x + node.bias
        elif isinstance(node, nir.IF):
            assert (node.r == 1).all() and (node.v_reset == 0).all()
            values[name] = (x > node.v_threshold).astype(np.float32)
        elif isinstance(node, nir.Flatten):
            values[name] = x.reshape(-1)
        else:
            assert isinstance(node, nir.Output), node
            values[name] = x
    return values


def compare(model: Model, data: str = "random:3") -> float:
    """Return the largest difference between the NIR graph and the network."""
    found = export_nir(model)
    runtime = create("numpy", model)
    samples = load_samples(data, runtime.inputs, seed=3)
    taps = [name for name in found.inputs if name not in samples]
    wanted = {**samples, **runtime.run(samples, taps)}
    worst = 0.0
    for index in range(len(next(iter(samples.values())))):
        values = execute(
            found.content, {name: wanted[tensor][index] for tensor, name in found.inputs.items()}
        )
        for tensor, name in found.outputs.items():
            assert values[name].shape == wanted[tensor][index].shape
            worst = max(worst, float(np.abs(values[name] - wanted[tensor][index]).max()))
    return worst


def windows(net: Any) -> Model:
    """Strides, dilation, groups, uneven padding, both pools, signed codes, a residual sum."""
    made = net(4)
    code = made.quantise(made.conv(made.input(["N", 2, 9, 9]), (4, 2, 3, 3), pads=[1, 0, 2, 3]), 0.4, (4, 2))
    pooled = made.op("MaxPool", [code], kernel_shape=[2, 2], strides=[2, 2], pads=[0, 1, 1, 0])
    first = made.conv(pooled, (6, 2, 3, 3), group=2, dilations=[2, 2], pads=[2] * 4)
    deep = made.quantise(made.conv(pooled, (6, 4, 1, 1)), 0.3, (3, 3))
    joined = made.op("Add", [first, made.conv(deep, (6, 6, 3, 3), pads=[1] * 4)])
    wide = made.quantise(joined, 0.5, (4, 4))
    mean = made.op("GlobalAveragePool", [wide])
    hidden = made.quantise(made.matmul(made.op("Flatten", [mean]), (6, 5)), 0.4, (4, 2))
    return convert(made.output(made.matmul(hidden, (5, 3))).model(), ConvertOptions()).model


def test_a_reader_by_the_book_computes_the_same_numbers(net):
    assert compare(windows(net)) <= 1e-5


def test_the_shipped_cnn_computes_the_same_numbers():
    model = convert(MODELS / "fashion_cnn_t4g2.onnx", ConvertOptions()).model
    assert compare(model, "random:1") <= 1e-4


@pytest.mark.skipif(norse_path() is None, reason="norse is not installed: make exchange")
def test_norse_computes_the_same_numbers(net, tmp_path):
    """An independent reader; a process of its own, as norse is under the LGPL and no dependency."""
    cnn = convert(MODELS / "fashion_cnn_t4g2.onnx", ConvertOptions()).model
    for model, data in ((windows(net), "random:3"), (cnn, "random:1")):
        worst, largest = difference(model, data, tmp_path)
        assert worst <= 1e-6 * largest and largest > 0


def test_every_node_has_a_statement_and_the_bytes_are_the_same(net):
    model = windows(net)
    found, again = export_nir(model), export_nir(model)
    assert found.content == again.content and found.losses == again.losses
    names = {node.name for node in model.graph}
    assert {loss.node for loss in found.losses} <= names
    stated = {loss.op: loss.lost for loss in found.losses}
    assert "time-steps become one" in stated["ExpGIF"]
    assert "left to whoever feeds the graph" in stated["FixedPointEncode"]
    assert stated["SpikeConv"] == ""
    graph = nir.read(io.BytesIO(found.content))
    assert {name for loss in found.losses for name in loss.nir} <= set(graph.nodes)


def test_an_encoder_of_floats_is_comparisons_of_floats(tmp_path, monkeypatch):
    """Edges are met exactly: at an edge, one float below it, and in between."""
    from snnc.coding import CodeBook
    from tests.cli.conftest import spiking_model

    assert CodeBook(timesteps=2, groups=2).levels == 4
    model = spiking_model()
    found = export_nir(model)
    edges = np.array([0.25, 0.5, 0.75], np.float32)
    values = np.concatenate([edges, np.nextafter(edges, np.float32(-1)), [0.0, 1.0, 0.6]]).astype(np.float32)
    image = values.reshape(3, 3)
    wanted = create("numpy", model).run({"image": image})["logits"]
    for row, expected in zip(image, wanted, strict=True):
        np.testing.assert_allclose(
            execute(found.content, {found.inputs["image"]: row})[found.outputs["logits"]], expected
        )


def test_what_nir_cannot_say_is_named(compiled):
    with pytest.raises(UnsupportedError) as caught:
        export_nir(compiled("attention").model)
    assert caught.value.code == "SNN484"
    nodes = {problem.where.node: problem.message for problem in caught.value.problems}
    assert nodes and all(nodes)
    assert any(
        "norm" in text or "rows" in text or "neither a map nor a vector" in text for text in nodes.values()
    )


def test_windows_that_nir_cannot_say():
    kernel, padding = square(np.ones((1, 1, 3, 3)), (0, 0, 1, 1), (1, 1), "n")
    assert kernel.shape[2:] == (4, 4) and padding == [1, 1] and kernel[0, 0, 0].sum() == 0
    kernel, padding = square(np.ones((1, 1, 3, 1)), (1, 0, 1, 0), (1, 1), "n")
    assert kernel.shape[2:] == (3, 3) and padding == [1, 1]
    for pads, dilations in (((0, 0, 0, 1), (1, 1)), ((0, 0, 2, 2), (2, 2))):
        with pytest.raises(UnsupportedError, match="SNN484"):
            square(np.ones((1, 1, 3, 3)), pads, dilations, "n")


def test_the_command_line(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(windows(net), "net.snn.onnx")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, list(arguments))

    done = run("emit", "net.snn.onnx", "-o", "net.nir", "--format", "nir", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["nir_nodes"] == len(nir.read("net.nir").nodes)
    assert all(
        row["nir"] or row["op"] in ("Reshape", "Flatten", "MembraneAdd", "MembraneRound")
        for row in document["nodes"]
    )
    assert run("emit", "net.snn.onnx", "-o", "net.nir", "--format", "nir").exit_code == 2
    assert run("emit", "net.snn.onnx", "-o", "net.nir", "--format", "nir", "--force").exit_code == 0
    assert run("emit", "net.snn.onnx", "-o", "b.nir", "--format", "nir", "--cores", "2").exit_code == 2
    monkeypatch.setitem(sys.modules, "nir", None)
    done = run("emit", "net.snn.onnx", "-o", "c.nir", "--format", "nir")
    assert done.exit_code == 6 and "pip install 'snnc[nir]'" in done.stderr and not Path("c.nir").exists()
