"""A digest of a graph: decides whether a pass changed anything, whatever the pass says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from snnc.cores import over_cores
from snnc.ir import Attr, Graph, Model, Node, Value

__all__ = ["GraphDigest", "node_count"]

#: Lists of an attribute from this length on are hashed on their own: the levels of 16-bit codes are many.
_LONG = 256
#: Bytes of new weights from which on it pays to share them out among the cores.
_MUCH = 1 << 20
_NAME = attrgetter("name")
#: What a text is made of, to be compared.
_State = tuple[Any, ...]


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
        self._texts: dict[_State, str] = {}
        self._written: dict[_State, str] = {}

    def __call__(self, model: Model) -> str:
        """Return the SHA-256 of everything that gives the model its meaning.

        Names, order, types, shapes, attributes, weights, functions and metadata count; onnx_ir's private
        notes (``meta``) do not.

        Args:
            model: The model.

        Returns:
            64 hexadecimal digits.
        """
        self._current, self._written = {}, {}
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
        self._texts = self._written
        lines.append("")
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def _graph(self, graph: Graph, lines: list[str]) -> None:
        if self._content:
            self._hash_new(graph)
        lines.append(f"graph {graph.name!r} {sorted(graph.opset_imports.items())}")
        lines += [f"in {self._typed(value)}" for value in graph.inputs]
        for name, value in sorted(graph.initializers.items()):
            content = self._tensor(value.const_value) if value.const_value is not None else "nothing"
            lines.append(f"weight {name!r} {self._typed(value)} {content}")
        for node in graph:
            self._node(node, lines)
        lines += [f"out {self._typed(value)}" for value in graph.outputs]

    def _node(self, node: Node, lines: list[str]) -> None:
        # Most nodes are as they were before the last pass: their text is not written again.
        notes = node.metadata_props
        read = tuple([None if value is None else value.name for value in node.inputs])
        given = tuple([_state(value) for value in node.outputs])
        held = tuple(notes.items()) if notes else ()
        state = (node.domain, node.op_type, node.overload, node.name, read, given, held)
        text = self._texts.get(state) or self._written.get(state)
        if text is None:
            first = f"node {node.domain!r} {node.op_type!r} {node.overload!r} {node.name!r} {[*read]}"
            gives = [f"gives {self._typed(value)}" for value in node.outputs]
            text = "\n".join([first, *gives, f"metadata {sorted(held)}"])
        self._written[state] = text
        lines.append(text)
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

    def _typed(self, value: Value) -> str:
        state = _state(value)
        text = self._texts.get(state) or self._written.get(state)
        if text is None:
            text = f"{value.name!r} {value.dtype} {value.shape}"
        self._written[state] = text
        return text

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
            objects = array.dtype.hasobject
            content = repr(array.tolist()).encode() if objects else array.reshape(-1).view(np.uint8).data
            return f"{tensor.dtype} {list(array.shape)} {hashlib.sha256(content).hexdigest()}"

        return self._remembered(tensor, text)

    def _hash_new(self, graph: Graph) -> None:
        """Hash the weights that are new, on all cores: hashing lets other threads run."""
        tensors = [value.const_value for value in graph.initializers.values()]
        new = [t for t in tensors if t is not None and id(t) not in self._seen]
        over_cores(self._tensor, new if sum(tensor.nbytes for tensor in new) > _MUCH else [])

    def _remembered(self, held: object, text: Callable[[], str]) -> str:
        known = self._seen.get(id(held)) or self._current.get(id(held))
        if known is None or known[0] is not held:
            known = (held, text())
        self._current[id(held)] = known
        return known[1]


def node_count(model: Model) -> int:
    """Return the number of nodes of the main graph."""
    return len(model.graph)


def _state(value: Value) -> _State:
    """Return what the text of a value is made of; dimensions without a number by their names."""
    shape = value.shape
    dims = None if shape is None else tuple([dim if type(dim) is int else str(dim) for dim in shape])
    return value.name, value.dtype, dims


def _hashed(attr: Attr) -> str:
    # Text of a number each is slow; integers of an attribute fit 64 bits.
    whole = attr.type.name == "INTS"
    content = np.asarray(attr.value, dtype=np.int64).tobytes() if whole else repr(attr.value).encode()
    return f"{attr.type} {len(attr.value)} {hashlib.sha256(content).hexdigest()}"


def _plain(attr: Attr) -> str:
    return f"{attr.type} {attr.ref_attr_name if attr.is_ref() else attr.value!r}"
