"""Pipelines of passes: the contract, the proof of order, the manager, its instruments and the text form."""

from snnc.pipeline.contract import NoMatch, Pass, PassResult, Probe, Rewrite, Semantics, options_of
from snnc.pipeline.digest import GraphDigest
from snnc.pipeline.dump import Dump, versions
from snnc.pipeline.instruments import Before, Progress, Timing
from snnc.pipeline.manager import Instrument, PassRecord, PipelineResult, VerifyLevel, run_pipeline
from snnc.pipeline.numeric import TensorCost, compare_bits, first_difference, measure_cost
from snnc.pipeline.order import check_order
from snnc.pipeline.spec import format_pass, format_pipeline, parse_pipeline

__all__ = [
    "Before",
    "Dump",
    "GraphDigest",
    "Instrument",
    "NoMatch",
    "Pass",
    "PassRecord",
    "PassResult",
    "PipelineResult",
    "Probe",
    "Progress",
    "Rewrite",
    "Semantics",
    "TensorCost",
    "Timing",
    "VerifyLevel",
    "check_order",
    "compare_bits",
    "first_difference",
    "format_pass",
    "format_pipeline",
    "measure_cost",
    "options_of",
    "parse_pipeline",
    "run_pipeline",
    "versions",
]
