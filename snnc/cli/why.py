"""What became of one node or tensor, and why passes left it alone: ``snnc inspect --why``."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from snnc.cli.output import Output, printable

if TYPE_CHECKING:
    from snnc.ir import Model
    from snnc.survey import Fate

__all__ = ["explain"]


def explain(output: Output, file: str, why: str) -> None:
    """Convert the model in memory, as if calibrated, and tell what every pass did at a node.

    Args:
        output: Where to write.
        file: The source model.
        why: Name of a node or of a tensor.

    Raises:
        UsageError: SNN236, neither; the hint lists names like it.
    """
    from snnc.compile import look_through
    from snnc.ir import load

    nodes, place = _meant(load(file), why, file)
    found = look_through(file, encode=True)
    fates = [fate for fate in found.fates if fate.node in nodes]
    if place:
        output.result(printable(f"{why!r} is {place}"))
    for fate in fates:
        _show(output, fate)
    ending = str(found.error) if found.error is not None else None
    if ending is not None:
        output.result(printable(f"the conversion ends with {ending}"))
    first = fates[0] if fates else None
    output.document(
        {
            "file": file,
            "node": why,
            "place": place,
            "status": first.status if first else None,
            "became": list(first.became) if first else [],
            "nodes": [fate.node for fate in fates],
            "events": [
                {"node": fate.node, "pass": event.pass_name, "event": event.kind, "text": event.text}
                for fate in fates
                for event in fate.events
            ],
            "conversion_error": ending,
        }
    )


def _meant(model: Model, why: str, file: str) -> tuple[list[str], str | None]:
    """Return the nodes that a name stands for, and what it is if it is no node itself."""
    from snnc.errors import UsageError

    nodes = {node.name or (node.outputs[0].name or ""): node for node in model.graph}
    if why in nodes:
        return [why], None
    for name, node in nodes.items():
        if any(value.name == why for value in node.outputs):
            return [name], f"the result of node {name!r}"
    readers = [name for name, n in nodes.items() if any(v is not None and v.name == why for v in n.inputs)]
    if why in {value.name for value in model.graph.inputs}:
        return readers, f"an input of the model, read by {', '.join(readers) or 'nothing'}"
    if why in model.graph.initializers:
        return readers, f"a constant, read by {', '.join(readers) or 'nothing'}"
    tensors = {
        value.name for node in model.graph for value in (*node.inputs, *node.outputs) if value and value.name
    }
    known = sorted({*nodes, *(name for name in tensors if name)})
    near = get_close_matches(why, known, n=3)
    raise UsageError(
        "SNN236",
        f"{file!r} has no node or tensor {why!r}",
        hint=f"did you mean {', '.join(near)}?" if near else f"its nodes: {', '.join(list(nodes)[:10])}",
    )


_STATUS = {
    "supported": "is converted",
    "folded": "is folded away",
    "host": "stays on the host",
    "unsupported": "cannot be converted",
}


def _show(output: Output, fate: Fate) -> None:
    text = f": {fate.detail}" if fate.detail and fate.status != "supported" else ""
    output.result(printable(f"{fate.op} {fate.node!r} {_STATUS[fate.status]}{text}"))
    if fate.became:
        output.result(printable(f"  it became {', '.join(fate.became)}"))
    rows: list[list[Any]] = [
        [event.pass_name or "-", event.kind, printable(event.text)] for event in fate.events
    ]
    if rows:
        output.table(["pass", "what happened", "why"], rows)
    else:
        output.result("  no pass looked at it closely: it stays as it is until it is encoded")
