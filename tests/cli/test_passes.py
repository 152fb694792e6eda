"""Passes one by one: listed, explained, run on dumps; graphs compared; what a failing pass leaves behind."""

from __future__ import annotations

import shlex

import onnx
import pytest
from click.testing import CliRunner

from snnc.cli.group import cli
from snnc.ir import load
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm
from snnc.passes.catalog import ALL_PASSES


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    """A quantised network with a BatchNorm, and its dumps."""
    path = tmp_path_factory.mktemp("passes")
    made = net()
    x = made.quantise(made.input(["N", 2, 4, 4]), 0.25, (4, 4))
    conv = made.op("Conv", [x, made.const(made.normal(3, 2, 3, 3))], name="conv", pads=[1, 1, 1, 1])
    parts = [made.const(v) for v in ([1.0, 2, 3], [0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [1.0, 1.0, 2.0])]
    norm = made.op("BatchNormalization", [conv, *parts], name="norm")
    made.output(made.matmul(made.op("Flatten", [made.quantise(norm, 0.25, (4, 4))]), (48, 3)))
    made.save(path, "m.onnx")
    result = CliRunner().invoke(cli, ["convert", f"{path}/m.onnx", "--dump-passes", f"{path}/d", "--quiet"])
    assert result.exit_code == 0, result.stderr
    return path


def dump(folder, name):
    return str(next((folder / "d").glob(f"*{name}.onnx")))


@pytest.mark.parametrize("entry", ALL_PASSES, ids=lambda entry: entry.name)
def test_each_pass_is_explained(snnc, validate, entry):
    result = snnc("passes", entry.name)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{entry.name}, {entry.semantics}\n")
    assert "requires" in result.stdout and "establishes" in result.stdout
    (row,) = validate(snnc("passes", entry.name, "--json").stdout, "passes")["passes"]
    assert row["name"] == entry.name


def test_options_and_requirements_are_told(snnc):
    text = snnc("passes", "integer-weights", "encode").stdout
    assert "option weights" in text
    assert "quant (from require-integers)" in text
    refused = snnc("passes", "integer-wieghts")
    assert refused.exit_code == 2 and "'integer-weights'" in refused.stderr


@pytest.mark.parametrize("flag", ["--passes", "--pipeline"])
def test_chosen_passes_run_on_a_dump(snnc, folder, tmp_path, flag):
    target = str(tmp_path / "next.onnx")
    spec = "sort-nodes,infer-shapes,fold-batch-norm,recode{timesteps=4,groups=2}"
    result = snnc("opt", dump(folder, "input"), flag, spec, "-o", target, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "BatchNormalization" not in {node.op_type for node in load(target).graph}


def test_a_dump_and_the_rest_of_the_passes_give_the_same_file(snnc, folder, tmp_path):
    """Each dump can be gone on from: the passes behind it give the dump at the end."""
    steps = (folder / "d" / "pipeline.txt").read_text().replace("\n", "")
    names = [path.name for path in sorted((folder / "d").glob("*.onnx"))]
    place = int(names[2].partition("-")[0])
    from snnc.pipeline import format_pipeline, parse_pipeline

    rest = format_pipeline(parse_pipeline(steps, ALL_PASSES)[place:])
    result = snnc(
        "opt", str(folder / "d" / names[2]), "--passes", rest, "-o", str(tmp_path / "e.onnx"), "--quiet"
    )
    assert result.exit_code == 0, result.stderr
    assert (
        snnc("diff", str(tmp_path / "e.onnx"), dump(folder, "encode"), "--fail-on-difference").exit_code == 0
    )


def break_fold(monkeypatch):
    def crash(self, model):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(FoldBatchNorm, "run", crash)


@pytest.mark.parametrize("command", ["opt", "convert"])
def test_a_failing_pass_leaves_a_reproducer(snnc, folder, tmp_path, monkeypatch, command):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patch:
        break_fold(patch)
        more = ["--passes", "sort-nodes,infer-shapes,fold-batch-norm"] if command == "opt" else []
        result = snnc(command, str(folder / "m.onnx"), "-o", str(tmp_path / "out.onnx"), *more)
        assert result.exit_code == 1
        line = next(each for each in result.stderr.splitlines() if each.startswith("  snnc opt "))
        words = shlex.split(line)[1:]
        assert words[-1] == "fold-batch-norm"
        assert snnc(*words).exit_code == 1
    onnx.checker.check_model(words[1])
    assert snnc(*words).exit_code == 0, "the pass is healthy again"
    assert not (tmp_path / "out.onnx").exists()


def test_a_refused_model_leaves_none(snnc, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    refused = snnc("convert", dump(folder, "encode"), "-o", str(tmp_path / "o.onnx"))
    assert refused.exit_code in (3, 4)
    assert not list(tmp_path.glob("snnc-reproducer-*"))


def test_equal_graphs_do_not_differ(snnc, validate, folder):
    result = snnc("diff", dump(folder, "input"), dump(folder, "input"), "--fail-on-difference")
    assert result.exit_code == 0
    assert result.stdout.endswith("no difference\n")
    content = validate(snnc("diff", f"{folder}/d", f"{folder}/d", "--json").stdout, "diff")
    assert content["same"] and len(content["models"]) > 3


def test_a_pass_shows_in_the_difference(snnc, validate, folder):
    before = sorted((folder / "d").glob("*.onnx"))
    place = [path.name for path in before].index(next((folder / "d").glob("*fold-batch-norm.onnx")).name)
    files = [str(before[place - 1]), str(before[place])]
    content = validate(snnc("diff", *files, "--json").stdout, "diff")
    changes = {(each["what"], each["kind"]) for each in content["models"][0]["changes"]}
    removed = [each["name"] for each in content["models"][0]["changes"] if each["kind"] == "removed"]
    assert "norm" in removed and ("node", "changed") in changes
    assert snnc("diff", *files).exit_code == 0
    failing = snnc("diff", *files, "--fail-on-difference")
    assert failing.exit_code == 5 and "SNN552" in failing.stderr


def edited(folder, tmp_path, change):
    proto = onnx.load(folder / "m.onnx")
    change(proto.graph)
    onnx.save(proto, tmp_path / "edited.onnx")
    return str(tmp_path / "edited.onnx")


def attribute(graph):
    conv = next(node for node in graph.node if node.op_type == "Conv")
    conv.attribute[0].ints[0] = 0


def weight(graph):
    array = onnx.numpy_helper.to_array(graph.initializer[1]).copy()
    array.flat[0] += 1
    graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(array, graph.initializer[1].name))


def name_of_node(graph):
    next(node for node in graph.node if node.op_type == "Conv").name = "other"


EDITS = {
    "attribute": (attribute, ("node", "changed"), "pads: [1, 1, 1, 1] -> [0, 1, 1, 1]"),
    "weight": (weight, ("weight", "changed"), "1 of "),
    "renamed": (name_of_node, ("node", "changed"), "was called conv"),
}


@pytest.mark.parametrize("name", list(EDITS))
def test_small_edits_are_seen(snnc, validate, folder, tmp_path, name):
    change, kind, text = EDITS[name]
    path = edited(folder, tmp_path, change)
    content = validate(snnc("diff", str(folder / "m.onnx"), path, "--json").stdout, "diff")
    (found,) = content["models"][0]["changes"]
    assert (found["what"], found["kind"]) == kind
    assert text in found["detail"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["missing.onnx", "m.onnx"], 3), (["m.onnx", "m.npz"], 3), (["m.onnx"], 2)]
)
def test_broken_input_is_refused(snnc, folder, arguments, code):
    (folder / "m.npz").write_bytes(b"PK\x03\x04")
    result = snnc("diff", *[f"{folder}/{each}" for each in arguments])
    assert result.exit_code == code
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    assert snnc("diff", str(empty), str(empty)).exit_code == 3
