"""Pass ``recognise-weights``: quantised constants become ``ai.snnc::Weight``, or plain floats elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, DataType, Model, Node, Value, constant
from snnc.ir.evaluate import evaluate
from snnc.passes.editing import Array, Editor, is_output, is_standard
from snnc.passes.recognise.affine import ROUNDINGS
from snnc.passes.recognise.linear import is_linear
from snnc.passes.recognise.qonnx import QONNX_DOMAINS
from snnc.passes.recognise.weights import (
    Integers,
    blocked_floats,
    read_bipolar,
    read_chain,
    read_dequantised,
    read_quant,
    read_quantised,
)
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RecogniseWeights"]

#: Which inputs of an op are weights.
_WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "MatMul": (0, 1),
    "Gemm": (0, 1),
}
_LAYOUT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


def _reader(node: Node) -> Callable[[Node, dict[str, int]], Integers | str] | None:
    """Return what reads this node, if its data input is constant."""
    if not node.inputs or constant(node.inputs[0]) is None:
        return None
    if is_linear(node, "DequantizeLinear"):
        return lambda entry, _: read_dequantised(entry)
    if node.domain in QONNX_DOMAINS and node.op_type in ("Quant", "IntQuant"):
        return lambda entry, _: read_quant(entry)
    if node.domain in QONNX_DOMAINS and node.op_type == "BipolarQuant":
        return lambda entry, _: read_bipolar(entry)
    if node.domain == AI_SNNC and node.op_type == "Quantise":
        return lambda entry, _: read_quantised(entry)
    return read_chain if is_standard(node, *ROUNDINGS) else None


def _collapsed(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Drop the axes along which an array does not change to size 1; one number if it never does."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if bool(np.all(array == first)):
            array = first
    return array.reshape(()) if array.size == 1 else array


@dataclass(frozen=True)
class RecogniseWeights:
    """Turn constants behind a quantiser into integers and a scale per channel.

    Where a product reads the constant, directly or through Transpose and Reshape, it gets a Weight node
    with ``integers - zero point`` and the scale in float64. Any other reader gets float32 numbers.

    Matches:
        DequantizeLinear of constant integers (with a scale in each block: its values as floats); Quant,
        IntQuant and BipolarQuant of QONNX on constants; Round or Floor of a constant with the factors that
        follow; a recognised quantiser of a constant, such as a weight that is split or turned between two.
    Leaves alone:
        "its scale is not constant"; "its values are not multiples of one scale".
    Keeps:
        The numbers of DequantizeLinear and Quant: ``integers * scale`` in float64, rounded once, is what
        they compute in float32 for integers of up to 24 bits. Chains of several float32 operations may
        round more than once; by how much the result differs is noted.
    """

    name: ClassVar[str] = "recognise-weights"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recognise; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            reader = _reader(node) if node.graph is not None else None
            if reader is None:
                continue
            try:
                found = reader(node, dict(model.graph.opset_imports))
            except ValueError as error:
                found = str(error)
            if isinstance(found, str):
                floats = blocked_floats(node) if is_linear(node, "DequantizeLinear") else None
                if floats is None:
                    editor.fail(found, node)
                else:
                    self._blocked(editor, node, floats)
                continue
            if found.change:
                editor.notes.append(
                    f"{found.result.name}: rounding once instead of several times changes the weights by at "
                    f"most {found.change:.1g} of the largest"
                )
            unused = self._spread(editor, found)
            editor.record("recognise-weight", [*found.nodes, *unused])
        return editor.result()

    @staticmethod
    def _blocked(editor: Editor, node: Node, floats: npt.NDArray[np.float32]) -> None:
        out = node.outputs[0]
        if is_output(out):
            editor.fail("its result is an output of the graph", node)
            return
        editor.replace("blocked-weight", out, editor.constant(f"{out.name}.float", floats))
        editor.notes.append(f"{node.name}: its scales differ between blocks: its weights are rounded again")

    def _spread(self, editor: Editor, found: Integers) -> list[Node]:
        """Give every reader of a constant what it needs; returns layout nodes that may have become unused."""
        weight: Value | None = None
        plain: Value | None = None
        passed: list[Node] = []
        for consumer, index in list(found.result.uses()):
            if is_standard(consumer, *_LAYOUT) and not is_output(consumer.outputs[0]):
                moved = self._through(editor, consumer, found)
                if moved is not None:
                    passed += [*self._spread(editor, moved), consumer]
                    continue
            if is_standard(consumer, *_WEIGHT_INPUTS) and index in _WEIGHT_INPUTS[consumer.op_type]:
                weight = weight if weight is not None else self._weight(editor, found)
                consumer.replace_input_with(index, weight)
            else:
                plain = plain if plain is not None else self._plain(editor, found)
                consumer.replace_input_with(index, plain)
        return passed

    @staticmethod
    def _through(editor: Editor, layout: Node, found: Integers) -> Integers | None:
        """Carry a constant through a layout op; None if that op does not act on it alone."""
        rest: list[Array | None] = [constant(value) for value in layout.inputs[1:]]
        if any(
            value is not None and array is None for value, array in zip(layout.inputs[1:], rest, strict=True)
        ):
            return None
        scale = np.broadcast_to(found.scale, found.integers.shape)
        opsets = dict(editor.graph.opset_imports)
        integers, scales = (
            np.asarray(evaluate(layout, [part, *rest], opsets)[0])
            for part in (found.integers, np.array(scale))
        )
        return Integers(
            integers.astype(np.int64), _collapsed(scales.astype(np.float64)), layout.outputs[0], (layout,)
        )

    @staticmethod
    def _weight(editor: Editor, found: Integers) -> Value:
        name = found.result.name or "weight"
        return editor.add(
            found.nodes[-1],
            "Weight",
            [
                editor.constant(f"{name}.integers", found.narrow()),
                editor.constant(f"{name}.numerator", found.scale),
                editor.constant(f"{name}.denominator", np.array(1.0)),
            ],
            name=f"{name}.weight",
            domain=AI_SNNC,
            dtype=DataType.FLOAT,
            shape=list(found.integers.shape),
        )

    @staticmethod
    def _plain(editor: Editor, found: Integers) -> Value:
        return editor.constant(f"{found.result.name}.float", found.floats())
