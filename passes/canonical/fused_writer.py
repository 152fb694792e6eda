"""Writing one fused op as standard ones before any shape is known, in the form of the model's opset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from snnc.ir import DataType, Model, Node, Value, attributes, constant
from snnc.ir.rewrite import infer_with_stand_ins
from snnc.passes.editing import Array, Editor

__all__ = ["CannotWrite", "Ranks", "Writer"]

StandIn = Callable[[Node], tuple[str, Mapping[str, Any]] | None]

_AXES_ARE_AN_INPUT = {"ReduceSum": 13, "ReduceMean": 18, "Unsqueeze": 13, "Squeeze": 13}
_LAYER_NORM_SINCE, _RMS_NORM_SINCE = 17, 23


#: Attributes of the type in which something is computed, of an output that must not be read, or of what the
#: shapes tell.
_WITHOUT_EFFECT = frozenset(
    {"is_inner_broadcast", "qk_matmul_output_mode", "softmax_precision", "stash_type"}
)


class CannotWrite(Exception):
    """A fused op has a part that no standard op stands for; the message says which."""


class _Read(dict[str, Any]):
    """Attributes of a node, which remember which of them were asked for."""

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__(attrs)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)

    def items(self) -> Any:
        self.asked.update(self)
        return super().items()


class Ranks:
    """Numbers of axes of values, inferred when a rule first asks for one that the file does not declare.

    Args:
        model: The model.
        stand_in: Standard ops of the same result shape for ops that ONNX does not know.
    """

    def __init__(self, model: Model, stand_in: StandIn) -> None:
        self._model, self._stand_in = model, stand_in
        self._current = False

    def forget(self) -> None:
        """The graph has changed: what could not be inferred may be inferred now."""
        self._current = False

    def dims(self, value: Value) -> list[Any]:
        """Return the extents of a value, open ones as they are.

        Raises:
            CannotWrite: They cannot be inferred.
        """
        if value.shape is None and not self._current:
            infer_with_stand_ins(self._model, self._stand_in)
            self._current = True
        if value.shape is None:
            raise CannotWrite(f"the number of axes of {value.name} is not known")
        return list(value.shape)


class Writer:
    """Adds standard nodes in front of a fused one, and lets them take its place.

    Args:
        editor: Editor of the model.
        node: The fused node.
        ranks: Numbers of axes.

    Attributes:
        attrs: Attributes of the node.
    """

    def __init__(self, editor: Editor, node: Node, ranks: Ranks) -> None:
        self._editor, self.node, self._ranks = editor, node, ranks
        self.attrs = _Read(attributes(node))
        self.opset = int(editor.graph.opset_imports.get("", _LAYER_NORM_SINCE))
        self._done: list[tuple[int, Value]] = []
        self._made: list[Node] = []

    # --- what the node has ------------------------------------------------------------------------------

    def given(self, place: int) -> Value | None:
        """Return an input, None if it is absent."""
        return self.node.inputs[place] if place < len(self.node.inputs) else None

    def needed(self, place: int, what: str) -> Value:
        """Return an input that must be there."""
        value = self.given(place)
        if value is None:
            raise CannotWrite(f"its {what} is missing")
        return value

    def held(self, place: int, what: str) -> Array:
        """Return a constant input that must be there."""
        array = constant(self.needed(place, what))
        if array is None:
            raise CannotWrite(f"its {what} is not constant")
        return array

    def used(self, place: int) -> bool:
        """Return whether anything reads an output."""
        if place >= len(self.node.outputs):
            return False
        value = self.node.outputs[place]
        return bool(value.uses()) or value.is_graph_output()

    def refuse_inputs(self, *unwanted: tuple[int, str]) -> None:
        """Raise where one of these optional inputs is given."""
        for place, what in unwanted:
            if self.given(place) is not None:
                raise CannotWrite(f"it reads {what}")

    def refuse_outputs(self, *unwanted: tuple[int, str]) -> None:
        """Raise where one of these optional outputs is read."""
        for place, what in unwanted:
            if self.used(place):
                raise CannotWrite(f"its {what} is read")

    def refuse_attributes(self, **plain: Any) -> None:
        """Raise where one of these attributes is another than what it is by default."""
        for name, value in plain.items():
            if name in self.attrs and self.attrs[name] != value:
                raise CannotWrite(f"its {name} is {self.attrs[name]}")

    def refuse_unknown(self) -> None:
        """Raise where the node has an attribute that no rule knows, of an opset to come, say."""
        unknown = sorted(set(self.attrs) - self.attrs.asked - _WITHOUT_EFFECT)
        if unknown:
            raise CannotWrite(f"its {unknown[0]} is unknown to snnc")

    def dims(self, value: Value) -> list[Any]:
        """Return the extents of a value; see `Ranks.dims`."""
        return self._ranks.dims(value)

    def extent(self, value: Value, axis: int, what: str) -> int:
        """Return the extent of an axis, which must be static."""
        size = self.dims(value)[axis]
        if not isinstance(size, int):
            raise CannotWrite(f"its {what} is not static")
        return size

    # --- nodes ------------------------------------------------------------------------------------------

    def op(
        self,
        op_type: str,
        inputs: Sequence[Value | Array | None],
        *,
        dtype: DataType = DataType.FLOAT,
        domain: str = "",
        **attrs: Any,
    ) -> Value:
        """Add a node; arrays become constants."""
        name = f"{self.node.name}.{op_type.lower()}"
        read = [self._editor.constant(name, x) if isinstance(x, np.ndarray) else x for x in inputs]
        made = self._editor.add(self.node, op_type, read, attrs, name=name, domain=domain, dtype=dtype)
        producer = made.producer()
        self._made += [producer] if producer is not None else []
        self._ranks.forget()
        return made

    def constant(self, label: str, array: Array) -> Value:
        """Add a constant."""
        return self._editor.constant(f"{self.node.name}.{label}", array)

    def _along(self, op_type: str, value: Value, axes: Sequence[int], dtype: DataType, **attrs: Any) -> Value:
        if self.opset >= _AXES_ARE_AN_INPUT[op_type]:
            return self.op(op_type, [value, np.array(axes, np.int64)], dtype=dtype, **attrs)
        return self.op(op_type, [value], dtype=dtype, axes=list(axes), **attrs)

    def unsqueeze(self, value: Value, *axes: int, dtype: DataType = DataType.FLOAT) -> Value:
        """Add axes of extent 1."""
        return self._along("Unsqueeze", value, axes, dtype)

    def reduced(
        self, op_type: str, value: Value, *axes: int, dtype: DataType = DataType.FLOAT, keepdims: int = 1
    ) -> Value:
        """Reduce axes."""
        return self._along(op_type, value, axes, dtype, keepdims=keepdims)

    def reshape(self, value: Value, *dims: int) -> Value:
        """Reshape; 0 keeps an extent, -1 is the rest."""
        return self.op("Reshape", [value, np.array(dims, np.int64)])

    def transpose(self, value: Value, *perm: int) -> Value:
        """Permute axes."""
        return self.op("Transpose", [value], perm=list(perm))

    def gather(self, value: Value, places: Any, axis: int, dtype: DataType = DataType.FLOAT) -> Value:
        """Take elements by constant places; one number takes the axis away."""
        return self.op("Gather", [value, np.array(places, np.int64)], dtype=dtype, axis=axis)

    def slice(self, value: Value, axis: int, start: int, end: int) -> Value:
        """Take a part of an axis."""
        if self.opset < 10:
            return self.op("Slice", [value], axes=[axis], starts=[start], ends=[end])
        return self.op("Slice", [value, *(np.array([n], np.int64) for n in (start, end, axis))])

    def cast(self, value: Value, dtype: DataType) -> Value:
        """Change the element type."""
        return self.op("Cast", [value], dtype=dtype, to=int(dtype))

    def size(self, value: Value, axis: int) -> Value:
        """Return an extent as a number of the graph, int64."""
        return self.gather(self.op("Shape", [value], dtype=DataType.INT64), axis, 0, dtype=DataType.INT64)

    def places(self, value: Value, axis: int) -> Value:
        """Return 0, 1, 2, ... along an axis, int64."""
        if self.opset < 11:
            raise CannotWrite("the model is of an opset before 11")
        zero, one = np.array(0, np.int64), np.array(1, np.int64)
        return self.op("Range", [zero, self.size(value, axis), one], dtype=DataType.INT64)

    def scaled(self, value: Value, factor: float) -> Value:
        """Multiply by a number, unless it is 1."""
        return value if factor == 1 else self.op("Mul", [value, np.array(factor, np.float32)])

    # --- normalisations ---------------------------------------------------------------------------------

    def layer_norm(
        self, value: Value, scale: Value | Array, offset: Value | None, epsilon: float, axis: int = -1
    ) -> Value:
        """Normalise the axes from ``axis`` (negative) on; before opset 17 by arithmetic."""
        if self.opset >= _LAYER_NORM_SINCE:
            extra = [offset] if offset is not None else []
            return self.op("LayerNormalization", [value, scale, *extra], axis=axis, epsilon=epsilon)
        axes = range(axis, 0)
        centred = self.op("Sub", [value, self.reduced("ReduceMean", value, *axes)])
        out = self.op("Mul", [self._by_root(centred, centred, axes, epsilon), scale])
        return out if offset is None else self.op("Add", [out, offset])

    def rms_norm(self, value: Value, scale: Value | Array, epsilon: float, axis: int = -1) -> Value:
        """Divide by the root mean square; before opset 23 by arithmetic."""
        if self.opset >= _RMS_NORM_SINCE:
            return self.op("RMSNormalization", [value, scale], axis=axis, epsilon=epsilon)
        return self.op("Mul", [self._by_root(value, value, range(axis, 0), epsilon), scale])

    def _by_root(self, value: Value, squared: Value, axes: Sequence[int], epsilon: float) -> Value:
        mean = self.reduced("ReduceMean", self.op("Mul", [squared, squared]), *axes)
        root = self.op("Sqrt", [self.op("Add", [mean, np.array(epsilon, np.float32)])])
        return self.op("Div", [value, root])

    # --- the end ----------------------------------------------------------------------------------------

    def result(self, value: Value, place: int = 0) -> None:
        """Let a value take the place of an output, once the rule has come to its end."""
        self._done.append((place, value))

    def finish(self) -> None:
        """Put the results in the place of the node's outputs."""
        done, self._done = self._done, []
        label = f"{self.node.domain or 'standard'} {self.node.op_type} written out"
        for place, value in done:
            if self.used(place) or place == 0:
                self._editor.replace(label, self.node.outputs[place], value)

    def withdraw(self) -> None:
        """Take back the nodes that were added, because the rule did not come to its end."""
        self._editor.withdraw(self._made)
