"""Pass ``lift-qoperators``: integer operators of onnxruntime become float ones between quantisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import DataType, Model, Node, Value, attributes, constant, make_node
from snnc.passes.editing import Editor, is_output, is_standard
from snnc.passes.recognise.linear import LINEAR_DOMAINS, is_linear
from snnc.passes.recognise.qoperators import LIFTED, Lifted
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["LiftQoperators"]

#: Ops that move, select or interpolate integers as they would the floats that these stand for.
_MOVING = (
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather",
    "Identity", "Expand", "DepthToSpace", "SpaceToDepth", "Tile", "Pad", "Resize",
)  # fmt: skip
#: Ops that compare integers, which stand in the order of their floats, and give places.
_COMPARING = ("ArgMax", "ArgMin")
_INTEGERS = (DataType.UINT8, DataType.INT8)
_AXIS_FROM, _AXES_ARE_AN_INPUT, _PADS_ARE_AN_INPUT = 13, 18, 11


class _Lift:
    """One walk over a graph; remembers the scale and zero point of every integer tensor."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.opset = editor.graph.opset_imports.get("", 17)
        self.domain = "" if self.opset >= _AXIS_FROM else "com.microsoft"
        self._grids: dict[int, tuple[Value, Value | None]] = {}
        self._floats: dict[tuple[int, int], Value] = {}
        self._waiting: dict[int, Node] = {}

    def visit(self, node: Node) -> None:
        """Lift a node, or note what it says about its result."""
        if is_linear(node, "QuantizeLinear"):
            scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
            if scale is not None:
                self._grids[id(node.outputs[0])] = (scale, zero)
            return
        if is_standard(node, *_MOVING) and id(node.inputs[0]) in self._grids:
            self._move(node)
            return
        if is_standard(node, *_MOVING) and self._of_constants(node):
            self._waiting[id(node.outputs[0])] = node
            return
        if is_standard(node, *_COMPARING) and id(node.inputs[0]) in self._grids:
            self._compare(node)
            return
        rule = LIFTED.get(node.op_type) if node.domain in LINEAR_DOMAINS else None
        if rule is not None or (node.domain == "com.microsoft" and node.op_type == "QLinearConcat"):
            reason = self._concat(node) if rule is None else self._lift(node, rule)
            if reason is not None:
                self.editor.fail(reason, node)

    def _of_constants(self, node: Node) -> bool:
        """Return whether a node with one result moves constant integers, such as rows of a table."""
        data = node.inputs[0]
        if data is None or len(node.outputs) != 1:
            return False
        return id(data) in self._waiting or (constant(data) is not None and data.dtype in _INTEGERS)

    def _settle(self, node: Node, data: int, scale: int, zero: int) -> None:
        """Let what moves constant integers into an operand act on floats: the operand tells their scale."""
        value, step = (node.inputs[place] if place < len(node.inputs) else None for place in (data, scale))
        if value is None or step is None or id(value) not in self._waiting:
            return
        offset = node.inputs[zero] if zero < len(node.inputs) else None
        chain = [self._waiting.pop(id(value))]
        while id(chain[-1].inputs[0]) in self._waiting:
            chain.append(self._waiting.pop(id(chain[-1].inputs[0])))
        self._grids[id(chain[-1].inputs[0])] = (step, offset)
        for mover in reversed(chain):
            self._move(mover)

    def _float(self, anchor: Node, data: Value, scale: Value, zero: Value | None, axis: int | None) -> Value:
        """Return a tensor dequantised, one node for all its readers."""
        known = self._floats.get((id(data), id(scale)))
        if known is not None:
            return known
        held = constant(scale)
        attrs = {"axis": axis} if axis is not None and held is not None and held.size > 1 else {}
        made = self.editor.add(
            anchor,
            "DequantizeLinear",
            [data, scale, *([zero] if zero is not None else [])],
            attrs,
            name=f"{data.name}.float",
            domain=self.domain,
            shape=data.shape,
        )
        self._floats[id(data), id(scale)] = made
        return made

    def _quantise(self, node: Node, made: Value, scale: Value, zero: Value | None) -> None:
        """Let a float result, quantised, take the place of a node's integers."""
        out = node.outputs[0]
        name = self.editor.take_name(node)
        new = self.editor.add(
            node,
            "QuantizeLinear",
            [made, scale, *([zero] if zero is not None else [])],
            name=f"{name}.integers",
            domain=self.domain,
            dtype=zero.dtype if zero is not None and zero.dtype is not None else DataType.UINT8,
            shape=out.shape,
        )
        self.editor.replace(f"lift {node.op_type}", out, new, removed=[node])
        self._grids[id(new)] = (scale, zero)

    def _lift(self, node: Node, rule: Lifted) -> str | None:
        attrs = attributes(node)
        if attrs.get("channels_last"):
            return "its channels are last"
        for place in rule.operands:
            self._settle(node, place.data, place.scale, place.scale + 1)
        inputs: list[Value | None] = [*node.inputs, *[None] * (rule.result + 2 - len(node.inputs))]
        operands: list[Value | None] = []
        for place in rule.operands:
            data, scale, zero = inputs[place.data], inputs[place.scale], inputs[place.scale + 1]
            if data is None or scale is None:
                return "an operand or its scale is missing"
            held = constant(data)
            axis = place.channels(attrs, held.ndim) if place.channels and held is not None else None
            operands.append(self._float(node, data, scale, zero, axis))
        bias = inputs[rule.bias] if rule.bias is not None and len(inputs) > rule.bias else None
        if bias is not None:
            summand = self._bias(node, bias, [inputs[place.scale] for place in rule.operands], attrs)
            if summand is None:
                return "its bias or a scale is not constant"
            operands.append(summand)
        kept = {key: attrs[key] for key in rule.kept if key in attrs}
        if rule.op_type == "ReduceMean" and self.opset >= _AXES_ARE_AN_INPUT and "axes" in kept:
            axes = np.asarray(kept.pop("axes"), dtype=np.int64)
            operands.append(self.editor.constant(f"{node.name}.axes", axes))
        out = node.outputs[0]
        made = self.editor.add(node, rule.op_type, operands, kept, name=f"{node.name}.float", shape=out.shape)
        scale, zero = inputs[rule.result], inputs[rule.result + 1]
        if scale is None:
            # QGemm without a scale of the result gives floats.
            self.editor.replace(f"lift {node.op_type}", out, made, removed=[node])
        else:
            self._quantise(node, made, scale, zero)
        return None

    def _bias(
        self, node: Node, bias: Value, scales: list[Value | None], attrs: dict[str, Any]
    ) -> Value | None:
        """Return an int32 bias in float: its scale is the product of those of data and weight."""
        integers, *factors = (constant(value) for value in (bias, *scales))
        if integers is None or any(factor is None for factor in factors):
            return None
        scale = np.asarray(attrs.get("alpha", 1.0), dtype=np.float64).reshape(1)
        for factor in factors:
            scale = scale * np.asarray(factor, dtype=np.float64).reshape(-1)
        floats = (integers.astype(np.float64) * (scale if scale.size > 1 else scale.reshape(()))).astype(
            np.float32
        )
        return self.editor.constant(f"{node.name}.bias", floats)

    def _concat(self, node: Node) -> str | None:
        for place in range(2, len(node.inputs), 3):
            self._settle(node, place, place + 1, place + 2)
        scale, zero, *rest = node.inputs
        operands = []
        for data, factor, offset in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
            if data is None or factor is None:
                return "an operand or its scale is missing"
            operands.append(self._float(node, data, factor, offset, None))
        if scale is None:
            return "the scale of its result is missing"
        attrs = {"axis": int(attributes(node)["axis"])}
        made = self.editor.add(
            node, "Concat", operands, attrs, name=f"{node.name}.float", shape=node.outputs[0].shape
        )
        self._quantise(node, made, scale, zero)
        return None

    def _not_moved(self, node: Node, scale: Value, zero: Value | None) -> str | None:
        """Return why an op cannot act on floats instead; what a Pad puts in becomes a float."""
        if node.op_type != "Pad" or attributes(node).get("mode", "constant") != "constant":
            return None
        given = node.inputs[2] if len(node.inputs) > 2 else None
        factor, offset = constant(scale), constant(zero) if zero is not None else np.zeros(1)
        number = constant(given) if given is not None else np.zeros(1)
        if self.opset < _PADS_ARE_AN_INPUT or factor is None or offset is None or number is None:
            return "what it pads with, or its scale, is not constant"
        if factor.size != 1:
            return "its scales differ"
        steps = number.astype(np.float64).reshape(-1)[0] - offset.astype(np.float64).reshape(-1)[0]
        floats = np.asarray(steps * float(factor.reshape(-1)[0]), dtype=np.float32)
        node.resize_inputs(max(3, len(node.inputs)))
        node.replace_input_with(2, self.editor.constant(f"{node.name}.value", floats))
        return None

    def _compare(self, node: Node) -> None:
        """Let an op that gives places read floats."""
        data = node.inputs[0]
        assert data is not None
        node.replace_input_with(0, self._float(node, data, *self._grids[id(data)], None))
        self.editor.record(f"lift {node.op_type}")

    def _move(self, node: Node) -> None:
        """Let a layout op or a maximum act on floats; its results are quantised again."""
        data = node.inputs[0]
        if data is None or any(is_output(out) for out in node.outputs):
            self.editor.fail("its integers are an output of the graph", node)
            return
        scale, zero = self._grids[id(data)]
        reason = self._not_moved(node, scale, zero)
        if reason is not None:
            self.editor.fail(reason, node)
            return
        node.replace_input_with(0, self._float(node, data, scale, zero, None))
        for out in reversed(node.outputs):
            uses = list(out.uses())
            out.dtype = DataType.FLOAT
            again = make_node(
                self.editor.graph,
                "QuantizeLinear",
                [out, scale, *([zero] if zero is not None else [])],
                domain=self.domain,
                name=f"{out.name}.integers",
                dtype=zero.dtype if zero is not None and zero.dtype is not None else DataType.UINT8,
                shape=out.shape,
                source=node,
            )
            self.editor.graph.insert_after(node, again)
            self.editor.adopt(again)
            for reader, place in uses:
                reader.replace_input_with(place, again.outputs[0])
            self._grids[id(again.outputs[0])] = (scale, zero)
        self.editor.record(f"lift {node.op_type}")


@dataclass(frozen=True)
class LiftQoperators:
    """Write ``QLinear...`` operators as what they mean: dequantise, compute in float, quantise.

    The integer kernels compute the same numbers up to the rounding of one product of scales, so the networks
    of onnxruntime's QOperator format become those of its QDQ format. Layout ops and maxima of integers
    between them act on floats then; so does a Resize that interpolates, whose integer kernel cuts fractions
    off where a quantiser rounds them.

    Matches:
        The operators of `qoperators.LIFTED`, QLinearConcat, and layout ops, ArgMax and ArgMin that read
        quantised integers.
    Leaves alone:
        "its channels are last"; "its bias or a scale is not constant"; "an operand or its scale is missing";
        "its integers are an output of the graph"; "what it pads with, or its scale, is not constant".
    Keeps:
        Names of graph inputs and outputs.
    """

    name: ClassVar[str] = "lift-qoperators"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names", "no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Lift; see the class."""
        editor = Editor(model)
        if any(node.op_type in LIFTED or node.op_type == "QLinearConcat" for node in model.graph):
            lift = _Lift(editor)
            for node in list(model.graph):
                lift.visit(node)
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} operators on integers read as float operators between quantisers: "
                "equal up to the last bit of float32"
            )
        return editor.result()
