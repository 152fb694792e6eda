"""What a spiking network costs: spikes, synaptic operations, comparisons and energy, all counted."""

from snnc.cost.constants import PRICES, Price
from snnc.cost.layer import LayerCost
from snnc.cost.measure import Runner, count, measure, required_taps
from snnc.cost.report import CostReport, Energy
from snnc.cost.rules import RULES
from snnc.cost.text import COLUMNS, render, summary_rows, table_rows

__all__ = [
    "COLUMNS",
    "PRICES",
    "RULES",
    "CostReport",
    "Energy",
    "LayerCost",
    "Price",
    "Runner",
    "count",
    "measure",
    "render",
    "required_taps",
    "summary_rows",
    "table_rows",
]
