"""Choosing time-steps, groups and weight bits layer by layer, for a target."""

from snnc.auto.judge import Trial
from snnc.auto.search import AutoResult, choose
from snnc.auto.target import Target, parse_target

__all__ = ["AutoResult", "Target", "Trial", "choose", "parse_target"]
