"""docs/recipe.md says what the table of settings says."""

from __future__ import annotations

import re
from pathlib import Path

from snnc.settings import ROLES, SETTINGS, Setting, read_recipe

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "recipe.md").read_text()


def default(setting: Setting) -> str:
    if setting.many:
        return "none"
    return setting.default_text or ("none" if setting.default is None else f"`{setting.default}`".lower())


def rows(name: str) -> list[str]:
    found = re.search(rf"<!-- table {name} -->\n(.*?)<!-- end of table -->", TEXT, re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def test_every_setting_is_in_the_table() -> None:
    wanted = ["| key | flag | variable | default | per layer | meaning |", f"|{' --- |' * 6}"]
    for setting in SETTINGS:
        layer = "yes" if setting.per_layer else ""
        names = f"| `{setting.key}` | `{setting.flag}` | `{setting.variable}` |"
        wanted.append(f"{names} {default(setting)} | {layer} | {setting.help} |")
    assert rows("settings") == wanted, "\n".join(wanted)


def test_every_role_is_in_the_table() -> None:
    wanted = ["| role | what it means |", "| --- | --- |"]
    wanted += [f"| `{role}` | {meaning} |" for role, meaning in ROLES.items()]
    assert rows("roles") == wanted, "\n".join(wanted)


def test_the_example_is_a_recipe(tmp_path: Path) -> None:
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL):
        (tmp_path / "r.toml").write_text(block)
        assert read_recipe(tmp_path / "r.toml")["layers"] == (
            "blocks.0.*:timesteps=6,groups=3",
            "*:role=last,weights=wide",
        )
