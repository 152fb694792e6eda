"""A few networks of the campaign, and that it finds faults; the whole: ``python -m tests.campaign``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import InternalError, UnsupportedError
from tests.campaign.__main__ import PLAN, planned, run, summary
from tests.campaign.bounds import Deviations, claims
from tests.campaign.dialects import DIALECTS
from tests.campaign.judge import FAMILIES, judge
from tests.campaign.mutants import MUTANTS, relations


@pytest.mark.parametrize("seed", range(len(DIALECTS)), ids=DIALECTS)
def test_a_network_of_each_dialect(seed: int) -> None:
    found = judge("dialects", seed)
    assert found.kind == "right", found


def test_a_few_of_anything() -> None:
    for seed in range(4):
        found = judge("soup", seed)
        assert found.kind in ("right", "refused"), found
        assert found.kind == "right" or found.text.startswith("SNN4"), found


#: Networks that were wrong or refused, and what it was.
FOUND = {
    ("float tokens", 334): "a norm behind the first product had no instructions: one range for all channels",
    ("coded images", 692): "a maximum over a membrane beyond 2^24 was refused",
    ("soup", 486): "a softmax of what was negated was refused",
    ("soup", 832): "a softmax of codes minus a constant of each channel was refused",
    ("soup", 1149): "a logarithm of a softmax of codes in steps of each channel was refused",
    ("soup", 425): "a power behind a Pad was refused",
    ("soup", 949): "a function of a product of two functions of one value was refused",
    ("soup", 58): "the sign of a softmax was 0 where its code is 0",
    ("soup", 65): "a threshold at the end of a range was passed by the level above it",
    ("soup", 573): "a softmax of a bounded function of the input and a sum of it was refused",
    ("soup", 85): "a softmax of a minimum of the input and a constant, and a reduction of it, was refused",
    ("soup", 555): "a softmax of a sum with padding was refused",
    ("soup", 1263): "a power of a code divided by a constant of each channel was refused",
    ("soup", 94): "a choice between a value and a constant of each channel was refused",
}


@pytest.mark.parametrize(("family", "seed"), FOUND, ids=str)
def test_what_the_campaign_found(family: str, seed: int) -> None:
    assert judge(family, seed).kind == "right"


def test_every_way_to_go_wrong_is_a_verdict() -> None:
    def raising(error: BaseException) -> Any:
        def call(seed: int) -> Any:
            raise error

        return call

    assert judge("soup", 0, raising(UnsupportedError("SNN462", "no"))).kind == "refused"
    assert judge("soup", 0, raising(AssertionError("3 of 4 differ"))).kind == "wrong"
    assert judge("soup", 0, raising(InternalError("SNN101", "said nothing"))).kind == "crash"
    assert judge("soup", 0, raising(ZeroDivisionError("x"))).text == "ZeroDivisionError: x"


def test_a_wrong_threshold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canary: one threshold of the spiking network moved."""
    from tests.campaign import judge as rules

    real = rules.everywhere

    def spoiled(conversion: Any, feeds: Any, seed: int) -> Any:
        neuron = next(node for node in conversion.model.graph if node.op_type == "ExpGIF")
        value = neuron.inputs[1]
        array = np.array(value.const_value.numpy())
        array[:, 0] = -(2**30)
        import onnx_ir

        value.const_value = onnx_ir.tensor(array, name=value.name)
        return real(conversion, feeds, seed)

    monkeypatch.setattr(rules, "everywhere", spoiled)
    assert judge("dialects", 0).kind == "wrong"


def test_an_error_of_a_thousandth_of_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canary: the output is off by next to nothing, a join is aligned worse than its note says."""
    from tests.campaign import judge as rules

    real = rules.everywhere

    def spoiled(conversion: Any, feeds: Any, seed: int) -> Any:
        outputs, codes = real(conversion, feeds, seed)
        return {name: array * np.float32(1 + 2e-6) for name, array in outputs.items()}, codes

    monkeypatch.setattr(rules, "everywhere", spoiled)
    found = judge("dialects", 0)
    assert found.kind == "wrong" and "float64" in found.text


def test_the_bound_is_near_what_happens() -> None:
    """A vacuous bound is a failure: 20 times the error at the median, at most."""
    ratios = [found.bound_of_error for seed in range(2 * len(DIALECTS)) if (found := judge("dialects", seed))]
    known = [ratio for ratio in ratios if ratio is not None]
    assert len(known) >= len(DIALECTS) and float(np.median(known)) <= 20


def test_no_partial_sum_is_larger_than_the_bound_takes_it_for() -> None:
    """Sums in float32 in the worst order, all of one sign first, stay within the bound."""
    random = np.random.default_rng(3)
    weight = numpy_helper.from_array(np.ones((200, 1)), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    info = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 200])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 1])]
    proto = helper.make_model(helper.make_graph(nodes, "g", info, outputs, [weight]), ir_version=10)
    x = np.sort(random.standard_normal((50, 200)).astype(np.float32), axis=1)
    found = Deviations(proto).run({"x": x.astype(np.float64)})
    off = np.abs(np.cumsum(x, axis=1, dtype=np.float32)[:, -1:] - found.values["y"]) / found.errors["y"]
    assert 0 < off.max() < 1


@pytest.mark.parametrize("biased", [False, True])
def test_the_bound_of_an_exact_sum_is_that_of_its_readout(biased: bool) -> None:
    """A number, a scale, their product and the bias are rounded, each once: no more, and hardly less."""
    random = np.random.default_rng(5)
    codes = random.integers(2**24, 2**30, (4000, 1))
    step = random.uniform(0.03, 0.5, 1).astype(np.float32)
    weight = random.uniform(0.5, 1.5, (1, 50)).astype(np.float32)
    bias = random.uniform(1e7, 1e8, 50).astype(np.float32)
    held = [numpy_helper.from_array(weight.astype(np.float64), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s" if biased else "y"])]
    if biased:
        held.append(numpy_helper.from_array(bias.astype(np.float64), "b"))
        nodes.append(helper.make_node("Add", ["s", "b"], ["y"]))
    info = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 50])]
    proto = helper.make_model(helper.make_graph(nodes, "g", info, outputs, held), ir_version=10)
    found = Deviations(proto, sums=False).run({"x": codes * step.astype(np.float64)})
    scale = (step.astype(np.float64) * weight).astype(np.float32)
    read = codes.astype(np.float32) * scale + (bias if biased else np.float32(0))
    assert read.dtype == np.float32
    off = np.abs(read - found.values["y"]) / found.errors["y"]
    assert 0.5 < off.max() < 1


def test_notes_of_joins_are_read() -> None:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["c"], "first"),
        helper.make_node("Add", ["c", "w"], ["d"], "bias"),
        helper.make_node("Add", ["d", "a"], ["e"], "second"),
    ]
    weight = numpy_helper.from_array(np.ones(1, np.float32), "w")
    proto = helper.make_model(helper.make_graph(nodes, "g", [], [], [weight]))
    notes = [
        "first: b is scaled by 1 ± 2.0e-06",
        "second: d is the sum of 3 shifted copies, scaled by 1 ± 1.0e-04, each rounded to multiples of 0.5",
        "second: its second operand is rounded to multiples of 0.25 at most",
        "5 quantisers recognised as they stand",
    ]
    found = [
        (each.join, each.side, round(each.relative * 1e6, 2), round(each.absolute, 4))
        for each in claims(proto, notes)
    ]
    assert found == [(0, 1, 2.12, 0.0), (1, 0, 106.0, 1.06), (1, 1, 0.0, 0.1325)]


def test_deviations_hold_what_float32_does() -> None:
    """A sum in float32 is off by less than the bound, and by more than a hundredth of it."""
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.standard_normal((40, 6)), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    info = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 40])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 6])]
    proto = helper.make_model(helper.make_graph(nodes, "g", info, outputs, [weight]), ir_version=10)
    x = random.standard_normal((50, 40))
    found = Deviations(proto).run({"x": x})
    short = x.astype(np.float32) @ numpy_helper.to_array(weight).astype(np.float32)
    off = np.abs(short - found.values["y"]) / found.errors["y"]
    assert 0.01 < off.max() < 1


def test_a_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.campaign import __main__ as command

    seen: list[tuple[str, int]] = []

    def quick(family: str, seed: int) -> Any:
        seen.append((family, seed))
        return judge(family, seed, lambda seed: {"samples": 1})

    monkeypatch.setattr(command, "judge", quick)
    work = planned(0.002, None)
    assert {family for family, _ in work} == set(PLAN) == set(FAMILIES)
    run(tmp_path, "drawn", work[:7], (1, 1))
    with (tmp_path / "drawn-1-of-1.jsonl").open("a") as stream:
        stream.write('{"family": "soup", "se')
    run(tmp_path, "drawn", work, (2, 2))
    run(tmp_path, "drawn", work, (1, 2))
    assert sorted(seen) == sorted(work)
    counts = summary(tmp_path)["drawn"]
    assert sum(entry["networks"] for entry in counts.values()) == len(work)
    assert json.dumps(counts)
    assert summary(tmp_path)["drawn_commits"] == {command.commit(): len(work)}


def test_other_seeds_are_other_networks() -> None:
    work, other = planned(0.002, None), planned(0.002, None, 10_000)
    assert not set(work) & set(other) and len(work) == len(other)
    assert {(family, seed + 10_000) for family, seed in work} == set(other)


def test_every_so_manieth_network_is_spread_over_all_seeds() -> None:
    whole, some = planned(1.0, ["soup"]), planned(1.0, ["soup"], 5, 100)
    assert sorted(seed for _, seed in some) == list(range(5, 2005, 100))
    assert len(some) == len(whole) // 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_slice_of_the_campaign() -> None:
    for family, seed in planned(0.0125, None):
        found = judge(family, seed)
        assert found.kind in ("right", "refused"), found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", MUTANTS)
def test_slice_of_the_relations(family: str) -> None:
    for seed in range(2):
        relations(family, seed)
