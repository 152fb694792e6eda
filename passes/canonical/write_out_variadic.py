"""Pass ``write-out-variadic``: Sum, Mean, Max, Min and Where become ops of two, or of one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from snnc.ir import Model, Node, Shape, Value, constant
from snnc.passes.canonical.chain import Chain, leave, same_batch, static_rest
from snnc.passes.canonical.computed_choice import choose_by_value
from snnc.passes.canonical.constant_choice import choose_by_constant
from snnc.passes.canonical.repeated_fill import repeated_fill
from snnc.passes.editing import Array, Editor, is_standard, joint_dims
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["WriteOutVariadic"]


@dataclass(frozen=True)
class WriteOutVariadic:
    """Write sums, means, maxima and minima of several values with ops that have a form with spikes.

    A sum is a chain of Add; a maximum with a number is Clip, with a constant tensor a shifted Relu, with a
    multiple of the same value LeakyRelu; the maximum of two values is a MaxPool over both beside each other.
    A choice by a constant mask is a product with zeros and ones, and a sum. A choice by a value between this
    value and a constant that differs between elements is two choices between single numbers.

    Matches:
        Sum, Mean, Max and Min; Where by a constant mask, or of one value and constants.
    Leaves alone:
        "its sizes are not static"; "it has no operands that vary".
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "write-out-variadic"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        order = {id(node): place for place, node in enumerate(model.graph)}
        for node in list(model.graph):
            if is_standard(node, "Sum", "Mean", "Max", "Min", "Where"):
                if node.op_type != "Where":
                    reason = _rewrite(editor, node)
                elif constant(node.inputs[0]) is None and repeated_fill(node.inputs[0]) is None:
                    reason = choose_by_value(editor, node, order)
                else:
                    reason = choose_by_constant(editor, node)
                if reason is not None:
                    leave(editor, node, reason)
        return editor.result()


def _rewrite(editor: Editor, node: Node) -> str | None:
    operands = [value for value in node.inputs if value is not None]
    varying = [value for value in operands if constant(value) is None]
    out = node.outputs[0]
    if not varying or out.dtype is None or not out.dtype.is_floating_point():
        return "it has no operands that vary"
    held = [array for value in operands if (array := constant(value)) is not None]
    if node.op_type in ("Sum", "Mean"):
        _sum(editor, node, varying, held, len(operands))
        return None
    if static_rest(out) is None:
        return "its sizes are not static"
    chain = Chain(editor, node, varying[0])
    for other in varying[1:]:
        reason = _pair(editor, node, chain, other)
        if reason is not None:
            return reason
    for array in held:
        _with_constant(editor, node, chain, array)
    chain.finish(f"{node.op_type} written out")
    return None


def _sum(editor: Editor, node: Node, varying: list[Value], held: list[Array], count: int) -> None:
    chain = Chain(editor, node, varying[0])
    for other in varying[1:]:
        chain.append("Add", [other], joint_dims(chain.dims, list(other.shape or ())))
    if held:
        total = np.asarray(sum(array.astype(np.float64) for array in held))
        dims = joint_dims(chain.dims, list(total.shape))
        chain.append("Add", [total.astype(np.float32)], dims)
    if node.op_type == "Mean":
        chain.scale(np.array(1 / count))
    chain.finish(f"{node.op_type} written out")


def _with_constant(editor: Editor, node: Node, chain: Chain, array: Array) -> None:
    least = node.op_type == "Min"
    number = np.asarray(array, dtype=np.float32)
    before, chain.dims = chain.dims, joint_dims(chain.dims, list(number.shape))
    alike = number.size > 0 and chain.dims == before and bool((number == number.flat[0]).all())
    if number.size == 1 or alike:
        # Differences to the lowest of all numbers, which a mask may hold, are no floats any more.
        bound = editor.constant(f"{node.name}.bound", number.reshape(-1)[0].reshape(()))
        chain.append("Clip", [None, bound] if least else [bound])
    elif least:
        # min(x, c) = c - relu(c - x)
        chain.append("Neg").append("Add", [number], chain.dims).append("Relu").append("Neg").shift(number)
    else:
        chain.append("Add", [-number], chain.dims).append("Relu").shift(number)


def _pair(editor: Editor, node: Node, chain: Chain, other: Value) -> str | None:
    """Maximum or minimum of two values that vary."""
    first, least = chain.value, node.op_type == "Min"
    if first is other:
        return None
    leaky = None if least else (_multiple(first, other) or _multiple(other, first))
    if leaky is not None:
        source, slope = leaky
        chain.value = source
        chain.dead += [maker for value in (first, other) if (maker := value.producer()) is not None]
        if slope <= 1:
            chain.append("LeakyRelu", alpha=slope)
        else:
            chain.append("LeakyRelu", alpha=1 / slope).scale(np.array(slope))
        return None
    dims = joint_dims(chain.dims, list(other.shape or ()))
    second = Chain(editor, node, other)
    batch = dims[0]
    if any(not isinstance(size, int) for size in dims[1:]):
        return "its sizes are not static"
    rest = [int(size) for size in dims[1:]]
    # Asked of both before anything is added: a node that stays leaves the graph as it was.
    if any(len(side.dims) != len(dims) or not same_batch(side.dims[0], batch) for side in (chain, second)):
        return "its operands differ in their batch"
    for side in (chain, second):
        if least:
            side.append("Neg")
        if side.dims[1:] != rest:
            target = np.array([1, *rest], dtype=np.int64)
            side.append("Expand", [target], dims)
        side.reshape([prod(rest), 1])
    stacked = editor.add(
        node,
        "Concat",
        [chain.value, second.value],
        {"axis": 2},
        name=f"{node.name}.pair",
        dtype=node.outputs[0].dtype,
        shape=Shape([batch, prod(rest), 2]),
    )
    chain.value, chain.dims = stacked, [batch, prod(rest), 2]
    chain.append("MaxPool", (), [batch, prod(rest), 1], kernel_shape=[2]).reshape(rest)
    if least:
        chain.append("Neg")
    return None


def _multiple(value: Value, other: Value) -> tuple[Value, float] | None:
    """Return x and k where one value is x and the other k · x."""
    product = other.producer()
    if product is None or not is_standard(product, "Mul"):
        return None
    for place in (0, 1):
        factor = constant(product.inputs[1 - place])
        if product.inputs[place] is value and factor is not None and factor.size == 1:
            return value, float(factor.reshape(-1)[0])
    return None
