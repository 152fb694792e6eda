"""Where the nodes of a graph are drawn: layers from top to bottom, few crossings, source beside result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from snnc.ir import AI_SNNC, Model, Node, attributes
from snnc.passes.quantise.insert_quantisers import SITE
from snnc.report.modules import Modules

__all__ = ["Box", "Drawing", "draw"]

#: Above that, neighbours of one block are drawn as one.
_MOST = 400
_WIDE, _HIGH = 128, 40
_SWEEPS = 4
_CODES = ("ExpGIF", "ExpGIFGain", "Encode", "Quantise")


@dataclass(frozen=True)
class Box:
    """One node, or several of one block.

    Attributes:
        number: Its number in the drawing.
        label: Operator, or what the group is.
        detail: Name and more, for whoever points at it.
        block: Block of the user's network.
        kind: ``neuron``, ``synapse``, ``host``, ``input``, ``output`` or ``other``.
        links: Names by which a box of the other graph is found.
        reads: Numbers of the boxes it reads.
        x: Centre, in units of the drawing.
        y: Top.
    """

    number: int
    label: str
    detail: str
    block: str
    kind: str
    links: tuple[str, ...] = ()
    reads: tuple[int, ...] = ()
    x: float = 0.0
    y: float = 0.0


@dataclass
class Drawing:
    """A graph with the places of its nodes.

    Attributes:
        boxes: Its nodes.
        nodes: Number of nodes of the model; above the number of boxes where neighbours are drawn as one.
        width: Width, in units of the drawing.
        height: Height.
        edges: Pairs of boxes, and the path between them as SVG.
    """

    boxes: list[Box]
    nodes: int
    width: float = 0.0
    height: float = 0.0
    edges: list[tuple[int, int, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the graph as plain values, without places."""
        return {
            "nodes": self.nodes,
            "boxes": [
                {
                    "label": box.label,
                    "detail": box.detail,
                    "block": box.block,
                    "kind": box.kind,
                    "links": [*box.links],
                    "reads": [*box.reads],
                }
                for box in self.boxes
            ],
        }


def draw(model: Model, modules: Modules, *, source: bool = False) -> Drawing:
    """Lay out a graph.

    Args:
        model: The graph.
        modules: Blocks of its nodes.
        source: Whether it is the source, not the converted network.
    """
    boxes = _boxes(model, modules, source)
    nodes = len(boxes)
    if len(boxes) > _MOST:
        boxes = _merged(boxes)
    drawing = Drawing(boxes, nodes)
    _place(drawing)
    return drawing


def _boxes(model: Model, modules: Modules, source: bool) -> list[Box]:
    made: dict[str, int] = {}
    boxes: list[Box] = []
    for value in model.graph.inputs:
        if not value.is_initializer():
            made[value.name or ""] = len(boxes)
            boxes.append(Box(len(boxes), "input", value.name or "", "", "input", (value.name or "",)))
    for node in model.graph:
        reads = dict.fromkeys(
            made[value.name] for value in node.inputs if value is not None and value.name in made
        )
        constant = not reads and not any(value is not None for value in node.inputs)
        if constant:
            continue
        name = node.metadata_props.get("snnc.source") or node.name or ""
        outputs = [value.name for value in node.outputs if value.name]
        block = modules.of_source(node.name or "") if source else modules.of(node.name or "")
        # A neuron that a pass put in stands for the tensor that it was made for.
        meant = [node.metadata_props.get(key) for key in (SITE, "snnc.tensor")]
        meant += [output.removesuffix("code").rstrip("._") for output in outputs if output.endswith("code")]
        links = tuple(dict.fromkeys(filter(None, (name, node.name, *outputs, *meant))))
        boxes.append(
            Box(len(boxes), _label(node), _detail(node, name), block, _kind(node), links, tuple(reads))
        )
        made.update(dict.fromkeys(outputs, len(boxes) - 1))
    for value in model.graph.outputs:
        name = value.name or ""
        reads = {made[name]: None} if name in made else {}
        boxes.append(Box(len(boxes), "output", name, "", "output", (), tuple(reads)))
    return boxes


def _label(node: Node) -> str:
    if node.domain == AI_SNNC and node.op_type in _CODES:
        values = attributes(node)
        if "timesteps" in values and "groups" in values:
            return f"{node.op_type} T{values['timesteps']}G{values['groups']}"
    return node.op_type


def _detail(node: Node, name: str) -> str:
    value = node.outputs[0] if node.outputs else None
    shape = ""
    if value is not None and value.shape is not None:
        shape = " [" + ", ".join(str(dim) for dim in value.shape.dims) + "]"
    kind = value.dtype.name.lower() if value is not None and value.dtype is not None else ""
    return f"{name}\n{node.domain + '::' if node.domain else ''}{node.op_type}\n{kind}{shape}"


def _kind(node: Node) -> str:
    if node.domain == AI_SNNC:
        if node.op_type in _CODES:
            return "neuron"
        if node.op_type.startswith("Spike") and node.op_type not in ("SpikePad", "SpikeGate"):
            return "synapse"
        if node.op_type in ("FixedPointEncode", "Readout") or node.op_type.startswith("Host"):
            return "host"
        return "other"
    return "synapse" if node.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose", "Einsum") else "other"


def _merged(boxes: Sequence[Box]) -> list[Box]:
    """Draw neighbours of one block as one; runs of a sorted graph never make a cycle."""
    runs: list[list[Box]] = []
    for box in boxes:
        alone = box.kind in ("input", "output")
        if runs and not alone and runs[-1][-1].block == box.block and runs[-1][-1].kind != "input":
            runs[-1].append(box)
        else:
            runs.append([box])
    while len(runs) > _MOST:
        # No names to go by: as many as fit, of equal length.
        size = -(-len(boxes) // _MOST)
        runs = [list(boxes[start : start + size]) for start in range(0, len(boxes), size)]
    place = {box.number: number for number, run in enumerate(runs) for box in run}
    return [_group(run, number, place) for number, run in enumerate(runs)]


def _group(run: Sequence[Box], number: int, place: Mapping[int, int]) -> Box:
    reads = dict.fromkeys(place[before] for box in run for before in box.reads)
    reads.pop(number, None)
    links = dict.fromkeys(link for box in run for link in box.links)
    if len(run) == 1:
        return replace(run[0], number=number, reads=tuple(reads))
    counts: dict[str, int] = {}
    for box in run:
        counts[box.label] = counts.get(box.label, 0) + 1
    detail = "\n".join(f"{count} × {label}" for label, count in sorted(counts.items()))
    kind = "neuron" if any(box.kind == "neuron" for box in run) else "other"
    label = f"{run[0].block}: {len(run)} nodes"
    return Box(number, label, detail, run[0].block, kind, tuple(links), tuple(reads))


def _place(drawing: Drawing) -> None:
    boxes = drawing.boxes
    level: list[int] = []
    for box in boxes:
        level.append(1 + max((level[before] for before in box.reads), default=-1))
    rows: list[list[int]] = [[] for _ in range(max(level, default=0) + 1)]
    for number, depth in enumerate(level):
        rows[depth].append(number)
    readers: list[list[int]] = [[] for _ in boxes]
    for box in boxes:
        for before in box.reads:
            readers[before].append(box.number)
    order = [0.0] * len(boxes)
    for row in rows:
        _spread(row, order)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wish = {n: _mean(boxes[n].reads if down else readers[n], order, order[n]) for n in row}
            row.sort(key=lambda n: (wish[n], n))
            _spread(row, order)
    widest = max(len(row) for row in rows)
    drawing.width = max(1, widest) * _WIDE
    drawing.height = len(rows) * _HIGH
    for height, ranked in enumerate(rows):
        for number in ranked:
            boxes[number] = replace(
                boxes[number], x=drawing.width / 2 + order[number] * _WIDE, y=float(height * _HIGH)
            )
    for box in boxes:
        drawing.edges += [(before, box.number, _curve(boxes[before], box)) for before in box.reads]


def _spread(row: Sequence[int], order: list[float]) -> None:
    for place, number in enumerate(row):
        order[number] = place - (len(row) - 1) / 2


def _mean(numbers: Iterable[int], order: Sequence[float], otherwise: float) -> float:
    places = [order[number] for number in numbers]
    return sum(places) / len(places) if places else otherwise


def _curve(start: Box, end: Box) -> str:
    top, bottom = start.y + _HIGH * 0.6, end.y
    if bottom - top <= _HIGH:
        return f"M{start.x:g} {top:g}L{end.x:g} {bottom:g}"
    # A long edge passes beside what is drawn between.
    side = (start.x + end.x) / 2 + _WIDE * 0.55
    return f"M{start.x:g} {top:g}C{side:g} {top + 20:g} {side:g} {bottom - 20:g} {end.x:g} {bottom:g}"
