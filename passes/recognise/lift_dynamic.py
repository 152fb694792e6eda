"""Pass ``lift-dynamic``: products of integers whose steps depend on the data become float products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import Model, Node, Value, attributes, constant
from snnc.passes.editing import Array, Editor, is_standard, only_consumer
from snnc.passes.recognise.linear import is_linear
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["LiftDynamic"]

_MICROSOFT = "com.microsoft"
#: Ops that move integers as they would the floats that these stand for, with one operand that is moved.
_MOVING = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity", "Gather")
_AXIS_FROM = 13
#: Positions of the tables of QEmbedLayerNormalization; their scales and zero points stand 6 and 11 behind.
_TABLES, _SCALE_BEHIND, _ZERO_BEHIND = range(2, 7), 6, 11


_UNSCALED = "its result is not multiplied by the scales of its operands, once each"


class _NotRead(Exception):
    """Why a product cannot be written in float."""


@dataclass(frozen=True, eq=False)
class _Dynamic:
    """Integers of a DynamicQuantizeLinear: the floats that they stand for, their step and zero point."""

    floats: Value
    scale: Value
    zero: Value


def _size(value: Value) -> int:
    held = constant(value)
    return held.size if held is not None else 0


class _Lift:
    """One walk over a graph; remembers what every dynamically quantised tensor was made of."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        opset = editor.graph.opset_imports.get("", 17)
        self.domain = "" if opset >= _AXIS_FROM else _MICROSOFT
        self._known: dict[int, _Dynamic] = {}
        self._makers: list[Node] = []
        self.rules = {
            ("", "MatMulInteger"): self._product,
            ("", "ConvInteger"): self._product,
            (_MICROSOFT, "MatMulIntegerToFloat"): self._to_float,
            (_MICROSOFT, "DynamicQuantizeMatMul"): self._fused,
            (_MICROSOFT, "DynamicQuantizeLSTM"): self._recurrent,
            (_MICROSOFT, "QAttention"): self._attention,
            (_MICROSOFT, "QEmbedLayerNormalization"): self._embed,
        }

    def visit(self, node: Node) -> None:
        """Lift a node, or note what it says about its results."""
        if is_standard(node, "DynamicQuantizeLinear"):
            data, (integers, scale, zero) = node.inputs[0], node.outputs
            if data is not None:
                self._known[id(integers)] = _Dynamic(data, scale, zero)
                self._makers.append(node)
            return
        if is_standard(node, *_MOVING) and id(node.inputs[0]) in self._known:
            self._move(node)
            return
        if is_linear(node, "DequantizeLinear"):
            self._dequantise(node)
            return
        rule = self.rules.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
        if rule is not None:
            try:
                rule(node)
            except _NotRead as reason:
                self.editor.fail(str(reason), node)

    def _dequantise(self, node: Node) -> None:
        known = self._known.get(id(node.inputs[0]))
        if known is None:
            moved = self._of_table(node, *[*node.inputs, None][:3])
            if moved is not None:
                makers = [node, node.inputs[0].producer()] if node.inputs[0] is not None else [node]
                removed = [maker for maker in makers if maker is not None]
                self.editor.replace("lift rows of a table", node.outputs[0], moved, removed=removed)
        elif node.inputs[1] is known.scale and len(node.inputs) > 2 and node.inputs[2] is known.zero:
            self.editor.replace("lift DequantizeLinear", node.outputs[0], known.floats, removed=[node])

    def _of_table(
        self, anchor: Node, integers: Value | None, scale: Value | None, zero: Value | None
    ) -> Value | None:
        """Return moved constant integers, such as rows of a table, as what a table of floats gives."""
        mover = integers.producer() if integers is not None else None
        parts = [constant(part) for part in (scale, zero) if part is not None]
        if mover is None or not is_standard(mover, *_MOVING) or constant(mover.inputs[0]) is None:
            return None
        if not parts or any(part is None or part.size != 1 for part in parts):
            return None
        table = mover.inputs[0]
        floats = self.editor.add(
            anchor,
            "DequantizeLinear",
            [table, scale, *([zero] if zero is not None else [])],
            name=f"{table.name}.float" if table is not None else "table",
            domain=self.domain,
            shape=table.shape if table is not None else None,
        )
        out, attrs = mover.outputs[0], attributes(mover)
        inputs = [floats, *mover.inputs[1:]]
        return self.editor.add(
            anchor, mover.op_type, inputs, attrs, name=f"{out.name}.float", shape=out.shape
        )

    def finish(self) -> None:
        """Drop what nothing reads any more."""
        self.editor.prune(self._makers)

    def _move(self, node: Node) -> None:
        """Move the floats as well; the integers go when nothing reads them."""
        known = self._known[id(node.inputs[0])]
        moved = self.editor.add(
            node,
            node.op_type,
            [known.floats, *node.inputs[1:]],
            attributes(node),
            name=f"{node.name}.float",
            shape=node.outputs[0].shape,
        )
        self._known[id(node.outputs[0])] = _Dynamic(moved, known.scale, known.zero)
        self._makers.append(node)

    def _floats(self, node: Node, data: int, scale: Value | None, zero: int, axis: int) -> Value:
        """Return the operand ``data`` of a node in float.

        Args:
            node: The reader.
            data: Input index of the integers.
            scale: Their scale: one number, or one for each place along ``axis``.
            zero: Input index of their zero points.
            axis: Axis of scales and zero points.
        """
        integers = node.inputs[data]
        offset = node.inputs[zero] if zero < len(node.inputs) else None
        if integers is None or scale is None:
            raise _NotRead("an operand or its scale is missing")
        known = self._known.get(id(integers))
        if known is not None:
            if scale is not known.scale or offset is not known.zero:
                raise _NotRead("its scale or zero point is not that of its operand")
            return known.floats
        held, step, shift = constant(integers), constant(scale), constant(offset)
        if step is None or (offset is not None and shift is None):
            raise _NotRead("the scale or zero point of an operand depends on the data")
        moved = self._of_table(node, integers, scale, offset)
        if moved is not None:
            return moved
        parts = [step] if shift is None else [step, shift]
        attrs: dict[str, Any] = {}
        if any(part.size > 1 for part in parts):
            if held is None or any(part.size not in (1, held.shape[axis]) for part in parts):
                raise _NotRead("its scales do not stand for the channels of its weights")
            attrs["axis"] = axis % held.ndim
            parts = [np.broadcast_to(part.reshape(-1), held.shape[axis]) for part in parts]
        else:
            parts = [part.reshape(()) for part in parts]
        return self.editor.add(
            node,
            "DequantizeLinear",
            [
                integers,
                *(
                    self.editor.constant(f"{integers.name}.{name}", np.array(part))
                    for name, part in zip(("step", "zero"), parts, strict=False)
                ),
            ],
            attrs,
            name=f"{integers.name}.float",
            domain=self.domain,
            shape=integers.shape,
        )

    def _product(self, node: Node) -> None:
        """Lift MatMulInteger or ConvInteger, the cast behind it and the multiplications by both scales."""
        passed, factors = self._scaled(node)
        last, convolves = passed[-1], node.op_type == "ConvInteger"
        scales: list[Value | None] = [self._scale_of(value) for value in node.inputs[:2]]
        for scale in filter(None, scales):
            if not any(factor is scale for factor in factors):
                raise _NotRead(_UNSCALED)
            factors.remove(scale)
        left = [place for place in (0, 1) if scales[place] is None]
        if len(left) != len(factors):
            raise _NotRead(_UNSCALED)
        # Of two constant scales those of channels are the weights'; as numbers they are written in order.
        factors.sort(key=_size)
        for place, factor in zip(left, factors, strict=True):
            scales[place] = self._of_channels(node, place, factor)
        operands = [
            self._floats(node, place, scales[place], place + 2, 0 if convolves else -1) for place in (0, 1)
        ]
        out, attrs = last.outputs[0], attributes(node) if convolves else {}
        op_type = "Conv" if convolves else "MatMul"
        made = self.editor.add(last, op_type, operands, attrs, name=f"{node.name}.float", shape=out.shape)
        self.editor.replace(f"lift {node.op_type}", out, made, removed=[node, *passed])

    def _scale_of(self, value: Value | None) -> Value | None:
        """Return the scale that integers were quantised with; None if nothing in the graph quantises them."""
        known = self._known.get(id(value))
        if known is not None:
            return known.scale
        maker = value.producer() if value is not None else None
        return maker.inputs[1] if maker is not None and is_linear(maker, "QuantizeLinear") else None

    @staticmethod
    def _scaled(node: Node) -> tuple[list[Node], list[Value]]:
        """Return what stands between an integer product and its float result, and the scales in it."""
        cast = only_consumer(node.outputs[0])
        if cast is None or not is_standard(cast, "Cast"):
            raise _NotRead("its integers are read by something else than a Cast")
        factors: list[Value] = []
        passed, value = [cast], cast.outputs[0]
        while len(factors) < 2:
            reader = only_consumer(value)
            if reader is None or not is_standard(reader, "Mul"):
                raise _NotRead(_UNSCALED)
            other = reader.inputs[1] if reader.inputs[0] is value else reader.inputs[0]
            joint = other.producer() if other is not None else None
            if joint is not None and is_standard(joint, "Mul"):
                passed.append(joint)
                factors += [entry for entry in joint.inputs if entry is not None]
            elif other is not None:
                factors.append(other)
            passed.append(reader)
            value = reader.outputs[0]
        return passed, factors

    def _of_channels(self, node: Node, place: int, scale: Value) -> Value:
        """Return a scale as one number or one for each channel of what it is multiplied with."""
        held = constant(scale)
        if held is None or held.size == 1:
            return scale
        # Behind a convolution the scale is shaped (channels, 1, 1) or (1, channels, 1, 1).
        weights = constant(node.inputs[1])
        rank = weights.ndim if weights is not None else 0
        fits = place == 1 and (
            held.shape in ((held.size, *[1] * (rank - 2)), (1, held.size, *[1] * (rank - 2)))
            if node.op_type == "ConvInteger"
            else held.shape[-1] == held.size
        )
        if not fits:
            raise _NotRead("its scales do not stand for the channels of its weights")
        return self.editor.constant(f"{scale.name}.channels", held.reshape(-1))

    def _to_float(self, node: Node) -> None:
        """Lift MatMulIntegerToFloat: A, B, scale of A, of B, zero point of A, of B, bias."""
        operands = [self._floats(node, place, node.inputs[place + 2], place + 4, -1) for place in (0, 1)]
        self._matmul(node, operands, 6)

    def _fused(self, node: Node) -> None:
        """Lift DynamicQuantizeMatMul: A in float, B, scale of B, zero point of B, bias."""
        if node.inputs[0] is None:
            raise _NotRead("an operand or its scale is missing")
        self._matmul(node, [node.inputs[0], self._floats(node, 1, node.inputs[2], 3, -1)], 4)

    def _matmul(self, node: Node, operands: Sequence[Value | None], bias: int) -> None:
        out, name = node.outputs[0], node.name
        made = self.editor.add(node, "MatMul", operands, name=f"{name}.float", shape=out.shape)
        summand = node.inputs[bias] if bias < len(node.inputs) else None
        if summand is not None:
            made = self.editor.add(node, "Add", [made, summand], name=f"{name}.biased", shape=out.shape)
        self.editor.replace(f"lift {node.op_type}", out, made, removed=[node])

    def _recurrent(self, node: Node) -> None:
        """Lift DynamicQuantizeLSTM; its weights are turned and have one scale a direction, or one a unit."""
        turned = []
        for place, scale in ((1, 8), (2, 10)):
            integers, step, zero = (
                constant(node.inputs[at] if at < len(node.inputs) else None)
                for at in (place, scale, scale + 1)
            )
            if integers is None or step is None:
                raise _NotRead("its weights or their scales are not constant")
            shift, factor = (
                part.reshape(len(integers), 1, -1)
                for part in (np.zeros_like(step) if zero is None else zero, step)
            )
            floats: Array = (integers.astype(np.int64) - shift.astype(np.int64)) * factor.astype(np.float64)
            turned.append(np.ascontiguousarray(floats.transpose(0, 2, 1).astype(np.float32)))
        weights = [
            self.editor.constant(f"{node.name}.{name}", part) for name, part in zip("wr", turned, strict=True)
        ]
        inputs = [node.inputs[0], *weights, *node.inputs[3:8]]
        self._replace_all(node, "LSTM", "", inputs, attributes(node))

    def _attention(self, node: Node) -> None:
        """Lift QAttention: data, weights, bias, their scales, mask, their zero points, past."""
        given = [*node.inputs, *[None] * (9 - len(node.inputs))]
        operands = [self._floats(node, 0, given[3], 6, -1), self._floats(node, 1, given[4], 7, -1)]
        self._replace_all(
            node, "Attention", _MICROSOFT, [*operands, given[2], given[5], given[8]], attributes(node)
        )

    def _embed(self, node: Node) -> None:
        """Lift QEmbedLayerNormalization: its tables, gain and offset have scales and zero points."""
        given = [*node.inputs, *[None] * (18 - len(node.inputs))]
        tables = [
            self._floats(node, place, given[place + _SCALE_BEHIND], place + _ZERO_BEHIND, -1)
            if given[place] is not None
            else None
            for place in _TABLES
        ]
        inputs = [*given[:2], *tables, given[7]]
        self._replace_all(node, "EmbedLayerNormalization", _MICROSOFT, inputs, attributes(node))

    def _replace_all(
        self, node: Node, op_type: str, domain: str, inputs: Sequence[Value | None], attrs: dict[str, Any]
    ) -> None:
        """Let a node with several results become another with the same results."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        node.op_type, node.domain = op_type, domain
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)
        self.editor.record(f"lift to {op_type}")


@dataclass(frozen=True)
class LiftDynamic:
    """Write products of dynamically quantised operands as float products: calibration gives their steps.

    ``quantize_dynamic`` of onnxruntime lets the scale of every activation depend on the data of one call
    (DynamicQuantizeLinear), which no fixed thresholds can do. What it keeps is kept: the integers, scales and
    zero points of all weights stand behind a DequantizeLinear. The activations become floats again, which
    calibration quantises like those of a float network.

    Matches:
        MatMulInteger and ConvInteger with the Cast and the multiplications by both scales behind them;
        MatMulIntegerToFloat, DynamicQuantizeMatMul, DynamicQuantizeLSTM, QAttention,
        QEmbedLayerNormalization;
        layout ops and DequantizeLinear on such integers; rows of integer tables.
    Leaves alone:
        "its result is not multiplied by the scales of its operands, once each"; "its integers are read by
        something else than a Cast"; "the scale or zero point of an operand depends on the data"; "its scales
        do not stand for the channels of its weights"; "its weights or their scales are not constant"; "its
        scale or zero point is not that of its operand"; "an operand or its scale is missing".
    Keeps:
        The numbers, but for the rounding of activations to the steps of one call.
    """

    name: ClassVar[str] = "lift-dynamic"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Lift; see the class."""
        editor = Editor(model)
        lift = _Lift(editor)
        for node in list(model.graph):
            lift.visit(node)
        lift.finish()
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} operators with steps that depend on the data read as float operators"
                " with their integer weights: calibration gives the steps of activations"
            )
        return editor.result()
