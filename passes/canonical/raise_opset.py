"""Pass ``raise-opset``: a model of an older opset becomes one of opset 17."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import Model, Node, Shape, Value, attributes, static_shape
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RaiseOpset"]

_OPSET = 17

#: Attributes that became inputs: op, opset since, then (attribute, place of the input, element type).
_TO_INPUTS: dict[str, tuple[int, tuple[tuple[str, int, Any], ...]]] = {
    "Clip": (11, (("min", 1, np.float32), ("max", 2, np.float32))),
    "Dropout": (12, (("ratio", 1, np.float32),)),
    "Pad": (11, (("pads", 1, np.int64), ("value", 2, np.float32))),
    "ReduceSum": (13, (("axes", 1, np.int64),)),
    "Slice": (10, (("starts", 1, np.int64), ("ends", 2, np.int64), ("axes", 3, np.int64))),
    "Split": (13, (("split", 1, np.int64),)),
    "Squeeze": (13, (("axes", 1, np.int64),)),
    "TopK": (10, (("k", 1, np.int64),)),
    "Unsqueeze": (13, (("axes", 1, np.int64),)),
    "Upsample": (9, (("scales", 1, np.float32),)),
}
#: Inputs that are numbers, not lists of one number.
_SCALARS = frozenset({"min", "max", "ratio", "value"})


@dataclass(frozen=True)
class RaiseOpset:
    """Write the ops of opsets 7 to 16 as opset 17 has them.

    Attributes that became inputs are constants; Upsample is a Resize; a Softmax that flattened what lies
    behind its axis does so by a Reshape.

    Matches:
        Models of an opset before 17, and their ops that changed since.
    Leaves alone:
        Models of opset 17 or newer.
    Keeps:
        All names.

    Raises:
        UnsupportedError: SNN461, "its rank is not known", "its sizes are not static", "it makes one row of
            the batch" (Softmax), "its statistics differ at each position" (BatchNormalization): with the
            names of opset 17 they would mean something else.
    """

    name: ClassVar[str] = "raise-opset"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names", "shapes-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        opset = model.graph.opset_imports.get("", _OPSET)
        editor = Editor(model)
        if opset >= _OPSET:
            return editor.result()
        problems: list[Problem] = []
        for node in list(model.graph):
            if not is_standard(node, node.op_type):
                continue
            since, moved = _TO_INPUTS.get(node.op_type, (0, ()))
            if opset < since:
                _to_inputs(editor, node, moved)
            rule = _RULES.get(node.op_type)
            reason = rule(editor, node, opset) if rule is not None else None
            if reason is not None:
                problems.append(
                    Problem(f"{node.op_type} has no form in opset 17: {reason}", Where(node=node.name))
                )
        if problems:
            # Nobody behind this pass could see that they mean something else than their names now say.
            raise UnsupportedError(
                "SNN461",
                f"{len(problems)} nodes cannot be written in opset {_OPSET}",
                where=Where(pass_name=self.name),
                problems=problems,
            )
        model.graph.opset_imports[""] = _OPSET
        editor.record("raise-opset", note=f"opset {opset} is now {_OPSET}")
        return editor.result()


def _to_inputs(editor: Editor, node: Node, moved: tuple[tuple[str, int, Any], ...]) -> None:
    attrs = attributes(node)
    for name, place, dtype in moved:
        if name not in attrs:
            continue
        array = np.asarray(attrs[name], dtype=dtype)
        array = array.reshape(()) if name in _SCALARS else np.atleast_1d(array)
        node.attributes.pop(name)
        editor.set_constant(node, place, f"{node.name}.{name}", array)


def _softmax(editor: Editor, node: Node, opset: int) -> str | None:
    """Before opset 13 everything from the axis (1 by default) on was one row."""
    if opset >= 13:
        return None
    source, out = node.inputs[0], node.outputs[0]
    shape = static_shape(source, 1) if source is not None else None
    rank = len(source.shape) if source is not None and source.shape is not None else None
    if rank is None or source is None:
        return "its rank is not known"
    axis = int(attributes(node).get("axis", 1))
    axis = axis + rank if axis < 0 else axis
    if axis >= rank - 1:
        set_attribute(node, "axis", -1)
        return None
    assert source.shape is not None
    first = source.shape[0]
    if shape is None or (axis == 0 and not isinstance(first, int)):
        return "its sizes are not static" if shape is None else "it makes one row of the batch"
    rows = Shape([first, *shape[1:axis], prod(shape[axis:])] if axis > 0 else [prod(shape)])
    target = np.array([0, *shape[1:axis], prod(shape[axis:])] if axis > 0 else [-1], dtype=np.int64)
    back = np.array([0 if axis > 0 else shape[0], *shape[1:axis], *shape[max(axis, 1) :]], dtype=np.int64)
    name = node.name or "softmax"
    flat = editor.add(
        node,
        "Reshape",
        [source, editor.constant(f"{name}.rows", target)],
        name=f"{name}.flat",
        dtype=out.dtype,
        shape=rows,
    )
    made = editor.add(node, node.op_type, [flat], {"axis": -1}, name=name, dtype=out.dtype, shape=rows)
    whole = editor.add(
        node,
        "Reshape",
        [made, editor.constant(f"{name}.shape", back)],
        name=f"{name}.whole",
        dtype=out.dtype,
        shape=out.shape,
    )
    editor.replace("softmax of rows", out, whole)
    return None


def _resized(editor: Editor, node: Node, opset: int) -> str | None:
    """Upsample, and Resize of opset 10, in the form of opset 11."""
    if node.op_type == "Resize" and opset >= 11:
        return None
    mode = str(attributes(node).get("mode", "nearest"))
    inputs: list[Value | None] = [node.inputs[0], None, node.inputs[1]]
    out = node.outputs[0]
    attrs = {
        "mode": "linear" if mode == "bilinear" else mode,
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    made = editor.add(
        node, "Resize", inputs, attrs, name=f"{node.name}.resize", dtype=out.dtype, shape=out.shape
    )
    editor.replace(f"{node.op_type} of opset {opset}", out, made)
    return None


def _batch_normalisation(editor: Editor, node: Node, opset: int) -> str | None:
    if int(attributes(node).get("spatial", 1)):
        node.attributes.pop("spatial", None)
        return None
    return "its statistics differ at each position"


def _scatter(editor: Editor, node: Node, opset: int) -> str | None:
    node.op_type = "ScatterElements"
    return None


#: Each returns why a node cannot be written in the new form.
_RULES: dict[str, Callable[[Editor, Node, int], str | None]] = {
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "Upsample": _resized,
    "Resize": _resized,
    "BatchNormalization": _batch_normalisation,
    "Scatter": _scatter,
}
