"""Pass ``unroll-loops``: a Loop or a Scan over a fixed number of time-steps is written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Graph, Model, Node, Value, attributes, constant
from snnc.ir.bodies import body_of, copy_body, lift_body_constants, release_body
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["UnrollLoops"]

_SCAN_OF_TODAY = 9
_MOST_NODES = 20_000
_AXES_ARE_INPUTS = 13  # opset from which Unsqueeze reads its axes


@dataclass(frozen=True)
class UnrollLoops:
    """Write the body of a loop once for each time-step: how stateful neurons are exported in a loop.

    What a Scan hands to a step is gathered from its sequence, what each step emits is stacked again; the
    state goes from one copy to the next.

    Matches:
        Loop whose number of iterations is a constant and whose condition stays true; Scan over sequences of a
        known length; bodies without control flow.
    Leaves alone:
        "the number of iterations depends on the data", "it runs too often to be written out", "its body holds
        control flow", "its body takes or gives another number of values than the node": refused later.
    Keeps:
        The names of the outputs.

    Attributes:
        most: Most iterations.
    """

    most: int = whole(128, 0, 2**16)

    name: ClassVar[str] = "unroll-loops"
    requires: ClassVar[frozenset[str]] = frozenset({"unique-names", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"constants-folded", "no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Unroll; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Loop", "Scan")]:
            body = body_of(node)
            if body is None:
                editor.fail("its body holds control flow", node)
                continue
            if not _fits(node, body):
                editor.fail("its body takes or gives another number of values than the node", node)
                continue
            count = _trips(node)
            if node.op_type == "Scan" and editor.graph.opset_imports.get("", _SCAN_OF_TODAY) < _SCAN_OF_TODAY:
                editor.fail("Scan of opset 8 has a batch of its own: export with opset 9 or newer", node)
            elif count is None or (node.op_type == "Loop" and not _goes_on(node, body)):
                editor.fail("the number of iterations depends on the data", node)
            elif not 0 < count <= self.most or count * len(body) > _MOST_NODES:
                editor.fail("it runs too often to be written out", node)
            else:
                _Unrolling(editor, node, body, count).run()
        return editor.result()


def _fits(node: Node, body: Graph) -> bool:
    """Whether the body of a node takes what it is given, and gives what is made of it."""
    attrs, scalars = attributes(node), 0
    given, made = len(node.inputs), len(node.outputs)
    if node.op_type == "Loop":
        states, scalars = given - 2, 1
        fits = len(body.inputs) == given
    else:
        sequences = int(attrs.get("num_scan_inputs", 0))
        states = given - sequences
        fits = 0 < sequences <= given and len(body.inputs) == given
        for name, count in (("input", sequences), ("output", made - states)):
            for what in ("axes", "directions"):
                fits = fits and len(attrs.get(f"scan_{name}_{what}") or [0] * count) == count
    return fits and 0 <= states <= made and len(body.outputs) == made + scalars


def _trips(node: Node) -> int | None:
    """Return how often a node repeats its body, None if that is not known."""
    if node.op_type == "Loop":
        most = constant(node.inputs[0])
        return None if most is None or most.size != 1 else int(most.reshape(-1)[0])
    attrs = attributes(node)
    sequences = list(node.inputs)[-int(attrs["num_scan_inputs"]) :]
    axes = attrs.get("scan_input_axes") or [0] * len(sequences)
    lengths = set()
    for value, axis in zip(sequences, axes, strict=True):
        held = constant(value)
        shape = held.shape if held is not None else value.shape if value is not None else None
        size = list(shape)[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        lengths.add(size if isinstance(size, int) else None)
    return lengths.pop() if len(lengths) == 1 else None


def _goes_on(node: Node, body: Graph) -> bool:
    """Whether the condition of a Loop is true at the beginning and stays so."""
    first = node.inputs[1] if len(node.inputs) > 1 else None
    held = constant(first)
    if first is not None and (held is None or not bool(np.all(held))):
        return False
    value: Value | None = body.outputs[0]
    while value is not None and is_standard(value.producer(), "Identity", "Cast"):
        maker = value.producer()
        value = maker.inputs[0] if maker is not None else None
    held = constant(value)
    return value is body.inputs[1] or (held is not None and bool(np.all(held)))


class _Unrolling:
    """One loop that is written out."""

    def __init__(self, editor: Editor, node: Node, body: Graph, count: int) -> None:
        self.editor, self.node, self.body, self.count = editor, node, body, count
        self.attrs = attributes(node)
        self.known = lift_body_constants(editor.graph, body)
        self.is_loop = node.op_type == "Loop"

    def run(self) -> None:
        """Copy the body, step by step."""
        node, body = self.node, self.body
        sequences = 0 if self.is_loop else int(self.attrs["num_scan_inputs"])
        given = list(node.inputs)[2:] if self.is_loop else list(node.inputs)[: len(node.inputs) - sequences]
        states = [value for value in given if value is not None]
        emitted: list[list[Value]] = [[] for _ in list(node.outputs)[len(states) :]]
        for step in range(self.count):
            known: dict[Value, Value] = dict(self.known)
            handed = [*states, *self._slices(step, sequences)]
            if self.is_loop:
                stem = f"{node.name}.step{step}"
                number = self.editor.constant(f"{stem}.number", np.asarray(step, np.int64))
                handed = [number, self.editor.constant(f"{stem}.goes_on", np.asarray(True)), *handed]
            known.update(zip(body.inputs, handed, strict=True))
            results, made = copy_body(self.editor.graph, node, body, known, f".step{step}")
            for copied in made:
                self.editor.adopt(copied)
            results = results[1:] if self.is_loop else results
            states, rest = results[: len(states)], results[len(states) :]
            for stack, value in zip(emitted, rest, strict=True):
                stack.append(value)
        finals = [*states, *(self._stacked(place, stack) for place, stack in enumerate(emitted))]
        for old, new in zip(node.outputs, finals, strict=True):
            if old.uses() or old.is_graph_output():
                own = new.producer() is not None and not old.is_graph_output()
                last = new if own else self._add("Identity", [new], f"{old.name}.last", {})
                self.editor.replace(UnrollLoops.name, old, last)
        release_body(body)
        self.editor.record(UnrollLoops.name, [node], note=f"{self.count} steps")

    def _slices(self, step: int, sequences: int) -> list[Value]:
        axes = self.attrs.get("scan_input_axes") or [0] * sequences
        backwards = self.attrs.get("scan_input_directions") or [0] * sequences
        result = []
        for place, value in enumerate(list(self.node.inputs)[len(self.node.inputs) - sequences :]):
            at = self.count - 1 - step if backwards[place] else step
            number = self.editor.constant(f"{self.node.name}.at{at}", np.asarray(at, np.int64))
            name = f"{self.node.name}.input{place}.step{step}"
            result.append(self._add("Gather", [value, number], name, {"axis": int(axes[place])}))
        return result

    def _stacked(self, place: int, values: list[Value]) -> Value:
        axes, backwards = (self.attrs.get(f"scan_output_{what}") or [] for what in ("axes", "directions"))
        axis = int(axes[place]) if place < len(axes) else 0
        if place < len(backwards) and backwards[place]:
            values = values[::-1]
        opset = self.editor.model.opset_imports.get("", 1)
        stem = f"{self.node.name}.output{place}"
        single = []
        for step, value in enumerate(values):
            attrs: dict[str, Any] = {}
            inputs: list[Value | None] = [value]
            if opset >= _AXES_ARE_INPUTS:
                inputs.append(self.editor.constant(f"{stem}.axes", np.asarray([axis], np.int64)))
            else:
                attrs["axes"] = [axis]
            single.append(self._add("Unsqueeze", inputs, f"{stem}.step{step}", attrs))
        return self._add("Concat", list(single), stem, {"axis": axis})

    def _add(
        self, op: str, inputs: list[Value | None] | list[Value], name: str, attrs: dict[str, Any]
    ) -> Value:
        like = inputs[0] if inputs and inputs[0] is not None else None
        dtype = like.dtype if like is not None else None
        return self.editor.add(self.node, op, list(inputs), attrs, name=name, dtype=dtype)
