"""A few networks of the campaign, and that it finds faults; the whole: ``python -m tests.campaign``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.errors import InternalError, UnsupportedError
from tests.campaign.__main__ import PLAN, planned, run, summary
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
