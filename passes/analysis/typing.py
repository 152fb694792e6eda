"""Type analysis of a quant-dialect graph: the exact kind of every value, in one forward walk."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import InputError, InternalError, UnsupportedError, Where
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant, shapes_of_batches
from snnc.ir.hosting import is_sealed
from snnc.passes.analysis import activations, gains, products, sums
from snnc.passes.analysis.exact import NotFiniteError, as_exact, collapse, exact, same, through_layout
from snnc.passes.analysis.hosted import HOST_FLOAT, host_nodes, is_table_read
from snnc.passes.analysis.kinds import (
    Activated,
    Coded,
    Constant,
    Fixed,
    FloatValue,
    IntegerWeight,
    Kind,
    Membrane,
    Merged,
    Quotient,
    as_membrane,
    integer_range,
)
from snnc.passes.analysis.layout import LAYOUT_OPS, RESHAPES, Layout, layout_functions, pad_widths
from snnc.passes.analysis.memory import Memory, Situation, content

__all__ = ["TypeAnalysis", "analyse"]

_INPUT = FloatValue("the network input carries no code", from_input=True)


class TypeAnalysis:
    """The kinds of all values of a graph, with their shapes for batch 1 and batch 2.

    Args:
        model: A model in the quant dialect, or on its way into it; not changed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.shapes, self.shapes_of_two = shapes_of_batches(model, 1, 2)
        self._memory = Memory(model.graph)
        self._hosted = host_nodes(model)
        self._kinds: dict[str, Kind] = {_name(value): _INPUT for value in model.graph.inputs}

    def kind(self, value: Value | None) -> Kind:
        """Return the kind of a value that lies before the node being asked about."""
        if value is None:
            return Constant(np.zeros((), dtype=np.float32))
        known = self._kinds.get(_name(value))
        if known is not None:
            return known
        array = constant(value)
        if array is not None:
            return Constant(array)
        return FloatValue("it is not computed by any node that was seen")

    def set_kind(self, value: Value, kind: Kind) -> None:
        """Record the kind of a value, for passes that insert nodes while they walk."""
        self._kinds[_name(value)] = kind

    def set_shape(self, value: Value, shape: tuple[int, ...]) -> None:
        """Record the shape (at batch 1) of a value that a pass has made or renamed."""
        self.shapes[_name(value)] = shape

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a value at batch 1.

        Raises:
            UnsupportedError: SNN435, a dimension other than the batch is unknown.
        """
        known = self.shapes.get(_name(value))
        if known is None:
            array = constant(value)
            if array is not None:
                return array.shape
            raise UnsupportedError(
                "SNN435",
                "its shape is not static",
                where=Where(tensor=value.name),
                hint="give it a number: --size NAME=NUMBER",
            )
        return known

    def adopt(self, node: Node, shape: tuple[int, ...]) -> None:
        """Type a node that a pass has just made, whose output has the given shape at batch 1."""
        self.set_shape(node.outputs[0], shape)
        self.visit(node)

    def visit(self, node: Node) -> None:
        """Type the outputs of a node whose inputs have been typed.

        Raises:
            InputError: SNN323, a constant that the node adds or multiplies is infinite or NaN.
        """
        try:
            self._visit(node)
        except NotFiniteError:
            raise InputError(
                "SNN323",
                "reads a constant that is not finite",
                where=Where(node=node.name),
                hint="train again without NaN; a mask needs a large negative number, such as -100, not -inf",
            ) from None

    def _visit(self, node: Node) -> None:
        if is_sealed(node):
            for value in node.outputs:
                if value.name:
                    self._kinds[_name(value)] = self._sealed(node)
            return
        situation = self._situation(node)
        kinds = self._memory.recall(node, situation)
        if kinds is None:
            kinds = self._found(node)
            self._memory.keep(node, situation, kinds)
        for value, kind in zip(node.outputs, kinds, strict=True):
            self._kinds[_name(value)] = kind

    def _situation(self, node: Node) -> Situation:
        """Return what the kinds of a node's outputs depend on."""
        read: list[object] = []
        for value in node.inputs:
            kind = self._kinds.get(_name(value)) if value is not None else None
            read.append(kind if kind is not None or value is None else content(value))
        if node.op_type == "Quantise" and node.domain == AI_SNNC:
            # Its code does not depend on what it quantises: changes end here.
            read[0] = None
        values = [*(value for value in node.inputs if value is not None), *node.outputs]
        known = [(value.name or "", self.shapes.get(value.name or "")) for value in values]
        shapes = tuple((one, self.shapes_of_two.get(name, one)) for name, one in known)
        types = tuple(value.dtype for value in node.outputs)
        return Situation(
            (*read, *node.attributes.values()),
            (node.domain, node.op_type, tuple(node.attributes), types, shapes, id(node) in self._hosted),
        )

    def _found(self, node: Node) -> list[Kind]:
        """Return the kinds of a node's outputs."""
        if node.domain not in ("", "ai.onnx", AI_SNNC):
            kinds: list[Kind] = [FloatValue(f"operator {node.domain}::{node.op_type} is not known")]
        elif node.op_type in LAYOUT_OPS:
            kinds = self._layout(node)
        else:
            rule = _RULES.get(node.op_type)
            kinds = (
                [rule(self, node)] if rule else [FloatValue(f"operator {node.op_type} has no integer form")]
            )
        host = id(node) in self._hosted or self._host(node)
        result: list[Kind] = []
        for position, value in enumerate(node.outputs):
            kind = kinds[position] if position < len(kinds) else FloatValue("an output without a rule")
            if node.op_type in LAYOUT_OPS and self._merged_with_batch(value, kind):
                kind = FloatValue("an axis along which its step or bias changes is merged with the batch")
            if isinstance(kind, FloatValue) and host:
                hosted = any(isinstance(k, FloatValue) and k.hosted for k in map(self.kind, node.inputs))
                kind = FloatValue(kind.reason, not hosted or self._from_input(node), hosted)
            result.append(kind)
        return result

    def _merged_with_batch(self, value: Value, kind: Kind) -> bool:
        """Whether a step or bias changes along an axis that grows with the batch."""
        one = self.shapes.get(_name(value))
        two = self.shapes_of_two.get(_name(value), one)
        if one is None or two is None or not isinstance(kind, Coded | Merged | Membrane):
            return False
        arrays = [kind.step, kind.bias] if isinstance(kind, Membrane) else [kind.step]
        grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        return any(array.shape[axis] != 1 for array in arrays for axis in grown)

    def _host(self, node: Node) -> bool:
        """Whether a float node belongs to the elementwise part between the network input and its encoder."""
        if node.op_type not in HOST_FLOAT | LAYOUT_OPS or node.domain not in ("", "ai.onnx"):
            return False
        if is_table_read(node):
            return False
        kinds = [self.kind(value) for value in node.inputs if value is not None]
        return any(isinstance(kind, FloatValue) for kind in kinds) and all(
            isinstance(kind, Constant) or (isinstance(kind, FloatValue) and kind.on_host) for kind in kinds
        )

    def _from_input(self, node: Node) -> bool:
        """Whether a node reads nothing but constants and what the host computes from the network input."""
        kinds = [self.kind(value) for value in node.inputs if value is not None]
        return all(
            isinstance(kind, Constant) or (isinstance(kind, FloatValue) and kind.from_input) for kind in kinds
        )

    def _sealed(self, node: Node) -> Kind:
        """Kind of what a node computes in float by the user's leave."""
        for value in node.inputs:
            kind = self.kind(value)
            if isinstance(kind, Activated | Quotient | IntegerWeight | Fixed):
                return FloatValue("it reads what only a neuron may: put a quantiser in front of it")
            if isinstance(kind, FloatValue) and not kind.on_host:
                return FloatValue(kind.reason)
        return FloatValue("the host computes it in float", self._from_input(node), hosted=True)

    def _layout(self, node: Node) -> list[Kind]:
        source = node.inputs[0]
        kind = self.kind(source)
        if isinstance(kind, FloatValue | IntegerWeight) or source is None:
            return [FloatValue(f"{node.op_type} of a value without a code")] * len(node.outputs)
        if isinstance(kind, Constant):
            return [FloatValue("a constant that was not folded")] * len(node.outputs)
        shape = self.shape(source)
        if isinstance(kind, Quotient):
            return [FloatValue("a quotient that is moved before a neuron reads it")] * len(node.outputs)
        if node.op_type == "Gather" and constant(node.inputs[1]) is None:
            return [self._table(node, kind, shape)]
        functions = layout_functions(node, shape, [self.shape(value) for value in node.outputs])
        before, after = (self.shapes_of_two.get(_name(value)) for value in (source, node.outputs[0]))
        if node.op_type in RESHAPES and before is not None and after is not None:
            # A batch of one that is written into a Reshape shows with two samples only.
            again = layout_functions(node, before, [after])
            functions = again if isinstance(again, str) else functions
        if isinstance(functions, str):
            return [FloatValue(functions)] * len(node.outputs)
        result: list[Kind] = []
        for move in functions:
            if isinstance(kind, Coded):
                result.append(Coded(kind.book, through_layout(kind.step, shape, move)))
            elif isinstance(kind, Merged):
                result.append(Merged(through_layout(kind.step, shape, move), kind.low, kind.high))
            elif isinstance(kind, Fixed):
                rank = move(np.broadcast_to(np.zeros((), dtype=np.int8), shape)).ndim
                result.append(Fixed(kind.step.reshape((1,) * rank), kind.bound))
            elif isinstance(kind, Activated):
                arrays = (kind.function, kind.gain, kind.offset)
                carried = (through_layout(array, shape, move) for array in arrays)
                result.append(Activated(_moved(kind.membrane, shape, move), *carried))
            else:
                result.append(_moved(kind, shape, move))
        return result

    def _table(self, node: Node, kind: Kind, shape: tuple[int, ...]) -> Kind:
        """Kind of rows of a rounded table, read at places that the host computes."""
        places = self.kind(node.inputs[1])
        if not isinstance(kind, Membrane) or kind.content is None:
            return FloatValue("its indices are not constant, and what it reads is no table")
        if not isinstance(places, FloatValue) or not places.from_input or node.inputs[1] is None:
            return FloatValue("its indices are not computed from the network input alone")
        axis = int(attributes(node).get("axis", 0)) % len(shape)
        return sums.table(kind, axis, len(self.shape(node.inputs[1])))

    def _quantise(self, node: Node) -> Kind:
        step = constant(node.inputs[1])
        if step is None:
            return FloatValue("the step of its quantiser is not constant")
        book = CodeBook.from_attributes(attributes(node))
        assert node.inputs[0] is not None
        return Coded(book, as_exact(step, len(self.shape(node.inputs[0]))))

    def _weight(self, node: Node) -> Kind:
        integers, numerator, denominator = (constant(value) for value in node.inputs)
        if integers is None or numerator is None or denominator is None:
            return FloatValue("a weight that is not constant")
        rank = integers.ndim
        return IntegerWeight(integers, as_exact(numerator, rank), as_exact(denominator, rank))

    def _fixed_point(self, node: Node) -> Kind:
        attrs = attributes(node)
        assert node.inputs[0] is not None
        rank = len(self.shape(node.inputs[0]))
        return Fixed(
            exact(Fraction(1, 2 ** int(attrs["fraction_bits"])), rank), 2 ** (int(attrs["bits"]) - 1) - 1
        )

    def _product(self, node: Node) -> Kind:
        left, right = self.kind(node.inputs[0]), self.kind(node.inputs[1])
        bias = self.kind(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if node.op_type == "Conv":
            return products.convolution(left, right, bias, self.shape(node.inputs[0]), attributes(node))  # type: ignore[arg-type]
        return products.matmul(left, right, self.shape(node.inputs[0]), self.shape(node.inputs[1]))  # type: ignore[arg-type]

    def _add(self, node: Node) -> Kind:
        sign = -1 if node.op_type == "Sub" else 1
        rank = len(self.shape(node.outputs[0]))
        left, right = (sums.ranked(self.kind(value), rank) for value in node.inputs)
        return sums.add(left, right, sign)

    def _scale(self, node: Node) -> Kind:
        rank = len(self.shape(node.outputs[0]))
        left, right = (sums.ranked(self.kind(value), rank) for value in node.inputs)
        return sums.scale(left, right, divide=node.op_type == "Div")

    def _activation(self, node: Node) -> Kind:
        rest = node.inputs[1:]
        given = [constant(value) for value in rest]
        if any(array is None and value is not None for array, value in zip(given, rest, strict=True)):
            return FloatValue("an activation function whose parameters are not constant")
        rank = len(self.shape(node.outputs[0]))
        return activations.activate(node.op_type, self.kind(node.inputs[0]), attributes(node), given, rank)

    def _negate(self, node: Node) -> Kind:
        found = self.kind(node.inputs[0])
        if isinstance(found, Activated):
            return activations.scaled(found, exact(-1, found.gain.ndim))
        kind = as_membrane(found)
        if kind is None:
            return FloatValue("a negated value without a code")
        return Membrane(-kind.step, -kind.bias, kind.low, kind.high, kind.host)

    def _pool(self, node: Node) -> Kind:
        assert node.inputs[0] is not None
        return sums.average_pool(
            self.kind(node.inputs[0]),
            self.shape(node.inputs[0]),
            self.shape(node.outputs[0]),
            attributes(node),
        )

    def _reduce(self, node: Node) -> Kind:
        assert node.inputs[0] is not None
        shape = self.shape(node.inputs[0])
        attrs = attributes(node)
        if node.op_type == "GlobalAveragePool":
            axes, keep = list(range(2, len(shape))), True
        else:
            given = constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
            listed = given.tolist() if given is not None else attrs.get("axes")
            axes = [axis % len(shape) for axis in (listed if listed else range(len(shape)))]
            keep = bool(attrs.get("keepdims", 1))
        two = self.shapes_of_two.get(_name(node.inputs[0]), shape)
        grown = [axis for axis, (a, b) in enumerate(zip(shape, two, strict=True)) if a != b]
        if any(axis in axes for axis in [0, *grown]):
            return FloatValue("a mean over the batch")
        return sums.reduce(self.kind(node.inputs[0]), shape, axes, keep, mean=node.op_type != "ReduceSum")

    def _concat(self, node: Node) -> Kind:
        shapes = [self.shape(value) for value in node.inputs if value is not None]
        axis = int(attributes(node)["axis"]) % len(shapes[0])
        if axis == 0:
            return FloatValue("a concatenation along the batch")
        return sums.concat([self.kind(value) for value in node.inputs], shapes, axis)

    def _pad(self, node: Node) -> Kind:
        attrs = attributes(node)
        fill = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        value = float(fill.reshape(-1)[0]) if fill is not None else float(attrs.get("value", 0.0))
        if attrs.get("mode", "constant") != "constant" or value != 0.0:
            return FloatValue("padding with other than the constant 0")
        assert node.inputs[0] is not None
        widths = pad_widths(node, len(self.shape(node.inputs[0])))
        if widths is None:
            return FloatValue("padding with widths that are not constant")
        return sums.pad(self.kind(node.inputs[0]), widths)

    def _max_pool(self, node: Node) -> Kind:
        assert node.inputs[0] is not None
        return sums.max_pool(self.kind(node.inputs[0]))

    def _largest(self, node: Node) -> Kind:
        assert node.inputs[0] is not None
        attrs = attributes(node)
        given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        listed = given.tolist() if given is not None else attrs.get("axes", [])
        rank = len(self.shape(node.inputs[0]))
        axes = [axis % rank for axis in (listed or range(rank))]
        return gains.largest(self.kind(node.inputs[0]), axes, keep=bool(attrs.get("keepdims", 1)))

    def _masked(self, node: Node) -> Kind:
        assert node.inputs[0] is not None
        axis = int(attributes(node)["axis"]) % len(self.shape(node.inputs[0]))
        if not self._is_gate(node.inputs[1]):
            return FloatValue("a mask that is neither constant nor computed from the network input alone")
        return gains.masked(self.kind(node.inputs[0]), axis)

    def _gated(self, node: Node) -> Kind:
        kind = self.kind(node.inputs[0])
        if not self._is_gate(node.inputs[1]):
            return FloatValue("a mask that is neither constant nor computed from the network input alone")
        if not isinstance(kind, Coded) or 0 not in kind.book.codes:
            return FloatValue("a mask on a value without a code, or with a code that has no zero")
        return kind

    def _is_gate(self, value: Value | None) -> bool:
        kind = self.kind(value)
        return isinstance(kind, Constant) or (isinstance(kind, FloatValue) and kind.from_input)

    def _floor_quotient(self, node: Node) -> Kind:
        numerator, gain = node.inputs[0], node.inputs[1]
        assert numerator is not None and gain is not None
        rank = len(self.shape(numerator))
        kinds = [sums.ranked(self.kind(value), rank) for value in (numerator, gain)]
        bits = int(attributes(node)["fraction_bits"])
        return gains.floor_quotient(kinds[0], kinds[1], bits, self._mean_of_codes(numerator, gain))

    def _mean_of_codes(self, numerator: Value, gain: Value) -> tuple[int, int] | None:
        """Return the bounds of Σ a·v / Σ a for codes a that are not negative: those of the codes v."""
        product, total = numerator.producer(), gain.producer()
        if product is None or total is None or (product.op_type, total.op_type) != ("MatMul", "ReduceSum"):
            return None
        place = next((n for n, value in enumerate(product.inputs) if value is total.inputs[0]), None)
        if place is None or total.inputs[0] is None:
            return None
        rank = len(self.shape(total.inputs[0]))
        given = constant(total.inputs[1]) if len(total.inputs) > 1 else None
        axes = given.tolist() if given is not None else attributes(total).get("axes", [])
        # The sum must run over what the product sums over.
        if [axis % rank for axis in axes] != [rank - 1 - place]:
            return None
        weight, held = self.kind(product.inputs[place]), self.kind(product.inputs[1 - place])
        if not isinstance(weight, Coded) or not isinstance(held, Coded):
            return None
        return (*integer_range(held),) if weight.book.smallest >= 0 else None

    def _normalise(self, node: Node) -> Kind:
        assert node.inputs[0] is not None
        return gains.normalise(self.kind(node.inputs[0]), self.shape(node.inputs[0]), attributes(node))

    def _rescale(self, node: Node) -> Kind:
        kind = as_membrane(self.kind(node.inputs[0]))
        multiplier, step, source = (constant(value) for value in node.inputs[1:4])
        if kind is None or multiplier is None or step is None or source is None:
            return FloatValue("a rescaled value without a code")
        rank = kind.step.ndim
        factor = as_exact(multiplier, rank)
        if not same(as_exact(source, rank), kind.step):
            # The source step is stored in float64 for the dump's arithmetic; the exact one is the kind's.
            nearby = np.abs((as_exact(source, rank) - kind.step).astype(np.float64))
            if bool(np.any(nearby > 1e-12 * np.abs(kind.step.astype(np.float64)))):
                raise InternalError(
                    "SNN150", "the step of a rescaled membrane changed", where=Where(node=node.name)
                )
        new = as_exact(step, rank)
        # A channel of step zero holds its bias and nothing else, on any grid.
        ratio = collapse(np.where(kind.step == 0, 1, factor * new / np.where(kind.step == 0, 1, kind.step)))
        integers = factor.astype(object)
        low, high = sums.scaled_range(kind, np.asarray(integers.astype(np.int64)))
        return Membrane(new, collapse(kind.bias * ratio), low, high, kind.host)

    def _round(self, node: Node) -> Kind:
        step = constant(node.inputs[1])
        kind = self.kind(node.inputs[0])
        if step is None:
            return FloatValue("its rounding step is not constant")
        rank = len(self.shape(node.outputs[0]))
        return sums.round_to(kind, as_exact(step, rank), rank)


def analyse(model: Model) -> TypeAnalysis:
    """Type every value of a model."""
    analysis = TypeAnalysis(model)
    for node in model.graph:
        analysis.visit(node)
    return analysis


def _moved(kind: Membrane, shape: tuple[int, ...], move: Layout) -> Membrane:
    return Membrane(
        step=through_layout(kind.step, shape, move),
        bias=through_layout(kind.bias, shape, move),
        low=through_layout(kind.low, shape, move),
        high=through_layout(kind.high, shape, move),
        host=kind.host,
        content=move(kind.content) if kind.content is not None else None,
    )


def _name(value: Value) -> str:
    if value.name is None:
        raise InternalError("SNN151", "a value without a name")
    return value.name


_RULES: dict[str, Callable[[TypeAnalysis, Node], Kind]] = {
    **dict.fromkeys(sorted(activations.ACTIVATION_OPS), TypeAnalysis._activation),
    "Quantise": TypeAnalysis._quantise,
    "Weight": TypeAnalysis._weight,
    "FixedPoint": TypeAnalysis._fixed_point,
    "Rescale": TypeAnalysis._rescale,
    "RoundMembrane": TypeAnalysis._round,
    "FloorQuotient": TypeAnalysis._floor_quotient,
    "Normalise": TypeAnalysis._normalise,
    "ReduceMax": TypeAnalysis._largest,
    "MaskRow": TypeAnalysis._masked,
    "Gate": TypeAnalysis._gated,
    "Conv": TypeAnalysis._product,
    "MatMul": TypeAnalysis._product,
    "Add": TypeAnalysis._add,
    "Sub": TypeAnalysis._add,
    "Mul": TypeAnalysis._scale,
    "Div": TypeAnalysis._scale,
    "Neg": TypeAnalysis._negate,
    "AveragePool": TypeAnalysis._pool,
    "GlobalAveragePool": TypeAnalysis._reduce,
    "ReduceMean": TypeAnalysis._reduce,
    "ReduceSum": TypeAnalysis._reduce,
    "MaxPool": TypeAnalysis._max_pool,
    "Concat": TypeAnalysis._concat,
    "Pad": TypeAnalysis._pad,
}
