"""Activation functions written as a choice between two branches: ``where(x > c, x, f(x))``."""

from __future__ import annotations

import math
from typing import Any

from snnc.ir import Node, Value, constant
from snnc.passes.editing import Editor, is_standard
from snnc.passes.recognise.normal_form import Form, normal_form

__all__ = ["recognise_choice"]

_GREATER, _LESS = ("Greater", "GreaterOrEqual"), ("Less", "LessOrEqual")
#: From here on log(1 + exp(x)) is x, to the last bit of a float32.
_SOFTPLUS_IS_LINEAR = 15.0
_CLOSE = 1e-3


def recognise_choice(editor: Editor, node: Node) -> None:
    """Replace a Where that chooses between a value and a function of it by one op, if the two make one.

    Those are Relu, LeakyRelu, Elu and Softplus guarded against overflow, with the branches and the
    comparison either way round.

    Args:
        editor: Of the graph.
        node: A Where.
    """
    guard = _guard(node)
    if guard is None:
        return
    value, other, bound, nodes = guard
    out = node.outputs[0]
    if value.shape is None or out.shape is None or list(value.shape) != list(out.shape):
        return
    form = normal_form(other, value)
    if form is None:
        return
    nodes = [*nodes, *form.nodes.values()]
    if form.structure == "Softplus(x)":
        outer, inner = form.numbers
        if abs(outer * inner - 1) <= _CLOSE and inner * bound >= _SOFTPLUS_IS_LINEAR:
            editor.replace("guarded softplus", out, other, removed=[node, *nodes])
        return
    if bound:
        return
    found = _function(form)
    if found is None:
        editor.fail("its two branches are no activation function that is known", node)
        return
    op_type, attrs = found
    name = editor.take_name(node)
    made = editor.add(node, op_type, [value], attrs, name=name, dtype=out.dtype, shape=out.shape)
    editor.replace("choice of branches", out, made, removed=[node, *nodes])
    editor.notes.append(f"{name}: {op_type}, written as a choice of branches")


def _guard(node: Node) -> tuple[Value, Value, float, list[Node]] | None:
    """Return x, f, c and the nodes of the comparison where a node chooses x above c and f(x) below."""
    condition, yes, no = node.inputs[:3]
    compares = condition.producer() if condition is not None else None
    if compares is None or yes is None or no is None or not is_standard(compares, *_GREATER, *_LESS):
        return None
    left, right = compares.inputs[:2]
    rises = compares.op_type in _GREATER
    if constant(left) is not None:
        left, right, rises = right, left, not rises
    held = constant(right)
    value, other = (yes, no) if rises else (no, yes)
    if held is None or held.size != 1 or left is None:
        return None
    # What is compared may be the value times a positive number, as torch's softplus with a beta has it.
    form = normal_form(left, value)
    if form is None or form.structure != "x" or form.numbers[0] <= 0:
        return None
    bound = float(held.reshape(-1)[0]) / form.numbers[0]
    return (value, other, bound, [compares, *form.nodes.values()]) if math.isfinite(bound) else None


def _function(form: Form) -> tuple[str, dict[str, Any]] | None:
    """Return the op that is x above zero and a form below."""
    numbers = form.numbers
    if not any(form.terms.values()):
        return "Relu", {}
    if form.structure == "x" and numbers[0] > 0:
        return "LeakyRelu", {"alpha": numbers[0]}
    if form.structure == "1 + Exp(x)":
        offset, factor, inner = numbers
        if factor > 0 and abs(offset / factor + 1) <= _CLOSE and abs(inner - 1) <= _CLOSE:
            return "Elu", {"alpha": factor}
    return None
