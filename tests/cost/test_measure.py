"""Cost reports of whole models: every row recounted from the spikes, one rule per op, totals and energy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc.coding import CodeBook
from snnc.cost import PRICES, RULES, CostReport, LayerCost, count, measure, required_taps
from snnc.errors import InputError, InternalError, UsageError
from snnc.ir import Model
from snnc.ops import OPS

IMAGES = 5
BOOK = CodeBook(4, 2)

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    return {"image": np.random.default_rng(0).standard_normal((IMAGES, 2, 9, 8)).astype(np.float32)}


@pytest.fixture(scope="module")
def values(cnn: Model, inputs: dict[str, Any], evaluate: Evaluate) -> dict[str, Any]:
    names = [value.name for node in cnn.graph for value in node.outputs]
    return evaluate(cnn, inputs, names)


@pytest.fixture(scope="module")
def report(cnn: Model, inputs: dict[str, Any], evaluate: Evaluate) -> CostReport:
    return measure(cnn, inputs, lambda part, taps: evaluate(cnn, part, taps), batch=2, data="noise")


def row(report: CostReport, name: str) -> LayerCost:
    (found,) = [layer for layer in report.layers if layer.name == f"/{name}"]
    return found


def test_every_op_of_a_spike_model_has_a_rule() -> None:
    assert set(RULES) == {name for name, op in OPS.items() if op.dialect != "quant"}


@pytest.mark.parametrize("name", ["a0", "a1", "a2", "a3", "a4"])
def test_neuron_rows(report: CostReport, values: dict[str, Any], name: str) -> None:
    patterns = BOOK.encode(values[name])
    layer = row(report, name)
    per_neuron = np.abs(patterns).sum(axis=0)
    assert layer.neurons == values[name].size
    assert layer.spikes == per_neuron.sum() > 0
    assert layer.histogram == tuple(int((per_neuron == n).sum()) for n in range(3))
    assert layer.most_spikes == per_neuron.max()
    assert layer.comparisons == 4 * layer.neurons  # nine levels
    assert layer.firing_rate == pytest.approx(np.mean(patterns != 0), rel=1e-12)
    assert (layer.timesteps, layer.groups, layer.limit, layer.levels, layer.signed) == (4, 2, 2, 9, False)


@pytest.mark.parametrize(("groups", "comparisons"), [(1, 3), (2, 4), (3, 4), (4, 4)])
def test_comparisons_are_those_of_a_binary_search(
    builder: Any, tmp_path: Path, groups: int, comparisons: int
) -> None:
    builder.neuron("a", "v", 1, CodeBook(4, groups))
    kind = onnx.TensorProto.INT32
    model = builder.model(
        {"v": (kind, ["N", 1, 1, 5])}, {"a": (onnx.TensorProto.UINT8, 4)}, tmp_path / "n.onnx"
    )
    (layer,) = count(model, {"a": np.zeros((7, 1, 1, 5), np.uint8)})
    assert layer.comparisons == 7 * 5 * comparisons


def spike_sum(values: dict[str, Any], name: str) -> int:
    return int(np.abs(BOOK.encode(values[name])).sum())


def test_synapse_rows(report: CostReport, values: dict[str, Any]) -> None:
    # Delivering spikes to all-ones weights counts, at each output, the spikes that reached it.
    def delivered(source: str, weight: Any, **attrs: Any) -> int:
        steps = np.abs(BOOK.encode(values[source]))
        return sum(int(OPS["SpikeConv"].packed([step, weight], attrs).sum()) for step in steps)

    assert row(report, "deep").sops == delivered("a0", np.ones((4, 1, 3, 3), np.int8), pads=[1] * 4, group=4)
    assert row(report, "point").sops == spike_sum(values, "a1") * 4
    down = delivered("a2_max", np.ones((6, 2, 3, 3), np.int8), strides=[2, 2], pads=[0, 1, 1, 0], group=2)
    assert row(report, "down").sops == down
    assert row(report, "head").sops == spike_sum(values, "a4") * 3
    for layer in report.synaptic_layers:
        assert 0 < layer.sops <= layer.sop_bound <= 2 * layer.macs


def test_dense_work(report: CostReport, values: dict[str, Any]) -> None:
    height, width = values["stem"].shape[2:]
    assert row(report, "stem").macs == IMAGES * 4 * 2 * 9 * height * width
    # Three rows and columns of a 3x3 kernel fit inside, two at either border.
    assert row(report, "stem").exact_macs == IMAGES * 4 * 2 * (3 * height - 2) * (3 * width - 2)
    assert row(report, "stem").mac_planes == 3  # 24-bit inputs, 8-bit weights
    assert row(report, "down").macs == values["down"].size * 2 * 9
    assert row(report, "head").macs == IMAGES * 6 * 3
    assert report.host_macs == (row(report, "stem").macs + IMAGES * 3) / IMAGES  # and the readout


def test_additions_and_pools(report: CostReport, values: dict[str, Any]) -> None:
    assert row(report, "skip").additions == spike_sum(values, "a0")
    assert row(report, "skip8").additions == 2 * values["skip8"].size  # 11 = 8 + 2 + 1
    assert row(report, "join").additions == values["join"].size
    assert row(report, "stem32").additions == values["stem32"].size
    assert row(report, "mean").additions == values["held"].size - values["mean"].size
    assert row(report, "join_max").comparisons == 3 * values["join_max"].size
    # What a window holds besides padding, less one: pooling a map of ones counts it.
    ones = np.ones_like(values["down"])
    windows = OPS["MembraneSumPool"].packed([ones], {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]})
    assert row(report, "smooth").additions == int((windows - 1).sum())
    ones = np.ones_like(values["a2"], dtype=np.int32)
    windows = OPS["MembraneSumPool"].packed([ones], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})
    assert row(report, "a2_max").comparisons == int((windows - 1).sum())


def test_totals(report: CostReport) -> None:
    neurons = [row(report, name) for name in ("a0", "a1", "a2", "a3", "a4")]
    spikes, count_ = sum(n.spikes for n in neurons), sum(n.neurons for n in neurons)
    assert report.neurons == count_ / IMAGES
    assert report.spikes_per_neuron == spikes / count_
    assert report.firing_rate == pytest.approx(spikes / count_ / 4)
    assert report.most_spikes == 2
    sops = sum(row(report, name).sops for name in ("deep", "point", "down", "head")) / IMAGES
    assert report.sops == report.sops_zero_skipping == sops
    assert 0 < report.sops < report.sop_bound


def test_energy_by_hand() -> None:
    layers = (
        LayerCost("stem", "HostConv", "host", macs=2000, exact_macs=1900, mac_planes=3),
        LayerCost("a", "ExpGIF", "neuron", 4, 2, 2, 9, False, 200, 300, (0, 100, 100), comparisons=800),
        LayerCost("c", "SpikeConv", "synapse", limit=2, spikes=300, sops=5000, macs=9000, exact_macs=8000),
        LayerCost("join", "MembraneAdd", "other", additions=400),
    )
    energy = CostReport("two images", 2, layers).energy
    assert energy.spikes == pytest.approx(0.9 * 2500)
    assert energy.with_host == pytest.approx(0.9 * 2500 + 4.6 * 1000)
    assert energy.integer == pytest.approx(0.1 * (2500 + 400 + 200) + 0.3 * 3 * 1000)
    assert energy.dense_float == pytest.approx(4.6 * 5500)
    assert energy.dense_int8 == pytest.approx(0.3 * 5500)
    assert layers[2].sop_bound == 16000
    assert [layer.energy for layer in layers] == pytest.approx([4.6 * 2000, 0, 0.9 * 5000, 0])


def test_prices_add_up_and_have_sources() -> None:
    assert PRICES["mac"].picojoules == pytest.approx(3.7 + PRICES["ac"].picojoules)
    together = PRICES["int8_multiply"].picojoules + PRICES["int32_add"].picojoules
    assert PRICES["int8_mac"].picojoules == pytest.approx(together)
    sources = ("4232f77", "Horowitz", "SENECA")
    assert all(any(source in price.source for source in sources) for price in PRICES.values())


@pytest.mark.parametrize("batch", [1, 3, IMAGES, 100])
def test_the_report_does_not_depend_on_the_batch(
    cnn: Model, inputs: dict[str, Any], report: CostReport, batch: int, evaluate: Evaluate
) -> None:
    again = measure(cnn, inputs, lambda part, taps: evaluate(cnn, part, taps), batch=batch, data="noise")
    assert again == report
    assert again.to_json() == report.to_json()


def test_batches_are_seen_one_at_a_time(cnn: Model, inputs: dict[str, Any], evaluate: Evaluate) -> None:
    sizes = []

    def run(part: Any, taps: Any) -> Any:
        sizes.append(len(part["image"]))
        return evaluate(cnn, part, taps)

    measure(cnn, inputs, run, batch=2)
    assert sizes == [2, 2, 1]


def test_json_round_trip(report: CostReport) -> None:
    assert CostReport.from_json(report.to_json()) == report
    assert report.to_dict()["per_image"]["sops"] == report.sops


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"schema_version": 99}',
        '{"schema_version": 1, "data": "x", "images": 1}',
        '{"schema_version": 1, "data": "x", "images": 1, "layers": [{}]}',
        '{"schema_version": 1, "data": "x", "images": 1, "layers": [3]}',
    ],
)
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="SNN345"):
        CostReport.from_json(text)


def attention(b: Any, path: Path, held_book: CodeBook) -> Model:
    """Q K^T with signed Q, K transposed on its way, then a slice of Q times weights."""
    signed = CodeBook(4, 2, signed=True)
    b.neuron("q", "q_in", 1, signed, width=2)
    b.neuron("k", "k_in", 1, held_book, width=2)
    b.op("Transpose", "k_t", "k", perm=[0, 1, 3, 2])
    b.op("SpikeMatMulHeld", "scores", "q", "k_t")
    b.op("CodeSlice", "q_low", "q", shift=0, bits=1)
    b.op("Concat", "both", "q_low", "k", axis=0)
    b.op("SpikeMatMul", "out", "both", b.weight("w", np.ones((3, 7), np.int8)))
    shape = ["N", 1, 4, 3]
    kind = onnx.TensorProto.INT32
    return b.model(
        {"q_in": (kind, shape), "k_in": (kind, shape)}, {"scores": (kind, 4), "out": (kind, 4)}, path
    )


def test_attention(builder: Any, tmp_path: Path, evaluate: Evaluate) -> None:
    model = attention(builder, tmp_path / "attention.onnx", CodeBook(3, 1, signed=True))
    rng = np.random.default_rng(1)
    inputs = {name: rng.integers(-5, 35, (6, 1, 4, 3)).astype(np.int32) for name in ("q_in", "k_in")}
    report = measure(model, inputs, lambda part, taps: evaluate(model, part, taps), batch=4)
    values = evaluate(model, inputs, ["q", "k", "both"])
    q_spikes = np.abs(CodeBook(4, 2, signed=True).encode(values["q"])).sum(axis=0)
    scores, out = row(report, "scores"), row(report, "out")
    assert scores.sops == q_spikes.sum() * 4
    skipping = np.einsum("bcid,bcjd->", q_spikes, (values["k"] != 0).astype(int))
    assert 0 < scores.sops_zero_skipping == skipping < scores.sops
    assert report.sops_zero_skipping == report.sops - (scores.sops - skipping) / 6
    # The slice of one step and Exp-IF have at most one spike each.
    assert (scores.limit, out.limit) == (2, 1)
    assert out.sops == np.count_nonzero(values["both"]) * 7
    assert row(report, "q").signed
    assert report.data == "6 images"


def test_what_a_runtime_must_hand_over(cnn: Model) -> None:
    taps = required_taps(cnn)
    assert len(set(taps)) == len(taps)
    assert {"a0", "a1", "a2", "a2_max", "a3", "a4", "flat", "fixed", "head"} <= set(taps)
    assert "w_stem" not in taps


def test_a_missing_tap_is_named(cnn: Model, values: dict[str, Any]) -> None:
    with pytest.raises(InternalError, match=r"SNN141.*'flat'"):
        count(cnn, {name: array for name, array in values.items() if name != "flat"})


def test_too_many_spikes_are_not_counted_silently(cnn: Model, values: dict[str, Any]) -> None:
    with pytest.raises(InternalError, match=r"SNN143.*'a1'"):
        count(cnn, {**values, "a1": np.full_like(values["a1"], 7)})


def test_an_op_without_a_rule_is_an_error(builder: Any, tmp_path: Path) -> None:
    builder.op("Quantise", "y", "x")
    model = builder.model(
        {"x": (onnx.TensorProto.FLOAT, ["N"])}, {"y": (onnx.TensorProto.FLOAT, 1)}, tmp_path / "quant.onnx"
    )
    with pytest.raises(InternalError, match=r"SNN140.*'Quantise'"):
        required_taps(model)


@pytest.mark.parametrize("weights_first", [True, False])
def test_spikes_must_come_from_neurons(builder: Any, tmp_path: Path, weights_first: bool) -> None:
    constant = builder.weight("fixed_code", np.ones((1, 3), np.uint8))
    builder.op(
        "SpikeMatMul", "y", constant if weights_first else "x", builder.weight("w", np.ones((3, 2), np.int8))
    )
    model = builder.model(
        {"x": (onnx.TensorProto.UINT8, ["N", 3])},
        {"y": (onnx.TensorProto.INT32, 2)},
        tmp_path / "no_neuron.onnx",
    )
    with pytest.raises(InternalError, match=r"SNN142"):
        count(model, {"x": np.ones((1, 3), np.uint8)})


@pytest.mark.parametrize(("images", "batch"), [(0, 4), (3, 0)])
def test_nothing_to_measure(
    cnn: Model, inputs: dict[str, Any], images: int, batch: int, evaluate: Evaluate
) -> None:
    part = {"image": inputs["image"][:images]}
    with pytest.raises(UsageError, match="SNN245"):
        measure(cnn, part, lambda part, taps: evaluate(cnn, part, taps), batch=batch)
