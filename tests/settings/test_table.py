"""Flags, recipe keys, environment variables, schema and ConvertOptions say the same."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import click
import pytest

from snnc.cli.convert import command
from snnc.compile import ConvertOptions
from snnc.errors import UsageError
from snnc.settings import SETTINGS, Setting, check

ROOT = Path(__file__).resolve().parents[2]
#: Options of ``convert`` that name places for results, or recipes, and are no settings.
PLACES = {"target", "save_recipe", "dump_passes", "recipe"}
FRAME = {"json_", "quiet", "force", "no_color", "debug", "allow_hardlinks"}


def test_every_setting_is_a_field_with_its_default_and_every_field_a_setting() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(ConvertOptions)}
    assert {setting.name: setting.default for setting in SETTINGS} == fields


def test_every_setting_is_a_flag_and_every_flag_a_setting() -> None:
    flags = {option.name: option for option in command.params if isinstance(option, click.Option)}
    assert set(flags) == {setting.name for setting in SETTINGS} | PLACES | FRAME
    for setting in SETTINGS:
        option = flags[setting.name]
        assert option.opts == [setting.flag]
        assert option.envvar == setting.variable
        assert option.multiple == setting.many


def test_keys_and_variables_are_distinct_and_spelled_like_the_flag() -> None:
    for setting in SETTINGS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", setting.key)
        assert setting.many or setting.flag == f"--{setting.key}"
    for part in ("name", "key", "flag", "variable"):
        assert len({getattr(setting, part) for setting in SETTINGS}) == len(SETTINGS)


def test_the_schema_of_the_document_has_every_setting() -> None:
    schema = json.loads((ROOT / "snnc" / "cli" / "schemas" / "convert.json").read_text())
    options = schema["properties"]["options"]
    names = {setting.name for setting in SETTINGS}
    assert set(options["properties"]) == set(options["required"]) == names


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        (Setting("t", "int", "", low=1, high=16), 0, "t is 0, expected 1 to 16"),
        (Setting("t", "int", ""), True, "expected a whole number"),
        (Setting("t", "int", ""), 2.0, "expected a whole number"),
        (Setting("t", "float", ""), float("nan"), "finite"),
        (Setting("t", "float", "", low=0), -1, "at least 0"),
        (Setting("t", "bool", ""), 1, "true or false"),
        (Setting("t", "text", "", choices=("a", "b")), "c", "expected a or b"),
        (Setting("t", "text", "", pattern="int[0-9]"), "int10", "int10"),
    ],
)
def test_wrong_values(setting: Setting, value: object, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check(setting, value)


def test_options_in_python_are_checked_as_flags_are() -> None:
    with pytest.raises(UsageError, match="seed"):
        ConvertOptions(seed=-1)
    with pytest.raises(UsageError, match="weights"):
        ConvertOptions(weights="int1")
    with pytest.raises(UsageError, match="seed"):
        ConvertOptions(seed="1")  # type: ignore[arg-type]
