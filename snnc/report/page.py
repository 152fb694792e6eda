"""A report as one page that works offline: no reference leads out of it, and names in it are only text."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from snnc.cost.text import quantity
from snnc.errors import EnvironmentFailure
from snnc.report.content import Report
from snnc.report.graph import Drawing
from snnc.report.plots import plots
from snnc.report.tables import tables

__all__ = ["LIBRARY", "check_library", "encoded", "page"]

#: Package that holds the library of plots; of the extra ``report``.
LIBRARY = "vl_convert"
_SECTIONS = (
    ("summary", "Summary"),
    ("accuracy", "Accuracy"),
    ("fidelity", "Layers"),
    ("spikes", "Spikes"),
    ("energy", "Energy"),
    ("trade-off", "T and G"),
    ("passes", "Passes"),
    ("graph", "Graph"),
    ("environment", "Made with"),
)
#: What the page takes from the library.
_ENTRY = "window.vegaEmbed = vegaEmbed;"
_LONGEST_LABEL = 22
_GAP = 160


def page(report: Report, *, interactive: bool | None = None) -> str:
    """Return a report as HTML.

    Args:
        report: What was measured.
        interactive: Whether plots are drawn; None: if the extra ``report`` is installed. Without it the page
            has all tables and the graph.

    Raises:
        EnvironmentFailure: SNN613, plots are wanted and the extra is not installed.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    library, bundle = _library() if check_library(interactive) else ("", "")
    scripts = [text for text in (bundle, _asset("page.js")) if text]
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False).from_string(
        _asset("page.html")
    )
    drawings = [_drawing("source", report.ann)] if report.ann is not None else []
    drawings.append(_drawing("spiking network", report.snn))
    return template.render(
        report=report.content,
        policy=_policy(scripts),
        style=Markup(_asset("page.css")),
        scripts=[Markup(text) for text in scripts],
        sections=_SECTIONS,
        lead=_lead(report.content),
        cards=_cards(report.content),
        tables=tables(report.content),
        plots=plots(report),
        library=library,
        ann=report.ann is not None,
        drawings=_side_by_side(drawings),
        view=_view(drawings),
    )


def check_library(interactive: bool | None) -> bool:
    """Return whether plots are drawn.

    Args:
        interactive: Whether they are wanted; None: if the extra ``report`` is installed.

    Raises:
        EnvironmentFailure: SNN613, they are wanted and the extra is not installed.
    """
    installed = find_spec(LIBRARY) is not None
    if interactive and not installed:
        raise EnvironmentFailure(
            "SNN613", "plots need the library Vega", hint="pip install 'snnc[report]', or leave --plots out"
        )
    return installed if interactive is None else interactive


def _asset(name: str) -> str:
    return files("snnc.report").joinpath("assets", name).read_text(encoding="utf-8")


def _library() -> tuple[str, str]:
    """Return version and text of the library that draws plots."""
    import vl_convert

    text = str(vl_convert.javascript_bundle(_ENTRY))
    if "</script" in text.lower() or "<!--" in text:
        # Inside a script element these would end it, or make a comment of the rest.
        text = text.replace("</", "<\\/").replace("<!--", "<\\!--")
    return str(vl_convert.get_vega_version()), text


def encoded(text: str) -> bytes:
    """Return a page as bytes; a file name that is no text, which may be in it, is written with escapes."""
    return text.encode("utf-8", "backslashreplace")


def _policy(scripts: list[str]) -> str:
    """Return a policy that lets only these scripts run and nothing be loaded."""
    hashes = (base64.b64encode(hashlib.sha256(encoded(text)).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{text}'" for text in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _lead(content: dict[str, Any]) -> str:
    network, data = content["network"], content["data"]
    origin = f"Converted from {network['source']} by" if network["source"] else "Converted by"
    return (
        f"{origin} snnc {network['snnc']}: {network['nodes']} nodes, {quantity(network['weights'])} weights. "
        f"Measured on {data['samples']} samples of {data['what']}."
    )


def _cards(content: dict[str, Any]) -> list[tuple[str, str]]:
    totals = content["cost"]["per_sample"]
    found = []
    shares = {row["who"]: row["share"] for row in content["accuracy"]["rows"]}
    if "spiking" in shares:
        what = "accuracy"
        if "source" in shares:
            what += f"; the source has {shares['source']:.2%}"
        found.append((f"{shares['spiking']:.2%}", what))
    for entry in content["accuracy"]["outputs"][:1]:
        found.append((f"{entry['same_class']:.2%}", "same class as the source"))
    found += [
        (f"{totals['spikes_per_neuron']:.3f}", f"spikes a neuron, most {totals['most_spikes']}"),
        (quantity(totals["sops"]), f"synaptic operations; dense {quantity(totals['dense_macs'])} MACs"),
        (
            f"{totals['energy_with_host_pj'] / 1e6:.3g} µJ",
            f"papers' convention; dense float {totals['energy_dense_float_pj'] / 1e6:.3g} µJ",
        ),
        (
            f"{totals['energy_integer_pj'] / 1e6:.3g} µJ",
            f"integer datapath; dense int8 {totals['energy_dense_int8_pj'] / 1e6:.3g} µJ",
        ),
        (str(content["cost"]["latency_timesteps"]), "time-steps from first spike to last"),
    ]
    return found


def _drawing(title: str, drawing: Drawing) -> dict[str, Any]:
    more = "" if len(drawing.boxes) >= drawing.nodes else ", neighbours of a block drawn as one"
    return {
        "title": f"{title}: {drawing.nodes} nodes{more}",
        "width": drawing.width,
        "height": drawing.height,
        "paths": [path for _, _, path in drawing.edges],
        "boxes": [
            {
                "kind": box.kind,
                "links": json.dumps(box.links),
                "title": f"{box.detail}\n{box.block}" if box.block else box.detail,
                "label": _short(box.label if box.kind not in ("input", "output") else box.detail),
                "x": round(box.x - 58, 1),
                "middle": round(box.x, 1),
                "y": round(box.y, 1),
            }
            for box in drawing.boxes
        ],
    }


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _side_by_side(drawings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    x = 0.0
    for drawing in drawings:
        drawing["x"] = x
        x += drawing["width"] + _GAP
    return drawings


def _view(drawings: list[dict[str, Any]]) -> str:
    width = sum(drawing["width"] + _GAP for drawing in drawings)
    height = max(drawing["height"] for drawing in drawings)
    return f"{-_GAP / 2:g} -70 {width:g} {height + 90:g}"
