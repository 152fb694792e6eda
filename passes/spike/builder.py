"""Builds the spiking graph beside the quantised one, value by value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError, UnsupportedError, Where
from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    Shape,
    Value,
    constant,
    initializer,
    make_node,
    remove_node,
    unique_name,
)
from snnc.ir.rewrite import as_attribute
from snnc.passes.analysis import (
    Activated,
    FloatValue,
    Kind,
    Membrane,
    Merged,
    Quotient,
    TypeAnalysis,
    as_membrane,
)
from snnc.passes.analysis.exact import collapse

__all__ = ["OPSET", "SpikeBuilder", "data_type"]

#: Opset of a converted model, unless a node on the host needs a newer one.
OPSET = 17
_INT32 = 2**31 - 1
#: Constants of more bytes are told apart by some of their numbers first: most differ in these.
_SAMPLED = 1 << 12
_SAMPLES = 1 << 8


def data_type(dtype: npt.DTypeLike) -> DataType:
    """Return the element type of the graph for a numpy type."""
    return DataType.from_numpy(np.dtype(dtype))


class SpikeBuilder:
    """Holds what the encoding rules share: the analysis, and the integer value of every quantised one.

    Args:
        model: Model in the quant dialect; new nodes are appended to its graph.
        analysis: Its complete type analysis.
    """

    def __init__(self, model: Model, analysis: TypeAnalysis) -> None:
        self.graph = model.graph
        self.notes: list[str] = []
        self.opset = OPSET
        self.read_out: dict[int, Value] = {}
        self._analysis = analysis
        self._values: dict[int, Value] = {}
        self._membranes: dict[int, Value] = {}
        self._readouts: dict[int, Value] = {}
        self._gains: dict[int, tuple[Value, int]] = {}
        self._batch: Value | None = None
        self._encode: Callable[[Node], None] | None = None
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], list[tuple[npt.NDArray[Any], Value]]] = {}
        self._kinds: dict[int, Kind] = {}
        self._shapes: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._names: dict[int, str] = {}
        self._outputs = list(self.graph.outputs)
        self._input_ids = {id(value) for value in self.graph.inputs}
        values = [*self.graph.inputs, *(value for node in self.graph for value in node.outputs)]
        for value in values:
            name = value.name or ""
            one = analysis.shapes.get(name)
            two = analysis.shapes_of_two.get(name, one)
            self._kinds[id(value)] = analysis.kind(value)
            self._names[id(value)] = name
            if one is not None and two is not None:
                self._shapes[id(value)] = (one, two)
        for value in self.graph.inputs:
            self._values[id(value)] = value
        # The new values take over the old names.
        for node in self.graph:
            for value in node.outputs:
                value.name = f"{value.name} (quantised)"
        self.graph.meta.pop("snnc.names", None)

    def kind(self, value: Value | None) -> Kind:
        """Return the kind of a quantised value or constant."""
        if value is not None and id(value) in self._kinds:
            return self._kinds[id(value)]
        return self._analysis.kind(value)

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return a value's shape at batch 1.

        Raises:
            UnsupportedError: SNN435, some dimension but the batch is unknown.
        """
        if id(value) in self._shapes:
            return self._shapes[id(value)][0]
        return self._analysis.shape(value)

    def target(self, value: Value) -> list[int]:
        """Return a Reshape target for a value: its shape, with -1 for the axis that grows with the batch."""
        one, two = self._shapes.get(id(value)) or (self.shape(value), self.shape(value))
        grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(grown) > 1:
            raise UnsupportedError(
                "SNN440",
                "more than one axis grows with the batch",
                where=Where(tensor=self._names.get(id(value))),
            )
        return [-1 if axis in grown else size for axis, size in enumerate(one)]

    def symbolic_shape(self, value: Value) -> Shape:
        """Return a value's shape with a symbol for the axis that grows with the batch."""
        shape = self.shape(value)
        # Sizes that grow differently, as batch and batch times heads do, are different symbols.
        return Shape(
            [
                f"batch_times_{shape[axis]}" if size == -1 else size
                for axis, size in enumerate(self.target(value))
            ]
        )

    def reduced_shape(self, value: Value, axes: Sequence[int]) -> Shape:
        """Return a value's symbolic shape with extent 1 along some axes."""
        dims = list(self.symbolic_shape(value))
        for axis in axes:
            dims[axis] = 1
        return Shape(dims)

    def grows(self, value: Value) -> bool:
        """Whether the first axis of a value grows with the batch."""
        one, two = self._shapes.get(id(value)) or (self.shape(value), self.shape(value))
        return bool(one) and one[0] != two[0]

    def batch(self, source: Node) -> Value:
        """Return the number of samples at run time, int64, shape (1,)."""
        if self._batch is None:
            first = next(value for value in self.graph.inputs if not value.is_initializer())
            size = self.emit("Shape", [first], {}, "batch_of", DataType.INT64, source, domain="")
            size.shape = Shape([len(first.shape or ())])
            place = self.constant(np.array([0], dtype=np.int64), "first_axis")
            self._batch = self.emit(
                "Gather", [size, place], {"axis": 0}, "batch", DataType.INT64, source, domain=""
            )
            self._batch.shape = Shape([1])
        return self._batch

    def name(self, value: Value) -> str:
        """Return the name a value had in the quantised graph."""
        return self._names.get(id(value)) or value.name or "value"

    def get(self, value: Value | None) -> Value:
        """Return the integer value (spikes or membrane) that stands for a quantised one.

        What the host computes in integers is encoded when it is first asked for.
        """
        producer = value.producer() if value is not None else None
        held = constant(value)
        if value is not None and held is not None and held.dtype.kind != "f":
            return value
        if value is not None and id(value) not in self._values and producer is not None and self._encode:
            self._encode(producer)
        if value is None or id(value) not in self._values:
            raise InternalError("SNN154", f"no integer value for {value.name if value else None!r}")
        return self._values[id(value)]

    def on_demand(self, encode: Callable[[Node], None]) -> None:
        """Set what encodes a node whose result is asked for before it was encoded."""
        self._encode = encode

    def put(self, value: Value, integers: Value) -> None:
        """Record which integer value stands for a quantised one."""
        self._values[id(value)] = integers

    def gain(self, value: Value | None) -> Value:
        """Return the gain of a quotient, whose `get` is what is divided."""
        if value is None or id(value) not in self._gains:
            raise InternalError("SNN154", f"no gain for {value.name if value else None!r}")
        return self._gains[id(value)][0]

    def fraction_bits(self, value: Value) -> int:
        """Return the fraction bits of a quotient."""
        return self._gains[id(value)][1]

    def put_gain(self, value: Value, gain: Value, fraction_bits: int) -> None:
        """Record which integer value divides a quotient, and the bits behind the point that count."""
        self._gains[id(value)] = (gain, fraction_bits)

    def membrane(self, value: Value, source: Node) -> tuple[Value, Membrane]:
        """Return a value as an int32 membrane, accumulating its spikes first where it is coded."""
        kind = self.kind(value)
        if isinstance(kind, Membrane):
            return self.get(value), kind
        seen = as_membrane(kind)
        if seen is None:
            raise InternalError("SNN155", f"{value.name!r} is neither spikes nor membrane")
        if id(value) not in self._membranes:
            self._membranes[id(value)] = self.emit(
                "Charge",
                [self.get(value)],
                {},
                f"{self.name(value)}_charge",
                DataType.INT32,
                source,
                like=value,
            )
        return self._membranes[id(value)], seen

    def potential(self, value: Value, source: Node) -> tuple[Value, Membrane]:
        """Return what a neuron compares: a membrane, or that under an activation function."""
        kind = self.kind(value)
        return (
            (self.get(value), kind.membrane) if isinstance(kind, Activated) else self.membrane(value, source)
        )

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attrs: Mapping[str, Any],
        name: str,
        dtype: DataType,
        source: Node,
        *,
        like: Value | None = None,
        domain: str = AI_SNNC,
    ) -> Value:
        """Append one node and return its output.

        Args:
            op: Operator.
            inputs: Integer values.
            attrs: Attributes.
            name: Wished name of node and output.
            dtype: Element type of the output.
            source: Quantised node it stems from.
            like: Quantised value whose shape the output has.
            domain: Operator domain.
        """
        node = make_node(
            self.graph,
            op,
            inputs,
            {key: as_attribute(key, value) for key, value in attrs.items()},
            domain=domain,
            name=f"{name}/{op}",
            output=name,
            dtype=dtype,
            shape=self.symbolic_shape(like) if like is not None else None,
            source=source,
        )
        node.metadata_props["snnc.source"] = source.name or ""
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, array: npt.NDArray[Any], name: str) -> Value:
        """Return an initializer with this content, shared between equal ones."""
        content = np.asarray(array, order="C")  # a scalar stays one: Gather drops an axis for it
        line = content.reshape(-1)
        large = content.nbytes > _SAMPLED
        sample = line[:: -(-content.size // _SAMPLES)] if large else line
        alike = self._constants.setdefault((content.dtype.str, sample.tobytes(), content.shape), [])
        for held, value in alike:
            if not large or bool((held == line.view(np.uint8)).all()):
                return value
        made = initializer(self.graph, name, content)
        kept = made.const_value
        assert kept is not None
        alike.append((kept.numpy().reshape(-1).view(np.uint8), made))
        return made

    def check_range(self, kind: Kind, node: Node) -> None:
        """Refuse an accumulator that worst-case codes would drive out of 32 bits.

        Raises:
            UnsupportedError: SNN441, with the proved bound.
        """
        seen = as_membrane(kind) if isinstance(kind, Membrane | Merged) else None
        if seen is not None and not seen.host and seen.bound >= _INT32:
            raise UnsupportedError(
                "SNN441",
                f"its accumulator can reach ±{seen.bound}, beyond 32 bits",
                where=Where(node=node.name),
                hint="use fewer time-steps or weight bits",
            )

    def upright(self, value: Value, kind: Membrane, name: str, source: Node) -> tuple[Value, Membrane]:
        """Mirror the channels of a membrane whose step is negative."""
        if not bool(np.any(kind.step < 0)):
            return value, kind
        sign = np.where(kind.step < 0, -1, 1).astype(np.int64)
        one, two = kind.low * sign, kind.high * sign
        mirrored = self.emit(
            "MembraneScale",
            [value, self.constant(sign.astype(np.int32), f"{name}_sign")],
            {},
            f"{name}_mirrored",
            DataType.INT32,
            source,
        )
        mirrored.shape = value.shape
        flipped = Membrane(
            step=np.asarray(kind.step * sign.astype(object), dtype=object),
            bias=kind.bias,
            low=np.minimum(one, two),
            high=np.maximum(one, two),
        )
        return mirrored, flipped

    def readouts(self) -> list[Value]:
        """Emit the readout of every graph output: float32(v) · scale + bias, in that order."""
        outputs = []
        for value in self._outputs:
            producer = value.producer()
            if producer is None:
                raise UnsupportedError(
                    "SNN442", "an output that is an input", where=Where(tensor=self.name(value))
                )
            kind = self.kind(value)
            if isinstance(kind, FloatValue) and kind.hosted:
                outputs.append(self.get(value))
                continue
            outputs.append(self.readout(value, producer, self.name(value)))
        return outputs

    def readout(self, value: Value, source: Node, name: str) -> Value:
        """Return a code or membrane as floats of the host: float32(v) · scale + bias, in that order."""
        if id(value) in self._readouts:
            return self._readouts[id(value)]
        integers, kind = self._output(value, source)
        rank = len(self.shape(value))
        scale, bias = _float32(kind.step, rank), _float32(kind.bias, rank)
        inputs = [integers, self.constant(scale, f"{name}_scale"), self.constant(bias, f"{name}_bias")]
        made = self.emit("Readout", inputs, {}, f"{name}_readout", DataType.FLOAT, source, like=value)
        self._readouts[id(value)] = made
        return made

    def _output(self, value: Value, producer: Node) -> tuple[Value, Membrane]:
        """Return the integers that are read out; what a neuron would compare is divided on the host."""
        kind = self.kind(value)
        if not isinstance(kind, Quotient):
            return self.membrane(value, producer)
        gain, bits = self._gains[id(value)]
        inputs, attrs = [self.get(value), gain], {"fraction_bits": bits}
        name = f"{self.name(value)}_quotient"
        made = self.emit("HostQuotient", inputs, attrs, name, DataType.INT32, producer, like=value)
        return made, kind.membrane

    def finish(self, old: Sequence[Node], outputs: Sequence[Value]) -> None:
        """Drop the quantised nodes and give the outputs their names, types and shapes."""
        names = [self.name(value) for value in self._outputs]
        shapes = [value.shape for value in self._outputs]
        self.graph.outputs.clear()
        for node in reversed(old):
            remove_node(self.graph, node)
        _drop_unread(self.graph, outputs)
        taken = {value.name: value for node in self.graph for value in node.outputs}
        for name, shape, value in zip(names, shapes, outputs, strict=True):
            if name in taken:
                taken[name].name = unique_name(self.graph, f"{name}_integers")
            value.name = name
            if shape is not None:
                value.shape = shape
            self.graph.outputs.append(value)
        _drop_unused_initializers(self)
        self.graph.opset_imports.clear()
        self.graph.opset_imports.update({"": self.opset, AI_SNNC: 1})
        self.graph.meta.pop("snnc.names", None)


def _drop_unread(graph: Graph, outputs: Sequence[Value]) -> None:
    """Drop preprocessing that thresholds have taken up."""
    kept = {id(value) for value in outputs}
    for node in reversed(list(graph)):
        if not any(value.uses() or id(value) in kept for value in node.outputs):
            remove_node(graph, node)


def _drop_unused_initializers(builder: SpikeBuilder) -> None:
    graph = builder.graph
    used = {id(value) for node in graph for value in node.inputs if value is not None}
    for name in [name for name, value in graph.initializers.items() if id(value) not in used]:
        del graph.initializers[name]


def _float32(exact_numbers: npt.NDArray[Any], rank: int) -> npt.NDArray[np.float32]:
    array = collapse(exact_numbers).astype(np.float64).astype(np.float32)
    return array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim < rank else array
