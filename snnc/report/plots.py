"""The plots of a report as Vega-Lite specifications, which the Vega library draws in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnc.report.content import Report
from snnc.report.spikes import LayerSpikes

__all__ = ["plots"]

#: Spikes drawn in rasters, at most: beyond that, later layers show fewer neurons.
_MOST_SPIKES = 14_000
_MOST_LAYERS = 64
_ENERGY = {
    "spikes_pj": "papers, spikes only",
    "with_host_pj": "papers, with the host",
    "integer_pj": "integer datapath",
}
Spec = dict[str, Any]


def plots(report: Report) -> dict[str, Spec]:
    """Return the plots of a report by name; one that has nothing to show is left out.

    Args:
        report: What was measured.
    """
    content = report.content
    found = {
        "fidelity": _fidelity(content["verification"]["tensors"]),
        "rates": _rates(content["spikes"]),
        "blocks": _block_rates(content["spikes"]),
        "histogram": _histogram(content["spikes"]),
        "raster": _raster(report.layers),
        "energy": _energy(content["cost"]["blocks"]),
        "trade-off": _trade_off(content["trade_off"]),
        "passes": _passes(content["passes"]["passes"]),
    }
    return {name: spec for name, spec in found.items() if spec is not None}


def _spec(values: Sequence[Mapping[str, Any]], **rest: Any) -> Spec:
    return {
        "width": "container",
        "background": "transparent",
        "data": {"values": list(values)},
        "config": {"view": {"stroke": None}, "axis": {"labelLimit": 220}},
        **rest,
    }


def _tall(names: Sequence[Any], row: int = 15) -> int:
    """Height of a plot with one row for each name."""
    return max(60, row * len(dict.fromkeys(names)))


def _field(name: str, kind: str, title: str | None = None, **rest: Any) -> Spec:
    return {"field": name, "type": kind, "title": title or name, **rest}


def _ordered(name: str, title: str, values: Sequence[str], **rest: Any) -> Spec:
    """An axis of names in the order of the network."""
    return _field(name, "ordinal", title, sort=list(dict.fromkeys(values)), **rest)


def _fidelity(tensors: Sequence[Mapping[str, Any]]) -> Spec | None:
    rows = [
        {
            "tensor": row["tensor"],
            "dB": row["sqnr_db"],
            "error": row["largest_error"],
            "cosine": row["cosine"],
        }
        for row in tensors
        if row.get("sqnr_db") is not None
    ]
    if not rows:
        return None
    names = [row["tensor"] for row in rows]
    return _spec(
        rows,
        height=_tall([row["tensor"] for row in rows]),
        mark={"type": "bar", "color": "#4878a8"},
        encoding={
            "y": _ordered("tensor", "tensor, in order of the network", names),
            "x": _field("dB", "quantitative", "signal to noise against the source, dB"),
            "tooltip": [
                _field("tensor", "nominal"),
                _field("dB", "quantitative", format=".1f"),
                _field("error", "quantitative", "largest error", format=".4g"),
                _field("cosine", "quantitative", format=".6f"),
            ],
        },
    )


def _heat(rows: Sequence[Mapping[str, Any]], name: str, title: str) -> Spec | None:
    if not rows:
        return None
    return _spec(
        rows,
        height=_tall([row[name] for row in rows]),
        mark={"type": "rect"},
        encoding={
            "y": _ordered(name, title, [row[name] for row in rows]),
            "x": _field("step", "ordinal", "time-step", axis={"labelAngle": 0}),
            "color": _field(
                "rate",
                "quantitative",
                "share that fires",
                scale={"scheme": "viridis"},
                legend={"format": "%"},
            ),
            "tooltip": [
                _field(name, "nominal", title),
                _field("step", "ordinal", "time-step"),
                _field("rate", "quantitative", "neurons that fire", format=".2%"),
            ],
        },
    )


def _rates(layers: Sequence[Mapping[str, Any]]) -> Spec | None:
    rows = [
        {"layer": layer["name"], "step": step, "rate": spikes / layer["windows"]}
        for layer in layers
        if layer["windows"]
        for step, spikes in enumerate(layer["by_step"], start=1)
    ]
    return _heat(rows, "layer", "layer")


def _block_rates(layers: Sequence[Mapping[str, Any]]) -> Spec | None:
    spikes: dict[tuple[str, int], int] = {}
    windows: dict[tuple[str, int], int] = {}
    for layer in layers:
        for step, count in enumerate(layer["by_step"], start=1):
            key = (layer["block"], step)
            spikes[key] = spikes.get(key, 0) + count
            windows[key] = windows.get(key, 0) + layer["windows"]
    rows = [
        {"block": block, "step": step, "rate": count / windows[block, step]}
        for (block, step), count in spikes.items()
        if windows[block, step]
    ]
    return _heat(rows, "block", "block")


def _histogram(layers: Sequence[Mapping[str, Any]]) -> Spec | None:
    rows = [
        {"layer": layer["name"], "spikes": spikes, "share": count / layer["windows"], "neurons": count}
        for layer in layers
        if layer["windows"]
        for spikes, count in enumerate(layer["by_count"])
        if count
    ]
    if not rows:
        return None
    return _spec(
        rows,
        height=_tall([row["layer"] for row in rows]),
        mark={"type": "bar"},
        encoding={
            "y": _ordered("layer", "layer", [row["layer"] for row in rows]),
            "x": _field("share", "quantitative", "share of neurons", stack="normalize", axis={"format": "%"}),
            "color": _field("spikes", "ordinal", "spikes in a window", scale={"scheme": "viridis"}),
            "order": {"field": "spikes", "type": "quantitative"},
            "tooltip": [
                _field("layer", "nominal"),
                _field("spikes", "ordinal"),
                _field("share", "quantitative", format=".2%"),
                _field("neurons", "quantitative", "windows", format=","),
            ],
        },
    )


def _raster(layers: Sequence[LayerSpikes]) -> Spec | None:
    shown = [layer for layer in layers if layer.raster][:_MOST_LAYERS]
    if not shown:
        return None
    room = _MOST_SPIKES // len(shown)
    rows = []
    for number, layer in enumerate(shown):
        steps = layer.book.timesteps
        for sample, neuron, step, sign in _fitting(layer.raster, room):
            rows.append({"l": number, "t": sample * steps + step, "n": neuron, "s": sign})
    pick = {
        "input": "select",
        "options": [*range(len(shown))],
        "labels": [layer.name for layer in shown],
        "name": "layer  ",
    }
    return _spec(
        rows,
        height=300,
        params=[{"name": "picked", "value": 0, "bind": pick}],
        transform=[{"filter": "datum.l == picked"}],
        mark={"type": "tick", "thickness": 3, "size": 6},
        encoding={
            "x": _field(
                "t", "quantitative", "time-steps, one window of T behind the other", axis={"grid": True}
            ),
            "y": _field("n", "quantitative", "neuron, some of the layer", scale={"zero": True}),
            "color": _field(
                "s",
                "nominal",
                "sign",
                scale={"domain": [1, -1], "range": ["#2a7fb8", "#d1495b"]},
            ),
            "tooltip": [
                _field("t", "quantitative", "time-step"),
                _field("n", "quantitative", "neuron"),
            ],
        },
    )


def _fitting(raster: Sequence[tuple[int, int, int, int]], room: int) -> Sequence[tuple[int, int, int, int]]:
    """Drop whole neurons, the last ones, until the spikes fit."""
    if len(raster) <= room:
        return raster
    neurons = sorted({entry[1] for entry in raster})
    kept = set(neurons[: max(1, len(neurons) * room // len(raster))])
    return [entry for entry in raster if entry[1] in kept]


def _energy(blocks: Sequence[Mapping[str, Any]]) -> Spec | None:
    rows = [
        {"block": block["block"], "convention": title, "nJ": block[key] / 1000}
        for key, title in _ENERGY.items()
        for block in blocks
        if block["spikes_pj"] or block["with_host_pj"]
    ]
    if not rows:
        return None
    return _spec(
        rows,
        height=_tall([row["block"] for row in rows], 36),
        mark={"type": "bar"},
        encoding={
            "y": _ordered("block", "module", [row["block"] for row in rows]),
            "yOffset": {"field": "convention", "sort": list(_ENERGY.values())},
            "x": _field("nJ", "quantitative", "energy of one sample, nJ"),
            "color": _field("convention", "nominal", "convention", sort=list(_ENERGY.values())),
            "tooltip": [
                _field("block", "nominal", "module"),
                _field("convention", "nominal"),
                _field("nJ", "quantitative", format=".4g"),
            ],
        },
    )


def _trade_off(found: Mapping[str, Any]) -> Spec | None:
    measured = [point for point in found["points"] if "refused" not in point]
    if not measured:
        return None
    labelled = all(point["accuracy"] is not None for point in measured)
    rows = [
        {
            "T": point["timesteps"],
            "G": point["groups"],
            "name": f"T{point['timesteps']} G{point['groups']}",
            "share": point["accuracy"] if labelled else point["same_class"],
            "energy": point["energy_pj"] / 1e6,
            "spikes": point["spikes_per_neuron"],
            "dB": point["sqnr_db"],
        }
        for point in measured
    ]
    title = "accuracy" if labelled else "same class as the source"
    x = _field(
        "energy", "quantitative", "energy of one sample, µJ (papers, with the host)", scale={"zero": False}
    )
    y = _field("share", "quantitative", title, axis={"format": "%"}, scale={"zero": False})
    color = _field("T", "nominal", "T")
    tooltip = [
        _field("name", "nominal", "code"),
        _field("share", "quantitative", title, format=".2%"),
        _field("energy", "quantitative", "µJ", format=".4g"),
        _field("spikes", "quantitative", "spikes a neuron", format=".3f"),
        _field("dB", "quantitative", "dB to the source", format=".1f"),
    ]
    line = {
        "mark": {"type": "line", "point": {"size": 70}},
        "encoding": {"x": x, "y": y, "color": color, "order": {"field": "G"}, "tooltip": tooltip},
    }
    text = {
        "mark": {"type": "text", "dy": -12},
        "encoding": {"x": x, "y": y, "text": {"field": "name", "type": "nominal"}},
    }
    return _spec(rows, height=320, layer=[line, text])


def _passes(passes: Sequence[Mapping[str, Any]]) -> Spec | None:
    if not passes or any(entry["seconds"] is None for entry in passes):
        return None
    rows = []
    start = 0.0
    for entry in passes:
        end = start + 1000 * entry["seconds"]
        if entry["changed"]:
            rows.append(
                {
                    "pass": entry["name"],
                    "from": start,
                    "to": end,
                    "kind": entry["semantics"],
                    "rewrites": entry["rewrites"],
                    "nodes": f"{entry['nodes_before']} → {entry['nodes_after']}",
                }
            )
        start = end
    if not rows:
        return None
    return _spec(
        rows,
        height=_tall([row["pass"] for row in rows]),
        mark={"type": "bar", "minBandSize": 2, "stroke": "#88888866"},
        encoding={
            "y": _ordered("pass", "passes that changed something", [row["pass"] for row in rows]),
            "x": _field("from", "quantitative", "milliseconds since the first pass"),
            "x2": {"field": "to"},
            "color": _field(
                "kind",
                "nominal",
                "semantics",
                scale={"domain": ["exact", "approximate"], "range": ["#2a7fb8", "#e08214"]},
            ),
            "tooltip": [
                _field("pass", "nominal"),
                _field("kind", "nominal"),
                _field("rewrites", "quantitative"),
                _field("nodes", "nominal"),
            ],
        },
    )
