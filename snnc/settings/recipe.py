"""Recipes: the settings of a conversion in a TOML file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snnc.errors import InputError, UsageError, Where
from snnc.files import open_regular
from snnc.settings.rules import LayerRule, did_you_mean
from snnc.settings.table import SETTINGS, Setting, check, is_text

__all__ = ["format_recipe", "read_recipe"]

_LARGEST = 1 << 18
#: TOML readers take time that grows with the square of a dotted key.
_LONGEST_LINE = 2000
_DEEP_KEY = re.compile(r"""\s*\[*(?:\s*["'A-Za-z0-9_-]+\s*\.){9}""")
#: Data that is named by a scheme and not by a path, such as random:16.
_SCHEME = re.compile(r"[A-Za-z_][\w.]+:")
_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")
_TABLE = re.compile(r"\s*\[\[?\s*([\"'A-Za-z0-9_-]+)\s*\]")


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a recipe.

    Args:
        path: TOML file. Relative places in it count from its folder.

    Returns:
        Values by the name of the setting, only those that the recipe has; rules for layers as texts.

    Raises:
        InputError: SNN301, missing or no regular file; SNN350, it is not TOML.
        UsageError: SNN270, an unknown key; SNN271, SNN272, a wrong value; SNN273, a rule that says nothing;
            SNN275, a key that is there twice. All name file and line.
    """
    name = os.fspath(path)
    text = _read(name)
    content = _parse(text, name)
    lines = _Lines(text, name)
    known = {setting.key: setting for setting in SETTINGS}
    values: dict[str, Any] = {}
    for key, value in content.items():
        setting = known.get(key)
        if setting is None:
            hint = did_you_mean(key, known) or f"a recipe has {', '.join(known)}"
            raise UsageError("SNN270", f"unknown key {key!r}", where=lines.place(key), hint=hint)
        values[setting.name] = _value(setting, value, lines, Path(name).parent)
    return values


def format_recipe(
    values: Mapping[str, Any], folder: str | os.PathLike[str], notes: tuple[str, ...] = ()
) -> str:
    """Write settings as a recipe.

    Args:
        values: Values by name of the setting; those that are None or empty lists are left out.
        folder: Folder that the recipe is meant for: relative places are written as seen from there.
        notes: Lines of comment to begin with.

    Returns:
        TOML text that `read_recipe` reads back to the same values.

    Raises:
        UsageError: SNN272, a place is not UTF-8.
    """
    import tomli_w

    content: dict[str, Any] = {}
    tables = ""
    for setting in SETTINGS:
        value = values.get(setting.name)
        if value is None or (setting.many and not value):
            continue
        if setting.kind == "rule":
            rules = (tomli_w.dumps(LayerRule.parse(text).to_recipe()) for text in value)
            tables += "".join(f"\n[[{setting.key}]]\n{rule}" for rule in rules)
        elif setting.many:
            content[setting.key] = [_seen_from(setting, item, Path(folder)) for item in value]
        else:
            content[setting.key] = _seen_from(setting, value, Path(folder))
            if isinstance(value, str) and not is_text(content[setting.key]):
                raise UsageError(
                    "SNN272",
                    f"{setting.key} is {value!r}, which is not UTF-8 and has no place in a recipe",
                    hint="rename it, or leave out --save-recipe",
                )
    return "".join(f"# {line}\n" for line in notes) + tomli_w.dumps(content) + tables


def _read(name: str) -> str:
    with open_regular(name) as stream:
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise InputError("SNN350", f"is larger than {_LARGEST} bytes", where=Where(file=name))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "SNN350", f"is not TOML: byte {error.start} is not UTF-8", where=Where(file=name)
        ) from None


def _parse(text: str, name: str) -> dict[str, Any]:
    for row, written in enumerate(text.split("\n"), 1):
        if len(written) > _LONGEST_LINE:
            raise InputError(
                "SNN350",
                f"has a line of {len(written)} characters, more than {_LONGEST_LINE}",
                where=Where(file=f"{name}:{row}"),
                hint="break lists into lines",
            )
        if _DEEP_KEY.match(written):
            raise InputError("SNN350", "has a key of more than nine parts", where=Where(file=f"{name}:{row}"))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r"line (\d+)", message)
        line = int(found.group(1)) if found else max(1, len(text.splitlines()))
        where = Where(file=f"{name}:{line}")
        if message.startswith(("Cannot overwrite", "Cannot declare", "Duplicate")):
            raise UsageError("SNN275", "a key is there twice", where=where) from None
        raise InputError("SNN350", f"is not TOML: {message}", where=where) from None
    except RecursionError:
        raise InputError("SNN350", "is nested too deeply", where=Where(file=name)) from None
    except ValueError:
        # Python refuses to read integers of thousands of digits.
        raise InputError("SNN350", "holds a number that is too long", where=Where(file=name)) from None


def _value(setting: Setting, value: Any, lines: _Lines, folder: Path) -> Any:
    where = lines.place(setting.key)
    if not setting.many:
        return _resolved(setting, check(setting, value, where), folder)
    kind = "a list of tables" if setting.kind == "rule" else "a list"
    wanted = dict if setting.kind == "rule" else object
    if not isinstance(value, list) or not all(isinstance(item, wanted) for item in value):
        hint = f"write [[{setting.key}]]" if setting.kind == "rule" else None
        raise UsageError("SNN271", f"{setting.key} is not {kind}", where=where, hint=hint)
    if setting.kind != "rule":
        return tuple(_resolved(setting, check(setting, item, where), folder) for item in value)
    rules = []
    for index, item in enumerate(value):
        rules.append(str(LayerRule.make(item, lines.of_rule(setting.key, index, item), f"{setting.key}.")))
    return tuple(rules)


def _is_path(setting: Setting, value: Any) -> bool:
    return setting.kind == "file" or (setting.kind == "data" and not _SCHEME.match(value))


def _resolved(setting: Setting, value: Any, folder: Path) -> Any:
    return os.path.normpath(folder / value) if _is_path(setting, value) else value


def _seen_from(setting: Setting, value: Any, folder: Path) -> Any:
    if not _is_path(setting, value):
        return value
    absolute = Path(value).is_absolute() and not Path(value).is_relative_to(os.path.realpath(folder))
    return value if absolute else Path(os.path.relpath(value, folder)).as_posix()


class _Lines:
    """Finds the line of a key, for messages; tomllib does not tell."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        #: (table, how many tables of that name came before, key) → line number.
        self._keys: dict[tuple[str, int, str], int] = {}
        seen: dict[str, int] = {}
        table, index = "", 0
        for number, line in enumerate(text.splitlines(), start=1):
            if heading := _TABLE.match(line):
                table = heading.group(1).strip("\"'")
                index = seen.get(table, 0)
                seen[table] = index + 1
                self._keys.setdefault(("", 0, table), number)
                self._keys.setdefault((table, index, ""), number)
            elif key := _KEY.match(line):
                name = next(group for group in key.groups() if group is not None)
                self._keys.setdefault((table, index, name), number)

    def place(self, key: str) -> Where:
        """Return file and line of a key outside of tables."""
        return self._first_of(("", 0, key))

    def _first_of(self, *keys: tuple[str, int, str]) -> Where:
        line = next((self._keys[key] for key in keys if key in self._keys), None)
        return Where(file=self._file if line is None else f"{self._file}:{line}")

    def of_rule(self, table: str, index: int, content: Mapping[str, Any]) -> Where:
        """Return the place of the first key of a rule that is wrong, or of the rule."""
        for key, value in content.items():
            try:
                LayerRule.make(
                    {"match": "*", key: value} if key != "match" else {key: value, "weights": "int8"}
                )
            except UsageError as error:
                if error.code != "SNN273":
                    return self._first_of((table, index, key), ("", 0, table))
        return self._first_of((table, index, ""), ("", 0, table))
