"""What two graphs do not have in common: nodes, attributes, weights, shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnc.errors import InputError, Where
from snnc.ir import Model, Node, Value, attributes, load

__all__ = ["Change", "GraphDiff", "diff_folders", "diff_models"]

_LONG = 60


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes:
        what: ``node``, ``weight``, ``input``, ``output``, ``opset`` or ``function``.
        kind: ``added``, ``removed`` or ``changed``.
        name: Its name.
        detail: What it is, or what of it changed.
    """

    what: str
    kind: str
    name: str
    detail: str


@dataclass
class GraphDiff:
    """The differences of two graphs, in graph order.

    Attributes:
        first: Name of the first.
        second: Name of the second.
        changes: What differs.
        nodes: Numbers of nodes of both.
    """

    first: str
    second: str
    changes: list[Change] = field(default_factory=list)
    nodes: tuple[int, int] = (0, 0)

    @property
    def same(self) -> bool:
        """Whether the graphs have the same meaning, part by part."""
        return not self.changes


def diff_models(first: Model, second: Model, names: tuple[str, str] = ("A", "B")) -> GraphDiff:
    """Compare two graphs; nodes are the same if they have the same name, or give the same value.

    Args:
        first: One model.
        second: The other.
        names: What to call them.
    """
    result = GraphDiff(*names, nodes=(len(first.graph), len(second.graph)))
    result.changes += _nodes(first, second)
    weights = [dict(model.graph.initializers.items()) for model in (first, second)]
    result.changes += _named("weight", weights[0], weights[1], _typed, _weights_differ)
    for what, a, b in (
        ("input", first.graph.inputs, second.graph.inputs),
        ("output", first.graph.outputs, second.graph.outputs),
    ):
        ends = [{value.name or "": value for value in values} for values in (a, b)]
        result.changes += _named(what, ends[0], ends[1], _typed, _types_differ)
    result.changes += _named("opset", first.graph.opset_imports, second.graph.opset_imports, str, _moved)
    functions = [{str(key): len(list(f)) for key, f in m.functions.items()} for m in (first, second)]
    result.changes += _named("function", functions[0], functions[1], lambda n: f"{n} nodes", _moved)
    return result


def diff_folders(first: str, second: str) -> tuple[list[GraphDiff], list[str], list[str]]:
    """Compare the dumps of two conversions, file by file.

    Returns:
        The differences of files that both have, in order; names that only the first has, or the second.

    Raises:
        InputError: SNN349, one of them holds no dumps.
    """
    found = []
    for folder in (first, second):
        names = sorted(path.name for path in Path(folder).glob("[0-9][0-9][0-9]*-*.onnx"))
        if not names:
            raise InputError("SNN349", "is no folder of --dump-passes", where=Where(file=folder))
        found.append(names)
    both = [name for name in found[0] if name in found[1]]
    diffs = [
        diff_models(load(Path(first) / n), load(Path(second) / n), (f"{first}/{n}", f"{second}/{n}"))
        for n in both
    ]
    alone = [[name for name in found[i] if name not in found[1 - i]] for i in (0, 1)]
    return diffs, alone[0], alone[1]


def _nodes(first: Model, second: Model) -> Iterator[Change]:
    old = {node.name or f"#{place}": node for place, node in enumerate(first.graph)}
    by_value = {value.name: node for node in first.graph for value in node.outputs if value.name}
    matched: set[int] = set()
    for place, node in enumerate(second.graph):
        twin = old.get(node.name or f"#{place}")
        if twin is None or twin.op_type != node.op_type or id(twin) in matched:
            others = (by_value.get(value.name or "") for value in node.outputs)
            twin = next((other for other in others if other is not None and id(other) not in matched), twin)
        if twin is None or id(twin) in matched:
            yield Change("node", "added", node.name or "", _node(node))
            continue
        matched.add(id(twin))
        details = list(_node_changes(twin, node))
        if details:
            yield Change("node", "changed", node.name or "", "; ".join(details))
    for node in first.graph:
        if id(node) not in matched:
            yield Change("node", "removed", node.name or "", _node(node))


def _node_changes(old: Node, new: Node) -> Iterator[str]:
    if (old.domain, old.op_type) != (new.domain, new.op_type):
        yield f"{_operator(old)} -> {_operator(new)}"
    if old.name != new.name:
        yield f"was called {old.name}"
    reads = [[value.name if value is not None else "" for value in node.inputs] for node in (old, new)]
    if reads[0] != reads[1]:
        yield f"reads {', '.join(map(str, reads[1]))} instead of {', '.join(map(str, reads[0]))}"
    before, after = attributes(old), attributes(new)
    for name in sorted({*before, *after}):
        a, b = _plain(before.get(name)), _plain(after.get(name))
        if a != b:
            yield f"{name}: {_short(a)} -> {_short(b)}"
    for a, b in zip(old.outputs, new.outputs, strict=False):
        if a.name != b.name:
            yield f"gives {b.name} instead of {a.name}"
        if (said := _types_differ(a, b)) is not None:
            yield f"{b.name}: {said}"


def _named(
    what: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    show: Callable[[Any], str],
    differ: Callable[[Any, Any], str | None],
) -> Iterator[Change]:
    for name, entry in new.items():
        if name not in old:
            yield Change(what, "added", name, show(entry))
        elif (said := differ(old[name], entry)) is not None:
            yield Change(what, "changed", name, said)
    for name, entry in old.items():
        if name not in new:
            yield Change(what, "removed", name, show(entry))


def _node(node: Node) -> str:
    reads = ", ".join(value.name or "" if value is not None else "" for value in node.inputs)
    return f"{_operator(node)}({reads})"


def _operator(node: Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _typed(value: Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    if value.shape is None:
        return f"{dtype}[?]"
    sizes = [str(dim) if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape]
    return f"{dtype}[{','.join(sizes)}]"


def _types_differ(old: Value, new: Value) -> str | None:
    return _moved(_typed(old), _typed(new))


def _weights_differ(old: Value, new: Value) -> str | None:
    if _typed(old) != _typed(new):
        return f"{_typed(old)} -> {_typed(new)}"
    if old.const_value is new.const_value or old.const_value is None or new.const_value is None:
        return None
    left, right = np.asarray(old.const_value.numpy()), np.asarray(new.const_value.numpy())
    if left.tobytes() == right.tobytes():
        return None
    if left.shape != right.shape:
        # What a file declares and what it holds are two things.
        return f"shape {list(left.shape)} -> {list(right.shape)}"
    if left.dtype.kind not in "fiub":
        return "its content"
    wide = np.abs(left.astype(np.float64) - right.astype(np.float64))
    count = int(np.count_nonzero(wide))
    return f"{count} of {left.size} elements differ, by {wide.max(initial=0.0):.4g} at most"


def _moved(old: Any, new: Any) -> str | None:
    return None if old == new else f"{old} -> {new}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return value if value is None or isinstance(value, int | float | str | list) else str(value)


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]}{list(value[1])}"
    text = "none" if value is None else repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
