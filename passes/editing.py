"""What every rewriting pass needs: adding, replacing and removing nodes while keeping the book on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import (
    DataType,
    Model,
    Node,
    Shape,
    Value,
    consumers_of,
    initializer,
    insert_node,
    make_node,
    remove_node,
    replace_with,
    unique_name,
)
from snnc.ir.edit import release_name
from snnc.ir.rewrite import as_attribute
from snnc.pipeline.contract import NoMatch, PassResult, Rewrite

__all__ = ["Editor", "batch_name", "is_output", "is_standard", "joint_dims", "only_consumer", "rank_of"]

Array = npt.NDArray[Any]


def is_standard(node: Node | None, *op_types: str) -> bool:
    """Return whether a node is one of these ops of the standard ONNX domain."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def is_output(value: Value) -> bool:
    """Return whether a value is an output of its graph."""
    return value.is_graph_output()


def batch_name(model: Model) -> str:
    """Return the name of the free first dimension of the inputs, ``batch`` if there is none."""
    for value in model.graph.inputs:
        first = value.shape[0] if value.shape is not None and len(value.shape) else None
        if first is not None and not isinstance(first, int) and first.value:
            return str(first.value)
    return "batch"


def only_consumer(value: Value | None) -> Node | None:
    """Return the single node that reads a value exactly once; None if others do, or if it is an output."""
    if value is None or is_output(value) or len(value.uses()) != 1:
        return None
    return consumers_of(value)[0]


def joint_dims(left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
    """Return the dimensions of an elementwise result of two shapes that broadcast to each other."""
    rank = max(len(left), len(right))
    one, two = ([1] * (rank - len(dims)) + list(dims) for dims in (left, right))
    return [b if a == 1 else a for a, b in zip(one, two, strict=True)]


def rank_of(value: Value | None) -> int | None:
    """Return the number of dimensions of a value, None if unknown."""
    return None if value is None or value.shape is None else len(value.shape)


class Editor:
    """Rewrites one model and records every rewrite.

    Args:
        model: The model; its main graph is edited in place.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.graph
        self.rewrites: list[Rewrite] = []
        self.not_matched: list[NoMatch] = []
        self.notes: list[str] = []
        self._added: list[str] = []

    def constant(self, stem: str, array: Array) -> Value:
        """Add an initializer with a unique name derived from ``stem``."""
        return initializer(self.graph, stem, array)

    def constant_for(self, old: Value, array: Array) -> Value:
        """Add an initializer that takes the name of a node's output (no output of the graph) it replaces."""
        name = old.name or "constant"
        old.name = None
        # To every reader of a dump the constant is the same value as the node's output was.
        release_name(self.graph, name)
        return self.constant(name, array)

    def add(
        self,
        anchor: Node,
        op_type: str,
        inputs: Sequence[Value | None],
        attrs: Mapping[str, Any] | None = None,
        *,
        name: str,
        domain: str = "",
        dtype: DataType | None = None,
        shape: Shape | Sequence[int] | None = None,
    ) -> Value:
        """Put a new one-output node in front of ``anchor``, from which it inherits its provenance.

        Args:
            anchor: Node of the graph; the inputs are available where it stands.
            op_type: Operator.
            inputs: Input values.
            attrs: Attributes.
            name: Wished node and value name.
            domain: Operator domain.
            dtype: Element type of the output; float32 if not given.
            shape: Shape of the output, if known.

        Returns:
            The output of the new node.
        """
        node = make_node(
            self.graph,
            op_type,
            inputs,
            {key: as_attribute(key, value) for key, value in (attrs or {}).items()},
            domain=domain,
            name=name,
            dtype=dtype or DataType.FLOAT,
            shape=shape if shape is None or isinstance(shape, Shape) else Shape(shape),
            source=anchor,
        )
        self._added.append(node.name or "")
        return insert_node(self.graph, anchor, node)

    def adopt(self, node: Node) -> None:
        """Count a node that was made and inserted by other means among the nodes just added."""
        self._added.append(node.name or "")

    def replace(
        self, rule: str, old: Value, new: Value, *, removed: Iterable[Node] = (), note: str = ""
    ) -> bool:
        """Let everything that reads ``old`` read ``new``, under the name of ``old``; drop what is now unused.

        The producer of ``old`` and the nodes in ``removed`` go if nothing reads them any more.

        Args:
            rule: Name of the rule, for the record.
            old: Value that is replaced.
            new: Value in its place. If it has a name that must stay (graph input, graph output, weight), the
                name of ``old`` is lost, which is refused when ``old`` is a graph output.
            removed: Nodes that may have become unused, consumers last or first: any order.
            note: For the record.

        Returns:
            Whether the replacement was possible.
        """
        fixed = new.is_graph_input() or new.is_initializer() or is_output(new)
        if fixed and is_output(old):
            return False
        # ``new`` takes the name of ``old`` only if it is a fresh node's output or the name must survive.
        fresh = new.producer() is not None and (new.producer().name or "") in self._added  # type: ignore[union-attr]
        producer = old.producer()
        if fixed or not (fresh or is_output(old)):
            old.replace_all_uses_with(new)
        else:
            replace_with(self.graph, old, new)
        if new.shape is None:
            new.shape = old.shape
        if new.type is None:
            new.type = old.type
        candidates = [*removed, *([producer] if producer is not None else [])]
        self.record(rule, candidates, note=note)
        return True

    def record(self, rule: str, removed: Iterable[Node] = (), *, note: str = "") -> None:
        """Remove those of the given nodes that nothing reads; book the rewrite with all nodes just added."""
        gone = self.prune(removed)
        self.rewrites.append(Rewrite(rule, tuple(gone), tuple(self._added), note))
        self._added = []

    def withdraw(self, nodes: Iterable[Node]) -> None:
        """Remove nodes that were just added and that nothing but they themselves read, as if never added."""
        self.prune(nodes)
        self._added = []

    def prune(self, nodes: Iterable[Node]) -> list[str]:
        """Remove those of the given nodes whose outputs nothing reads, and weights only they used.

        Returns:
            Names of the removed nodes.
        """
        pending = list(dict.fromkeys(nodes))
        gone: list[str] = []
        progress = True
        while pending and progress:
            progress = False
            for node in list(pending):
                if node.graph is None or any(out.uses() or is_output(out) for out in node.outputs):
                    continue
                sources = [value for value in node.inputs if value is not None]
                remove_node(self.graph, node)
                pending.remove(node)
                gone.append(node.name or "")
                progress = True
                for value in sources:
                    self._drop_weight(value)
        return gone

    def _drop_weight(self, value: Value) -> None:
        if value.is_initializer() and not (value.uses() or is_output(value) or value.is_graph_input()):
            self.graph.initializers.pop(value.name or "", None)

    def set_constant(self, node: Node, index: int, stem: str, array: Array) -> Value:
        """Let input ``index`` of a node read a new initializer; drop the old one if nothing else reads it."""
        old = node.inputs[index] if index < len(node.inputs) else None
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        new = self.constant(stem, np.asarray(array))
        node.replace_input_with(index, new)
        if old is not None:
            self._drop_weight(old)
        return new

    def take_name(self, node: Node) -> str:
        """Rename a node that is about to go, and return its name for the node that takes its place."""
        name = node.name or node.op_type
        node.name = unique_name(self.graph, f"{name}.replaced", of_node=True)
        release_name(self.graph, name, of_node=True)
        return name

    def fail(self, reason: str, node: Node) -> None:
        """Record why a rule did not apply at a node."""
        self.not_matched.append(NoMatch(reason, node.name or ""))

    def result(self) -> PassResult:
        """Return the record of the pass."""
        return PassResult(self.rewrites, self.not_matched, self.notes)
