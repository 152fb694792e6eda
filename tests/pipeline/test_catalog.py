"""The catalogue of passes is complete, and the pipelines are made of it."""

from __future__ import annotations

import ast
import dataclasses
import typing
from pathlib import Path

import pytest

from snnc.compile import ConvertOptions, pipeline
from snnc.errors import UsageError
from snnc.passes.catalog import ALL_PASSES
from snnc.pipeline import check_order, format_pipeline, parse_pipeline
from snnc.verify import INVARIANTS

ROOT = Path(__file__).resolve().parents[2]


def classes_with_a_pass_name():
    """Classes in passes/ that look like a pass: a class body that sets ``semantics``."""
    for path in sorted((ROOT / "passes").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and item.target.id == "semantics"
                for item in node.body
            ):
                yield node.name


def test_catalogue_is_complete():
    assert sorted(entry.__name__ for entry in ALL_PASSES) == sorted(classes_with_a_pass_name())


@pytest.mark.parametrize("entry", ALL_PASSES, ids=lambda entry: entry.name)
def test_each_pass_keeps_the_contract(entry):
    assert dataclasses.is_dataclass(entry)
    assert entry.__dataclass_params__.frozen
    assert entry.__doc__
    assert entry.requires | entry.establishes | entry.invalidates <= set(INVARIANTS)
    assert entry.semantics in ("exact", "approximate")
    assert entry.name == "".join(
        f"-{letter.lower()}" if letter.isupper() else letter for letter in entry.__name__
    ).lstrip("-")


@pytest.mark.parametrize("entry", ALL_PASSES, ids=lambda entry: entry.name)
def test_each_whole_number_has_bounds(entry):
    """What a command line says may not take all memory, or for ever."""
    hints = typing.get_type_hints(entry)
    for option in dataclasses.fields(entry):
        if not (option.init and option.repr) or hints[option.name] not in (int, int | None):
            continue
        low, high = option.metadata["range"]
        assert option.default is None or low <= option.default <= high
        for value in (low - 1, high + 1, 10**20, -(10**20)):
            with pytest.raises(UsageError, match=rf"SNN223.*expected {low} to {high}"):
                parse_pipeline(f"{entry.name}{{{option.name}={value}}}", ALL_PASSES)
        for value in (low, high):
            (made,) = parse_pipeline(f"{entry.name}{{{option.name}={value}}}", ALL_PASSES)
            assert getattr(made, option.name) == value


def test_the_conversion_is_in_order_and_has_a_text_form():
    steps = pipeline(ConvertOptions(timesteps=4, groups=2))
    states = check_order(steps)
    assert "spike" in states[-1]
    assert parse_pipeline(format_pipeline(steps), ALL_PASSES) == steps
