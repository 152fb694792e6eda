"""Which module of the user's network a node belongs to: the names of a file, made into blocks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from snnc.ir import Model, Node

__all__ = ["Modules", "block_of", "parts_of", "repeated"]

#: Where exporters say which modules a node stands in: torch's dynamo exporter.
_SCOPES = "pkg.torch.onnx.name_scopes"
_NUMBER = re.compile(r"\d+")
_WHOLE, _INPUT = "network", "input"


def parts_of(path: str) -> list[str]:
    """Return the parts of a module path: ``/layer1/layer1.0/conv1`` is layer1, 0, conv1."""
    parts: list[str] = []
    for segment in filter(None, path.split("/")):
        words = segment.split(".")
        # torch's older exporter repeats the parent: /layer1/layer1.0.
        parts = words if words[: len(parts)] == parts else parts + words
    return parts


def repeated(paths: Iterable[str]) -> frozenset[str]:
    """Return the modules that hold numbered blocks: numbered parts that have parts of their own.

    Args:
        paths: All module paths: ``blocks.0.attention`` tells that ``blocks`` holds blocks, ``embed.2`` that
            ``embed`` holds single layers.
    """
    found = set()
    for path in paths:
        parts = parts_of(path)
        for index, part in enumerate(parts[:-1]):
            if _NUMBER.fullmatch(part):
                found.add(".".join(parts[:index]))
    return frozenset(found)


def block_of(path: str, holders: frozenset[str]) -> str:
    """Return the block of a module path.

    Args:
        path: Such as ``blocks.0.attention.qkv`` or ``/layer1/layer1.0/conv1``.
        holders: Modules that hold numbered blocks; see `repeated`.

    Returns:
        ``blocks.0``, ``layer1.0``; without a number the first part; an empty text where the path is empty.
    """
    parts = parts_of(path)
    for index, part in enumerate(parts):
        if _NUMBER.fullmatch(part):
            held = ".".join(parts[:index]) in holders
            return ".".join(parts[: index + 1] if held or not index else parts[:index])
    return parts[0] if parts else ""


class Modules:
    """The block of every node of a converted network, found by the names of its source.

    Names come from the source's metadata where it is given, else from the names of nodes. What a pass added
    belongs where its first input comes from.

    Args:
        model: The converted network.
        source: The network it was made from, if known.
    """

    def __init__(self, model: Model, source: Model | None = None) -> None:
        known: dict[str, str] = {}
        named = list(source.graph) if source is not None else []
        holders = repeated(_path(node) for node in named)
        for node in named:
            block = block_of(_path(node), holders)
            if block:
                names = (node.name, *(value.name for value in node.outputs))
                known.update({name: block for name in names if name})
        self._blocks = _walk(model, known)
        self._own = _walk(source, known) if source is not None else {}

    def of(self, name: str) -> str:
        """Return the block of a node or tensor of the converted network, by its name."""
        return self._blocks.get(name, _WHOLE)

    def of_source(self, name: str) -> str:
        """Return the block of a node or tensor of the source, by its name."""
        return self._own.get(name, _WHOLE)


def _walk(model: Model, known: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    holders = repeated(_path(node) for node in model.graph) if not known else frozenset()
    some = bool(known) or any(_path(node) for node in model.graph)
    last = _INPUT if some else _WHOLE
    for node in model.graph:
        own = (node.metadata_props.get("snnc.source"), node.name, *(value.name for value in node.outputs))
        block = _first(known.get(name) for name in own if name)
        block = block or _first(known.get(_stem(name, known)) for name in own if name)
        if not block and not known:
            block = block_of(_path(node), holders)
        before = (found.get(value.name or "") for value in node.inputs if value is not None)
        block = block or _first(before) or last
        last = block
        for name in own:
            if name:
                found.setdefault(name, block)
    return found


def _first(blocks: Iterable[str | None]) -> str:
    return next((block for block in blocks if block), "")


def _stem(name: str, known: Mapping[str, str]) -> str:
    """Return the longest beginning of a name, cut at ``.`` or ``_``, that the source knows."""
    cuts = [match.start() for match in re.finditer(r"[._]", name)]
    return next((name[:cut] for cut in reversed(cuts) if name[:cut] in known), "")


def _path(node: Node) -> str:
    """Return the module path of a node, without the node's own name."""
    text = node.metadata_props.get(_SCOPES)
    if text is not None:
        try:
            scopes = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            scopes = None
        if isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes):
            return scopes[-2] if len(scopes) > 1 else ""
    name = node.metadata_props.get("snnc.source") or node.name or ""
    if "/" in name:
        return name.rpartition("/")[0]
    return name.rpartition(".")[0]
