"""A ModelProto's graph as fusions need it: who reads what, constants as arrays, nodes replaced by others."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from snnc.runtimes.common import Array

__all__ = ["Message"]

_TYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?"}
_CODES = {np.dtype("i1"): 3, np.dtype("<i2"): 5, np.dtype("<i4"): 6, np.dtype("<i8"): 7}


class Message:
    """A graph under change.

    Args:
        graph: A GraphProto, changed in place.
        weights: Initializers that it names as external data; those no longer read go.
    """

    def __init__(self, graph: Any, weights: MutableMapping[str, Array]) -> None:
        self.graph = graph
        self._weights = weights
        self._initializers = {value.name: value for value in graph.initializer}
        self._infos = {value.name: value for value in [*graph.input, *graph.value_info]}
        self._outputs = {value.name for value in graph.output}
        self._dead: set[int] = set()
        self.readers: dict[str, list[tuple[int, Any]]] = {}
        self.writers: dict[str, tuple[int, Any]] = {}
        inner: set[str] = set()
        for index, node in enumerate(graph.node):
            for name in node.input:
                self.readers.setdefault(name, []).append((index, node))
            self.writers.update((name, (index, node)) for name in node.output)
            for attribute in node.attribute:
                for sub in attribute.g.node:  # a body may read tensors of the graph around it
                    inner.update(sub.input)
        self._outputs |= inner
        self._read_before = set(self.readers)

    def is_output(self, name: str) -> bool:
        """Say whether something outside of the graph's own nodes reads a tensor."""
        return name in self._outputs

    def only_reader(self, name: str) -> tuple[int, Any] | None:
        """Return the one node that reads a tensor, None if several things do."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and not self.is_output(name) else None

    def is_constant(self, name: str) -> bool:
        """Say whether a tensor is an initializer that no input overrides."""
        return name in self._initializers and not any(value.name == name for value in self.graph.input)

    def constant(self, name: str) -> Array | None:
        """Return an initializer as an array; None if the tensor is none, or of a type that is not needed."""
        if name in self._weights:
            return self._weights[name]
        value = self._initializers.get(name)
        if value is None or value.data_type not in _TYPES:
            return None
        shape = tuple(value.dims)
        dtype = np.dtype(_TYPES[value.data_type])
        if value.raw_data:
            return np.frombuffer(value.raw_data, dtype).reshape(shape)
        listed = list(value.int64_data) or list(value.int32_data) or list(value.float_data)
        return np.asarray(listed, dtype).reshape(shape) if len(listed) == int(np.prod(shape)) else None

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Return what is known of a tensor's shape."""
        value = self._infos.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        dims = value.type.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)

    def kind(self, name: str) -> int:
        """Return the ONNX element type of a tensor, 0 if it is unknown."""
        value = self._infos.get(name)
        return int(value.type.tensor_type.elem_type) if value is not None else 0

    def attribute(self, like: Any, name: str, value: int | None = None) -> Any:
        """Return a copy of an attribute under another name, perhaps with another integer."""
        copy = type(like)()
        copy.CopyFrom(like)
        copy.name = name
        if value is not None:
            copy.i = value
        return copy

    def integer(self, name: str, value: int) -> Any:
        """Return a new attribute that holds an integer."""
        made = type(self.graph.node[0])().attribute.add()
        made.name, made.type, made.i = name, 2, value
        return made

    def integers(self, name: str, values: Sequence[int]) -> Any:
        """Return a new attribute that holds integers."""
        made = type(self.graph.node[0])().attribute.add()
        made.name, made.type = name, 7
        made.ints.extend(values)
        return made

    def same_shape(self, first: str, second: str) -> bool:
        """Say whether two tensors surely have the same shape: the same numbers and names of extents."""
        found = [self._infos.get(name) for name in (first, second)]
        shapes = []
        for value in found:
            if value is None or not value.type.tensor_type.HasField("shape"):
                return False
            shapes.append([dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim])
        return shapes[0] == shapes[1] and all(shapes[0])

    def is_gone(self, index: int) -> bool:
        """Say whether a node was removed."""
        return index in self._dead

    def retype(self, name: str, kind: int) -> None:
        """Write down another element type of a tensor."""
        value = self._infos.get(name)
        if value is None:
            value = self._infos[name] = self.graph.value_info.add()
            value.name = name
        value.type.tensor_type.elem_type = kind

    def shape_like(self, name: str, other: str) -> None:
        """Write down that a tensor has the shape of another one."""
        if self.shape(other) is not None:
            self._infos[name].type.tensor_type.shape.CopyFrom(self._infos[other].type.tensor_type.shape)

    def add_constant(self, name: str, array: Array) -> str:
        """Add an initializer of signed integers; returns its name."""
        value = self.graph.initializer.add()
        value.name = name
        value.data_type = _CODES[array.dtype]
        value.dims.extend(array.shape)
        value.raw_data = np.ascontiguousarray(array).tobytes()
        self._initializers[name] = value
        return name

    def replace(
        self, index: int, op: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Sequence[Any]
    ) -> None:
        """Put a native node into the place of another one, which keeps its name.

        Args:
            index: Place of the old node.
            op: Operator type of the new one.
            inputs: Its inputs.
            outputs: Its outputs.
            attributes: Attributes to copy.
        """
        node = self.graph.node[index]
        copies = [type(attribute)() for attribute in attributes]
        for copy, attribute in zip(copies, attributes, strict=True):
            copy.CopyFrom(attribute)
        node.op_type, node.domain = op, "ai.snnc"
        del node.input[:], node.output[:], node.attribute[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        node.attribute.extend(copies)

    def identity(self, index: int, source: str, target: str) -> None:
        """Put an Identity into the place of a node."""
        node = self.graph.node[index]
        node.op_type, node.domain = "Identity", ""
        del node.input[:], node.output[:], node.attribute[:]
        node.input.append(source)
        node.output.append(target)

    def rename(self, names: Mapping[str, str], but: int) -> None:
        """Rename tensors in the nodes that read or write them, except in one node."""
        for name, other in names.items():
            found = [*self.readers.get(name, []), self.writers[name]]
            for index, node in found:
                if index == but:
                    continue
                for listed in (node.input, node.output):
                    for place, each in enumerate(listed):
                        if each == name:
                            listed[place] = other
            live = [reader for reader in self.readers.pop(name, []) if not self.is_gone(reader[0])]
            self.readers[other] = [*self.readers.get(other, []), *live]
            self.writers[other] = self.writers.pop(name)

    def remove(self, index: int) -> None:
        """Remove a node; places of the others stay until `drop_unread`."""
        self._dead.add(index)

    def afresh(self) -> Message:
        """Finish, and view what is left."""
        self.drop_unread()
        return Message(self.graph, self._weights)

    def drop_unread(self) -> None:
        """Finish: removed nodes go, and the initializers that only they read."""
        for index in sorted(self._dead, reverse=True):
            del self.graph.node[index]
        read = {name for node in self.graph.node for name in node.input} | self._outputs
        for place in range(len(self.graph.initializer) - 1, -1, -1):
            name = self.graph.initializer[place].name
            if name not in read and name in self._read_before:
                del self.graph.initializer[place]
                self._weights.pop(name, None)
        self._dead.clear()
