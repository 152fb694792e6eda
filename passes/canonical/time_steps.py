"""Steps of values that stack time along their first axis, or fold it into the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from snnc.ir import Node, Shape, Value, attributes, constant
from snnc.passes.editing import Editor, is_standard, rank_of

__all__ = ["HANDLED", "Steps", "axes_of"]

_ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less",
        "LessOrEqual", "Max", "Min", "Mul", "Neg", "Relu", "Sub", "Where",
    }
)  # fmt: skip
#: What computes each row of a fold for itself.
_BY_ROW = frozenset(
    {
        "AveragePool", "BatchNormalization", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MatMul",
        "MaxPool",
    }
)  # fmt: skip
#: What steps are looked for through.
HANDLED = _ELEMENTWISE | _BY_ROW | {"Concat", "Expand", "Reshape", "Slice", "Tile", "Unsqueeze"}


def axes_of(node: Node) -> list[int] | None:
    """Return the axes of a Squeeze, an Unsqueeze or a reduction, None if they are not constant."""
    held = constant(node.inputs[1]) if len(node.inputs) > 1 else attributes(node).get("axes")
    return None if held is None else [int(axis) for axis in np.asarray(held).reshape(-1)]


@dataclass
class Steps:
    """Finds the steps of stacks, and writes them.

    A stack holds a step at each place of its first axis; a fold, which a Reshape makes of a stack and back,
    holds the batches of all steps one behind the other there.

    Attributes:
        editor: Editor of the model.
        made: Steps written, by stack and number.
    """

    editor: Editor
    made: dict[tuple[int, int], Value] = field(default_factory=dict)

    def count(self, value: Value | None) -> int:
        """Return how many steps a value stacks along its first axis; 0 if it is no stack."""
        count, folded = self._steps(value)
        return 0 if folded else count

    def _steps(self, value: Value | None) -> tuple[int, bool]:
        """Return how many steps a value holds, 0 if none, and whether they are folded."""
        node = value.producer() if value is not None else None
        if value is None or node is None or node.domain not in ("", "ai.onnx"):
            return 0, False
        if node.op_type == "Concat" and int(attributes(node).get("axis", 0)) == 0:
            if all(_single(entry) is not None for entry in node.inputs):
                return len(node.inputs), False
            return (len(node.inputs), True) if _alike(node) else (0, False)
        if node.op_type in ("Expand", "Tile"):
            return self._repeated(value, node), False
        if node.op_type == "Reshape":
            return self._reshaped(value, node)
        if node.op_type in _BY_ROW:
            count, folded = self._steps(node.inputs[0])
            held = [constant(entry) for entry in node.inputs[1:] if entry is not None]
            flat = node.op_type != "Flatten" or int(attributes(node).get("axis", 1)) == 1
            whole = all(entry is not None for entry in held) and flat and len(node.outputs) == 1
            matrix = node.op_type == "MatMul" and bool(held) and held[0] is not None and held[0].ndim == 2
            return (count, folded) if whole and (folded or matrix) else (0, False)
        if node.op_type not in _ELEMENTWISE or len(node.outputs) != 1:
            return 0, False
        rank, found = rank_of(value), set()
        for entry in node.inputs:
            held_here = constant(entry)
            if entry is None or (
                held_here is not None and (held_here.ndim < (rank or 0) or held_here.shape[0] == 1)
            ):
                continue
            if held_here is not None or rank_of(entry) != rank:
                return 0, False
            found.add(self._steps(entry))
        return found.pop() if len(found) == 1 and rank is not None else (0, False)

    def _reshaped(self, value: Value, node: Node) -> tuple[int, bool]:
        """A stack (T, N, ...) becomes a fold (T N, ...), or the other way round, rows flattened or not."""
        source = node.inputs[0]
        count, folded = self._steps(source)
        if not count or source is None or source.shape is None or value.shape is None:
            return 0, False
        before, after = (list(map(str, entry.shape or ())) for entry in (source, value))
        if not folded and len(before) > 2 and _as_many(before[2:], after[1:]):
            return count, True
        if folded and after[0] == str(count) and _as_many(before[1:], after[2:]):
            return count, False
        # What becomes of a row: (T N, C, H, W) to (T N, C H W), and the same of a stack.
        rest = after[2:] if not folded else after[1:]
        same = before[:1] == after[:1] and (folded or before[1:2] == after[1:2])
        return (count, folded) if same and all(entry.isdigit() for entry in rest) else (0, False)

    @staticmethod
    def _repeated(value: Value, node: Node) -> int:
        source = node.inputs[0]
        while source is not None and is_standard(source.producer(), "Expand", "Tile"):
            maker = source.producer()
            assert maker is not None
            source = maker.inputs[0]
        if _single(source) is None or source is None or source.shape is None or value.shape is None:
            return 0
        before, after = list(source.shape), list(value.shape)
        same = len(before) == len(after) and list(map(str, before[1:])) == list(map(str, after[1:]))
        return after[0] if same and isinstance(after[0], int) else 0

    def take(self, value: Value, place: int, anchor: Node) -> Value:
        """Return one step of a stack; ``count`` says that it is one."""
        key = (id(value), place)
        if key in self.made:
            return self.made[key]
        node = value.producer()
        assert node is not None
        if node.op_type == "Concat":
            result = node.inputs[place] if self._steps(value)[1] else _single(node.inputs[place])
        elif node.op_type in ("Expand", "Tile"):
            source = node.inputs[0]
            while source is not None and _single(source) is None:
                maker = source.producer()
                source = maker.inputs[0] if maker is not None else None
            result = _single(source)
        elif node.op_type == "Reshape":
            result = self._reshape(value, place, node)
        else:
            folded = self._steps(value)[1]
            inputs = [self._operand(entry, place, node, rank_of(value) or 0, folded) for entry in node.inputs]
            result = self._add(node, inputs, value, place, folded=folded)
        assert result is not None
        self.made[key] = result
        return result

    def _reshape(self, value: Value, place: int, node: Node) -> Value:
        source = node.inputs[0]
        assert source is not None
        step = self.take(source, place, node)
        folded, was = self._steps(value)[1], self._steps(source)[1]
        rest = list(value.shape or ())[1 if folded else 2 :]
        if folded != was and list(map(str, source.shape or ()))[1 if was else 2 :] == list(map(str, rest)):
            return step
        rest = [int(str(entry)) for entry in rest]
        target = self.editor.constant(f"{value.name}.shape{place}", np.array([0, *rest], np.int64))
        return self._add(node, [step, target], value, place, folded=folded)

    def _add(
        self, node: Node, inputs: list[Value | None], value: Value, place: int, *, folded: bool
    ) -> Value:
        first = inputs[0] if folded or node.op_type == "Reshape" else None
        shape = None
        if value.shape is not None and not folded:
            shape = Shape(list(value.shape)[1:])
        elif value.shape is not None and first is not None and first.shape is not None:
            shape = Shape([next(iter(first.shape)), *list(value.shape)[1:]])
        name = f"{value.name}.step{place}"
        kept = {} if node.op_type == "Reshape" else attributes(node)
        return self.editor.add(node, node.op_type, inputs, kept, name=name, dtype=value.dtype, shape=shape)

    def _operand(
        self, entry: Value | None, place: int, anchor: Node, rank: int, folded: bool
    ) -> Value | None:
        held = constant(entry)
        if entry is None or (held is None and not self._steps(entry)[0]):
            return entry
        if held is None:
            return self.take(entry, place, anchor)
        if folded or held.ndim < rank or anchor.op_type == "MatMul":
            return entry
        return self.editor.constant(f"{entry.name}.step", held[0])


def _as_many(before: list[str], after: list[str]) -> bool:
    """Whether a row of one shape holds as many elements as one of the other."""
    if before == after:
        return True
    numbers = [entry for entry in (*before, *after) if entry.isdigit()]
    known = len(numbers) == len(before) + len(after)
    return known and math.prod(map(int, before)) == math.prod(map(int, after))


def _alike(node: Node) -> bool:
    """Whether a Concat along the first axis joins batches of one shape: steps folded into the batch."""
    shapes = {
        None if entry is None or entry.shape is None else tuple(map(str, entry.shape))
        for entry in node.inputs
    }
    held = any(constant(entry) is not None for entry in node.inputs)
    return len(node.inputs) > 1 and len(shapes) == 1 and None not in shapes and not held


def _single(value: Value | None) -> Value | None:
    """Return what a value is with its first axis of extent 1 taken away, None if that was not added."""
    node = value.producer() if value is not None else None
    if node is None or not is_standard(node, "Unsqueeze") or axes_of(node) != [0]:
        return None
    return node.inputs[0]
