"""The converted file itself: bytes, versions, names, batch sizes, and a stock onnxruntime without snnc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc import ir
from snnc.arrays import read_arrays
from snnc.compile import convert
from snnc.debug.verify import verify
from snnc.runtimes import RUNTIMES, create

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "examples" / "models"
SHIPPED = sorted(path.stem for path in MODELS.glob("*_t4g*.onnx"))
EXAMPLES = ["fashion_cnn_t4g2", "fashion_transformer_t4g2"]

STOCK = """
import sys
import numpy, onnxruntime
model, data, result = sys.argv[1:]
session = onnxruntime.InferenceSession(open(model, "rb").read())
logits, = session.run(None, {"x": numpy.load(data)["x"]})
numpy.save(result, logits)
loaded = {"snnc", "onnx", "onnx_ir", "torch"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def images() -> Any:
    return read_arrays(MODELS / "fashion_sample.npz")["x"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every shipped network, converted to a file."""
    folder = tmp_path_factory.mktemp("converted")
    for name in SHIPPED:
        ir.save(convert(MODELS / f"{name}.onnx").model, folder / f"{name}.snn.onnx")
    return {name: folder / f"{name}.snn.onnx" for name in SHIPPED}


def interface(path: Path) -> list[tuple[str, int, list[int | str]]]:
    """Name, element type and shape of every input and output."""
    graph = onnx.load(path, load_external_data=False).graph
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in [*graph.input, *graph.output]
    ]


def test_both_networks_are_shipped_with_three_group_counts() -> None:
    for network in ("fashion_cnn", "fashion_transformer"):
        counts = {name.rsplit("_", 1)[1] for name in SHIPPED if name.startswith(network)}
        assert counts == {"t4g1", "t4g2", "t4g4"}


@pytest.mark.parametrize("name", SHIPPED)
def test_versions_and_checker(converted: dict[str, Path], name: str) -> None:
    model = onnx.load(converted[name])
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17, "ai.snnc": 1}
    onnx.checker.check_model(model, full_check=True)
    # Functions for all of its own operators, of standard operators only.
    used = {node.op_type for node in model.graph.node if node.domain == "ai.snnc"}
    assert used <= {function.name for function in model.functions}
    assert {node.domain for function in model.functions for node in function.node} <= {""}


@pytest.mark.parametrize("name", SHIPPED)
def test_interface_survives(converted: dict[str, Path], name: str) -> None:
    source = interface(MODELS / f"{name}.onnx")
    assert source[0][2][0] == "batch"
    assert interface(converted[name]) == source


@pytest.mark.parametrize("name", EXAMPLES)
def test_stock_onnxruntime_with_no_options(
    converted: dict[str, Path], images: Any, tmp_path: Path, name: str
) -> None:
    """A process that imports only numpy and onnxruntime gets the bits of the definition."""
    np.savez(tmp_path / "x.npz", x=images[:16])
    command = [sys.executable, "-c", STOCK, converted[name], tmp_path / "x.npz", tmp_path / "y.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    defined = create("numpy-timestep", ir.load(converted[name])).run({"x": images[:16]})["logits"]
    found = np.load(tmp_path / "y.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.int32), defined.view(np.int32))


@pytest.mark.parametrize("name", EXAMPLES)
def test_same_bytes_whatever_the_process(tmp_path: Path, name: str) -> None:
    """Another folder, another name, another hash seed, another directory order: the same file."""
    found = set()
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-m", "snnc", "convert", MODELS / f"{name}.onnx", "--quiet"]
        subprocess.run(
            [*command, "-o", f"{seed}.snn.onnx"],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        found.add((folder / f"{seed}.snn.onnx").read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_number_of_samples_on_a_fixed_batch(
    converted: dict[str, Path], images: Any, tmp_path: Path, name: str
) -> None:
    proto = onnx.load(MODELS / f"{name}.onnx")
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 3
    del proto.graph.value_info[:]
    source = tmp_path / "fixed.onnx"
    onnx.save(proto, source)
    model = convert(source).model
    ir.save(model, tmp_path / "fixed.snn.onnx")
    assert interface(tmp_path / "fixed.snn.onnx")[0][2] == [3, 1, 28, 28]
    free = create("numpy", ir.load(converted[name]))
    for count in (1, 3, 7):
        expected = free.run({"x": images[:count]})["logits"]
        for runtime in RUNTIMES:
            logits = create(runtime, model).run({"x": images[:count]})["logits"]
            np.testing.assert_array_equal(logits.view(np.int32), expected.view(np.int32), err_msg=runtime)
    report = verify(source, model, {"x": images[:7]})
    assert report.identical
    assert {entry.tensors["logits"].elements for entry in report.agreements} == {70}


@pytest.mark.parametrize("name", EXAMPLES)
def test_spikes_are_the_ones_in_the_binary_codes(converted: dict[str, Path], images: Any, name: str) -> None:
    """Counted here from onnxruntime's codes: every step is worth a power of two, so a spike is a set bit."""
    from snnc.cost import measure
    from snnc.debug.verify import coded_tensors

    model = ir.load(converted[name])
    taps = [*coded_tensors(model)]
    found = create("ort-stock", model).run({"x": images[:8]}, taps)
    ones = {tap: np.bitwise_count(np.abs(found[tap].astype(np.int64))) for tap in taps}
    assert max(int(count.max()) for count in ones.values()) == 2
    report = measure(model, {"x": images[:8]}, create("numpy", model).run)
    spikes, neurons = (sum(int(f(count)) for count in ones.values()) for f in (np.sum, np.size))
    assert report.spikes == spikes / 8
    assert report.spikes_per_neuron == pytest.approx(spikes / neurons)


def test_the_file_says_nothing_of_the_machine_that_trained_the_network(tmp_path: Path) -> None:
    """Exporters write stack traces with local paths onto every node; names of modules stay."""
    source = ROOT / "tests" / "sources" / "gelu_dynamo.onnx"
    proto = onnx.load(source)
    for node in proto.graph.node:
        for key in ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.name_scopes", "mine"):
            entry = node.metadata_props.add()
            entry.key, entry.value = key, f"['', 'blocks.0', '{key} of /home/somebody/model.py']"
        node.doc_string = "/home/somebody/model.py, line 3"
    proto.graph.doc_string = proto.graph.input[0].doc_string = "/home/somebody"
    onnx.save(proto, tmp_path / "net.onnx")
    (value,) = proto.graph.input
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim][1:]
    samples = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    ir.save(convert(tmp_path / "net.onnx", calibration=samples).model, tmp_path / "net.snn.onnx")
    content = (tmp_path / "net.snn.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert content.count(b"/home/somebody") == content.count(b"name_scopes of /home/somebody") > 0
    assert b"mine of" not in content
