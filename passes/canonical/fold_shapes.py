"""Pass ``fold-shapes``: computations on static dimensions become constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import DataType, Model, Node, Value, attributes, constant, make_node
from snnc.passes.editing import Editor, is_output, is_standard, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FoldShapes"]

#: An element of a shape: a number, the name of a symbolic dimension, or None for something else.
Atom = int | str | None
Atoms = tuple[Atom, ...]
_MOST_ATOMS = 64


def _dims(value: Value | None) -> Atoms | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)


def _shape(node: Node, _: Sequence[Atoms | None]) -> Atoms | None:
    dims = _dims(node.inputs[0])
    if dims is None:
        return None
    attrs = attributes(node)
    return dims[attrs.get("start", 0) : attrs.get("end")]


def _fit(numbers: list[int], dtype: np.dtype[Any]) -> bool:
    if dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return all(limits.min <= number <= limits.max for number in numbers)


def _numbers(atoms: Atoms | None) -> list[int] | None:
    if atoms is None:
        return None
    numbers = [atom for atom in atoms if isinstance(atom, int)]
    return numbers if len(numbers) == len(atoms) else None


def _gather(node: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    data, index = inputs[0], _numbers(inputs[1])
    if data is None or index is None or any(not -len(data) <= entry < len(data) for entry in index):
        return None
    return tuple(data[entry] for entry in index)


def _slice(node: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    bounds = [_numbers(entry) for entry in inputs[1:]]
    if inputs[0] is None or len(bounds) < 2 or any(bound is None or len(bound) != 1 for bound in bounds):
        return None
    start, end = (bound[0] for bound in bounds[:2] if bound is not None)
    step = bounds[3][0] if len(bounds) > 3 and bounds[3] is not None else 1
    return inputs[0][start:end:step] if step > 0 else None


def _concat(_: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    joined: list[Atom] = []
    for entry in inputs:
        if entry is None:
            return None
        joined += entry
    return tuple(joined)


def _same(_: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    return inputs[0]


def _neutral(neutral: int | None, a: Atom, b: Atom) -> Atom:
    """Return what an operation with its neutral element leaves of an open dimension."""
    return (a if b == neutral else b if a == neutral else None) if neutral is not None else None


def _pairwise(
    operation: Callable[[int, int], int], neutral: int | None = None
) -> Callable[[Node, Sequence[Atoms | None]], Atoms | None]:
    def rule(_: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
        left, right = inputs[0], inputs[1]
        if left is None or right is None:
            return None
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            return None
        size = max(len(left), len(right))
        pairs = zip(
            left * (size if len(left) == 1 else 1), right * (size if len(right) == 1 else 1), strict=True
        )
        return tuple(
            operation(a, b) if isinstance(a, int) and isinstance(b, int) else _neutral(neutral, a, b)
            for a, b in pairs
        )

    return rule


def _product(_: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    numbers = _numbers(inputs[0])
    return None if numbers is None else (math.prod(numbers),)


def _equal(_: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    left, right = inputs[0], inputs[1]
    if left is None or right is None or len(left) != len(right):
        return None
    return tuple(_same_atom(a, b) for a, b in zip(left, right, strict=True))


def _same_atom(a: Atom, b: Atom) -> int | None:
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    if a is None or b is None:
        return None
    if isinstance(a, str) and isinstance(b, str):
        return 1 if a == b else None
    # An open dimension is no negative number.
    number = a if isinstance(a, int) else b
    return 0 if isinstance(number, int) and number < 0 else None


def _where(_: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    choice, left, right = inputs
    if choice is None or left is None or right is None or not len(choice) == len(left) == len(right):
        return None
    if any(flag is None for flag in choice):
        return None
    return tuple(a if flag else b for flag, a, b in zip(choice, left, right, strict=True))


def _constant_of_shape(node: Node, inputs: Sequence[Atoms | None]) -> Atoms | None:
    extents = _numbers(inputs[0])
    fill = attributes(node).get("value", np.zeros(1, dtype=np.float32))
    if extents is None or len(extents) != 1 or not 0 <= extents[0] <= _MOST_ATOMS:
        return None
    return (int(fill.reshape(-1)[0]),) * extents[0]


def _divide(a: int, b: int) -> int:
    # ONNX divides integers towards zero; -(-a // b), which rounds up elsewhere, has a negative one.
    quotient = abs(a) // abs(b) if b else 0
    return quotient if (a < 0) == (b < 0) else -quotient


_RULES: dict[str, Callable[[Node, Sequence[Atoms | None]], Atoms | None]] = {
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Cast": _same,
    "Identity": _same,
    "Reshape": _same,
    "Mul": _pairwise(lambda a, b: a * b, 1),
    "Add": _pairwise(lambda a, b: a + b, 0),
    "Sub": _pairwise(lambda a, b: a - b),
    "Div": _pairwise(_divide),
    "ReduceProd": _product,
    "Equal": _equal,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
}


def _literal(value: Value | None) -> Atoms | None:
    array = constant(value)
    if array is None or array.ndim > 1 or array.size > _MOST_ATOMS or array.dtype.kind not in "iu":
        return None
    return tuple(int(entry) for entry in array.reshape(-1))


def _expand(editor: Editor, node: Node, atoms: Atoms | None) -> None:
    """Compute the target of an Expand along the batch from the network input itself, in the shortest way."""
    target = node.inputs[1]
    if atoms is None or target is None or constant(target) is not None or not isinstance(atoms[0], str):
        return
    rest = _numbers(atoms[1:])
    source = next((value for value in editor.graph.inputs if (_dims(value) or (None,))[0] == atoms[0]), None)
    if rest is None or source is None or _is_batch(target, source):
        return
    stem = node.name or "Expand"

    def made(op: str, inputs: Sequence[Value], length: int, label: str, axis: int | None) -> Value:
        attrs = None if axis is None else {"axis": axis}
        name = f"{stem}.{label}"
        return editor.add(node, op, inputs, attrs, name=name, dtype=DataType.INT64, shape=[length])

    shape = made("Shape", [source], len(_dims(source) or ()), "shape", None)
    zero = editor.constant(f"{stem}.axis", np.array([0], dtype=np.int64))
    batch = made("Gather", [shape, zero], 1, "batch", 0)
    others = editor.constant(f"{stem}.extents", np.array(rest, dtype=np.int64))
    extents = made("Concat", [batch, others], len(atoms), "target", 0)
    producer = target.producer()
    node.replace_input_with(1, extents)
    editor.record("fold-expand", [producer] if producer is not None else [])


def _is_batch(target: Value, source: Value) -> bool:
    """Return whether a target is already the batch of a network input and constants."""
    concat = target.producer()
    first = concat.inputs[0] if concat is not None and concat.op_type == "Concat" else None
    gather = first.producer() if first is not None else None
    shape = gather.inputs[0] if gather is not None and gather.op_type == "Gather" else None
    origin = shape.producer() if shape is not None else None
    return origin is not None and origin.op_type == "Shape" and origin.inputs[0] is source


@dataclass(frozen=True)
class FoldShapes:
    """Fold Shape of static dimensions, what is computed from it, and Reshape targets with one open dimension.

    A Reshape target in which some dimensions are symbolic becomes a constant: 0 where the dimension is
    that of the input at the same place, and -1 for at most one other.

    Matches:
        Chains of Shape, Gather, Slice, Concat, Squeeze, Unsqueeze, Reshape, Cast, Equal, Where and
        arithmetic on integers. The target of an Expand over the batch is computed from the network input.
    Leaves alone:
        "the shape depends on more than one open dimension": the computation stays in the graph.
    Keeps:
        Value names.
    """

    name: ClassVar[str] = "fold-shapes"
    requires: ClassVar[frozenset[str]] = frozenset(
        {"sorted", "constants-folded", "unique-names", "shapes-known"}
    )
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Fold; see the class."""
        editor = Editor(model)
        known: dict[int, Atoms] = {}
        for node in list(model.graph):
            if is_standard(node, "Reshape") and self._atoms(node.inputs[0], known) is None:
                self._reshape(editor, node, known)
                continue
            if is_standard(node, "Expand"):
                _expand(editor, node, self._atoms(node.inputs[1], known))
                continue
            rule = _RULES.get(node.op_type) if is_standard(node, node.op_type) else None
            if rule is None or not node.inputs:
                continue
            out = node.outputs[0]
            if rule not in (_shape, _equal) and (out.dtype is None or not out.dtype.is_integer()):
                continue
            atoms = rule(node, [self._atoms(value, known) for value in node.inputs])
            if atoms is None or len(atoms) > _MOST_ATOMS or (rank_of(out) or 0) > 1:
                continue
            numbers = _numbers(atoms)
            # Integers that are too large wrap around where they are computed; here they would not.
            if numbers is not None and out.dtype is not None and not _fit(numbers, out.dtype.numpy()):
                continue
            known[id(out)] = atoms
            if numbers is not None and not is_output(out) and out.dtype is not None:
                array = np.array(numbers, dtype=out.dtype.numpy())
                shaped = array.reshape(()) if rank_of(out) == 0 else array
                new = editor.constant_for(out, shaped)
                known[id(new)] = atoms
                editor.replace("fold-shape", out, new)
        return editor.result()

    @staticmethod
    def _atoms(value: Value | None, known: dict[int, Atoms]) -> Atoms | None:
        atoms = known.get(id(value))
        return _literal(value) if atoms is None else atoms

    def _reshape(self, editor: Editor, node: Node, known: dict[int, Atoms]) -> None:
        data, target = node.inputs[0], node.inputs[1]
        atoms = self._atoms(target, known)
        dims = _dims(data)
        if atoms is None or target is None or constant(target) is not None or dims is None or 0 in atoms:
            return
        numbers: list[int] = []
        for place, atom in enumerate(atoms):
            if isinstance(atom, int):
                numbers.append(atom)
            elif atom is not None and place < len(dims) and dims[place] == atom:
                numbers.append(0)
            else:
                numbers.append(-1)
        if numbers.count(-1) > 1:
            editor.fail("the shape depends on more than one open dimension", node)
            return
        if int(attributes(node).get("allowzero", 0)) and 0 in numbers:
            self._replace_reshape(editor, node, numbers)
            return
        producer = target.producer()
        editor.set_constant(node, 1, f"{node.name}.shape", np.array(numbers, np.int64))
        editor.record("fold-reshape", [producer] if producer is not None else [])

    @staticmethod
    def _replace_reshape(editor: Editor, node: Node, numbers: list[int]) -> None:
        """Make a Reshape in which 0 means the dimension of the input."""
        shape = editor.constant(f"{node.name}.shape", np.array(numbers, np.int64))
        out = node.outputs[0]
        new = make_node(
            editor.graph,
            "Reshape",
            [node.inputs[0], shape],
            name=node.name or "Reshape",
            dtype=out.dtype,
            shape=out.shape,
            source=node,
        )
        editor.graph.insert_before(node, new)
        editor.adopt(new)
        editor.replace("fold-reshape", out, new.outputs[0])
