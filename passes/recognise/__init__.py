"""Recognising passes: the quantisers that a trained model contains become ``ai.snnc`` nodes as they stand."""

from __future__ import annotations

from snnc.passes.recognise.absorb_activations import AbsorbActivations
from snnc.passes.recognise.check_quantisers import CheckQuantisers
from snnc.passes.recognise.drop_repeated_quantisers import DropRepeatedQuantisers
from snnc.passes.recognise.lift_dynamic import LiftDynamic
from snnc.passes.recognise.lift_qoperators import LiftQoperators
from snnc.passes.recognise.recode import Recode
from snnc.passes.recognise.recode_exactly import RecodeExactly
from snnc.passes.recognise.recognise_activations import RecogniseActivations
from snnc.passes.recognise.recognise_quantisers import RecogniseQuantisers
from snnc.passes.recognise.recognise_weights import RecogniseWeights
from snnc.passes.recognise.refuse_unsupported import RefuseUnsupported
from snnc.passes.recognise.remove_straight_through import RemoveStraightThrough
from snnc.passes.recognise.require_quantised import RequireQuantised
from snnc.passes.recognise.tabulate_products import TabulateProducts

__all__ = [
    "AbsorbActivations",
    "CheckQuantisers",
    "DropRepeatedQuantisers",
    "LiftDynamic",
    "LiftQoperators",
    "Recode",
    "RecodeExactly",
    "RecogniseActivations",
    "RecogniseQuantisers",
    "RecogniseWeights",
    "RefuseUnsupported",
    "RemoveStraightThrough",
    "RequireQuantised",
    "TabulateProducts",
]
