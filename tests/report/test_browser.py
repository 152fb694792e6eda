"""The page in a real browser: it opens without a network, nothing complains, plots are drawn, tables sort."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snnc.report.page import page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: snnc[test]")

BROWSER = os.environ.get("SNNC_TEST_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no browser: apt-get install chromium-headless-shell, or SNNC_TEST_BROWSER=PATH"
)
PLOTS = ["fidelity", "raster", "blocks", "rates", "histogram", "energy", "trade-off", "passes"]


@pytest.fixture(scope="module")
def path(built: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("browser") / "report.html"
    place.write_text(page(built(source=True), interactive=True))
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        # Tests may run as root, where the sandbox of the browser does not start.
        made = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def opened(browser: Any, path: Path) -> Iterator[tuple[Any, list[str]]]:
    """The open page, drawn, and what went wrong or asked for more than the page itself."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    tab.on(
        "request", lambda request: complaints.append(request.url) if request.url != path.as_uri() else None
    )
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-plots=drawn]", timeout=60_000)
    yield tab, complaints
    context.close()


def test_it_opens_offline_and_nothing_complains(opened: tuple[Any, list[str]]) -> None:
    tab, complaints = opened
    assert complaints == []
    assert tab.title() == "vit.snn.onnx: snnc report"


def test_every_plot_is_drawn(opened: tuple[Any, list[str]]) -> None:
    tab, _ = opened
    for name in PLOTS:
        marks = tab.locator(f"#plot-{name} svg .mark-rect path, #plot-{name} svg .mark-symbol path")
        assert marks.count() > 0, name
        box = tab.locator(f"#plot-{name} svg.marks").bounding_box()
        assert box["width"] > 400 and box["height"] > 40, (name, box)


def test_the_raster_shows_the_layer_that_is_picked(opened: tuple[Any, list[str]]) -> None:
    tab, complaints = opened
    choice = tab.locator("#plot-raster select")
    drawn = "#plot-raster svg .mark-rect path"
    before = tab.locator(drawn).evaluate_all("all => all.map(one => one.getAttribute('d')).join()")
    choice.select_option(index=3)
    tab.wait_for_timeout(200)
    after = tab.locator(drawn).evaluate_all("all => all.map(one => one.getAttribute('d')).join()")
    assert before != after
    assert complaints == []


def test_tables_sort_by_a_click_and_by_the_keyboard(opened: tuple[Any, list[str]]) -> None:
    tab, _ = opened
    column = 5
    cells = f"#table-spikes tbody tr td:nth-child({column + 1})"
    head = tab.locator("#table-spikes thead th").nth(column)

    def keys() -> list[float]:
        return tab.locator(cells).evaluate_all("all => all.map(one => Number(one.dataset.key))")

    assert "spikes a neuron" in head.inner_text()
    assert keys() != sorted(keys())
    head.locator("button").click()
    assert keys() == sorted(keys())
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert keys() == sorted(keys(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_the_graph_zooms_and_shows_counterparts(opened: tuple[Any, list[str]]) -> None:
    tab, _ = opened
    graph = tab.locator("svg.graph")
    assert graph.locator("text.title").count() == 2
    before = graph.get_attribute("viewBox")
    tab.locator("#zoom-in").click()
    assert graph.get_attribute("viewBox") != before
    tab.locator("#zoom-fit").click()
    neuron = graph.locator("g.box.neuron").last
    neuron.dispatch_event("click")
    assert graph.locator("g.marked").count() > 1
    assert "ExpGIF" in tab.locator("#pointed").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes_and_in_print(browser: Any, path: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-plots=drawn]", timeout=60_000)

    def brightness(selector: str, name: str) -> float:
        script = f"one => getComputedStyle(one).{name}"
        numbers = tab.locator(selector).first.evaluate(script)
        channels = [float(part) for part in numbers[numbers.index("(") + 1 : -1].split(",")[:3]]
        return sum(channels) / 3

    for media in ("screen", "print"):
        tab.emulate_media(media=media, color_scheme=scheme)
        back = brightness("body", "backgroundColor")
        assert abs(back - brightness("body", "color")) > 120, media
        assert abs(back - brightness("#plot-rates svg text", "fill")) > 120, media
        assert (back > 128) == (scheme == "light" or media == "print")
    context.close()
