"""Pass ``write-out-recurrent``: LSTM, GRU and RNN over a known number of steps are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, attributes, constant
from snnc.ir.hosting import is_sealed
from snnc.passes.canonical.chain import leave
from snnc.passes.canonical.fix_sizes import OPEN_SIZES
from snnc.passes.canonical.keep_on_host import is_asked, why_not_hosted
from snnc.passes.canonical.recurrent_cells import CELLS, Cell, CellWriter, State, functions, gates_of, prepare
from snnc.passes.canonical.recurrent_results import BATCH_FIRST, Results
from snnc.passes.canonical.repeated_fill import repeated_fill
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["RECURRENT_OPS", "WriteOutRecurrent"]

RECURRENT_OPS = ("LSTM", "GRU", "RNN")
_NAMES = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@dataclass(frozen=True)
class WriteOutRecurrent:
    """Write the cell of a recurrent layer once for each step and direction.

    The product with the input is one for all steps. The gate that keeps the state is computed as its
    complement, so that the state is a sum of what it gains and loses, in real arithmetic the same.

    Matches:
        LSTM, GRU and RNN of the standard domain with constant weights and a known number of steps.
    Leaves alone:
        "its sequence length is not known", "it runs over ... steps", "its ... are not constant",
        "its samples have lengths of their own", "it clips ...", "it has peepholes", and activation functions
        that no operator stands for; refused later. Nodes that the user allows to stay on the host.
    Keeps:
        The names of the results.

    Attributes:
        allow_host: Operators and nodes that stay in float on the host.
        most: Most steps that one node is written out for, all directions together.
    """

    allow_host: tuple[str, ...] = ()
    most: int = whole(512, 0, 2**16)

    name: ClassVar[str] = "write-out-recurrent"
    requires: ClassVar[frozenset[str]] = frozenset(
        {"sorted", "constants-folded", "unique-names", "shapes-known"}
    )
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        batch_first: dict[Value, Value] = {}
        for node in [entry for entry in model.graph if is_standard(entry, *RECURRENT_OPS)]:
            if is_sealed(node) or (is_asked(node, self.allow_host) and why_not_hosted(node) is None):
                continue
            layer = _Layer(editor, node, batch_first)
            reason = layer.check(self.most) or layer.write()
            if reason is not None:
                leave(editor, node, reason)
        return editor.result()


class _Layer:
    """One recurrent node.

    Args:
        editor: Editor of the model.
        node: The node.
        batch_first: Sequences with the batch in front, by the sequence with the steps in front.
    """

    def __init__(self, editor: Editor, node: Node, batch_first: dict[Value, Value]) -> None:
        self.editor, self.node, self.batch_first = editor, node, batch_first
        self.attrs = attributes(node)
        direction = str(self.attrs.get("direction", "forward"))
        self.backwards = {"forward": [False], "reverse": [True]}.get(direction, [False, True])
        self.layout = int(self.attrs.get("layout", 0))
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        self.dims: list[Any] = list(shape) if shape is not None else []
        self.weights: list[Array] = []
        self.functions: Any = ()

    def _given(self, place: int) -> Value | None:
        return self.node.inputs[place] if place < len(self.node.inputs) else None

    def check(self, most: int) -> str | None:
        """Return why the node is not written out, None if it is."""
        op, count = self.node.op_type, len(self.backwards)
        if len(self.dims) != 3 or not isinstance(self.dims[self.layout], int):
            return f"its sequence length is not known: {OPEN_SIZES}"
        self.steps = int(self.dims[self.layout])
        self.batch = self.dims[1 - self.layout]
        if not 0 < self.steps * count <= most:
            ways = " in both directions" if count == 2 else ""
            return (
                f"it runs over {self.steps} steps{ways}, each of which is written out; {most} are the most: "
                f"cut sequences into pieces, or keep it in float with --allow-host {op}"
            )
        held = [constant(self._given(place)) for place in (1, 2)]
        if held[0] is None or held[1] is None:
            return "its weights are not constant"
        bias = constant(self._given(3))
        if bias is None and self._given(3) is not None:
            return "its bias is not constant"
        self.hidden = held[1].shape[2]
        width = gates_of(op) * self.hidden
        self.weights = [held[0], held[1], np.zeros((count, 2 * width), np.float32) if bias is None else bias]
        lengths = repeated_fill(self._given(4))
        if self._given(4) is not None and (lengths is None or bool(np.any(lengths != self.steps))):
            return (
                "its samples have lengths of their own: leave sequence_lens out, and pad or cut the samples"
            )
        if "clip" in self.attrs:
            return "it clips the inputs of its activation functions"
        if int(self.attrs.get("input_forget", 0)):
            return "its input gate is made of its forget gate (input_forget)"
        peepholes = self._given(7)
        held_peepholes = constant(peepholes)
        if peepholes is not None and (held_peepholes is None or held_peepholes.any()):
            return "it has peepholes"
        names = self.attrs.get("activations") or _NAMES[op] * count
        found = functions(
            [str(name) for name in names],
            self.attrs.get("activation_alpha") or [],
            self.attrs.get("activation_beta") or [],
        )
        if isinstance(found, str):
            return found
        self.functions = found
        return None

    def write(self) -> str | None:
        """Write all steps, and let the results take the place of the node's."""
        node, each = self.node, len(_NAMES[self.node.op_type])
        source = self._source()
        sequences: list[list[Value]] = []
        ends: list[State] = []
        for place, backwards in enumerate(self.backwards):
            kinds = self.functions[place * each : (place + 1) * each]
            stem = f"{node.name}.backwards" if backwards else f"{node.name}"
            write = CellWriter(self.editor, node, self.batch, stem)
            w, cell = prepare(
                write,
                node.op_type,
                (self.weights[0][place], self.weights[1][place], self.weights[2][place]),
                kinds,
                bool(self.attrs.get("linear_before_reset", 0)),
            )
            outputs, state = self._direction(stem, source, w, cell, place, backwards)
            sequences.append(outputs)
            ends.append(state)
        Results(
            self.editor,
            node,
            WriteOutRecurrent.name,
            self.steps,
            self.batch,
            self.hidden,
            self.layout,
            self.batch_first,
        ).write(sequences, ends)
        return None

    def _direction(
        self, stem: str, source: Value, w: Array, cell: Cell, place: int, backwards: bool
    ) -> tuple[list[Value], State]:
        editor, node, width = self.editor, self.node, w.shape[1]
        dims = [self.batch, self.steps, width]
        whole = editor.add(
            node,
            "MatMul",
            [source, editor.constant(f"{stem}.w", w)],
            name=f"{stem}.inputs",
            shape=Shape(dims),
        )
        if cell.bias.any():
            bias = editor.constant(f"{stem}.b", cell.bias)
            whole = editor.add(node, "Add", [whole, bias], name=f"{stem}.biased", shape=Shape(dims))
        state: State = (self._initial(5, place), self._initial(6, place) if node.op_type == "LSTM" else None)
        order = range(self.steps - 1, -1, -1) if backwards else range(self.steps)
        made: dict[int, Value] = {}
        for step in order:
            write = CellWriter(editor, node, self.batch, f"{stem}.step{step}")
            x = write.op("Gather", [whole, np.asarray(step, np.int64)], width, axis=1)
            state = CELLS[node.op_type](write, cell, x, state)
            assert state[0] is not None
            made[step] = state[0]
        return [made[step] for step in range(self.steps)], state

    def _source(self) -> Value:
        """Return the input with the batch in front."""
        value = self.node.inputs[0]
        assert value is not None
        if self.layout:
            return value
        known = self.batch_first.get(value)
        if known is not None:
            return known
        maker = value.producer()
        before = maker.inputs[0] if maker is not None and is_standard(maker, "Transpose") else None
        if maker is not None and before is not None and attributes(maker).get("perm") == BATCH_FIRST:
            return before
        shape = Shape([self.batch, self.steps, self.dims[2]])
        attrs = {"perm": BATCH_FIRST}
        made = self.editor.add(
            self.node, "Transpose", [value], attrs, name=f"{self.node.name}.samples", shape=shape
        )
        self.batch_first[value] = made
        return made

    def _initial(self, place: int, direction: int) -> Value | None:
        """Return a direction's initial state, ``[batch, hidden]``; None for zeros."""
        value = self._given(place)
        if value is None:
            return None
        name = f"{self.node.name}.initial{place}"
        axis = 1 if self.layout else 0
        held = repeated_fill(value)
        if held is not None:
            held = np.take(held, direction, axis=axis)
            return self.editor.constant(name, held) if held.any() else None
        number = self.editor.constant(f"{name}.direction", np.asarray(direction, np.int64))
        shape = Shape([self.batch, self.hidden])
        return self.editor.add(self.node, "Gather", [value, number], {"axis": axis}, name=name, shape=shape)
