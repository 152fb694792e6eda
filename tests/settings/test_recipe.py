"""Recipes are read back as they were written, and refused with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnc.errors import SnncError
from snnc.settings import SETTINGS, Setting, format_recipe, read_recipe

PLACES = {setting.name for setting in SETTINGS if setting.kind in ("data", "file") and not setting.many}


def one_value(setting: Setting) -> st.SearchStrategy[Any]:
    if setting.kind == "int":
        return st.integers(int(setting.low or 0), int(setting.high or 100))
    if setting.kind == "float":
        return st.floats(setting.low or 0, setting.high or 100)
    if setting.kind == "bool":
        return st.booleans()
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.kind in ("data", "file"):
        return st.sampled_from(
            ["x.npz", "../a/b.npy", "/abs/x.npz", "random:4" if setting.kind == "data" else "y"]
        )
    texts = {"weights": ["int8", "wide"], "sizes": ["sequence=128", "x:2=7"], "grid": ["4x6"]}
    return st.sampled_from(texts[setting.name]) if setting.name in texts else st.text(min_size=1)


# How fast values are drawn says nothing about recipes, only how busy the machine is.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    values = {}
    for setting in SETTINGS:
        if setting.kind != "rule" and data.draw(st.booleans()):
            one = one_value(setting)
            values[setting.name] = (
                tuple(data.draw(st.lists(one, min_size=1))) if setting.many else data.draw(one)
            )
    folder = tmp_path_factory.getbasetemp()
    path = folder / "recipe.toml"
    inside = {
        name: str((folder / value).resolve()) if name in PLACES and not value.startswith("random:") else value
        for name, value in values.items()
    }
    path.write_text(format_recipe(inside, folder, ("a note",)))
    assert path.read_text().startswith("# a note\n")
    assert read_recipe(path) == inside


def test_places_count_from_the_folder_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("a/r.toml").write_text('calibrate = "x.npz"')
    assert read_recipe("a/r.toml") == {"calibrate": "a/x.npz"}
    assert format_recipe({"calibrate": "a/x.npz"}, "a") == 'calibrate = "x.npz"\n'
    Path("a/r.toml").write_text('calibrate = "random:8"')
    assert read_recipe("a/r.toml") == {"calibrate": "random:8"}
    assert format_recipe({"calibrate": "random:8"}, "a") == 'calibrate = "random:8"\n'


@pytest.mark.parametrize(
    ("text", "code", "exit_code", "place", "message"),
    [
        ("seed = 1\ngruops = 4", "SNN270", 2, ":2", "did you mean groups?"),
        ("[calibration]\nx = 1", "SNN270", 2, ":1", "calibrat"),
        ("groups = 4.0", "SNN271", 2, ":1", "expected a whole number"),
        ("groups = nan", "SNN271", 2, ":1", "expected a whole number"),
        ("groups = true", "SNN271", 2, ":1", "expected a whole number"),
        ('groups = "4"', "SNN271", 2, ":1", "expected a whole number"),
        ("\n\ngroups = 17", "SNN272", 2, ":3", "expected 1 to 16"),
        ("weights = 8", "SNN271", 2, ":1", "expected a text"),
        ('weights = "int1"', "SNN272", 2, ":1", "int1"),
        ("groups = 4\ngroups = 4", "SNN275", 2, ":2", "twice"),
        ("groups: 4", "SNN350", 3, ":1", "TOML"),
        ("groups = !!python/object 4", "SNN350", 3, ":1", "TOML"),
        ('{"groups": 4}', "SNN350", 3, ":1", "TOML"),
        ("a = " + "[" * 1900, "SNN350", 3, "", "nested"),
    ],
)
def test_refusals_name_file_and_line(
    tmp_path: Path, text: str, code: str, exit_code: int, place: str, message: str
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(SnncError) as caught:
        read_recipe(path)
    assert caught.value.code == code
    assert caught.value.exit_code == exit_code
    assert f"r.toml{place}" in str(caught.value)
    assert message in str(caught.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    for content in (b"\xff\xfe", b"x" * (5 << 20)):
        path.write_bytes(content)
        with pytest.raises(SnncError, match=r"is not TOML|larger") as caught:
            read_recipe(path)
        assert caught.value.exit_code == 3
    with pytest.raises(SnncError, match="no such file"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(SnncError, match="folder"):
        read_recipe(tmp_path)
