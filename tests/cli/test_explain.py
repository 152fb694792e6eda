"""Every error code has a page, every page a code, and the command finds both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snnc.explain import markdown, pages

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r'"(SNN\d{3})"')


def raised() -> set[str]:
    """Codes that the source raises: each stands in it as a string of its own."""
    files = [
        path
        for folder in ("snnc", "passes", "runtimes")
        for path in (ROOT / folder).rglob("*.py")
        if not any(path.is_relative_to(ROOT / "snnc" / link) for link in ("passes", "runtimes"))
    ]
    return {code for path in files for code in CODE.findall(path.read_text(encoding="utf-8"))}


def test_no_code_lacks_a_page_and_no_page_a_code():
    assert sorted(raised() - set(pages())) == [], "write a page in snnc/explain/ for each of these"
    assert sorted(set(pages()) - raised()) == [], "these pages speak of codes that nothing raises"


@pytest.mark.parametrize("code", list(pages()))
def test_each_page_says_something(code):
    page = pages()[code]
    for text in (page.what, page.why, page.do, page.example):
        assert text.strip() == text and text
    assert page.what.endswith(".") and page.why.endswith(".")
    assert page.exit_code == int(code[3])


def test_the_document_is_made_from_the_pages():
    made = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert made == markdown(), "run python docs/make_errors.py"


@pytest.mark.parametrize("text", ["SNN261", "snn261", "261", "SNN-261"])
def test_a_code_is_explained(snnc, validate, text):
    result = snnc("explain", text)
    assert result.exit_code == 0
    assert result.stdout.startswith("SNN261, UsageError, exit status 2\n")
    assert "Example:\n" in result.stdout
    (page,) = validate(snnc("explain", text, "--json").stdout, "explain")["pages"]
    assert page["code"] == "SNN261"


def test_all_codes_are_listed(snnc, validate):
    result = snnc("explain")
    assert result.exit_code == 0
    assert all(code in result.stdout for code in pages())
    assert len(validate(snnc("explain", "--json").stdout, "explain")["pages"]) == len(pages())


@pytest.mark.parametrize(
    ("text", "near"), [("SNN26", "SNN260 or SNN261"), ("SNN2611", "SNN261"), ("hello", "lists")]
)
def test_an_unknown_code_is_refused_with_near_ones(snnc, text, near):
    result = snnc("explain", text)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: SNN294: ")
    assert near in result.stderr
