"""``snnc convert``, and what follows it: ``verify``, ``inspect --why``, ``opt``, ``passes``."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from snnc import ir
from snnc.arrays import read_arrays
from snnc.cli.group import cli

SOURCES = Path(__file__).resolve().parents[1] / "sources"


@pytest.fixture
def folder(home):
    """The working folder with a small QCFS network and samples for it."""
    shutil.copy(SOURCES / "qcfs_dynamo.onnx", home / "cnn.onnx")
    generator = np.random.default_rng(1)
    np.savez(
        home / "images.npz",
        image=generator.standard_normal((6, 3, 8, 8), np.float32),
        labels=np.arange(6),
    )
    return home


@pytest.fixture(scope="module")
def content_of_cnn(tmp_path_factory):
    """What ``snnc convert cnn.onnx`` writes, once for all tests that read it."""
    place = tmp_path_factory.mktemp("converted")
    shutil.copy(SOURCES / "qcfs_dynamo.onnx", place / "cnn.onnx")
    assert CliRunner().invoke(cli, ["convert", f"{place}/cnn.onnx", "--quiet"]).exit_code == 0
    return (place / "cnn.snn.onnx").read_bytes()


@pytest.fixture
def converted(folder, content_of_cnn):
    (folder / "cnn.snn.onnx").write_bytes(content_of_cnn)
    return folder / "cnn.snn.onnx"


def test_convert_says_what_it_did(folder, snnc):
    result = snnc("convert", "cnn.onnx", "-o", "out.snn.onnx", "--calibrate", "images.npz")
    assert result.exit_code == 0, result.output
    assert (folder / "out.snn.onnx").exists()
    for text in ("exact", "approximate", "6 samples of images.npz", "written: out.snn.onnx"):
        assert text in result.stdout
    following = next(line for line in result.stdout.splitlines() if line.startswith("next:"))
    # The command that is printed works as it stands.
    arguments = shlex.split(following.removeprefix("next:"))
    assert arguments[:2] == ["snnc", "verify"]
    assert snnc(*arguments[1:]).exit_code == 0
    assert "[ 1/" in result.stderr
    assert snnc("convert", "cnn.onnx", "-o", "quiet.snn.onnx", "--quiet").stderr == ""


def test_the_claim_is_the_audits(folder, snnc, monkeypatch):
    result = snnc("convert", "cnn.onnx", "--json")
    assert json.loads(result.stdout)["audit"] == {
        "multiplication_free": True,
        "claim": "multiplication-free between encoder and readout",
    }
    assert (
        "multiplication-free between encoder and readout\n" in snnc("convert", "cnn.onnx", "--force").stdout
    )
    from snnc.cost import audit as auditing

    found = auditing.AuditRow("smuggled", "Mul", "finding")
    monkeypatch.setattr(auditing, "audit", lambda model: auditing.AuditReport((found,)))
    refused = snnc("convert", "cnn.onnx", "-o", "other.snn.onnx")
    assert refused.exit_code == 1
    assert "smuggled" in refused.stderr
    assert not (folder / "other.snn.onnx").exists()


def test_document(folder, snnc, validate):
    content = validate(snnc("convert", "cnn.onnx", "--calibrate", "images.npz", "--json").stdout, "convert")
    assert content["output"] == "cnn.snn.onnx"
    assert content["passes"][-1]["name"] == "encode"
    assert content["passes"][-1]["semantics"] == "exact"
    assert content["cost"]["images"] == 6


def test_two_runs_give_the_same_bytes(folder, snnc):
    for name in ("one", "two"):
        assert snnc("convert", "cnn.onnx", "-o", f"{name}.snn.onnx", "--dump-passes", name).exit_code == 0
    assert (folder / "one.snn.onnx").read_bytes() == (folder / "two.snn.onnx").read_bytes()
    names = sorted(entry.name for entry in (folder / "one").iterdir())
    assert names == sorted(entry.name for entry in (folder / "two").iterdir())
    assert names[0] == "000-input.onnx"
    for name in set(names) - {"run.json"}:
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes(), name


def test_every_dump_can_be_inspected_and_run(folder, snnc):
    """Dumps carry function bodies: each one runs in a stock onnxruntime, to nearly the same logits."""
    from snnc.runtimes import create

    assert snnc("convert", "cnn.onnx", "--dump-passes", "dump").exit_code == 0
    image = read_arrays("images.npz")["image"]
    logits = {}
    for path in sorted((folder / "dump").glob("[0-9]*.onnx")):
        assert snnc("inspect", path).exit_code == 0
        logits[path.name] = create("ort-stock", ir.load(path)).run({"image": image})["logits"]
    assert len(logits) > 3
    first = logits["000-input.onnx"]
    for name, found in logits.items():
        assert np.corrcoef(first.ravel(), found.ravel())[0, 1] > 0.95, name


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["cnn.onnx", "-o", "cnn.onnx", "--force"], 2, "same file as the input"),
        (["cnn.onnx", "-o", "x.npz"], 2, "exists already"),
        (["cnn.onnx", "-o", "none/out.onnx"], 6, "does not exist"),
        (["cnn.onnx", "--timesteps", "17"], 2, "17 is not in the range"),
        (["cnn.onnx", "--timesteps", "2", "--groups", "3"], 2, "groups"),
        (["cnn.onnx", "--weights", "int1"], 2, "int1"),
        (["cnn.onnx", "--dump-passes", "."], 2, "other files"),
        (["missing.onnx"], 3, "no such file"),
        (["x.npz"], 3, "SNN302"),
        (["net.snn.onnx"], 4, "already converted"),
    ],
)
def test_refusals(folder, snnc, arguments, code, text):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = snnc("convert", *arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert result.stderr.count("error:") == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_unconvertible_model_names_every_node(folder, snnc, integers_as_outputs):
    integers_as_outputs(folder / "dynamic.onnx")
    result = snnc("convert", "dynamic.onnx", "--dump-passes", "dump")
    assert result.exit_code == 4
    assert "node 'stem_quant'" in result.stderr
    assert "node 'deep_quant'" in result.stderr
    assert not (folder / "dynamic.snn.onnx").exists()
    # The reproducer replays the very same refusal.
    replay = (folder / "dump" / "reproducer.txt").read_text()
    commands = [line.strip() for line in replay.splitlines() if line.startswith("  snnc opt")]
    again = snnc(*shlex.split(commands[0])[1:])
    assert again.exit_code == 4
    assert "node 'stem_quant'" in again.stderr


def test_float_model_without_calibration_is_told_the_line_to_type(folder, snnc):
    shutil.copy(SOURCES / "float_dynamo.onnx", folder / "float.onnx")
    result = snnc("convert", "float.onnx")
    assert result.exit_code == 2
    assert "snnc convert float.onnx --calibrate x.npz" in result.stderr
    assert not (folder / "float.snn.onnx").exists()


def test_calibration_is_recorded_and_noise_is_called_noise(folder, snnc, validate):
    """The document and the file tell what the quantisers were chosen from; nobody takes random:N for data."""
    shutil.copy(SOURCES / "float_dynamo.onnx", folder / "float.onnx")
    spec = ir.load(folder / "float.onnx").graph.inputs[0]
    shape = [size if isinstance(size, int) else 12 for size in spec.shape]
    np.savez(folder / "data.npz", any=np.random.default_rng(1).random((12, *shape[1:]), np.float32))
    result = snnc("convert", "float.onnx", "--calibrate", "data.npz", "--json")
    assert result.exit_code == 0, result.output
    record = validate(result.stdout, "convert")["calibration"]
    assert (record["data"], record["samples"], len(record["sha256"])) == ("npz", 12, 64)
    assert record["codes"] and all(0 <= entry["clipped"] < 0.2 for entry in record["codes"].values())
    props = ir.load(folder / "float.snn.onnx").metadata_props
    assert json.loads(props["snnc.calibration"])["sha256"] == record["sha256"]
    assert "warning" not in result.stderr and str(folder) not in "".join(props.values())
    (folder / "user.py").write_text("import numpy\ndef f(): return numpy.load('data.npz')['any']\n")
    result = snnc("convert", "float.onnx", "--calibrate", "user.py:f", "--json", "--force")
    assert validate(result.stdout, "convert")["calibration"]["sha256"] == record["sha256"]
    result = snnc("convert", "float.onnx", "--calibrate", "random:8", "--seed", "3", "--force")
    assert "warning: calibrated on random:8, not on data" in result.stderr
    props = ir.load(folder / "float.snn.onnx").metadata_props
    assert json.loads(props["snnc.calibration"])["data"] == "random:8 seed 3"


def test_verify_says_bit_identical(converted, snnc, validate):
    arguments = ("verify", "cnn.onnx", "cnn.snn.onnx", "--data", "images.npz", "--labels", "images.npz")
    result = snnc(*arguments)
    assert result.exit_code == 0, result.output
    assert "bit-identical" in result.stdout
    assert "accuracy, source" in result.stdout
    content = validate(snnc(*arguments, "--json").stdout, "verify")
    assert content["bit_identical"] is True
    assert {entry["runtime"] for entry in content["runtimes"]} >= {"numpy", "numpy-timestep"}
    assert all(entry["elements"] > 0 for entry in content["runtimes"])


def test_canary_verify_fails_on_one_wrong_threshold(converted, snnc, validate):
    """The smallest wrong pass: one threshold off by an amount that some neuron crosses."""
    model = ir.load(converted)
    neuron = next(node for node in model.graph if node.op_type == "ExpGIF")
    thresholds = neuron.inputs[1]
    array = np.array(ir.constant(thresholds))
    array[:, 0] = -(2**30)
    thresholds.const_value = ir.tensor(array, name=thresholds.name)
    ir.save(model, "wrong.snn.onnx")
    arguments = ("verify", "cnn.onnx", "wrong.snn.onnx", "--data", "images.npz")
    result = snnc(*arguments)
    assert result.exit_code == 5
    assert "bit-identical" not in result.stdout
    assert "DIFFERENT" in result.stdout
    assert "error: SNN510" in result.stderr
    assert neuron.outputs[0].name in result.stderr
    as_json = snnc(*arguments, "--json")
    assert as_json.exit_code == 5
    content = validate(as_json.stdout, "verify")
    assert content["bit_identical"] is False
    assert content["runtimes"][0]["first"]["tensor"] == neuron.outputs[0].name


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["cnn.onnx", "cnn.snn.onnx"], 2, "add --data x.npz"),
        (["cnn.onnx", "cnn.onnx", "--data", "images.npz"], 3, "not a converted model"),
        (["cnn.onnx", "cnn.snn.onnx", "--data", "x.npz"], 3, "expected image"),
        (["cnn.onnx", "cnn.snn.onnx", "--data", "images.npz", "--labels", "x.npz"], 3, "label"),
    ],
)
def test_verify_refusals(converted, snnc, arguments, code, text):
    result = snnc("verify", *arguments)
    assert result.exit_code == code, result.output
    assert text in result.stderr


def test_why_tells_what_passes_did_at_a_node(folder, snnc, validate):
    name = next(node.name for node in ir.load("cnn.onnx").graph if node.op_type == "Conv")
    content = validate(snnc("inspect", "cnn.onnx", "--why", name, "--json").stdout, "why")
    assert content["node"] == name
    assert content["conversion_error"] is None
    assert content["events"]
    result = snnc("inspect", "cnn.onnx", "--why", name)
    assert result.exit_code == 0
    assert content["events"][0]["pass"] in result.stdout


def test_why_tells_how_a_conversion_ends(folder, snnc, validate, integers_as_outputs):
    integers_as_outputs(folder / "dynamic.onnx")
    name = next(n.name for n in ir.load("dynamic.onnx").graph if n.op_type == "DynamicQuantizeLinear")
    content = validate(snnc("inspect", "dynamic.onnx", "--why", name, "--json").stdout, "why")
    assert content["status"] == "unsupported"
    assert content["events"][-1]["event"] == "refused"
    assert "quantize_static" in content["events"][-1]["text"]
    assert "SNN461" in content["conversion_error"]


def test_why_tells_what_a_node_became_without_data(folder, snnc, validate):
    shutil.copy(SOURCES / "float_dynamo.onnx", folder / "float.onnx")
    content = validate(snnc("inspect", "float.onnx", "--why", "node_gelu", "--json").stdout, "why")
    assert content["status"] == "supported"
    assert content["conversion_error"] is None
    assert any("ExpGIF T=8 G=4" in text for text in content["became"])
    graph = ir.load("float.onnx").graph
    conv = next(node for node in graph if node.op_type == "Conv")
    for tensor in (conv.outputs[0].name, conv.inputs[1].name, conv.inputs[0].name):
        content = validate(snnc("inspect", "float.onnx", "--why", tensor, "--json").stdout, "why")
        assert conv.name in content["nodes"]
        assert content["place"]
    result = snnc("inspect", "float.onnx", "--why", "node_gleu")
    assert result.exit_code == 2
    assert "node_gelu" in result.stderr


def test_inspect_says_what_is_supported_before_any_conversion(folder, snnc, validate, integers_as_outputs):
    shutil.copy(SOURCES / "float_dynamo.onnx", folder / "float.onnx")
    result = snnc("inspect", "float.onnx", "--json")
    assert result.exit_code == 0
    content = validate(result.stdout, "inspect")
    assert all(row["unsupported"] == 0 for row in content["support"])
    assert sum(row["supported"] + row["folded"] for row in content["support"]) == content["nodes"]
    integers_as_outputs(folder / "dynamic.onnx")
    result = snnc("inspect", "dynamic.onnx", "--json")
    assert result.exit_code == 4
    content = validate(result.stdout, "inspect")
    support = {row["operator"]: row for row in content["support"]}
    assert support["DynamicQuantizeLinear"]["unsupported"] > 0
    assert len(content["unsupported"]) == sum(row["unsupported"] for row in content["support"])
    assert "DynamicQuantizeLinear" in result.stderr


def test_opt_runs_chosen_passes(folder, snnc, validate):
    spec = "name-nodes,sort-nodes,lift-constants,remove-identity"
    result = snnc("opt", "ann.onnx", "--passes", spec, "-o", "clean.onnx", "--json")
    assert result.exit_code == 0, result.output
    content = validate(result.stdout, "opt")
    assert content["passes"][-1]["rewrites"] == 1
    assert "no-identity" in content["holds"]
    assert [node.op_type for node in ir.load("clean.onnx").graph] == ["MatMul"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("sort-node", "did you mean 'sort-nodes'?"),
        ("encode", "needs 'quant', which nothing before it establishes"),
        ("integer-weights{wieghts=int4}", "did you mean 'weights'?"),
    ],
)
def test_opt_refusals(folder, snnc, spec, text):
    result = snnc("opt", "ann.onnx", "--passes", spec)
    assert result.exit_code == 2
    assert text in result.stderr


def test_passes_lists_the_catalogue(snnc, validate):
    from snnc.passes.catalog import ALL_PASSES

    content = validate(snnc("passes", "--json").stdout, "passes")
    assert [entry["name"] for entry in content["passes"]] == [entry.name for entry in ALL_PASSES]
    assert all(entry["summary"] for entry in content["passes"])
    assert "fold-batch-norm" in snnc("passes").stdout


@pytest.mark.parametrize("width", [40, 80])
def test_tables_of_convert_keep_to_the_width(folder, snnc, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    result = snnc("convert", "cnn.onnx")
    lines = [
        line
        for line in result.stdout.splitlines()
        if not line.startswith(("multiplication-free", "written:", "next:"))
    ]
    assert max(map(len, lines)) <= width


def test_nothing_absolute_or_dated_goes_into_the_model(converted, folder):
    content = converted.read_bytes()
    assert str(folder).encode() not in content
    metadata = ir.load(converted).metadata_props
    assert json.loads(metadata["snnc.options"])
