"""What a report says is what was measured."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from snnc.compile import load_spiking
from snnc.debug.verify import coded_tensors
from snnc.errors import UsageError
from snnc.ir import load
from snnc.report.modules import Modules, block_of, repeated
from snnc.report.scores import interval
from snnc.report.spikes import Watch, layers_of, watch_spikes, write_traces
from snnc.report.timeline import from_dump, from_file, replay
from snnc.report.tradeoff import default_points, parse_points
from snnc.runtimes import create


def samples_first(codes):
    """Put the axis of 12 samples in front: queries, keys and values lie before it."""
    return np.moveaxis(codes, codes.shape.index(12), 0)


def test_spikes_are_those_of_the_time_stepped_definition(case):
    """Counts from packed codes against the bits that the definition sends, one by one."""
    model = load_spiking(case.converted)
    layers = watch_spikes(model, case.samples, Watch(samples=3, neurons=5))
    sent = create("numpy-timestep", model).run(case.samples, list(coded_tensors(model)))
    assert [layer.tensor for layer in layers] == list(coded_tensors(model))
    for layer in layers:
        codes = samples_first(sent[layer.tensor]).astype(np.int64).reshape(12, -1)
        steps = layer.book.timesteps
        bits = (np.abs(codes)[..., None] >> np.arange(steps - 1, -1, -1)) & 1
        assert layer.by_step == bits.sum(axis=(0, 1)).tolist()
        assert layer.by_count == np.bincount(bits.sum(axis=2).ravel(), minlength=3).tolist()
        assert layer.windows == codes.size
        assert layer.silent == int((codes == 0).all(axis=0).sum())
        expected = {
            (sample, place, step + 1, int(np.sign(codes[sample, neuron])))
            for sample in range(3)
            for place, neuron in enumerate(layer.chosen)
            for step in range(steps)
            if bits[sample, neuron, step]
        }
        assert set(layer.raster) == expected
    assert any(layer.spikes for layer in layers)


def test_traces_hold_every_spike_and_are_the_same_bytes_again(case):
    model = load_spiking(case.converted)
    first, second = io.BytesIO(), io.BytesIO()
    shapes = write_traces(first, model, case.samples)
    write_traces(second, model, case.samples)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    codes = create("numpy-timestep", model).run(case.samples, list(shapes))
    with np.load(first, allow_pickle=False) as archive:
        assert archive.files == [tensor for tensor, _, _ in layers_of(model)]
        for tensor, _, book in layers_of(model):
            held = archive[tensor]
            assert held.dtype == np.int8
            sent = samples_first(codes[tensor])
            assert held.shape == shapes[tensor] == (12, book.timesteps, *sent.shape[1:])
            assert (book.decode(np.moveaxis(held, 1, 0)) == sent).all()


def test_blocks_are_the_modules_of_the_user(case):
    source = load(case.source)
    modules = Modules(load_spiking(case.converted), source)
    blocks = {modules.of(node.name or "") for node in load_spiking(case.converted).graph}
    assert {"blocks.0", "blocks.1"} <= blocks or len(blocks) > 2, blocks
    assert "network" not in blocks


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("blocks.0.attention.qkv", "blocks.0"),
        ("/layer1/layer1.0/conv1", "layer1.0"),
        ("embed.2", "embed"),
        ("head", "head"),
        ("", ""),
        ("3", "3"),
    ],
)
def test_block_of_a_path(path, block):
    holders = repeated(["blocks.0.attention.qkv", "/layer1/layer1.0/conv1", "embed.2", "3"])
    assert block_of(path, holders) == block


def test_claims_hold_and_say_how_they_were_checked(built):
    content = built(source=True).content
    assert [claim["holds"] for claim in content["claims"]] == [True] * 5
    assert "6 runtimes" in content["claims"][1]["proof"]
    assert content["network"]["source_matches"] is True
    assert len(content["accuracy"]["rows"]) == 2
    assert content["accuracy"]["outputs"][0]["sqnr_db"] > 0
    assert all(row["source"] for row in content["verification"]["tensors"] if row["output"])
    assert [point["groups"] for point in content["trade_off"]["points"]] == [2, 4]
    assert all("refused" not in point for point in content["trade_off"]["points"])
    assert content["trade_off"]["calibrated_on"] == 4
    changed = [entry for entry in content["passes"]["passes"] if entry["changed"]]
    assert {"encode", "insert-quantisers"} <= {entry["name"] for entry in changed}
    assert any(entry["notes"] for entry in changed)
    json.dumps(content, allow_nan=False)


def test_energy_of_blocks_adds_up_to_the_network(built):
    cost = built(source=True).content["cost"]
    for key, total in (
        ("spikes_pj", "energy_spikes_pj"),
        ("with_host_pj", "energy_with_host_pj"),
        ("integer_pj", "energy_integer_pj"),
    ):
        whole = sum(block[key] for block in cost["blocks"])
        assert whole == pytest.approx(cost["per_sample"][total], rel=1e-12)


def test_without_a_source_what_is_missing_is_said(built):
    content = built(source=False).content
    holds = {claim["claim"]: claim["holds"] for claim in content["claims"]}
    assert list(holds.values()) == [True, None, True, True, None]
    assert "--source" in content["trade_off"]["absent"]
    assert "--source" in content["accuracy"]["absent"]
    assert content["graph"]["ann"] is None
    assert [entry["name"] for entry in content["passes"]["passes"]][-1] == "encode"
    assert content["passes"]["passes"][0]["seconds"] is None


def test_a_changed_file_is_not_what_converting_gives(case):
    """Canary: the claim that converting again gives the same graph can fail."""
    model = load_spiking(case.converted)
    assert replay(case.source, model)["same_graph"] is True
    next(node for node in model.graph if node.op_type == "Readout").name = "other"
    assert replay(case.source, model)["same_graph"] is False


def test_the_log_of_a_dump_tells_the_same(case, tmp_path):
    from snnc.compile import ConvertOptions, convert
    from snnc.pipeline import Dump

    model = load_spiking(case.converted)
    convert(
        case.source,
        ConvertOptions(timesteps=4, groups=2),
        calibration=case.samples,
        instruments=[Dump(tmp_path / "d")],
    )
    logged, again = from_dump(tmp_path / "d")["passes"], replay(case.source, model)["passes"]
    keys = ("name", "semantics", "changed", "rewrites", "nodes_before", "nodes_after")
    assert [[entry[key] for key in keys] for entry in logged] == [[e[key] for key in keys] for e in again]
    assert [entry["name"] for entry in from_file(model)["passes"]] == [entry["name"] for entry in again]


def test_points():
    assert parse_points("8:4, 4:2,8:4") == [(8, 4), (4, 2)]
    assert default_points(4) == [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2), (4, 3), (4, 4)]
    assert len(default_points(8)) == 12 and default_points(1)[-1] == (2, 2)
    for text in ("8", "4:5", "0:0", "8:4:2", "a:b", "17:1", ""):
        with pytest.raises(UsageError, match="SNN254"):
            parse_points(text)


def test_interval_holds_the_share_and_narrows():
    low, high = interval(90, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)
    assert interval(0, 10)[0] == 0.0
    assert interval(10, 10)[1] == 1.0
