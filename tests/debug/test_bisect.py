"""Wrong passes are planted, and ``snnc bisect`` names each: the pass, and where it can node and rewrite."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
from click.testing import CliRunner

from snnc.cli.group import cli
from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.debug.bisect import bisect
from snnc.debug.steps import Recorder, read_dump
from snnc.errors import InputError, SnncError
from snnc.ir import Model, attributes
from snnc.passes.canonical.drop_dead_code import DropDeadCode
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm
from snnc.passes.canonical.fold_constants import FoldConstants
from snnc.passes.canonical.gemm_to_matmul import GemmToMatmul
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.lift_constants import LiftConstants
from snnc.passes.canonical.remove_identity import RemoveIdentity
from snnc.passes.canonical.resolve_padding import ResolvePadding
from snnc.passes.canonical.sort_nodes import SortNodes
from snnc.passes.quantise.align_membranes import AlignMembranes
from snnc.passes.quantise.fixed_point_input import FixedPointInput
from snnc.passes.quantise.insert_quantisers import InsertQuantisers
from snnc.passes.quantise.integer_weights import IntegerWeights
from snnc.passes.quantise.round_constants import RoundConstants
from snnc.passes.recognise.absorb_activations import AbsorbActivations
from snnc.passes.spike.encode import Encode
from snnc.pipeline import PassResult, Rewrite

SAMPLES = 12


@pytest.fixture(scope="module")
def source(net: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A float network with BatchNorm, a residual sum, a transposition, a pool and a Gemm; and its data."""
    made = net(3)
    x = made.input(["N", 2, 6, 6])
    conv = made.op(
        "Conv",
        [x, made.const(made.normal(4, 2, 3, 3)), made.const([0.3, -0.4, 0.5, 0.2])],
        name="conv",
        pads=[1, 1, 1, 1],
    )
    parts = [
        made.const(v)
        for v in ([1.0, 2.0, 0.5, 1.5], [0.1, 0.3, -0.2, 0.2], [0.1, 0.0, 0.2, 0.3], [1.0, 0.5, 2.0, 1.0])
    ]
    first = made.op("Relu", [made.op("BatchNormalization", [conv, *parts], name="norm")], name="first")
    second = made.op(
        "Conv",
        [first, made.const(made.normal(4, 4, 3, 3)), made.const([0.2, -0.3, 0.4, 0.5])],
        name="middle",
        pads=[1, 1, 1, 1],
    )
    total = made.op("Relu", [made.op("Sub", [second, first], name="join")], name="total")
    turned = made.op("Transpose", [total], name="turned", perm=[0, 1, 3, 2])
    pooled = made.op("MaxPool", [turned], name="pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = made.op("Flatten", [pooled], name="flat")
    hidden = made.op(
        "Gemm", [flat, made.const(made.normal(36, 8)), made.const(made.normal(8, 1)[:, 0] + 1)], name="gemm"
    )
    made.output(made.matmul(made.op("Relu", [hidden], name="hidden"), (8, 5)))
    path = made.save(tmp_path_factory.mktemp("bisect"))
    np.savez(path.with_name("x.npz"), x=made.feeds(batch=48)["x"])
    return path, dict(np.load(path.with_name("x.npz")))


def recorded(source: tuple[Path, dict[str, Any]]) -> Recorder:
    recorder = Recorder()
    try:
        convert(
            source[0], ConvertOptions(timesteps=4, groups=4), calibration=source[1], instruments=[recorder]
        )
    except SnncError:
        assert recorder.failure is not None
    return recorder


def found(source: tuple[Path, dict[str, Any]], recorder: Recorder, **options: Any) -> Any:
    feeds = {name: array[:SAMPLES] for name, array in source[1].items()}
    return bisect(recorder.steps, recorder.failure, feeds, **options)


def test_a_healthy_conversion_has_no_guilty_pass(source: tuple[Path, dict[str, Any]]) -> None:
    recorder = recorded(source)
    result = found(source, recorder)
    assert result.error() is None and result.place is None
    assert [each.name for each in result.judgements] == [step.name for step in recorder.steps]
    assert all(each.good for each in result.judgements)
    for metric in ("sqnr", "agreement"):
        assert found(source, recorder, metric=metric, binary=True).error() is None


# --- faults: each changes a model after a pass did its work ---

Fault = Callable[[Model], str | None]


def node(model: Model, *kinds: str, last: bool = False) -> Any:
    nodes = [each for each in model.graph if each.op_type in kinds]
    return nodes[-1 if last else 0]


def rewrite_weight(value: Any, change: Callable[[Any], Any]) -> None:
    array = np.array(value.const_value.numpy())
    changed = np.ascontiguousarray(change(array).astype(array.dtype))
    value.const_value = onnx_ir.tensor(changed, name=value.name)


def weight_of(kind: str, position: int, change: Callable[[Any], Any], last: bool = False) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind, last=last)
        rewrite_weight(guilty.inputs[position], change)
        return str(guilty.name)

    return apply


def attribute_of(kind: str, name: str, value: Any) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind)
        guilty.attributes[name] = onnx_ir.Attr(name, guilty.attributes[name].type, value)
        return str(guilty.name)

    return apply


def bypassed(*kinds: str, last: bool = False) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, *kinds, last=last)
        guilty.outputs[0].replace_all_uses_with(guilty.inputs[0])
        model.graph.remove(guilty, safe=True)
        return None

    return apply


def swapped_inputs(kind: str) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind)
        left, right = guilty.inputs
        guilty.replace_input_with(0, right)
        guilty.replace_input_with(1, left)
        return str(guilty.name)

    return apply


def lost_bias(model: Model) -> str | None:
    """The Add behind a MatMul goes."""
    product = node(model, "MatMul")
    (add,) = [use.node for use in product.outputs[0].uses()]
    add.outputs[0].replace_all_uses_with(product.outputs[0])
    model.graph.remove(add, safe=True)
    return None


def shifted_padding(model: Model) -> str | None:
    return attribute_of("Conv", "pads", (2, 1, 0, 1))(model)


def quantiser_step(factor: float, last: bool = False) -> Fault:
    return weight_of("Quantise", 1, lambda a: a * factor, last)


def integer_weight(change: Callable[[Any], Any]) -> Fault:
    """Change the integers of a product's weight, whatever operand holds them."""

    def apply(model: Model) -> str | None:
        guilty = node(model, "Weight", last=True)
        rewrite_weight(guilty.inputs[0], change)
        return None

    return apply


def threshold(model: Model) -> str | None:
    guilty = node(model, "ExpGIF")
    rewrite_weight(guilty.inputs[1], lambda a: np.where(a < 2**31 - 8, a + 3, a))
    return str(guilty.name)


def readout(model: Model) -> str | None:
    guilty = node(model, "Readout")
    rewrite_weight(guilty.inputs[1], lambda a: np.nextafter(a, np.float32(np.inf)))
    return str(guilty.name)


def spike_weight(model: Model) -> str | None:
    guilty = node(model, "SpikeConv", "SpikeMatMul")
    rewrite_weight(guilty.inputs[1], lambda a: a[::-1])
    return None


def dangling(model: Model) -> str | None:
    """A node reads what nobody computes: the manager's own checks stop it."""
    node(model, "MaxPool").replace_input_with(0, onnx_ir.Value(name="nobody"))
    return None


def operator(kind: str, other: str) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind)
        guilty.op_type = other
        return str(guilty.name)

    return apply


def part_of_weight(position: int, change: Callable[[Any], Any]) -> Fault:
    """Change the numerators (1) or denominators (2) of the first weight."""
    return weight_of("Weight", position, change)


def book_of_quantiser(change: Callable[[CodeBook], CodeBook], last: bool = False) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, "Quantise", last=last)
        held = attributes(guilty)
        book = change(CodeBook.from_attributes(held))
        new = {**book.to_attributes(), "codes": book.codes.tolist()}
        new["twice_midpoints"] = book.twice_midpoints.tolist()
        new["closed"] = [int(flag) for flag in book.closed(held["ties"])]
        for name, value in new.items():
            kind = guilty.attributes[name].type
            guilty.attributes[name] = onnx_ir.Attr(name, kind, tuple(value) if kind.name == "INTS" else value)
        return str(guilty.name)

    return apply


def first_only(factor: float) -> Callable[[Any], Any]:
    """Multiply the first number of an array."""

    def change(array: Any) -> Any:
        changed = np.array(array)
        changed.reshape(-1)[0] *= factor
        return changed

    return change


def rows_of_thresholds(model: Model) -> str | None:
    guilty = node(model, "ExpGIF")
    rewrite_weight(guilty.inputs[2], lambda rows: np.roll(rows, 1))
    return str(guilty.name)


#: Name, pass, fault, options of bisect, and whether the node that was changed must be named.
FAULTS: dict[str, tuple[Any, Fault, dict[str, Any], bool]] = {
    "padding shifted": (ResolvePadding, shifted_padding, {}, True),
    "constant rolled": (FoldConstants, weight_of("Conv", 2, lambda a: np.roll(a, 1)), {}, True),
    "bias lost while lifting": (LiftConstants, weight_of("Conv", 2, lambda a: 0 * a), {}, True),
    "axes swapped": (InferShapes, attribute_of("Transpose", "perm", (0, 1, 2, 3)), {}, True),
    "operands swapped": (SortNodes, swapped_inputs("Sub"), {}, True),
    "node dropped as identity": (RemoveIdentity, bypassed("Relu"), {}, False),
    "live node dropped as dead": (DropDeadCode, bypassed("Transpose"), {}, False),
    "bias of a Gemm lost": (GemmToMatmul, lost_bias, {}, False),
    "stale scale of a BatchNorm": (
        FoldBatchNorm,
        weight_of("Conv", 1, lambda a: a * np.array([1, 9, 1, -1])[:, None, None, None]),
        {},
        True,
    ),
    "step halved": (InsertQuantisers, quantiser_step(0.125), {}, True),
    "step of the last code stale": (InsertQuantisers, quantiser_step(6.0, last=True), {}, True),
    "activation absorbed twice": (AbsorbActivations, quantiser_step(2.5), {}, True),
    "input read at half its scale": (FixedPointInput, weight_of("Conv", 1, lambda a: a / 2), {}, False),
    "rounding mode of weights": (
        IntegerWeights,
        integer_weight(lambda a: a - 24),
        {"metric": "sqnr", "threshold": 15.0},
        False,
    ),
    "output channels rolled": (IntegerWeights, integer_weight(lambda a: np.roll(a, 1, axis=-1)), {}, False),
    "step scaled": (
        RoundConstants,
        weight_of("Quantise", 1, lambda a: a * 4, last=True),
        {},
        True,
    ),
    "thresholds off": (Encode, threshold, {}, True),
    "weights of spikes reversed": (Encode, spike_weight, {}, False),
    "scale of the readout one bit off": (Encode, readout, {}, True),
    "wire to nowhere": (AlignMembranes, dangling, {}, False),
    "bias of a BatchNorm with the wrong sign": (FoldBatchNorm, weight_of("Conv", 2, lambda a: -a), {}, True),
    "difference taken for a sum": (SortNodes, operator("Sub", "Add"), {}, True),
    "another activation": (DropDeadCode, operator("Relu", "Sigmoid"), {}, True),
    "another pool": (InferShapes, attribute_of("MaxPool", "kernel_shape", (1, 1)), {}, True),
    "codes that saturate early": (
        InsertQuantisers,
        book_of_quantiser(lambda book: book.restricted(0, 2), last=True),
        {},
        True,
    ),
    "groups off by some": (
        InsertQuantisers,
        book_of_quantiser(lambda book: CodeBook(4, 1, book.partition, book.signed)),
        {"metric": "sqnr", "threshold": 18.0},
        False,
    ),
    "scale twice what it is": (IntegerWeights, part_of_weight(1, lambda a: a * 2), {}, False),
    "scale of one channel": (IntegerWeights, part_of_weight(2, first_only(8)), {}, False),
    "sign of weights lost": (IntegerWeights, integer_weight(np.abs), {}, False),
    "branches not aligned": (AlignMembranes, part_of_weight(1, lambda a: a * 2), {}, False),
    "thresholds of other channels": (Encode, rows_of_thresholds, {}, True),
    "stride of spikes": (Encode, attribute_of("SpikeMaxPool", "strides", (1, 1)), {}, False),
}


def plant(patch: pytest.MonkeyPatch, kind: Any, fault: Fault) -> list[str | None]:
    """Let a pass make a mistake once, at its last run in which the fault is possible."""
    run = kind.run
    guilty: list[str | None] = []

    def broken(self: Any, model: Model) -> PassResult:
        result: PassResult = run(self, model)
        if guilty:
            return result
        try:
            guilty.append(fault(model))
        except (IndexError, AttributeError, ValueError):
            return result
        result.rewrites.append(Rewrite("a planted fault", added=tuple(filter(None, guilty))))
        return result

    patch.setattr(kind, "run", broken)
    return guilty


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_named(
    source: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, fault, options, named = FAULTS[name]
    with monkeypatch.context() as patch:
        guilty = plant(patch, kind, fault)
        recorder = recorded(source)
    assert guilty, "the fault was not planted"
    result = found(source, recorder, **options)
    error = result.error()
    assert error is not None and error.code == "SNN551"
    assert error.where.pass_name == kind.name
    if named:
        assert result.place is not None
        assert result.place.rewrite is not None
        assert result.place.rewrite.rule == "a planted fault" or result.place.node == guilty[0]


# --- the command ---


@pytest.fixture
def validate() -> Callable[[str, str], dict[str, Any]]:
    """The documents' schemas are checked in full by tests/cli; here only that all keys are known."""
    folder = Path(__file__).resolve().parents[2] / "snnc" / "cli" / "schemas"

    def check(text: str, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(text)
        schema = json.loads((folder / f"{name}.json").read_text())
        assert set(document) == set(schema["properties"]) == set(schema["required"])
        if document.get("guilty"):
            assert set(document["guilty"]) == set(schema["properties"]["guilty"]["properties"])
        return document

    return check


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, [*map(str, arguments), "--quiet"])


def convert_arguments(source: tuple[Path, dict[str, Any]]) -> list[str]:
    data = str(source[0].with_name("x.npz"))
    return ["--calibrate", data, "--timesteps", "4", "--groups", "4"]


@pytest.fixture
def broken_dump(source: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        plant(patch, *FAULTS["stale scale of a BatchNorm"][:2])
        arguments = [source[0], *convert_arguments(source), "-o", tmp_path / "m.snn.onnx"]
        assert run("convert", *arguments, "--dump-passes", tmp_path / "dumps").exit_code == 0
    return tmp_path / "dumps"


def test_a_folder_of_dumps(source: tuple[Path, dict[str, Any]], broken_dump: Path, validate: Any) -> None:
    data = source[0].with_name("x.npz")
    result = run("bisect", broken_dump, "--data", data, "--samples", SAMPLES)
    assert result.exit_code == 5
    assert "guilty pass    fold-batch-norm" in result.stdout
    assert "error: SNN551: pass 'fold-batch-norm', node 'conv'" in result.stderr
    content = validate(run("bisect", broken_dump, "--data", data, "--json").stdout, "bisect")
    guilty = content["guilty"]
    assert guilty["pass"] == "fold-batch-norm" and not content["holds"]
    assert Path(guilty["before"]).is_file() and Path(guilty["after"]).is_file()
    words = guilty["replay"].split()
    assert words[:2] == ["snnc", "opt"] and run(*words[1:]).exit_code == 0
    options = ["--metric", "sqnr", "--threshold", 60, "--binary", "--json"]
    binary = run("bisect", broken_dump, "--data", data, *options)
    content = validate(binary.stdout, "bisect")
    assert content["guilty"]["pass"] == "fold-batch-norm"
    assert len(content["states"]) < len(read_dump(broken_dump)[0])


def test_a_fresh_conversion(
    source: tuple[Path, dict[str, Any]], validate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = source[0].with_name("x.npz")
    arguments = ["bisect", source[0], *convert_arguments(source), "--data", data, "--samples", SAMPLES]
    assert run(*arguments).exit_code == 0
    plant(monkeypatch, *FAULTS["operands swapped"][:2])
    result = run(*arguments, "--dump-passes", tmp_path / "dumps", "--json")
    assert result.exit_code == 5
    guilty = validate(result.stdout, "bisect")["guilty"]
    assert (guilty["pass"], guilty["node"]) == ("sort-nodes", "join")
    assert guilty["rewrite"]["rule"] == "a planted fault"
    assert Path(guilty["before"]).is_file()


def test_a_pass_that_crashes(source: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Any, model: Model) -> PassResult:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(RoundConstants, "run", crash)
    result = run("bisect", source[0], *convert_arguments(source), "--data", source[0].with_name("x.npz"))
    assert result.exit_code == 5
    assert "pass 'round-constants': the pass failed: oh" in result.stderr


def test_accuracy_and_a_script(
    source: tuple[Path, dict[str, Any]], broken_dump: Path, tmp_path: Path
) -> None:
    from snnc.runtimes import OnnxRuntime

    outputs = OnnxRuntime(source[0], "none").run(source[1])
    labels = next(iter(outputs.values())).argmax(axis=1)
    np.save(tmp_path / "y.npy", labels)
    data = source[0].with_name("x.npz")
    common = ["--data", data, "--labels", tmp_path / "y.npy", "--metric", "accuracy"]
    result = run("bisect", broken_dump, *common, "--threshold", 0.999)
    assert result.exit_code == 5
    assert "accuracy" in result.stdout
    assert run("bisect", broken_dump, *common, "--threshold", 0.01).exit_code == 0
    script = tmp_path / "check.py"
    script.write_text(
        "import sys, onnx\nm = onnx.load(sys.argv[1])\n"
        "sys.exit(all(n.op_type != 'BatchNormalization' for n in m.graph.node))\n"
    )
    result = run("bisect", broken_dump, "--metric", "script", "--script", f"{sys.executable} {script} {{}}")
    assert result.exit_code == 5
    assert "pass 'fold-batch-norm': is the first pass" in result.stderr


def test_a_property_that_never_held(source: tuple[Path, dict[str, Any]]) -> None:
    labels = np.zeros(SAMPLES, dtype=np.int64)
    with pytest.raises(InputError, match="before the first pass"):
        found(source, recorded(source), metric="accuracy", threshold=1.0, labels=labels)


def damaged(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    log = json.loads((folder / "run.json").read_text())
    change(log)
    (folder / "run.json").write_text(json.dumps(log))


BROKEN = {
    "no log": lambda folder: (folder / "run.json").unlink(),
    "no JSON": lambda folder: (folder / "run.json").write_text("{"),
    "deep JSON": lambda folder: (folder / "run.json").write_text("[" * 100_000),
    "no passes": lambda folder: damaged(folder, lambda log: log.pop("passes")),
    "a name that leads away": lambda folder: damaged(
        folder, lambda log: [each.update(name="../../etc/x", changed=True) for each in log["passes"]]
    ),
    "a missing model": lambda folder: next(folder.glob("*encode.onnx")).unlink(),
    "a damaged model": lambda folder: next(folder.glob("*encode.onnx")).write_bytes(b"\x08"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_folders_are_refused(
    source: tuple[Path, dict[str, Any]], broken_dump: Path, name: str
) -> None:
    BROKEN[name](broken_dump)
    data = source[0].with_name("x.npz")
    result = run("bisect", broken_dump, "--data", data, "--metric", "sqnr", "--threshold", 0)
    assert result.exit_code in (3, 5)
    assert "Traceback" not in result.output and result.stderr.startswith("error: SNN")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "SNN296"),
        (["--data", "X", "--metric", "accuracy"], 2, "SNN296"),
        (["--metric", "script"], 2, "SNN296"),
        (["--metric", "script", "--script", "true"], 2, "SNN295"),
        (["--metric", "script", "--script", "'{}"], 2, "SNN295"),
        (["--metric", "script", "--script", "./no-such-program {}"], 6, "SNN621"),
        (["--data", "missing.npz"], 3, "SNN301"),
    ],
)
def test_what_is_missing_is_said(
    source: tuple[Path, dict[str, Any]], arguments: list[str], code: int, text: str
) -> None:
    words = [str(source[0].with_name("x.npz")) if word == "X" else word for word in arguments]
    result = run("bisect", source[0], *convert_arguments(source), *words)
    assert result.exit_code == code
    assert text in result.stderr


def test_a_network_that_is_refused_is_no_fault_of_a_pass(source: tuple[Path, dict[str, Any]]) -> None:
    result = run("bisect", source[0], "--data", source[0].with_name("x.npz"))
    assert result.exit_code == 2 and "SNN261" in result.stderr


def test_a_refusal_that_an_earlier_pass_caused_names_that_pass(
    source: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of a weight become so large that a later pass refuses the network."""
    fault = part_of_weight(1, lambda a: a * 2**20)
    data = source[0].with_name("x.npz")
    arguments = [source[0], *convert_arguments(source), "--data", data, "--samples", SAMPLES]
    with monkeypatch.context() as patch:
        plant(patch, IntegerWeights, fault)
        result = run("bisect", *arguments)
    assert result.exit_code == 5, result.output
    assert "SNN551: pass 'integer-weights'" in result.stderr and result.stderr.count("error:") == 1


def test_a_refusal_that_no_pass_caused_is_reported_as_it_is(tmp_path: Path) -> None:
    from tests.hostile.rows import model, tensor
    from tests.hostile.rows import node as onnx_node

    made = model(
        [onnx_node("RandomNormalLike", "x", output="s", name="noise"), onnx_node("MatMul", "s", "w")],
        [tensor(np.ones((4, 3)))],
    )
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    result = run("bisect", tmp_path / "m.onnx", "--calibrate", "random:4", "--data", "random:4")
    assert result.exit_code == 4 and "SNN4" in result.stderr
    assert result.stderr.count("error:") == 1
