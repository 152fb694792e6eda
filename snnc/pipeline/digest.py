"""A digest of a graph: decides whether a pass changed anything, whatever the pass says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from snnc.cores import over_cores
from snnc.ir import Attr, Graph, Model, Node, Value

__all__ = ["GraphDigest", "node_count"]

#: Lists of an attribute from this length on are hashed on their own: the levels of 16-bit codes are many.
_LONG = 256
#: Bytes of new weights from which on it pays to share them out among the cores.
_MUCH = 1 << 20
_NAME = attrgetter("name")
#: What a text is made of, to be compared; what is never written into counts by its ``id``.
_State = tuple[Any, ...]


class _Written(NamedTuple):
    """A text with what it is of.

    Attributes:
        owner: The node or value.
        state: All that the text is made of.
        alive: What has to stay alive for ids in the state to mean something.
        hashed: Those of it whose content was hashed.
        text: The text.
    """

    owner: object
    state: _State
    alive: Sequence[object]
    hashed: Sequence[object]
    text: str


class _GraphState(NamedTuple):
    """All that the text of a graph is made of, but for graphs within it.

    Attributes:
        head: Name, opsets, inputs and outputs.
        weights: Of each weight, by name.
        nodes: Of each node, in order.
    """

    head: _State
    weights: list[_State]
    nodes: list[_State]

    @classmethod
    def of(cls, graph: Graph) -> _GraphState:
        """Read a graph. ``data``: the view of a UserDict is many times slower."""
        head = (
            graph.name,
            sorted(graph.opset_imports.items()),
            [_state(value) for value in graph.inputs],
            [_state(value) for value in graph.outputs],
        )
        weights = sorted(graph.initializers.data.items())
        return cls(
            head,
            [(name, id(value.const_value), *_state(value)) for name, value in weights],
            [_node_state(node) for node in graph],
        )


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
        self._texts: dict[int, _Written] = {}
        self._written: dict[int, _Written] = {}
        self._forms: dict[object, str] = {}
        #: State and digest of the last model, None where more than its main graph counts.
        self._last: tuple[object, str] | None = None
        self._flat = True

    def __call__(self, model: Model) -> str:
        """Return the SHA-256 of everything that gives the model its meaning.

        Names, order, types, shapes, attributes, weights, functions and metadata count; onnx_ir's private
        notes (``meta``) do not.

        Args:
            model: The model.

        Returns:
            64 hexadecimal digits.
        """
        graph = _GraphState.of(model.graph)
        state = (sorted(model.metadata_props.items()), graph)
        # Most passes change nothing: then there is nothing to write.
        if self._last is not None and not model.functions and self._last[0] == state:
            return self._last[1]
        self._current, self._written, self._flat = {}, {}, True
        # All lines at once: this runs after every pass, and generators within generators are slow.
        lines = [f"model {state[0]}"]
        self._graph(model.graph, lines, graph)
        for identifier, function in sorted(model.functions.items(), key=lambda item: str(item[0])):
            lines += [
                f"function {identifier} {sorted(function.opset_imports.items())}",
                f"attributes {sorted((name, _plain(attr)) for name, attr in function.attributes.items())}",
                f"in {[value.name for value in function.inputs]}",
            ]
            for node in function:
                self._node(node, _node_state(node), lines)
            lines.append(f"out {[value.name for value in function.outputs]}")
        # Only tensors that are still in the graph are kept alive by the cache.
        self._seen = self._current if self._remember else {}
        self._texts = self._written if self._remember else {}
        lines.append("")
        digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
        self._last = (state, digest) if self._remember and self._flat else None
        return digest

    def _graph(self, graph: Graph, lines: list[str], found: _GraphState) -> None:
        if self._content:
            self._hash_new(graph)
        lines.append(f"graph {graph.name!r} {found.head[1]}")
        lines += [f"in {self._typed(value)}" for value in graph.inputs]
        for state in found.weights:
            name = state[0]
            value = graph.initializers.data[name]
            held = value.const_value
            if self._again(value, state, lines):
                continue
            content = self._tensor(held) if held is not None else "nothing"
            text = f"weight {name!r} {self._typed(value)} {content}"
            hashed = () if held is None else (held,)
            self._written[id(value)] = _Written(value, state, hashed, hashed, text)
            lines.append(text)
        for node, state in zip(graph, found.nodes, strict=True):
            self._node(node, state, lines)
        lines += [f"out {self._typed(value)}" for value in graph.outputs]

    def _node(self, node: Node, state: _State, lines: list[str]) -> None:
        # Many nodes are as they were before the last pass: their text is not written again.
        if self._again(node, state, lines):
            return
        attributes = [*node.attributes.data.values()]
        own = [
            f"node {node.domain!r} {node.op_type!r} {node.overload!r} {node.name!r} {state[4]}",
            *[f"gives {self._typed(value)}" for value in node.outputs],
            f"metadata {sorted(node.metadata_props.items())}",
        ]
        hashed: list[object] = []
        whole = True
        for attr in sorted(attributes, key=_NAME):
            content = attr.value
            if isinstance(content, Graph):
                # Its nodes may change while the attribute stays.
                whole = self._flat = False
                own.append(f"subgraph {attr.name!r}")
                self._graph(content, own, _GraphState.of(content))
                continue
            if hasattr(content, "numpy"):
                hashed.append(content)
                text = self._tensor(content)
            elif isinstance(content, tuple) and len(content) >= _LONG:
                hashed.append(attr)
                text = self._remembered(attr, partial(_hashed, attr))
            else:
                text = _plain(attr)
            own.append(f"attribute {attr.name!r} {text}")
        text = "\n".join(own)
        if whole:
            self._written[id(node)] = _Written(node, state, attributes, hashed, text)
        lines.append(text)

    def _again(self, owner: object, state: _State, lines: list[str]) -> bool:
        """Write the text of the state before once more, if nothing that it is made of has changed."""
        known = self._texts.get(id(owner))
        if known is None or known.owner is not owner or known.state != state:
            return False
        self._written[id(owner)] = known
        for one in known.hashed:
            self._current[id(one)] = self._seen[id(one)]
        lines.append(known.text)
        return True

    def _typed(self, value: Value) -> str:
        name, dtype, dims = _state(value)
        # The text of a shape takes longer than all the rest, and few shapes are many values'.
        form = self._forms.get((dtype, dims))
        if form is None:
            form = self._forms[dtype, dims] = f"{dtype} {value.shape}"
        return f"{name!r} {form}"

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
    """Return what the text of a value is made of."""
    shape = value.shape
    return value.name, value.dtype, None if shape is None else shape.dims


def _node_state(node: Node) -> _State:
    """Return what the text of a node is made of. Attributes are replaced, never changed."""
    notes = node.metadata_props
    return (
        *(node.domain, node.op_type, node.overload, node.name),
        [None if value is None else value.name for value in node.inputs],
        [_state(value) for value in node.outputs],
        [*notes.items()] if notes else None,
        [*map(id, node.attributes.data.values())],
    )


def _hashed(attr: Attr) -> str:
    # Text of a number each is slow; integers of an attribute fit 64 bits.
    whole = attr.type.name == "INTS"
    content = np.asarray(attr.value, dtype=np.int64).tobytes() if whole else repr(attr.value).encode()
    return f"{attr.type} {len(attr.value)} {hashlib.sha256(content).hexdigest()}"


def _plain(attr: Attr) -> str:
    return f"{attr.type} {attr.ref_attr_name if attr.is_ref() else attr.value!r}"
