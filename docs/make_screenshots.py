"""Pictures of a report for the documentation: python docs/make_screenshots.py REPORT.html FOLDER.

Needs playwright (of the extra ``test``) and a browser: apt-get install chromium-headless-shell.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

#: Name of the picture, section, colour scheme, highest.
SHOTS = (
    ("summary", "body", "light", 1050),
    ("layers", "#fidelity", "light", 900),
    ("spikes", "#spikes", "light", 1500),
    ("energy", "#energy", "light", 780),
    ("trade-off", "#trade-off", "light", 720),
    ("graph", "#graph", "dark", 860),
)


def main(report: Path, folder: Path) -> None:
    """Take all pictures of a report."""
    browser_path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, place, scheme, height in SHOTS:
            context = browser.new_context(color_scheme=scheme, viewport={"width": 1180, "height": 1000})
            tab = context.new_page()
            tab.goto(report.resolve().as_uri())
            tab.wait_for_selector("body[data-plots=drawn]")
            # The bar of sections would lie over whatever is scrolled to.
            tab.add_style_tag(content="nav { position: static !important }")
            if name == "graph":
                tab.locator("svg.graph g.box.neuron").nth(8).dispatch_event("click")
            box = tab.locator(place).bounding_box()
            clip = {**box, "height": min(box["height"], height)}
            tab.screenshot(path=folder / f"report-{name}.png", clip=clip, full_page=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
