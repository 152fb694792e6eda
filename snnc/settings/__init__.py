"""What a user may choose: one table for flags, recipe keys, environment variables and ``ConvertOptions``."""

from __future__ import annotations

from snnc.settings.recipe import format_recipe, read_recipe
from snnc.settings.rules import ROLES, LayerRule, chosen, did_you_mean, parse_rules
from snnc.settings.table import SETTINGS, Setting, by_name, check

__all__ = [
    "ROLES",
    "SETTINGS",
    "LayerRule",
    "Setting",
    "by_name",
    "check",
    "chosen",
    "did_you_mean",
    "format_recipe",
    "parse_rules",
    "read_recipe",
]
