"""The pages of the site are filled in from the repository: complete, with links that lead to pages."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(DOCS))
    from _parts import links, pages  # type: ignore[import-not-found]

    return links, pages


@pytest.fixture
def filled(parts: tuple[ModuleType, ModuleType]) -> dict[str, str]:
    _, pages = parts
    return {
        page: pages.expanded((ROOT / page).read_text(), page)[0]
        for page in sorted(set(pages.shown().values()))
    }


def test_every_marker_is_filled_in(filled: dict[str, str]) -> None:
    for page, text in filled.items():
        assert not re.search(r"^<!-- (all|section|made|other)", text, re.MULTILINE), page


def test_links_of_the_filled_pages_lead_to_pages(filled: dict[str, str]) -> None:
    """Also those of README and CONTRIBUTING, which were written for another folder."""
    for page, text in filled.items():
        for target in re.findall(
            r"(?<!`)\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        ):
            if not target.startswith(("http://", "https://")):
                place = (ROOT / page).parent / target
                assert place.is_file(), f"{page}: {target}"
                assert DOCS in place.resolve().parents, f"{page}: {target} is not in the site"


def test_every_page_is_in_the_index(filled: dict[str, str]) -> None:
    listed = set(re.findall(r"^([\w/-]+)$", filled["docs/index.md"], re.MULTILINE))
    found = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert found - {"index"} - {name for name in found if name.startswith("decisions/")} == listed


def test_ops_and_commands_and_passes_are_all_there(filled: dict[str, str]) -> None:
    from snnc.cli.group import COMMANDS
    from snnc.ops import OPS
    from snnc.passes.catalog import ALL_PASSES

    assert all(f"### {name}\n" in filled["docs/ops.md"] for name in OPS)
    assert all(f"| `{entry.name}` |" in filled["docs/passes.md"] for entry in ALL_PASSES)
    for group in COMMANDS.values():
        assert all(f"### snnc {name}\n" in filled["docs/cli.md"] for name in group)
    assert "| `--timesteps T` |" in filled["docs/cli.md"]
    assert "| `--quiet` |" in filled["docs/cli.md"]


def test_operators_are_those_that_decide(filled: dict[str, str]) -> None:
    from snnc.verify.dialects import QUANT

    table = filled["docs/operators.md"].split("## What is rewritten")[0]
    assert set(re.findall(r"`(\w+)`", table.split("| --- |")[-1])) >= set(QUANT.standard or ())
    assert "`Loop`" in filled["docs/operators.md"].split("## What is refused")[1]


def test_formulas_can_be_drawn(filled: dict[str, str]) -> None:
    pytest.importorskip("docutils", reason="formulas are drawn with the extra docs")
    from docutils.utils.math import latex2mathml

    count = 0
    for page in ("docs/semantics.md", "docs/cost.md"):
        displayed = re.findall(r"\$\$(.+?)\$\$", filled[page], re.DOTALL)
        inline = re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.+?\$\$", "", filled[page], flags=re.DOTALL))
        for formula in displayed + inline:
            assert "<math" in latex2mathml.tex2mathml(formula)
            count += 1
    assert count > 40


def test_links_are_adapted(parts: tuple[ModuleType, ModuleType]) -> None:
    links, _ = parts
    pages = {"docs/recipe.md": "docs/recipe.md", "README.md": "docs/readme.md"}

    def adapted(text: str) -> str:
        return str(links.adapted(text, "README.md", "docs/guides/train.md", pages))

    assert adapted("[a](docs/recipe.md#layers)") == "[a](../recipe.md#layers)"
    assert adapted("[a](https://example.org/x)") == "[a](https://example.org/x)"
    assert adapted("[scripts](examples/data.py)") == "scripts (`examples/data.py`)"
    assert adapted("[examples](examples)") == "`examples`"
    assert adapted("```sh\n[a](docs/recipe.md)\n```\n") == "```sh\n[a](docs/recipe.md)\n```\n"


def test_a_section_ends_at_the_next_heading_of_its_level(parts: tuple[ModuleType, ModuleType]) -> None:
    links, _ = parts
    text = "# A\n\n## B\n\none\n```sh\n# no heading\n```\n### C\n\ntwo\n## D\nthree\n"
    assert links.section(text, "B") == "one\n```sh\n# no heading\n```\n### C\n\ntwo\n"
    with pytest.raises(ValueError, match="no section 'E'"):
        links.section(text, "E")


def test_what_a_page_loads_from_elsewhere_is_found(
    parts: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    _, pages = parts
    (tmp_path / "a.html").write_text(
        '<a href="https://example.org">fine</a><script src="_static/a.js"></script>'
    )
    assert pages.foreign(tmp_path) == []
    (tmp_path / "b.html").write_text('<script async="async" src="https://cdn.example.org/a.js"></script>')
    (found,) = pages.foreign(tmp_path)
    assert found.startswith("b.html: <script")


def test_the_site_is_built_in_ci() -> None:
    assert "\nmake docs\n" in (ROOT / ".ci" / "run").read_text()
    assert "sphinx -W" in (ROOT / "Makefile").read_text()
