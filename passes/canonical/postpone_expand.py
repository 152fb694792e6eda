"""Pass ``postpone-expand``: constants are repeated along the batch as late as possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import DataType, Model, Node, Shape, Value, attributes, constant
from snnc.passes.editing import Array, Editor, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["PostponeExpand"]

#: Elementwise operations whose float32 results IEEE arithmetic fixes to the bit.
_EXACT: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


@dataclass(frozen=True)
class PostponeExpand:
    """Expand a constant along the batch only after what is computed from it and other constants.

    Class tokens and queries are repeated for every sample, and some exporters make the repetition out of a
    fill and an addition. Afterwards the whole is one constant and one Expand, which moves numbers.

    Matches:
        ConstantOfShape of float32 with a shape known only at run time: Expand of one number. Tile of a
        constant by numbers known only at run time, along axes where it has one entry: Expand. Add, Sub, Mul,
        Div of an expanded constant and a constant that makes the result no larger.
    Leaves alone:
        Everything else; that is no failure.
    Keeps:
        The name of the result.
    """

    name: ClassVar[str] = "postpone-expand"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code"})
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            if is_standard(node, "ConstantOfShape"):
                _fill(editor, node)
            elif is_standard(node, "Tile"):
                _tile(editor, node)
            elif is_standard(node, *_EXACT):
                _compute_first(editor, node)
        return editor.result()


def _fill(editor: Editor, node: Node) -> None:
    target, out = node.inputs[0], node.outputs[0]
    fill = attributes(node).get("value", np.zeros(1, dtype=np.float32))
    if target is None or constant(target) is not None or np.asarray(fill).dtype != np.float32:
        return
    length = target.shape[0] if target.shape is not None and len(target.shape) == 1 else None
    if not isinstance(length, int):
        return
    stem = node.name or "ConstantOfShape"
    held = editor.constant(f"{stem}.fill", np.asarray(fill, dtype=np.float32).reshape([1] * length))
    new = editor.add(node, "Expand", [held, target], name=f"{stem}.expand", shape=out.shape)
    editor.replace("fill-to-expand", out, new, removed=[node])


def _tile(editor: Editor, node: Node) -> None:
    """Write a constant that is tiled along axes where it has one entry as an Expand."""
    held, repeats = constant(node.inputs[0]), node.inputs[1]
    if held is None or repeats is None or constant(repeats) is not None:
        return
    extents = _extents(repeats)
    if extents is None or any(
        size != 1 and extent != 1 for size, extent in zip(held.shape, extents, strict=True)
    ):
        return
    stem, out = node.name or "Tile", node.outputs[0]
    sizes = editor.constant(f"{stem}.sizes", np.array(held.shape, dtype=np.int64))
    rank = Shape([held.ndim])
    target = editor.add(
        node, "Mul", [repeats, sizes], name=f"{stem}.target", dtype=DataType.INT64, shape=rank
    )
    source = node.inputs[0]
    new = editor.add(
        node, "Expand", [source, target], name=f"{stem}.expand", dtype=out.dtype, shape=out.shape
    )
    editor.replace("tile-to-expand", out, new, removed=[node])


def _compute_first(editor: Editor, node: Node) -> None:
    for place, value in enumerate(node.inputs):
        expand, other = value.producer() if value is not None else None, node.inputs[1 - place]
        if expand is None or not is_standard(expand, "Expand"):
            continue
        held, added, target = constant(expand.inputs[0]), constant(other), expand.inputs[1]
        if held is None or added is None or target is None or not _float(held) or not _float(added):
            continue
        extents = _extents(target)
        if extents is None or not _fits(added.shape, extents):
            continue
        pair = (held, added) if place == 0 else (added, held)
        with np.errstate(all="ignore"):
            result = _EXACT[node.op_type](*pair)
        stem, out = node.name or node.op_type, node.outputs[0]
        if not np.isfinite(result).all():
            continue
        new = editor.add(
            node,
            "Expand",
            [editor.constant(f"{stem}.constant", result), target],
            name=f"{stem}.expand",
            dtype=DataType.FLOAT,
            shape=out.shape,
        )
        editor.replace("compute-before-expand", out, new, removed=[node, expand])
        return


def _float(array: npt.NDArray[Any]) -> bool:
    return bool(array.dtype == np.float32)


def _extents(target: Value) -> list[int | None] | None:
    """Return the target of an Expand, None for what is known only at run time."""
    array = constant(target)
    if array is not None:
        return [int(extent) for extent in array]
    producer = target.producer()
    if producer is None or not is_standard(producer, "Concat"):
        return None
    extents: list[int | None] = []
    for part in producer.inputs:
        array = constant(part)
        if array is not None:
            extents += [int(extent) for extent in array]
        elif part is not None and part.shape is not None and list(part.shape) == [1]:
            extents.append(None)
        else:
            return None
    return extents


def _fits(shape: tuple[int, ...], extents: list[int | None]) -> bool:
    """Return whether a constant of this shape broadcasts to these extents."""
    if len(shape) > len(extents):
        return False
    behind = extents[len(extents) - len(shape) :]
    return all(size in (1, extent) for size, extent in zip(shape, behind, strict=True))
