"""Analyses that passes share: what every value of a quant-dialect graph is, exactly."""

from snnc.passes.analysis.exact import ExactArray, as_exact, exact, same, through_layout, uniform_along
from snnc.passes.analysis.functions import Activation
from snnc.passes.analysis.kinds import (
    Activated,
    Coded,
    Constant,
    Fixed,
    FloatValue,
    IntegerWeight,
    Kind,
    Membrane,
    Merged,
    Quotient,
    as_membrane,
    integer_range,
)
from snnc.passes.analysis.typing import TypeAnalysis, analyse

__all__ = [
    "Activated",
    "Activation",
    "Coded",
    "Constant",
    "ExactArray",
    "Fixed",
    "FloatValue",
    "IntegerWeight",
    "Kind",
    "Membrane",
    "Merged",
    "Quotient",
    "TypeAnalysis",
    "analyse",
    "as_exact",
    "as_membrane",
    "exact",
    "integer_range",
    "same",
    "through_layout",
    "uniform_along",
]
