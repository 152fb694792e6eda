"""The table of costs: widths, totals, numbers."""

from __future__ import annotations

import pytest

from snnc.cost import COLUMNS, CostReport, LayerCost, render, summary_rows, table_rows
from snnc.cost.text import quantity

LAYERS = (
    LayerCost("/stem/Conv", "HostConv", "host", macs=2_000_000, exact_macs=1_900_000, mac_planes=3),
    LayerCost(
        "/stem/act", "ExpGIF", "neuron", 4, 2, 2, 9, False, 20_000, 30_000, (0, 10_000, 10_000), 80_000
    ),
    LayerCost(
        "/blocks/blocks.0/a_rather_long_module_name/conv1/Conv",
        "SpikeConv",
        "synapse",
        limit=2,
        spikes=30_000,
        sops=5_400_000,
        sops_zero_skipping=5_400_000,
        macs=9_000_000,
        exact_macs=8_000_000,
    ),
    LayerCost("/join", "MembraneAdd", "other", additions=4000),
)
REPORT = CostReport("10 test images of sample.npz", 10, LAYERS)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = render(REPORT, width)
    assert max(map(len, text.splitlines())) <= width
    assert "1.500" in text  # spikes per neuron are there at every width
    assert "540 k" in text


def test_wide_terminals_show_every_column_and_whole_names() -> None:
    text = render(REPORT, 200)
    for heading, _ in COLUMNS:
        assert heading in text
    assert LAYERS[2].name in text


def test_narrow_terminals_keep_the_ends_of_names() -> None:
    assert "…" in render(REPORT, 60)
    assert "conv1/Conv" in render(REPORT, 60)


def test_rows_are_per_image() -> None:
    rows = table_rows(REPORT)
    assert [row[0] for row in rows] == [*(layer.name for layer in LAYERS[:3]), "total"]
    assert all(len(row) == len(COLUMNS) for row in rows)
    names = [heading for heading, _ in COLUMNS]
    neuron = dict(zip(names, rows[1], strict=True))
    assert neuron["code"] == "T4G2"
    assert neuron["neurons"] == "2 k"
    assert neuron["spikes/neuron"] == "1.500"
    assert neuron["rate"] == "0.375"
    assert neuron["compares"] == "8 k"
    synapse = dict(zip(names, rows[2], strict=True))
    assert (synapse["SOPs"], synapse["MACs"], synapse["energy"]) == ("540 k", "900 k", "486 nJ")
    total = dict(zip(names, rows[3], strict=True))
    assert total["energy"] == "1.406 µJ"  # 0.9 * 540e3 + 4.6 * 200e3 pJ


def test_the_summary_states_both_conventions() -> None:
    summary = dict(summary_rows(REPORT))
    assert summary["measured on"] == "10 test images of sample.npz"
    assert summary["energy, papers' convention"].startswith("1.406 µJ")
    assert summary["  without the host"].startswith("486 nJ")
    assert "33.8 % of the bound G*MACs = 1.6 M" in summary["SOPs"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (999.94, "999.9"), (999.96, "1 k"), (1234, "1.234 k"), (25_000_000, "25 M")],
)
def test_quantities(value: float, text: str) -> None:
    assert quantity(value) == text


def test_a_network_without_neurons_has_no_rates() -> None:
    empty = CostReport("1 image", 1, LAYERS[:1])
    assert empty.spikes_per_neuron == empty.firing_rate == empty.most_spikes == 0
    assert "no synapses" in render(empty, 80)
