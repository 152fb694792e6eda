"""What each pass of a conversion did: told by a dump, by converting again, or by the names in the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from snnc.compile import choices_of_file, options_of_file, quantise, repairs_of_file
from snnc.errors import InputError, SnncError, Where
from snnc.files import open_regular
from snnc.ir import Model, clone
from snnc.ops import attach_functions
from snnc.passes.catalog import ALL_PASSES
from snnc.passes.spike.encode import Encode
from snnc.pipeline import GraphDigest, Instrument, PassRecord, run_pipeline
from snnc.pipeline.spec import parse_pipeline

__all__ = ["Timeline", "from_dump", "from_file", "replay"]

_LARGEST = 64 << 20


class Timeline(dict[str, Any]):
    """The passes of a conversion as JSON-able values.

    Keys: ``origin``, in words; ``passes``, a list with ``name``, ``semantics``, ``changed``, ``rewrites``,
    ``rules`` (how often each), ``notes``, ``left_alone``, ``nodes_before``, ``nodes_after``, ``seconds``;
    what is not known is None. ``same_graph``: whether converting again gave the graph of the file.
    """


class _Records(Instrument):
    def __init__(self) -> None:
        self.records: list[PassRecord] = []

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        self.records.append(record)


def replay(source: str | os.PathLike[str], model: Model) -> Timeline:
    """Convert a source again with the choices that a converted file records, and note what each pass does.

    No calibration data are needed: the file has what they decided.

    Args:
        source: The ONNX file the model was converted from.
        model: The converted model.
    """
    seen = _Records()
    quantised = quantise(
        source, options_of_file(model), choices_of_file(model), repairs_of_file(model), [seen]
    )
    holds = seen.records[-1].holds
    run_pipeline(quantised, (Encode(),), given=holds, instruments=[seen])
    attach_functions(quantised)
    held = clone(model)
    for each in (quantised, held):
        # What describes the file, and where its nodes come from, is no part of the network.
        each.metadata_props.clear()
        for node in each.graph.all_nodes():
            node.metadata_props.clear()
    digest = GraphDigest()
    return Timeline(
        origin="the source was converted again with the options and quantisers that the file records",
        passes=[_entry(record) for record in seen.records],
        same_graph=digest(quantised) == digest(held),
    )


def _entry(record: PassRecord) -> dict[str, Any]:
    rules: dict[str, int] = {}
    for rewrite in record.rewrites:
        rules[rewrite.rule] = rules.get(rewrite.rule, 0) + 1
    return {
        "name": record.name,
        "semantics": record.semantics,
        "changed": record.changed,
        "rewrites": len(record.rewrites),
        "rules": dict(sorted(rules.items())),
        "notes": [*record.notes],
        "left_alone": len(record.not_matched),
        "nodes_before": record.nodes_before,
        "nodes_after": record.nodes_after,
        "seconds": round(record.seconds, 6),
    }


def from_dump(folder: str | os.PathLike[str]) -> Timeline:
    """Read what ``snnc convert --dump-passes`` wrote.

    Raises:
        InputError: SNN349, the folder holds no readable log of a run.
    """
    path = Path(folder) / "run.json"
    with open_regular(path) as stream:
        text = stream.read(_LARGEST)
    try:
        log = json.loads(text)
        seconds = [entry["seconds"] for entry in log["timing"]["passes"]]
        passes = [_logged(entry, time) for entry, time in zip(log["passes"], seconds, strict=True)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError("SNN349", "is no log of a conversion", where=Where(file=str(path))) from None
    return Timeline(origin="the log of the conversion", passes=passes, same_graph=None)


def _logged(entry: dict[str, Any], seconds: float) -> dict[str, Any]:
    rules: dict[str, int] = {}
    for rewrite in entry["rewrites"]:
        rules[str(rewrite["rule"])] = rules.get(str(rewrite["rule"]), 0) + 1
    return {
        "name": str(entry["name"]),
        "semantics": str(entry["semantics"]),
        "changed": bool(entry["changed"]),
        "rewrites": len(entry["rewrites"]),
        "rules": dict(sorted(rules.items())),
        "notes": [str(note) for note in entry["notes"]],
        "left_alone": len(entry["not_matched"]),
        "nodes_before": int(entry["nodes_before"]),
        "nodes_after": int(entry["nodes_after"]),
        "seconds": float(seconds),
    }


def from_file(model: Model) -> Timeline:
    """Return the passes that a converted file names, and nothing that only a run can tell.

    Args:
        model: The converted model.
    """
    try:
        steps = parse_pipeline(model.metadata_props.get("snnc.pipeline", ""), ALL_PASSES)
    except SnncError:
        # Written by another version: its passes have other names or options.
        steps = ()
    unknown = dict.fromkeys(
        ("changed", "rewrites", "left_alone", "nodes_before", "nodes_after", "seconds"), None
    )
    return Timeline(
        origin="the file names its passes; what each changed takes --source, or --passes of a dump",
        passes=[
            {"name": step.name, "semantics": step.semantics, "rules": {}, "notes": [], **unknown}
            for step in steps
        ],
        same_graph=None,
    )
