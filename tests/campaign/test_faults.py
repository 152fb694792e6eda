"""The campaign sees each planted fault: what it recorded, and that it does so still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.campaign.faults import SEEN, hunt
from tests.faults import FAULTS

RECORD = json.loads((Path(__file__).parents[2] / "benchmarks" / "faults.json").read_text())


def test_each_planted_fault_was_found_by_the_campaign() -> None:
    rows = {row["fault"]: row for row in RECORD["by"]}
    assert set(rows) == set(FAULTS) and len(rows) == RECORD["faults"] == RECORD["found"] >= 30
    for name, row in rows.items():
        assert row["kind"] in SEEN and row["pass"] == FAULTS[name][0].name
        assert 1 <= row["planted"] <= row["drawn"] <= RECORD["most_networks"]


def seen_again(name: str) -> None:
    row = next(row for row in RECORD["by"] if row["fault"] == name)
    found = hunt(name, [(row["family"], row.get("seed", 0))])
    assert found.verdict is not None and found.verdict.kind == row["kind"], found


@pytest.mark.parametrize("name", ["bias lost while lifting", "scale of the readout one bit off"])
def test_a_planted_fault_is_found(name: str) -> None:
    seen_again(name)


def test_networks_that_do_not_run_the_fault_do_not_count() -> None:
    """Without a MaxPool there is nothing to plant, and the network is right."""
    found = hunt("another pool", [("coded tokens", 0)])
    assert (found.planted, found.drawn, found.verdict) == (0, 1, None)
    assert found.to_json() == {"fault": "another pool", "pass": "infer-shapes", "planted": 0, "drawn": 1}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FAULTS)
def test_slice_of_the_planted_faults(name: str) -> None:
    seen_again(name)
