"""Results of recurrent layers that were written out, in the layouts that their readers want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.ir import Node, Shape, Value, attributes, constant, consumers_of
from snnc.passes.canonical.recurrent_cells import State
from snnc.passes.editing import Editor, is_standard

__all__ = ["BATCH_FIRST", "Results"]

#: Order of axes that brings the batch of a sequence to the front.
BATCH_FIRST = [1, 0, 2]


@dataclass
class Results:
    """Lets what the steps give take the place of a node's results.

    Attributes:
        editor: Editor of the model.
        node: The recurrent node.
        rule: Name of the rule, for the record.
        steps: Number of steps.
        batch: Size of the batch, a number or a symbol.
        hidden: Width of the state.
        layout: 1 where the node has the batch in front, else 0.
        batch_first: Sequences with the batch in front, by the sequence with the steps in front; added to.
    """

    editor: Editor
    node: Node
    rule: str
    steps: int
    batch: Any
    hidden: int
    layout: int
    batch_first: dict[Value, Value]

    def write(self, sequences: list[list[Value]], ends: list[State]) -> None:
        """Write the results: outputs of each direction and step, last states of each direction."""
        node = self.node
        outputs = [*node.outputs, None, None][:3]
        for place, out in enumerate(outputs):
            if out is None or not (out.uses() or out.is_graph_output()):
                continue
            made = self._sequence(out, sequences) if place == 0 else None
            if place:
                values = [state[place - 1] for state in ends]
                made = self._stack([value for value in values if value is not None], self.layout)
            if made is not None:
                self.editor.replace(self.rule, out, made)
        self.editor.record(self.rule, [node], note=f"{self.steps} steps")

    def _stack(self, values: list[Value], axis: int) -> Value:
        """Put values ``[batch, hidden]`` beside each other along a new axis."""
        parts = [self._unsqueezed(value, axis, [self.batch, self.hidden]) for value in values]
        dims: list[Any] = [self.batch, self.hidden]
        dims.insert(axis, len(values))
        return self._joined(parts, axis, dims)

    def _unsqueezed(self, value: Value, axis: int, dims: list[Any]) -> Value:
        shape = [*dims[:axis], 1, *dims[axis:]]
        axes = self.editor.constant(f"{self.node.name}.axis", np.array([axis], np.int64))
        return self.editor.add(
            self.node, "Unsqueeze", [value, axes], name=f"{value.name}.single", shape=Shape(shape)
        )

    def _joined(self, parts: list[Value], axis: int, dims: list[Any]) -> Value:
        if len(parts) == 1:
            return parts[0]
        return self.editor.add(
            self.node, "Concat", parts, {"axis": axis}, name=f"{self.node.name}.stack", shape=Shape(dims)
        )

    def _sequence(self, out: Value, sequences: list[list[Value]]) -> Value | None:
        """Return the outputs of all steps in the place of the node's first result."""
        count, both = len(sequences), len(sequences) * self.hidden
        steps = [self._beside([outputs[step] for outputs in sequences], step) for step in range(self.steps)]
        dims = [self.batch, self.steps, both]
        parts = [self._unsqueezed(value, 1, [self.batch, both]) for value in steps]
        samples = self._joined(parts, 1, dims)
        if self.layout:
            return self._reshaped(samples, [self.batch, self.steps, count, self.hidden])
        parts = [self._unsqueezed(value, 0, [self.batch, both]) for value in steps]
        stacked = self._joined(parts, 0, [self.steps, self.batch, both])
        shape = Shape([self.steps, self.batch, both])
        name = f"{self.node.name}.steps"
        first = self.editor.add(
            self.node, "Transpose", [samples], {"perm": BATCH_FIRST}, name=name, shape=shape
        )
        self.batch_first.update({stacked: samples, first: samples})
        for flat in self._flat(out, count):
            for reader in consumers_of(flat):
                if is_standard(reader, "Transpose") and attributes(reader).get("perm") == BATCH_FIRST:
                    self.editor.replace(self.rule, reader.outputs[0], samples, removed=[reader])
                elif _takes_steps(reader):
                    reader.replace_input_with(0, stacked)
            if flat.uses() or flat.is_graph_output():
                self.editor.replace(self.rule, flat, first)
        if not (out.uses() or out.is_graph_output()):
            return None
        apart = self._reshaped(first, [self.steps, self.batch, count, self.hidden])
        attrs = {"perm": [0, 2, 1, 3]}
        shape = Shape([self.steps, count, self.batch, self.hidden])
        return self.editor.add(
            self.node, "Transpose", [apart], attrs, name=f"{self.node.name}.y", shape=shape
        )

    def _flat(self, out: Value, count: int) -> list[Value]:
        """Return the values that are the first result as ``[steps, batch, directions * hidden]``."""
        found = []
        for reader in consumers_of(out):
            after = reader.outputs[0]
            if is_standard(reader, "Transpose") and attributes(reader).get("perm") == [0, 2, 1, 3]:
                found += [
                    last.outputs[0]
                    for last in consumers_of(after)
                    if is_standard(last, "Reshape") and self._is_flat(last.outputs[0], count)
                ]
            elif count == 1 and is_standard(reader, "Squeeze", "Reshape") and self._is_flat(after, count):
                found.append(after)
        return found

    def _is_flat(self, value: Value, count: int) -> bool:
        dims = list(value.shape) if value.shape is not None else []
        return len(dims) == 3 and dims[0] == self.steps and dims[2] == count * self.hidden

    def _beside(self, values: list[Value], step: int) -> Value:
        """Put the outputs of both directions beside each other."""
        if len(values) == 1:
            return values[0]
        shape = Shape([self.batch, len(values) * self.hidden])
        name = f"{self.node.name}.both{step}"
        return self.editor.add(self.node, "Concat", values, {"axis": 1}, name=name, shape=shape)

    def _reshaped(self, value: Value, dims: list[Any]) -> Value:
        # 0 keeps an extent: the batch stays free.
        target = np.array([size if isinstance(size, int) else 0 for size in dims], np.int64)
        held = self.editor.constant(f"{self.node.name}.sizes", target)
        return self.editor.add(
            self.node, "Reshape", [value, held], name=f"{self.node.name}.apart", shape=Shape(dims)
        )


def _takes_steps(node: Node) -> bool:
    """Whether a node takes some steps out of a sequence with the steps in front."""
    if is_standard(node, "Gather", "Split"):
        return int(attributes(node).get("axis", 0)) == 0
    axes = constant(node.inputs[3]) if is_standard(node, "Slice") and len(node.inputs) > 3 else None
    return axes is not None and axes.reshape(-1).tolist() == [0]
