"""Everything a report tells, measured and gathered as JSON-able values."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from snnc import __version__
from snnc.arrays import sample_count
from snnc.compile import load_spiking, options_of_file
from snnc.cost import CostReport, measure
from snnc.cost.audit import audit
from snnc.debug.verify import VerifyReport, default_runtimes, verify
from snnc.errors import InputError, SnncError
from snnc.ir import Model, load, model_digest
from snnc.pipeline import versions
from snnc.report.commands import convert_command
from snnc.report.graph import Drawing, draw
from snnc.report.modules import Modules
from snnc.report.scores import score
from snnc.report.spikes import LayerSpikes, Watch, layers_of, watch_spikes
from snnc.report.timeline import from_dump, from_file, replay
from snnc.report.tradeoff import default_points, measure_points
from snnc.runtimes import create
from snnc.runtimes.common import check_inputs
from snnc.shown import html_table

__all__ = ["SCHEMA_VERSION", "Plan", "Report", "build"]

Array = npt.NDArray[Any]
SCHEMA_VERSION = 1
#: Networks with more weights are not converted again for a curve nobody asked for.
_MANY_WEIGHTS = 4_000_000
_NO_SOURCE = "not measured: the source was not given (--source MODEL.onnx)"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        samples: Samples, at most, that spikes, operations and the curve of T and G are measured on.
        verified: Samples, at most, that every tensor is compared on in every runtime.
        watch: What rasters show.
        points: T and G of the curve; None: as many as fit the network, empty: no curve.
    """

    samples: int = 128
    verified: int = 16
    watch: Watch = field(default_factory=Watch)
    points: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, repr=False)
class Report:
    """What was found.

    Attributes:
        content: JSON-able values; the same in ``report.json``.
        layers: Spikes of each layer, with rasters.
        snn: The converted network, drawn.
        ann: The source, drawn; None where it was not given.
    """

    content: dict[str, Any]
    layers: list[LayerSpikes]
    snn: Drawing
    ann: Drawing | None

    def __repr__(self) -> str:
        """One line: what was measured and whether its claims hold."""
        held = [claim["holds"] for claim in self.content["claims"]]
        return (
            f"<Report of {self.content['title']}: {held.count(True)} claims hold, {held.count(False)} fail, "
            f"{held.count(None)} not checked; {self.content['data']['samples']} samples>"
        )

    def _repr_html_(self) -> str:
        """Tables for a notebook; `snnc.report.page.page` has all of it."""
        words = {True: "holds", False: "FAILS", None: "not checked"}
        claims = [(claim["claim"], words[claim["holds"]], claim["proof"]) for claim in self.content["claims"]]
        layers = [
            (
                e["name"],
                e["block"],
                e["timesteps"],
                e["groups"],
                e["neurons"],
                f"{e['spikes_per_neuron']:.3f}",
            )
            for e in self.content["spikes"]
        ]
        headings = ("layer", "block", "T", "G", "neurons", "spikes a neuron")
        return html_table(("claim", "", "proof"), claims, repr(self)) + html_table(headings, layers)


def build(
    converted: str | os.PathLike[str],
    inputs: Mapping[str, Array],
    labels: Array | None = None,
    source: str | os.PathLike[str] | None = None,
    *,
    plan: Plan | None = None,
    data: str = "the samples given",
    dump: str | os.PathLike[str] | None = None,
    command: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Measure a converted network on samples.

    Args:
        converted: The ``.snn.onnx`` file.
        inputs: Samples by input name; a single array may have any name.
        labels: Class of every sample, for accuracies of the first output.
        source: The ONNX file it was converted from.
        plan: How much is measured.
        data: What the samples are, in words.
        dump: Folder that ``snnc convert --dump-passes`` wrote.
        command: The command that makes this report.
        progress: Called with what is being measured.

    Returns:
        The report.

    Raises:
        InputError: SNN305, the file was not made by ``snnc convert``; SNN335 to SNN339, the samples or labels
            do not fit.
    """
    plan = plan or Plan()
    say = progress or (lambda text: None)
    model = load_spiking(converted)
    origin = load(source) if source is not None else None
    runtime = create("numpy", model)
    arrays = check_inputs(inputs, runtime.inputs)
    count = sample_count(arrays)
    if labels is not None and len(labels) != count:
        raise InputError("SNN339", f"there are {len(labels)} labels for {count} samples")
    # What cannot be read is refused before anything is measured.
    told = from_dump(dump) if dump is not None else None
    few = {name: array[: plan.samples] for name, array in arrays.items()}
    modules = Modules(model, origin)
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "title": _name(converted)}
    content["network"] = _network(model, converted, source, origin)
    content["data"] = {
        "what": data,
        "samples": count,
        "measured": min(count, plan.samples),
        "labels": labels is not None,
    }
    say("spikes")
    layers = watch_spikes(model, few, plan.watch, runtime=runtime)
    say("operations and energy")
    cost = measure(model, few, runtime.run, data=f"{sample_count(few)} samples of {data}")
    say("accuracy")
    scores, expected = score(model, origin, arrays, labels)
    content["accuracy"] = scores
    content["verification"] = _verified(source, converted, arrays, labels, plan, say)
    say("passes")
    content["passes"] = told if told is not None else _passes(model, source)
    content["spikes"] = [{**layer.to_dict(), "block": modules.of(layer.tensor)} for layer in layers]
    content["cost"] = _cost(cost, modules)
    content["trade_off"] = _trade_off(model, source, few, expected, labels, plan, say)
    content["claims"] = _claims(model, content, layers)
    drawn = draw(model, modules)
    ann = draw(origin, modules, source=True) if origin is not None else None
    content["graph"] = {"snn": drawn.to_dict(), "ann": ann.to_dict() if ann is not None else None}
    content["environment"] = {**versions(), "snnc": __version__, "machine": platform.machine()}
    content["reproduce"] = [
        line for line in (convert_command(model, source, converted), command) if line is not None
    ]
    return Report(_plain(content), layers, drawn, ann)


def _name(path: str | os.PathLike[str]) -> str:
    return Path(path).name


def _network(
    model: Model,
    converted: str | os.PathLike[str],
    source: str | os.PathLike[str] | None,
    origin: Model | None,
) -> dict[str, Any]:
    props = model.metadata_props
    return {
        "file": _name(converted),
        "digest": model_digest(model),
        "source": _name(source) if source is not None else None,
        "source_digest": props.get("snnc.source"),
        "source_matches": None if origin is None else model_digest(origin) == props.get("snnc.source"),
        "snnc": props.get("snnc.version"),
        "format": props.get("snnc.format"),
        "options": {key: value for key, value in options_of_file(model).__dict__.items() if value},
        "nodes": len(model.graph),
        "weights": sum(int(v.const_value.size) for v in model.graph.initializers.values() if v.const_value),
        "inputs": [value.name for value in model.graph.inputs],
        "outputs": [value.name for value in model.graph.outputs],
    }


def _verified(
    source: str | os.PathLike[str] | None,
    converted: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    labels: Array | None,
    plan: Plan,
    say: Callable[[str], None],
) -> dict[str, Any]:
    say("every tensor in every runtime")
    few = {name: array[: plan.verified] for name, array in arrays.items()}
    count = sample_count(few)
    if source is not None:
        report = verify(source, converted, few, labels[:count] if labels is not None else None)
        return _against_oracle(report)
    model = load_spiking(converted)
    made = {name: make(model) for name, make in default_runtimes().items()}
    definition = made.pop("numpy-timestep").run(few)
    rows = []
    for name, runtime in made.items():
        found = runtime.run(few)
        wrong = sum(
            int((array.view("u1") != found[key].view("u1")).sum()) for key, array in definition.items()
        )
        elements = sum(array.size for array in definition.values())
        rows.append({"runtime": name, "tensors": len(definition), "elements": elements, "mismatches": wrong})
    return {
        "against": "numpy, spike by spike (outputs only; the quantised network needs --source)",
        "samples": count,
        "identical": all(not row["mismatches"] for row in rows),
        "runtimes": rows,
        "tensors": [],
        "notes": [_NO_SOURCE],
    }


def _against_oracle(report: VerifyReport) -> dict[str, Any]:
    compared = next(iter(report.agreements)).tensors
    outputs = {distance.tensor: distance for distance in report.distances}
    tensors = []
    for name in compared:
        distance = outputs.get(name, report.tensors.get(name))
        entry: dict[str, Any] = {
            "tensor": name,
            "output": name in outputs,
            "elements": compared[name].elements,
            "mismatches": sum(a.tensors[name].mismatches for a in report.agreements if name in a.tensors),
            "source": None,
        }
        if distance is not None:
            entry.update(
                source=distance.tensor,
                exact=distance.noise == 0.0,
                sqnr_db=distance.decibel,
                cosine=distance.cosine,
                largest_error=distance.largest_error,
            )
        tensors.append(entry)
    return {
        "against": "the quantised network, evaluated by an oracle in exact rational arithmetic",
        "samples": report.samples,
        "identical": report.identical,
        "runtimes": [
            {
                "runtime": entry.runtime,
                "tensors": len(entry.tensors),
                "elements": sum(comparison.elements for comparison in entry.tensors.values()),
                "mismatches": entry.mismatches,
            }
            for entry in report.agreements
        ],
        "tensors": tensors,
        "notes": [*report.notes],
    }


def _passes(model: Model, source: str | os.PathLike[str] | None) -> dict[str, Any]:
    if source is None:
        return from_file(model)
    try:
        return replay(source, model)
    except SnncError as error:
        found = from_file(model)
        found["origin"] = f"converting the source again failed: {error.code}: {error.message}"
        return found


def _cost(cost: CostReport, modules: Modules) -> dict[str, Any]:
    images = cost.images
    layers = []
    blocks: dict[str, dict[str, float]] = {}
    for row in cost.layers:
        block = modules.of(row.name)
        # Papers bill what spikes cause; the host's multiplications are a convention of their own.
        host = row.kind == "host"
        figures = {
            "spikes_pj": 0.0 if host else row.energy / images,
            "with_host_pj": row.energy / images,
            "integer_pj": row.integer_energy / images,
            "sops": row.sops / images,
            "macs": row.macs / images,
        }
        held = blocks.setdefault(block, dict.fromkeys((*figures, "neurons", "spikes"), 0.0))
        for name, value in figures.items():
            held[name] += value
        if row.kind == "neuron":
            held["neurons"] += row.neurons / images
            held["spikes"] += row.spikes / images
        layers.append(
            {"name": row.name, "op": row.op, "kind": row.kind, "block": block, "timesteps": row.timesteps}
            | {"groups": row.groups, "neurons": row.neurons / images, "spikes": row.spikes / images}
            | {"spikes_per_neuron": row.spikes_per_neuron, "comparisons": row.comparisons / images, **figures}
        )
    return {
        "samples": images,
        "latency_timesteps": cost.latency,
        "per_sample": cost.totals(),
        "layers": layers,
        "blocks": [{"block": name, **figures} for name, figures in blocks.items()],
    }


def _trade_off(
    model: Model,
    source: str | os.PathLike[str] | None,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array] | None,
    labels: Array | None,
    plan: Plan,
    say: Callable[[str], None],
) -> dict[str, Any]:
    if plan.points is not None and not plan.points:
        return {"absent": "not asked for", "points": []}
    if source is None or expected is None:
        return {"absent": _NO_SOURCE if source is None else "the source cannot be run", "points": []}
    weights = sum(int(v.const_value.size) for v in model.graph.initializers.values() if v.const_value)
    points = plan.points
    if points is None:
        if weights > _MANY_WEIGHTS:
            reason = f"{weights} weights: each point is a conversion, which takes long; ask with --trade-off"
            return {"absent": reason, "points": []}
        books = [book.timesteps for _, _, book in layers_of(model)]
        points = tuple(default_points(max(set(books), key=books.count) if books else 8))
    say(f"{len(points)} points of T and G")
    found = measure_points(
        source,
        options_of_file(model),
        points,
        inputs,
        {name: array[: sample_count(inputs)] for name, array in expected.items()},
        labels[: sample_count(inputs)] if labels is not None else None,
        calibrated="snnc.calibration" in model.metadata_props,
        progress=lambda done, of: say(f"point {done} of {of}"),
    )
    return {"absent": None, **found}


def _claims(model: Model, content: Mapping[str, Any], layers: list[LayerSpikes]) -> list[dict[str, Any]]:
    audited = audit(model)
    verified, passes = content["verification"], content["passes"]
    elements = sum(row["elements"] for row in verified["runtimes"])
    wrong = sum(row["mismatches"] for row in verified["runtimes"])
    groups = max((layer.book.groups for layer in layers), default=0)
    most = max((count for layer in layers for count, n in enumerate(layer.by_count) if n), default=0)
    oracle = bool(verified["tensors"])
    return [
        {
            "claim": "multiplication-free between encoder and readout",
            "holds": audited.clean,
            "proof": f"snnc audit: {audited.claim}; "
            + ", ".join(f"{count} × {kind}" for kind, count in audited.counts().items()),
        },
        {
            "claim": "every code and every output bit is that of the quantised network",
            "holds": verified["identical"] if oracle else None,
            "proof": f"snnc verify: {wrong} of {elements} elements differ, "
            f"{len(verified['runtimes'])} runtimes, {verified['samples']} samples"
            if oracle
            else _NO_SOURCE,
        },
        {
            "claim": "all runtimes give the same bits as the definition, spike by spike",
            "holds": verified["identical"],
            "proof": f"{wrong} of {elements} elements differ on {verified['samples']} samples: "
            + ", ".join(row["runtime"] for row in verified["runtimes"]),
        },
        {
            "claim": f"no neuron fires more than G times in a window (G at most {groups})",
            "holds": all(len(layer.by_count) <= layer.book.groups + 1 for layer in layers),
            "proof": f"most spikes counted: {most}; {sum(layer.windows for layer in layers)} windows",
        },
        {
            "claim": "converting the source again gives the graph of this file",
            "holds": passes["same_graph"],
            "proof": passes["origin"],
        },
    ]


def _plain(value: Any) -> Any:
    """Return values that JSON can say: no infinities, no numpy numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
