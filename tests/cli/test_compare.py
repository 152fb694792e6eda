"""Any two states of a network are compared: source, dumps, spiking network, instructions."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from snnc.cli.group import cli
from snnc.coding import CodeBook
from snnc.debug.compare import CompareReport, Limits, Row, _reasons, compare
from snnc.debug.distance import OutputDistance
from snnc.debug.states import open_state
from snnc.debug.verify import Comparison
from snnc.ir import load, save

BOOK = CodeBook(4, 4, signed=True)


def network(net, seed=0):
    made = net(seed)
    x = made.input(["N", 2, 4, 4])
    first = made.quantise(x, 0.25, BOOK, name="first")
    second = made.quantise(made.conv(first, (4, 2, 3, 3)), 0.125, BOOK, name="second")
    branch = made.conv(second, (4, 4, 1, 1))
    third = made.quantise(made.op("Add", [branch, second]), 0.125, BOOK, name="third")
    product = made.matmul(made.op("Flatten", [third]), (64, 3))
    made.output(made.op("Add", [product, made.const([0.3, -0.2, 0.1])], name="logits"))
    return made


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    """A source, its dumps, its spiking form, its bundle, data, and a spiking form with one fault."""
    path = tmp_path_factory.mktemp("compare")
    made = network(net)
    made.save(path, "m.onnx")
    np.savez(path / "x.npz", x=made.feeds(batch=12)["x"])
    for arguments in (
        ["convert", f"{path}/m.onnx", "--dump-passes", f"{path}/dumps"],
        ["emit", f"{path}/m.snn.onnx", "-o", f"{path}/bundle"],
    ):
        result = CliRunner().invoke(cli, [*arguments, "--quiet"])
        assert result.exit_code == 0, result.output
    model = load(path / "m.snn.onnx")
    thresholds = model.graph.initializers["second_thresholds"]
    array = thresholds.const_value.numpy().copy()
    array[array < 2**31 - 1] += 40
    thresholds.const_value = onnx_ir.tensor(array, name=thresholds.name)
    save(model, path / "broken.snn.onnx")
    return path


def dumps(folder):
    return sorted((folder / "dumps").glob("*.onnx"))


def run(snnc, folder, first, second, *more):
    return snnc("compare", f"{folder}/{first}", f"{folder}/{second}", "--data", f"{folder}/x.npz", *more)


def test_a_source_and_what_it_became(snnc, validate, folder):
    result = run(snnc, folder, "m.onnx", "m.snn.onnx")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("PASS\n")
    content = validate(run(snnc, folder, "m.onnx", "m.snn.onnx", "--json").stdout, "compare")
    assert [row["tensor"] for row in content["tensors"]] == ["first", "second", "third", "logits"]
    assert content["a"]["kind"] == "quantised" and content["b"]["kind"] == "spike"
    assert content["passed"] and not content["bits_required"] and content["limits"]["sqnr_db"] == 10
    assert content["same_class"]["logits"] > 0.5


def test_each_dump_is_compared_with_the_end(folder):
    end = open_state(folder / "m.snn.onnx")
    samples = dict(np.load(folder / "x.npz"))
    kinds = []
    for path in dumps(folder):
        state = open_state(path)
        kinds.append(state.kind)
        report = compare(state, end, samples)
        assert report.passed and not report.notes, path
        assert [row.tensor for row in report.rows] == ["first", "second", "third", "logits"]
        assert all(row.codes is not None for row in report.rows)
        if state.exact:
            assert report.bits and all(row.codes.mismatches == 0 for row in report.rows)
    assert kinds[0] == "quantised" and "quant" in kinds and kinds[-1] == "spike"


def test_instructions_give_the_same_bits(snnc, validate, folder):
    content = validate(run(snnc, folder, "m.snn.onnx", "bundle", "--json").stdout, "compare")
    assert content["passed"] and content["bits_required"]
    assert {"third", "logits"} <= {row["tensor"] for row in content["tensors"]}
    assert sum(row["mismatches"] for row in content["tensors"]) == 0


def test_a_difference_is_named_and_its_samples_are_kept(snnc, validate, folder, tmp_path):
    kept = str(tmp_path / "kept.npz")
    result = run(snnc, folder, "m.snn.onnx", "broken.snn.onnx", "--save-differing", kept)
    assert result.exit_code == 5
    assert "error: SNN550: tensor 'second': " in result.stderr
    assert "FAIL" in result.stdout
    as_json = run(snnc, folder, "m.snn.onnx", "broken.snn.onnx", "--json")
    assert as_json.exit_code == 5
    content = validate(as_json.stdout, "compare")
    first = content["first_difference"]
    assert first["tensor"] == "second" and first["a"] != first["b"]
    assert first["index"][0] == content["differing_samples"][0]
    samples = np.load(kept)["x"]
    assert np.array_equal(samples, np.load(folder / "x.npz")["x"][content["differing_samples"]])
    again = snnc("compare", f"{folder}/m.snn.onnx", f"{folder}/broken.snn.onnx", "--data", kept, "--json")
    assert len(validate(again.stdout, "compare")["differing_samples"]) == len(samples)


def test_nothing_is_written_where_nothing_differs(snnc, folder, tmp_path):
    kept = tmp_path / "kept.npz"
    assert run(snnc, folder, "m.snn.onnx", "m.snn.onnx", "--save-differing", str(kept)).exit_code == 0
    assert not kept.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--sqnr", "200"], "below 200 dB"),
        (["--largest-error", "1e-9"], "more than 1e-09"),
        (["--bits"], "every bit must agree"),
    ],
)
def test_limits(snnc, folder, options, reason):
    result = run(snnc, folder, "m.onnx", "m.snn.onnx", *options)
    assert result.exit_code == 5
    assert reason in result.stderr


@pytest.mark.parametrize("option", ["--sqnr", "--agreement", "--largest-error"])
@pytest.mark.parametrize("value", ["nan", "-1e20"])
def test_limits_that_nothing_can_break_or_keep_are_refused(snnc, folder, option, value):
    result = run(snnc, folder, "m.onnx", "m.snn.onnx", f"{option}={value}")
    assert result.exit_code == 2 and result.stderr.count("error: SNN200") == 1
    assert option in result.stderr and (value == "nan" or "range" in result.stderr)


def test_agreement_of_classes():
    report = CompareReport(("a", "float"), ("b", "spike"), 4, False, Limits(False, 0.0, 0.9))
    row = Row("y", "y", OutputDistance("y"), Comparison("y"), output=True)
    row.distance.add(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 1, 2, 2]])
    report.rows.append(row)
    assert "same class for 75.00%" in _reasons(report)[0]


def test_float_networks_agree_up_to_rounding(net, snnc, tmp_path):
    made = net()
    x = made.input(["N", 6])
    made.output(made.matmul(made.op("Relu", [made.matmul(x, (6, 8))], name="h"), (8, 3)))
    path = made.save(tmp_path)
    for name, factor in (("same", 1 + 1e-6), ("other", 1.01)):
        proto = onnx.load(path)
        weight = proto.graph.initializer[0]
        weight.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name)
        )
        onnx.save(proto, tmp_path / f"{name}.onnx")
    files = [str(path), str(tmp_path / "same.onnx"), str(tmp_path / "other.onnx")]
    assert snnc("compare", files[0], files[1], "--data", "random:8").exit_code == 0
    result = snnc("compare", files[0], files[2], "--data", "random:8")
    assert result.exit_code == 5
    assert "below 80 dB" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["m.onnx", "m.snn.onnx"], 2, "SNN237"),
        (["m.onnx", "missing.onnx", "--data", "random:2"], 3, "SNN301"),
        (["m.onnx", "dumps", "--data", "random:2"], 3, "is a folder of dumps"),
        (["m.onnx", "other.onnx", "--data", "random:2"], 3, "SNN357"),
    ],
)
def test_what_cannot_be_compared(net, snnc, folder, arguments, code, text):
    made = net()
    made.output(made.matmul(made.input(["N", 6]), (6, 4)))
    made.save(folder, "other.onnx")
    names = [f"{folder}/{each}" if each.endswith("onnx") or each == "dumps" else each for each in arguments]
    result = snnc("compare", *names)
    assert result.exit_code == code
    assert text in result.stderr
