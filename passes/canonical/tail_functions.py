"""Functions behind the readout, written with operators whose kernels treat every element alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snnc.ir import DataType, Node, Shape, Value, attributes, constant, consumers_of
from snnc.passes.editing import Editor, is_standard, rank_of

__all__ = [
    "ABOVE_ZERO",
    "BOUNDS",
    "KERNELS",
    "TAIL_FUNCTIONS",
    "WRITTEN",
    "drop_guard",
    "guard_of",
    "write_function",
]

#: From here on softplus(x) and x are one number of float32: e^-17 is half a unit in the last place of 17.
_LINEAR_FROM = 17.0
#: From this opset on ReduceLogSum reads its axes.
_AXES_ARE_AN_INPUT = 18


class _Writer:
    """Adds float operators of one shape in front of a node, and keeps what it added.

    Args:
        editor: Of the model.
        node: The function of one value that is written out.
    """

    def __init__(self, editor: Editor, node: Node) -> None:
        source = node.inputs[0]
        assert source is not None
        self.editor, self.node, self.source = editor, node, source
        self.added: list[Node] = []

    def number(self, number: float) -> Value:
        return self.editor.constant(f"{self.node.name}_number", np.array(number, np.float32))

    def add(self, op: str, *inputs: Value | float, shape: Shape | None = None, **attrs: Any) -> Value:
        """Add an operator; numbers become constants. The result has the shape of the function's."""
        values = [entry if isinstance(entry, Value) else self.number(entry) for entry in inputs]
        return self._place(op, values, attrs, shape if shape is not None else self.node.outputs[0].shape)

    def log(self, value: Value) -> Value:
        """Add a logarithm.

        The kernel of Log rounds otherwise in the last places of a tensor than in vectors before them; the
        logarithm of a sum over an axis of one entry is taken element by element.
        """
        rank = rank_of(value)
        assert rank is not None and value.shape is not None
        axis = self.editor.constant(f"{self.node.name}_axis", np.array([rank], np.int64))
        column = self._place("Unsqueeze", [value, axis], {}, Shape([*value.shape, 1]))
        if self.editor.graph.opset_imports.get("", 17) >= _AXES_ARE_AN_INPUT:
            return self.add("ReduceLogSum", column, axis, keepdims=0)
        return self.add("ReduceLogSum", column, axes=[rank], keepdims=0)

    def _place(self, op: str, inputs: Sequence[Value], attrs: dict[str, Any], shape: Shape | None) -> Value:
        name = f"{self.node.name}_{op.lower()}"
        made = self.editor.add(self.node, op, inputs, attrs, name=name, dtype=DataType.FLOAT, shape=shape)
        producer = made.producer()
        assert producer is not None
        self.added.append(producer)
        return made


def _softplus(writer: _Writer) -> Value:
    """Return max(x, 0) + log(1 + e^-|x|)."""
    decay = writer.add("Exp", writer.add("Neg", writer.add("Abs", writer.source)))
    return writer.add("Add", writer.add("Relu", writer.source), writer.log(writer.add("Add", decay, 1.0)))


def _exponential(writer: _Writer, alpha: float, inner: float, outer: float) -> Value:
    """Return outer * (max(x, 0) + alpha * (e^(min(x, 0) / inner) - 1))."""
    below = writer.add("Min", writer.source, 0.0)
    below = below if inner == 1.0 else writer.add("Div", below, inner)
    below = writer.add("Mul", writer.add("Sub", writer.add("Exp", below), 1.0), alpha)
    result = writer.add("Add", writer.add("Relu", writer.source), below)
    return result if outer == 1.0 else writer.add("Mul", result, outer)


def _elu(writer: _Writer) -> Value:
    return _exponential(writer, float(attributes(writer.node).get("alpha", 1.0)), 1.0, 1.0)


def _celu(writer: _Writer) -> Value:
    alpha = float(attributes(writer.node).get("alpha", 1.0))
    return _exponential(writer, alpha, alpha, 1.0)


def _selu(writer: _Writer) -> Value:
    attrs = attributes(writer.node)
    alpha, gamma = (
        attrs.get("alpha", 1.67326319217681884765625),
        attrs.get("gamma", 1.05070102214813232421875),
    )
    return _exponential(writer, float(alpha), 1.0, float(gamma))


def _log(writer: _Writer) -> Value:
    return writer.log(writer.source)


#: Functions whose kernels round an element otherwise in other places of a tensor or in other batches.
WRITTEN: dict[str, Callable[[_Writer], Value]] = {
    "Celu": _celu, "Elu": _elu, "Log": _log, "Selu": _selu, "Softplus": _softplus,
}  # fmt: skip
#: Functions of one value: a code of their results would be far coarser than the logits that they read.
TAIL_FUNCTIONS = ("Exp", "HardSigmoid", "Sigmoid", "Sqrt", "Tanh", *WRITTEN)
#: What they consist of once they are written.
KERNELS = ("Exp", "HardSigmoid", "ReduceLogSum", "Sigmoid", "Sqrt", "Tanh")
#: Functions that are finite above zero only, which a rounded sum may reach where the source does not.
ABOVE_ZERO = ("Log", "Sqrt")
#: What bounds a value in front of a function, and is to bound it as exactly as the source does.
BOUNDS = ("Abs", "Clip", "Relu")


def write_function(editor: Editor, node: Node) -> list[Node] | None:
    """Write a node of `WRITTEN` as operators that give every element the same bits at all places.

    Args:
        editor: Of the model.
        node: The node; it goes.

    Returns:
        The operators, in order; None if the node's rank is not known, and it stays.
    """
    if rank_of(node.inputs[0]) is None:
        return None
    writer = _Writer(editor, node)
    result = WRITTEN[node.op_type](writer)
    rule = f"write {node.op_type} for the host"
    editor.replace(rule, node.outputs[0], result, removed=[node])
    return writer.added


def guard_of(node: Node) -> Node | None:
    """Return the choice of x above a threshold that exporters write behind a Softplus, where both are equal.

    Args:
        node: A Softplus of x, or of x times a constant that its result is divided by.
    """
    inner, results = node.inputs[0], [node.outputs[0]]
    results += [reader.outputs[0] for reader in consumers_of(results[0]) if is_standard(reader, "Div")]
    for value in results:
        for reader in consumers_of(value):
            if not is_standard(reader, "Where") or reader.inputs[2] is not value:
                continue
            condition, kept = (reader.inputs[0], reader.inputs[1])
            compared = condition.producer() if condition is not None else None
            if (
                is_standard(compared, "Greater")
                and compared is not None
                and compared.inputs[0] is inner
                and _least(compared.inputs[1]) >= _LINEAR_FROM
                and (kept is inner if value is results[0] else _undoes(value.producer(), inner, kept))
            ):
                return reader
    return None


def drop_guard(editor: Editor, guard: Node) -> None:
    """Drop what `guard_of` found: the function itself is x there, to the last bit but one of float32."""
    value, condition = guard.inputs[2], guard.inputs[0]
    assert value is not None and condition is not None
    compared = condition.producer()
    assert compared is not None
    editor.replace("drop the guard of a Softplus", guard.outputs[0], value, removed=[guard, compared])


def _least(value: Value | None) -> float:
    held = constant(value)
    return float(held.min()) if held is not None and held.size else -np.inf


def _undoes(divided: Node | None, scaled: Value | None, source: Value | None) -> bool:
    """Whether a Div is by the constant that ``source`` was multiplied by to give ``scaled``."""
    made = scaled.producer() if scaled is not None else None
    if divided is None or made is None or not is_standard(made, "Mul") or made.inputs[0] is not source:
        return False
    first, second = constant(divided.inputs[1]), constant(made.inputs[1])
    return first is not None and second is not None and np.array_equal(first, second)
