"""What an op of the domain ``ai.snnc`` is: name, typed attributes, function body, and two reference steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError
from snnc.ops.signal import Signal, SpikeTrain

__all__ = [
    "BOOK_ATTRIBUTES",
    "CONV_ATTRIBUTES",
    "DOMAIN",
    "VERSION",
    "Array",
    "Attribute",
    "Attributes",
    "OpDef",
    "arrays",
    "dense",
    "integer",
    "integers",
    "same_in_time",
]

DOMAIN = "ai.snnc"
VERSION = 1

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]
Dialect = Literal["quant", "spike", "host"]
Kind = Literal["int", "ints", "string"]


@dataclass(frozen=True)
class Attribute:
    """One typed attribute of an op.

    Attributes:
        name: Its name in the file.
        kind: ``int``, ``ints`` or ``string``.
        doc: Meaning and unit.
        default: Value that stands for an absent attribute; None if there is no such value.
        required: Whether a node must carry it.
    """

    name: str
    kind: Kind
    doc: str
    default: int | str | tuple[int, ...] | None = None
    required: bool = True

    def declaration(self) -> str:
        """Return its entry in the attribute list of an ONNX function text."""
        if self.default is None:
            return self.name
        if isinstance(self.default, str):
            return f'{self.name}: string = "{self.default}"'
        if isinstance(self.default, int):
            return f"{self.name}: int = {self.default}"
        return f"{self.name}: ints = [{', '.join(map(str, self.default))}]"

    def problem(self, attrs: Attributes) -> str | None:
        """Say what is wrong with this attribute in a node's attributes, or None."""
        if self.name not in attrs:
            return f"attribute '{self.name}' is missing" if self.required else None
        value = attrs[self.name]
        if self.kind == "int":
            good = isinstance(value, int | np.integer)
        elif self.kind == "string":
            good = isinstance(value, str)
        else:
            good = isinstance(value, Sequence | np.ndarray) and all(
                issubclass(kind, int | np.integer) for kind in set(map(type, value))
            )
        return None if good else f"attribute '{self.name}' is not of type {self.kind}"


BOOK_ATTRIBUTES = (
    Attribute("timesteps", "int", "T, time-steps of the code"),
    Attribute("groups", "int", "G, groups of the code"),
    Attribute("partition", "string", "'interleaved' or 'contiguous'"),
    Attribute("signed", "int", "1 if spikes may be negative"),
    Attribute("smallest", "int", "smallest admitted code"),
    Attribute("largest", "int", "largest admitted code"),
)

CONV_ATTRIBUTES = (
    Attribute("strides", "ints", "step of the kernel per spatial axis; default 1", required=False),
    Attribute("pads", "ints", "zeros added: begins, then ends; default 0", required=False),
    Attribute("dilations", "ints", "spacing of kernel elements; default 1", required=False),
    Attribute("group", "int", "number of channel groups", default=1, required=False),
)


@dataclass(frozen=True)
class OpDef:
    """One op of the domain ``ai.snnc``; one output.

    Attributes:
        name: Operator type in the file.
        dialect: ``quant`` (floats on grids), ``spike`` (integers), or ``host`` (integers, billed as MAC or
            done outside of the spiking part).
        doc: Semantics, inputs, outputs and constraints.
        inputs: Names of the inputs; all are required.
        output: Name of the output.
        attributes: Typed attributes.
        body: Nodes of the ONNX function, in ONNX textual syntax, standard ops of opset 17 only.
        packed: Fast exact evaluation on codes: arrays in, array out.
        timestep: The definition: spike trains and arrays in, spike train or array out.
    """

    name: str
    dialect: Dialect
    doc: str
    inputs: tuple[str, ...]
    output: str
    attributes: tuple[Attribute, ...]
    body: str
    packed: Callable[[Sequence[Array], Attributes], Array]
    timestep: Callable[[Sequence[Signal], Attributes], Signal]

    def function_text(self, opset: int = 17) -> str:
        """Return the whole function in ONNX textual syntax.

        Args:
            opset: Version of the standard ops; a model of a higher opset needs its own version here, because
                ONNX wants one version for a model and its functions.
        """
        attributes = ", ".join(attribute.declaration() for attribute in self.attributes)
        listed = f" <{attributes}>" if attributes else ""
        return (
            f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>\n'
            f"{self.name}{listed} ({', '.join(self.inputs)}) => ({self.output}) {{\n{self.body}\n}}"
        )

    def problems(self, input_count: int, attrs: Attributes) -> list[str]:
        """List what is wrong with a node of this op: arity and attributes; empty if nothing is.

        Args:
            input_count: Number of inputs of the node.
            attrs: Attributes of the node as plain Python values.
        """
        found: list[str] = []
        if input_count != len(self.inputs):
            found.append(f"has {input_count} inputs, not {len(self.inputs)}: {', '.join(self.inputs)}")
        known = {attribute.name for attribute in self.attributes}
        found += [f"attribute '{name}' is unknown" for name in attrs if name not in known]
        found += [text for attribute in self.attributes if (text := attribute.problem(attrs)) is not None]
        return found


def integer(attrs: Attributes, name: str, default: int | None = None) -> int:
    """Return an integer attribute.

    Raises:
        InternalError: SNN111, it is absent and has no default.
    """
    value = attrs.get(name, default)
    if value is None:
        raise InternalError("SNN111", f"attribute '{name}' is missing")
    return int(value)


def integers(attrs: Attributes, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return an integer-list attribute.

    Raises:
        InternalError: SNN111, it is absent and has no default.
    """
    value = attrs.get(name, default)
    if value is None:
        raise InternalError("SNN111", f"attribute '{name}' is missing")
    # Runtimes prepare tuples; a code table of 16 time-steps is too long to copy for each batch.
    return value if isinstance(value, tuple) else tuple(int(item) for item in value)


def arrays(inputs: Sequence[Signal]) -> list[Array]:
    """Return inputs that must not be spike trains.

    Raises:
        InternalError: SNN112, one of them is a spike train.
    """
    result: list[Array] = []
    for signal in inputs:
        if isinstance(signal, SpikeTrain):
            raise InternalError("SNN112", "a spike train arrives where a held value is needed")
        result.append(signal)
    return result


def dense(signal: Signal) -> Array:
    """Return the codes of a spike train, or the array itself."""
    return signal.codes() if isinstance(signal, SpikeTrain) else signal


def same_in_time(
    packed: Callable[[Sequence[Array], Attributes], Array],
) -> Callable[[Sequence[Signal], Attributes], Signal]:
    """Make the time-stepped form of an op that acts once per window on held values."""

    def timestep(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
        return packed(arrays(inputs), attrs)

    return timestep
