"""A digest of a graph: decides whether a pass changed anything, whatever the pass says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from snnc.ir import Attr, AttributeType, Graph, Model, Node, Value

__all__ = ["GraphDigest", "node_count"]

#: Lists of an attribute from this length on are hashed on their own: the levels of 16-bit codes are many.
_LONG = 256
<<<<<<< HEAD
_NAME = attrgetter("name")
=======
_INNER = frozenset({AttributeType.GRAPH, AttributeType.GRAPHS})
>>>>>>> 54ddf9d (Conversion: digests of unchanged nodes, bounds of membranes and exact numbers take less time)


class GraphDigest:
    """Computes digests of successive states of one model.

    The content of a weight or of a long list is hashed once for as long as the graph keeps the same object:
    passes make new arrays instead of writing into old ones. ``remember=False`` hashes everything every time
    and so catches a pass that breaks this rule.

    Args:
        remember: Whether hashes of unchanged objects are kept.
        content: Whether weights count by their content; otherwise by the object that holds it, so that the
            digest is quick and can be compared with others of this process only.
    """

    def __init__(self, *, remember: bool = True, content: bool = True) -> None:
        self._remember = remember
        self._content = content
        self._seen: dict[int, tuple[object, str]] = {}
        self._current: dict[int, tuple[object, str]] = {}
        # What a node or a weight looked like, all objects it was made of, and its text.
        self._texts: dict[int, tuple[object, object, str]] = {}
        self._current_texts: dict[int, tuple[object, object, str]] = {}

    def __call__(self, model: Model) -> str:
        """Return the SHA-256 of everything that gives the model its meaning.

        Names, order, types, shapes, attributes, weights, functions and metadata count; onnx_ir's private
        notes (``meta``) do not.

        Args:
            model: The model.

        Returns:
            64 hexadecimal digits.
        """
<<<<<<< HEAD
        self._current = {}
        # All lines at once: this runs after every pass, and generators within generators are slow.
        lines = [f"model {sorted(model.metadata_props.items())}"]
        self._graph(model.graph, lines)
        for identifier, function in sorted(model.functions.items(), key=lambda item: str(item[0])):
            lines += [
                f"function {identifier} {sorted(function.opset_imports.items())}",
                f"attributes {sorted((name, _plain(attr)) for name, attr in function.attributes.items())}",
                f"in {[value.name for value in function.inputs]}",
            ]
            for node in function:
                self._node(node, lines)
            lines.append(f"out {[value.name for value in function.outputs]}")
        # Only tensors that are still in the graph are kept alive by the cache.
        self._seen = self._current if self._remember else {}
        lines.append("")
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
=======
        self._current, self._current_texts = {}, {}
        digest = hashlib.sha256()
        for line in self._model(model):
            digest.update(line.encode("utf-8", "surrogatepass"))
            digest.update(b"\n")
        # Only what is still in the graph is kept alive by the caches.
        if self._remember:
            self._seen, self._texts = self._current, self._current_texts
        return digest.hexdigest()
>>>>>>> 54ddf9d (Conversion: digests of unchanged nodes, bounds of membranes and exact numbers take less time)

    def _graph(self, graph: Graph, lines: list[str]) -> None:
        lines.append(f"graph {graph.name!r} {sorted(graph.opset_imports.items())}")
        lines += [f"in {_typed(value)}" for value in graph.inputs]
        for name, value in sorted(graph.initializers.items()):
            content = self._tensor(value.const_value) if value.const_value is not None else "nothing"
<<<<<<< HEAD
            lines.append(f"weight {name!r} {_typed(value)} {content}")
        for node in graph:
            self._node(node, lines)
        lines += [f"out {_typed(value)}" for value in graph.outputs]

    def _node(self, node: Node, lines: list[str]) -> None:
=======
            yield f"weight {name!r} {self._typed(value)} {content}"
        for node in graph:
            yield self._text(node)
        yield from (f"out {_typed(value)}" for value in graph.outputs)

    def _typed(self, value: Value) -> str:
        shape = value.shape
        look = (value.name, value.dtype, shape.dims if shape is not None else None)
        known = self._texts.get(id(value))
        if known is None or known[0] is not value or known[1] != look:
            known = (value, look, _typed(value))
        self._current_texts[id(value)] = known
        return known[2]

    def _text(self, node: Node) -> str:
        """Return the text of a node, made once for as long as the node looks the same."""
        look = _look(node)
        if look is None:
            return "\n".join(self._node(node))
        known = self._texts.get(id(node))
        if known is None or known[0] is not node or known[1] != look:
            known = (node, look, "\n".join(self._node(node)))
        self._current_texts[id(node)] = known
        return known[2]

    def _node(self, node: Node) -> Iterable[str]:
>>>>>>> 54ddf9d (Conversion: digests of unchanged nodes, bounds of membranes and exact numbers take less time)
        inputs = [None if value is None else value.name for value in node.inputs]
        lines.append(f"node {node.domain!r} {node.op_type!r} {node.overload!r} {node.name!r} {inputs}")
        lines += [f"gives {_typed(value)}" for value in node.outputs]
        notes = node.metadata_props
        lines.append(f"metadata {sorted(notes.items())}" if notes else "metadata []")
        for attr in sorted(node.attributes.values(), key=_NAME):
            # Attributes are replaced, never changed: their text is made once.
            known = self._seen.get(id(attr)) or self._current.get(id(attr))
            if known is None or known[0] is not attr:
                content = attr.value
                if isinstance(content, Graph):
                    lines.append(f"subgraph {attr.name!r}")
                    self._graph(content, lines)
                    continue
                text = self._tensor(content) if hasattr(content, "numpy") else self._listed(attr)
                known = (attr, f"attribute {attr.name!r} {text}")
            self._current[id(attr)] = known
            lines.append(known[1])

    def _listed(self, attr: Attr) -> str:
        """Return the text of an attribute; long lists are hashed."""
        if not isinstance(attr.value, tuple) or len(attr.value) < _LONG:
            return _plain(attr)
        return _hashed(attr)

    def _tensor(self, tensor: Any) -> str:
        def text() -> str:
            if not self._content:
                return str(id(tensor))
            array = np.ascontiguousarray(tensor.numpy())
            # Object arrays (strings) have no stable bytes; their text has.
            content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
            return f"{tensor.dtype} {list(array.shape)} {hashlib.sha256(content).hexdigest()}"

        return self._remembered(tensor, text)

    def _remembered(self, held: object, text: Callable[[], str]) -> str:
        known = self._seen.get(id(held)) or self._current.get(id(held))
        if known is None or known[0] is not held:
            known = (held, text())
        self._current[id(held)] = known
        return known[1]


def node_count(model: Model) -> int:
    """Return the number of nodes of the main graph."""
    return len(model.graph)


class _Same:
    """An object that equals itself alone, so that comparing is quick, and is kept alive meanwhile."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.held is other.held

    __hash__ = None  # type: ignore[assignment]


def _look(node: Node) -> object | None:
    """Return what the text of a node is made of, quickly; None where it takes all of an inner graph.

    onnx_ir's attributes do not change: passes put new ones in their place.
    """
    attributes = node.attributes
    if any(attr.type in _INNER for attr in attributes.values()):
        return None
    return (
        node.domain,
        node.op_type,
        node.overload,
        node.name,
        [None if value is None else value.name for value in node.inputs],
        [
            (value.name, value.dtype, value.shape.dims if value.shape is not None else None)
            for value in node.outputs
        ],
        dict(node.metadata_props) if node.metadata_props else None,
        [(name, _Same(attr)) for name, attr in attributes.items()],
    )


def _typed(value: Value) -> str:
    return f"{value.name!r} {value.dtype} {value.shape}"


def _hashed(attr: Attr) -> str:
    # Text of a number each is slow; integers of an attribute fit 64 bits.
    whole = attr.type.name == "INTS"
    content = np.asarray(attr.value, dtype=np.int64).tobytes() if whole else repr(attr.value).encode()
    return f"{attr.type} {len(attr.value)} {hashlib.sha256(content).hexdigest()}"


def _plain(attr: Attr) -> str:
    return f"{attr.type} {attr.ref_attr_name if attr.is_ref() else attr.value!r}"
