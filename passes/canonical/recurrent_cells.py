"""One step of the cells of LSTM, GRU and RNN, written with standard operators of opset 17."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnc.ir import Node, Shape, Value, constant
from snnc.passes.editing import Array, Editor

__all__ = ["CELLS", "Cell", "CellWriter", "State", "functions", "gates_of", "prepare"]

#: Hidden state and, of an LSTM, cell state, each ``[batch, hidden]``; None stands for zeros.
State = tuple[Value | None, Value | None]

#: Activation functions of a cell by lower-case name: operator, and default of its parameters.
_FUNCTIONS: dict[str, tuple[str, dict[str, float]]] = {
    "elu": ("Elu", {"alpha": 1.0}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "leakyrelu": ("LeakyRelu", {"alpha": 0.01}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
    "thresholdedrelu": ("ThresholdedRelu", {"alpha": 1.0}),
}


def gates_of(op_type: str) -> int:
    """Return how many gates a cell of an operator has."""
    return {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]


@dataclass
class CellWriter:
    """Adds nodes for values ``[batch, width]`` in front of a recurrent node.

    Attributes:
        editor: Editor of the model.
        node: The node.
        batch: Size of the batch, a number or a symbol.
        stem: Stem of the names.
    """

    editor: Editor
    node: Node
    batch: Any
    stem: str

    def op(self, op_type: str, inputs: Sequence[Value | Array], width: int, **attrs: Any) -> Value:
        """Add a node with one output."""
        read = [
            self.editor.constant(f"{self.stem}.{op_type.lower()}", x) if isinstance(x, np.ndarray) else x
            for x in inputs
        ]
        shape = Shape([self.batch, width])
        name = f"{self.stem}.{op_type.lower()}"
        return self.editor.add(self.node, op_type, read, attrs, name=name, shape=shape)

    def part(self, value: Value, start: int, width: int) -> Value:
        """Take neighbouring columns."""
        if value.shape is not None and value.shape[1] == width:
            return value
        bounds = [np.array([n], np.int64) for n in (start, start + width, 1)]
        return self.op("Slice", [value, *bounds], width)


@dataclass
class Cell:
    """The weights of one direction, prepared, and what a step does with them.

    Attributes:
        hidden: Width of the state.
        recurrent: Weights of the state, ``[hidden, gates * hidden]``.
        bias: What is added to the product with the input, ``[gates * hidden]``.
        held: Bias of a GRU's candidate that its reset gate scales, None if it has none.
        functions: Operators with their attributes, by place.
        complement: Whether the gate that keeps the state is computed as its complement.
        before: A GRU's ``linear_before_reset``.
    """

    hidden: int
    recurrent: Value
    bias: Array
    held: Array | None
    functions: tuple[tuple[str, dict[str, float]], ...]
    complement: bool
    before: bool

    def activate(self, write: CellWriter, place: int, value: Value, width: int) -> Value:
        """Apply an activation function."""
        op_type, attrs = self.functions[place]
        return write.op(op_type, [value], width, **attrs)


def functions(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> tuple[tuple[str, dict[str, float]], ...] | str:
    """Return the operators of a node's activation functions, or why there are none.

    Parameters are handed out in order to the functions that have them, as onnxruntime does.
    """
    left = {"alpha": list(alphas), "beta": list(betas)}
    found = []
    for name in names:
        known = _FUNCTIONS.get(name.lower())
        if known is None:
            return f"its activation function {name} has no form here"
        op_type, defaults = known
        attrs = {key: float(left[key].pop(0)) if left[key] else value for key, value in defaults.items()}
        found.append((op_type, attrs))
    return tuple(found)


def prepare(
    write: CellWriter, op_type: str, weights: tuple[Array, Array, Array], kinds: Any, before: bool
) -> tuple[Array, Cell]:
    """Prepare the weights of a direction.

    Args:
        write: Writer of the direction.
        op_type: Operator.
        weights: W ``[gates * hidden, inputs]``, R ``[gates * hidden, hidden]``, B ``[2 * gates * hidden]``.
        kinds: Activation functions.
        before: ``linear_before_reset``.

    Returns:
        Weights of the input ``[inputs, gates * hidden]``, and the cell.
    """
    w, r, b = weights
    hidden = r.shape[1]
    bias_w, bias_r = b[: len(w)].copy(), b[len(w) :].copy()
    held = None
    if op_type == "GRU" and before:
        held, bias_r[2 * hidden :] = bias_r[2 * hidden :].copy(), 0
    bias = bias_w + bias_r
    # 1 - sigmoid(x) is sigmoid(-x): the state keeps what it has, only what it loses and gains is rounded.
    complement = op_type != "RNN" and kinds[0][0] == "Sigmoid"
    if complement:
        kept = slice(2 * hidden, 3 * hidden) if op_type == "LSTM" else slice(0, hidden)
        w, r = w.copy(), r.copy()
        w[kept], r[kept], bias[kept] = -w[kept], -r[kept], -bias[kept]
    recurrent = write.editor.constant(f"{write.stem}.recurrent", np.ascontiguousarray(r.T))
    return np.ascontiguousarray(w.T), Cell(hidden, recurrent, bias, held, kinds, complement, before)


def _sum(write: CellWriter, x: Value, h: Value | None, weights: Value | Array, width: int) -> Value:
    return x if h is None else write.op("Add", [x, write.op("MatMul", [h, weights], width)], width)


def _rnn(write: CellWriter, cell: Cell, x: Value, state: State) -> State:
    n = cell.hidden
    return cell.activate(write, 0, _sum(write, x, state[0], cell.recurrent, n), n), None


def _lstm(write: CellWriter, cell: Cell, x: Value, state: State) -> State:
    n, (h, c) = cell.hidden, state
    total = _sum(write, x, h, cell.recurrent, 4 * n)
    gates = cell.activate(write, 0, write.part(total, 0, 3 * n), 3 * n)
    gain = write.op(
        "Mul",
        [write.part(gates, 0, n), cell.activate(write, 1, write.part(total, 3 * n, n), n)],
        n,
    )
    new = gain
    if c is not None:
        share = write.op("Mul", [write.part(gates, 2 * n, n), c], n)
        kept = write.op("Sub", [c, share], n) if cell.complement else share
        new = write.op("Add", [kept, gain], n)
    return write.op("Mul", [write.part(gates, n, n), cell.activate(write, 2, new, n)], n), new


def _gru(write: CellWriter, cell: Cell, x: Value, state: State) -> State:
    n, h = cell.hidden, state[0]
    recurrent = constant(cell.recurrent)
    assert recurrent is not None
    first = write.part(x, 0, 2 * n)
    product = None
    if h is not None:
        # All columns at once where the reset gate comes behind the product, else without the candidate's.
        wanted: Value | Array = cell.recurrent if cell.before else _columns(write, cell, "gates", 0, 2 * n)
        product = write.op("MatMul", [h, wanted], 3 * n if cell.before else 2 * n)
        first = write.op("Add", [first, write.part(product, 0, 2 * n)], 2 * n)
    gates = cell.activate(write, 0, first, 2 * n)
    update, reset = write.part(gates, 0, n), write.part(gates, n, n)
    candidate = write.part(x, 2 * n, n)
    if cell.before:
        inner: Value | Array | None = cell.held if cell.held is not None and cell.held.any() else None
        if product is not None:
            last = write.part(product, 2 * n, n)
            inner = last if inner is None else write.op("Add", [last, inner], n)
        if inner is not None:
            candidate = write.op("Add", [candidate, write.op("Mul", [reset, inner], n)], n)
    elif h is not None:
        scaled = write.op("Mul", [reset, h], n)
        candidate = _sum(write, candidate, scaled, _columns(write, cell, "candidate", 2 * n, n), n)
    new = cell.activate(write, 1, candidate, n)
    change = new if h is None else write.op("Sub", [new, h], n)
    if cell.complement:
        step = write.op("Mul", [update, change], n)
        return (step if h is None else write.op("Add", [h, step], n)), None
    # new - z * (new - h)
    return write.op("Sub", [new, write.op("Mul", [update, change], n)], n), None


def _columns(write: CellWriter, cell: Cell, label: str, start: int, width: int) -> Value:
    """Return columns of the recurrent weights, one constant for all steps."""
    name = f"{cell.recurrent.name}.{label}"
    found = write.editor.graph.initializers.get(name)
    if found is not None:
        return found
    recurrent = constant(cell.recurrent)
    assert recurrent is not None
    return write.editor.constant(name, np.ascontiguousarray(recurrent[:, start : start + width]))


#: One step of each operator: writer, cell, what the input gives with the bias, state; returns the new state.
CELLS: dict[str, Callable[[CellWriter, Cell, Value, State], State]] = {
    "GRU": _gru,
    "LSTM": _lstm,
    "RNN": _rnn,
}
