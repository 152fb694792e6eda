"""Which part of a spiking network runs on the machine, which stays on the host, and what is constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import SnncError, UnsupportedError, Where
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant
from snnc.ir.hosting import declared
from snnc.ops import LAYOUT, OPS

__all__ = ["Partition", "partition"]

Array = npt.NDArray[Any]
#: Host ops of the dialect that give the machine its input, or read its output.
_HOST = frozenset({"FixedPointEncode", "HostConv", "HostMatMul", "Encode", "Readout", "HostQuotient"})
_FROM_SHAPE = frozenset({"Shape", "Size"})


@dataclass
class Partition:
    """The two sides of a network, for one sample.

    Attributes:
        samples: An example of every value, by name: its shape and element type are those of the real one.
        constants: Names of values that do not depend on the inputs of the network.
        device: Nodes for the machine, in order.
        before: Nodes that the host executes before.
        after: Nodes that the host executes on results of the machine, behind it or in between.
        held: Names of values that the host holds.
        late: Names of those that it computes from results of the machine.
    """

    samples: dict[str, Array] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    device: list[Node] = field(default_factory=list)
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)

    def is_constant(self, value: Value | None) -> bool:
        """Whether a value is known when compiling."""
        return value is None or constant(value) is not None or (value.name or "") in self.constants

    def array(self, value: Value) -> Array:
        """Return the example of a value, which is the value itself if it is constant."""
        held = constant(value)
        return held if held is not None else self.samples[value.name or ""]


def partition(model: Model) -> Partition:
    """Split a network of the spike dialect.

    Args:
        model: A converted network.

    Raises:
        UnsupportedError: SNN471, a node cannot be evaluated for one sample.
    """
    found = Partition()
    for value in model.graph.inputs:
        if not value.is_initializer():
            found.samples[value.name or ""] = _zeros(value)
            found.held.add(value.name or "")
    for node in model.graph:
        names = [value.name or "" for value in node.outputs]
        for name, array in zip(names, _evaluate(node, found), strict=True):
            found.samples[name] = array
        runtime = [value for value in node.inputs if not found.is_constant(value)]
        sources = [value.name or "" for value in runtime if value is not None]
        if not runtime or (node.domain != AI_SNNC and node.op_type in _FROM_SHAPE):
            found.constants.update(names)
        elif _is_host(node) or (
            all(name in found.held for name in sources) and not _starts_device(node, found)
        ):
            late = any(name in found.late or name not in found.held for name in sources)
            (found.after if late else found.before).append(node)
            found.held.update(names)
            found.late.update(names if late else ())
        else:
            found.device.append(node)
    return found


def _is_host(node: Node) -> bool:
    if declared(node):
        return True
    if node.domain == AI_SNNC:
        return node.op_type in _HOST
    return node.op_type in LAYOUT and LAYOUT[node.op_type].moves == "none" and node.op_type != "Cast"


def _starts_device(node: Node, found: Partition) -> bool:
    """Return whether a node that reads only what the host holds runs on the machine all the same."""
    if node.domain == AI_SNNC and not declared(node):
        return node.op_type not in _HOST
    if node.op_type != "Gather" or declared(node):
        return False
    table = node.inputs[0]
    return (
        found.is_constant(table)
        and table is not None
        and found.array(table).dtype.kind in "iu"
        and (found.array(table).dtype != np.int64)
    )


def _zeros(value: Value) -> Array:
    shape = [dim if isinstance(dim, int) else 1 for dim in (value.shape or ())]
    dtype = np.dtype(value.dtype.numpy()) if value.dtype is not None else np.dtype(np.float32)
    return np.zeros(shape, dtype)


def _evaluate(node: Node, found: Partition) -> list[Array]:
    """Evaluate a node on examples."""
    if declared(node):
        return [_zeros(value) for value in node.outputs]
    inputs = [None if value is None else found.array(value) for value in node.inputs]
    attrs: Mapping[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item for key, item in attributes(node).items()
    }
    try:
        if node.domain == AI_SNNC:
            present = [array for array in inputs if array is not None]
            return [OPS[node.op_type].packed(present, attrs)]
        return LAYOUT[node.op_type].packed(inputs, attrs, len(node.outputs))
    except KeyError:
        message = f"'{node.op_type}' is not of the spike dialect"
        raise UnsupportedError("SNN471", message, where=Where(node=node.name)) from None
    except (SnncError, ValueError, IndexError) as error:
        raise UnsupportedError(
            "SNN471", f"cannot be evaluated for one sample: {error}", where=Where(node=node.name)
        ) from error
