"""The tables of a report: cells with a text to read and a number to sort by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snnc.cost.text import quantity

__all__ = ["Cell", "Column", "Table", "tables"]

_BAR = 60


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is read.
        key: What it sorts by, where that is a number.
        bar: Length of a bar beside it, in pixels.
        mark: ``holds``, ``fails`` or ``open``; empty for plain text.
    """

    text: str
    key: str = ""
    bar: int | None = None
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: Its heading.
        number: Whether it holds numbers.
    """

    title: str
    number: bool = False


@dataclass
class Table:
    """One table.

    Attributes:
        name: Its id in the page.
        columns: Its columns.
        rows: Its rows.
    """

    name: str
    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)


def _text(value: Any) -> Cell:
    return Cell("" if value is None else str(value))


def _number(value: float | None, form: str = "", top: float | None = None) -> Cell:
    """A number; ``form`` is a format, or ``q`` for prefixes of thousand; ``top`` is the longest bar's."""
    if value is None:
        return Cell("")
    text = quantity(value) if form == "q" else format(value, form)
    bar = round(_BAR * max(0.0, value) / top) if top else None
    return Cell(text, repr(float(value)), bar)


def _made(name: str, headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """Make a table; a heading that ends in ``#`` is one of numbers."""
    columns = [Column(text.removesuffix("#"), text.endswith("#")) for text in headings]
    return Table(name, columns, [list(row) for row in rows])


def _top(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return max((row[key] for row in rows if row[key] is not None), default=0.0) or None


def tables(content: Mapping[str, Any]) -> dict[str, Table]:
    """Return the tables of a report by name.

    Args:
        content: What was measured; see `snnc.report.content.build`.
    """
    found = [
        _claims(content["claims"]),
        _accuracy(content["accuracy"]["rows"]),
        _outputs(content["accuracy"]["outputs"]),
        _tensors(content["verification"]["tensors"]),
        _runtimes(content["verification"]["runtimes"]),
        _spikes(content["spikes"]),
        _blocks(content["cost"]["blocks"]),
        _totals(content["cost"]["per_sample"]),
        _layers(content["cost"]["layers"]),
        _points(content["trade_off"]["points"]),
        _passes(content["passes"]["passes"]),
        _environment(content),
    ]
    return {table.name: table for table in found}


def _claims(claims: Sequence[Mapping[str, Any]]) -> Table:
    words = {True: ("holds", "holds"), False: ("FAILS", "fails"), None: ("not checked", "open")}
    rows = []
    for claim in claims:
        text, mark = words[claim["holds"]]
        rows.append([_text(claim["claim"]), Cell(text, mark=mark), _text(claim["proof"])])
    return _made("claims", ["claim", "", "proof"], rows)


def _accuracy(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = {"source": "source, in float", "spiking": "spiking network"}
    cells = []
    for row in rows:
        between = f"{row['share']:.2%}  ({row['low']:.2%} to {row['high']:.2%})"
        cells.append(
            [_text(names[row["who"]]), Cell(between, repr(row["share"])), _number(row["correct"], ",")]
        )
    return _made("accuracy", ["network", "accuracy#", "correct#"], cells)


def _outputs(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [
            _text(row["output"]),
            Cell("exact", "1e9") if row["exact"] else _number(row["sqnr_db"], ".1f"),
            _number(row["largest_error"], ".4g"),
            _number(row["cosine"], ".6f"),
            _number(row["same_class"], ".2%"),
        ]
        for row in rows
    ]
    headings = ["output", "dB to the source#", "largest error#", "cosine#", "same class#"]
    return _made("outputs", headings, cells)


def _tensors(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = []
    for row in rows:
        measured = row["source"] is not None
        exact = measured and row["exact"]
        cells.append(
            [
                _text(row["tensor"]),
                _text(row["source"]),
                Cell("exact", "1e9") if exact else _number(row["sqnr_db"] if measured else None, ".1f"),
                _number(row["largest_error"] if measured else None, ".4g"),
                _number(row["cosine"] if measured else None, ".6f"),
                _number(row["elements"], ","),
                _number(row["mismatches"], ","),
            ]
        )
    headings = [
        "tensor",
        "of the source",
        "dB#",
        "largest error#",
        "cosine#",
        "compared#",
        "codes that differ#",
    ]
    return _made("tensors", headings, cells)


def _runtimes(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [
            _text(row["runtime"]),
            _number(row["tensors"], ","),
            _number(row["elements"], ","),
            _number(row["mismatches"], ","),
        ]
        for row in rows
    ]
    return _made("runtimes", ["runtime", "tensors#", "elements#", "differ#"], cells)


def _spikes(rows: Sequence[Mapping[str, Any]]) -> Table:
    top = _top(rows, "spikes_per_neuron")
    cells = [
        [
            _text(row["name"]),
            _text(row["block"]),
            _text(f"T{row['timesteps']} G{row['groups']}{'±' if row['signed'] else ''}"),
            _number(row["levels"]),
            _number(row["neurons"], ","),
            _number(row["spikes_per_neuron"], ".3f", top),
            _number(row["silent"] / row["neurons"] if row["neurons"] else None, ".2%"),
            _number(row["at_limit"] / row["windows"] if row["windows"] else None, ".2%"),
        ]
        for row in rows
    ]
    headings = [
        "layer",
        "block",
        "code",
        "levels#",
        "neurons#",
        "spikes a neuron#",
        "never fire#",
        "at the limit#",
    ]
    return _made("spikes", headings, cells)


def _blocks(rows: Sequence[Mapping[str, Any]]) -> Table:
    top = _top(rows, "with_host_pj")
    cells = [
        [
            _text(row["block"]),
            _number(row["neurons"], "q"),
            _number(row["spikes"] / row["neurons"] if row["neurons"] else None, ".3f"),
            _number(row["sops"], "q"),
            _number(row["macs"], "q"),
            _number(row["spikes_pj"] / 1000, ".4g"),
            Cell(
                format(row["with_host_pj"] / 1000, ".4g"),
                repr(row["with_host_pj"]),
                round(_BAR * row["with_host_pj"] / top) if top else None,
            ),
            _number(row["integer_pj"] / 1000, ".4g"),
        ]
        for row in rows
    ]
    headings = ["module", "neurons#", "spikes a neuron#", "SOPs#", "dense MACs#"]
    headings += ["spikes only, nJ#", "with the host, nJ#", "integer, nJ#"]
    return _made("blocks", headings, cells)


def _totals(totals: Mapping[str, float]) -> Table:
    rows = []
    for name, value in totals.items():
        energy = name.startswith("energy_")
        text = name.removeprefix("energy_").removesuffix("_pj").replace("_", " ")
        shown = _number(value / 1000, ".4g") if energy else _number(value, ".4g" if value < 10 else "q")
        rows.append([_text(f"energy, nJ: {text}" if energy else text), shown])
    return _made("totals", ["of one sample", "value#"], rows)


def _layers(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [
            _text(row["name"]),
            _text(row["op"]),
            _text(row["block"]),
            _number(row["neurons"] or None, "q"),
            _number(row["spikes_per_neuron"] if row["neurons"] else None, ".3f"),
            _number(row["sops"], "q"),
            _number(row["macs"], "q"),
            _number(row["comparisons"], "q"),
            _number(row["with_host_pj"] / 1000, ".4g"),
            _number(row["integer_pj"] / 1000, ".4g"),
        ]
        for row in rows
    ]
    headings = ["layer", "operator", "module", "neurons#", "spikes a neuron#", "SOPs#", "dense MACs#"]
    headings += ["comparisons#", "papers, nJ#", "integer, nJ#"]
    return _made("layers", headings, cells)


def _points(points: Sequence[Mapping[str, Any]]) -> Table:
    cells = []
    for point in points:
        get = point.get
        cells.append(
            [
                _number(point["timesteps"]),
                _number(point["groups"]),
                _number(get("accuracy"), ".2%"),
                _number(get("same_class"), ".2%"),
                _number(get("sqnr_db"), ".1f"),
                _number(get("spikes_per_neuron"), ".3f"),
                _number(get("sops"), "q"),
                _number(point["energy_pj"] / 1e6 if "energy_pj" in point else None, ".4g"),
                _number(point["energy_integer_pj"] / 1e6 if "energy_pj" in point else None, ".4g"),
                _number(get("latency_timesteps"), ","),
                _text(get("refused", "")),
            ]
        )
    headings = ["T#", "G#", "accuracy#", "same class#", "dB#", "spikes a neuron#", "SOPs#", "papers, µJ#"]
    return _made("points", [*headings, "integer, µJ#", "time-steps#", "refused"], cells)


def _passes(passes: Sequence[Mapping[str, Any]]) -> Table:
    cells = []
    for number, entry in enumerate(passes, start=1):
        known = entry["changed"] is not None
        rules = ", ".join(f"{count} × {rule}" for rule, count in entry["rules"].items())
        nodes = f"{entry['nodes_before']} → {entry['nodes_after']}" if known else ""
        seconds = entry["seconds"]
        cells.append(
            [
                _number(number),
                _text(entry["name"]),
                _text(entry["semantics"]),
                _number(entry["rewrites"], ","),
                Cell(nodes),
                _number(None if seconds is None else 1000 * seconds, ".1f"),
                _text("; ".join(filter(None, [rules, *entry["notes"]]))),
            ]
        )
    return _made("passes", ["no.#", "pass", "kind", "rewrites#", "nodes", "ms#", "what it changed"], cells)


def _environment(content: Mapping[str, Any]) -> Table:
    network = content["network"]
    rows = [(name, value) for name, value in content["environment"].items()]
    rows += [("file", network["file"]), ("digest of the graph", network["digest"])]
    rows += [("digest of the source", network["source_digest"]), ("written by snnc", network["snnc"])]
    rows += [(f"option {key}", value) for key, value in network["options"].items()]
    return _made("environment", ["what", "value"], [[_text(name), _text(value)] for name, value in rows])
