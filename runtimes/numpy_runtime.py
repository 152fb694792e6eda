"""The numpy runtimes: packed codes, and the time-stepped definition that really sends spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.arrays import InputSpec
from snnc.errors import InputError, Problem, UnsupportedError, Where
from snnc.ir import Model, Node, Value, attributes, constant, table_rows
from snnc.ir.hosting import declared
from snnc.ops import DOMAIN, LAYOUT, OPS, LayoutOp, OpDef, Signal, SpikeTrain
from snnc.runtimes.common import DEFAULT_BATCH, Array, check_inputs, check_taps, run_in_batches
from snnc.runtimes.hosted import HostExecutor

__all__ = ["NumpyPacked", "NumpyTimestep", "input_specs"]


@dataclass(frozen=True)
class _Step:
    """One node, ready to run."""

    where: Where
    definition: OpDef | LayoutOp | Node
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    last_use_of: tuple[str, ...]


def _name(value: Value) -> str:
    return value.name or ""


def _definition(node: Node) -> OpDef | LayoutOp | Node | None:
    if declared(node):
        return node  # stays in float on the host
    if node.domain == DOMAIN:
        return OPS.get(node.op_type)
    return LAYOUT.get(node.op_type) if node.domain in {"", "ai.onnx"} else None


def input_specs(model: Model) -> tuple[InputSpec, ...]:
    """Return what a model expects; inputs that are initializers with a default are not among them.

    Raises:
        UnsupportedError: SNN421, an input has no type, no shape, or is a scalar.
    """
    specs = []
    rows = table_rows(model)
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if value.dtype is None or value.shape is None or len(value.shape) == 0:
            raise UnsupportedError(
                "SNN421", "the input needs a type, a shape and a sample axis", where=Where(tensor=value.name)
            )
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        dtype = np.dtype(value.dtype.numpy())
        specs.append(InputSpec(_name(value), dtype, shape, rows.get(_name(value))))
    return tuple(specs)


class _NumpyRuntime:
    """Interprets a graph of the spike dialect, node by node, with numpy.

    Args:
        model: A model of the spike dialect, its nodes in order.
        batch_size: Samples evaluated together where the model leaves the batch free.

    Raises:
        UnsupportedError: SNN422, some nodes are not of the spike dialect; SNN421, a bad input.
    """

    spikes_in_time: ClassVar[bool]

    def __init__(self, model: Model, *, batch_size: int = DEFAULT_BATCH) -> None:
        self._inputs = input_specs(model)
        self._outputs = tuple(_name(value) for value in model.graph.outputs)
        self._batch_size = batch_size
        self._constants: dict[str, Array] = {}
        for name, value in model.graph.initializers.items():
            array = constant(value)
            if array is None and value.const_value is not None:
                array = np.asarray(value.const_value.numpy())
            if array is not None:
                self._constants[name] = array
        self._steps = _prepare(model, set(self._outputs))
        self._host = HostExecutor(model.graph.opset_imports.get("", 17))

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the model expects, in its order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs, in its order."""
        return self._outputs

    def run(self, inputs: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """Evaluate the model on any number of samples; see `Runtime.run`.

        Args:
            inputs: Arrays by input name, shape (samples, ...).
            taps: Names of inner tensors wanted as well; spikes come as codes.

        Returns:
            Outputs by name, then taps, shape (samples, ...).

        Raises:
            InputError: SNN335 to SNN338, names, shapes, types or counts are wrong; SNN333, values
                that are not finite.
            UsageError: SNN250, a tap names no tensor of the model.
        """
        check_taps(taps, [name for step in self._steps for name in step.outputs])
        outputs = set(self._outputs)
        wanted = (*self._outputs, *(tap for tap in taps if tap not in outputs))
        return run_in_batches(
            check_inputs(inputs, self._inputs),
            self._inputs,
            lambda feeds: self._execute(feeds, wanted),
            self._batch_size,
        )

    def _execute(self, feeds: dict[str, Array], wanted: tuple[str, ...]) -> dict[str, Array]:
        values: dict[str, Signal] = {**self._constants, **feeds}
        keep = set(wanted)
        for step in self._steps:
            operands = [None if name is None else values[name] for name in step.inputs]
            results = self._apply(step, operands)
            values.update(zip(step.outputs, results, strict=True))
            # Dead tensors go at once: a deep network holds only what is still to be read.
            for name in step.last_use_of:
                if name not in keep:
                    del values[name]
        return {name: _packed(values[name]) for name in wanted}

    def pull(self, values: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        """Evaluate only what some tensors need.

        Args:
            values: Tensors that are known; what stands before them is not evaluated.
            wanted: Names of tensors.

        Returns:
            The wanted tensors by name.
        """
        made = {name: step for step in self._steps for name in step.outputs}
        known: dict[str, Signal] = {**self._constants, **values}
        todo = list(wanted)
        while todo:
            step = None if todo[-1] in known else made[todo[-1]]
            missing = [n for n in step.inputs if n is not None and n not in known] if step is not None else []
            if missing:
                todo += missing
                continue
            if step is not None:
                operands = [None if name is None else known[name] for name in step.inputs]
                known.update(zip(step.outputs, self._apply(step, operands), strict=True))
            todo.pop()
        return {name: _packed(known[name]) for name in wanted}

    def _apply(self, step: _Step, operands: list[Signal | None]) -> list[Signal]:
        try:
            return self._evaluate(step, operands)
        except (IndexError, TypeError, ValueError) as error:
            # Converting makes no such graph, but a file may hold one.
            raise InputError(
                "SNN322",
                f"cannot be computed: {error}",
                where=step.where,
                hint="the file is damaged: convert the model again",
            ) from error

    def _evaluate(self, step: _Step, operands: list[Signal | None]) -> list[Signal]:
        definition = step.definition
        if isinstance(definition, Node):
            return [*self._host.run(definition, [None if s is None else _packed(s) for s in operands])]
        if isinstance(definition, LayoutOp):
            if self.spikes_in_time:
                return definition.timestep(operands, step.attributes, len(step.outputs))
            arrays = [None if signal is None else _packed(signal) for signal in operands]
            return list(definition.packed(arrays, step.attributes, len(step.outputs)))
        present = [signal for signal in operands if signal is not None]
        if self.spikes_in_time:
            return [definition.timestep(present, step.attributes)]
        return [definition.packed([_packed(signal) for signal in present], step.attributes)]


def _packed(signal: Signal) -> Array:
    return signal.codes() if isinstance(signal, SpikeTrain) else signal


def _prepare(model: Model, outputs: set[str]) -> list[_Step]:
    """Resolve each node's definition and find out after which node each tensor is dead."""
    nodes = list(model.graph)
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.producer() is not None and _name(value) not in outputs:
                last[_name(value)] = index
    dying: dict[int, list[str]] = {}
    for name, index in last.items():
        dying.setdefault(index, []).append(name)
    steps: list[_Step] = []
    problems: list[Problem] = []
    for index, node in enumerate(nodes):
        where = Where(node=node.name)
        definition = _definition(node)
        attrs = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in attributes(node).items()
        }
        if definition is None:
            domain = f"{node.domain}." if node.domain else ""
            problems.append(Problem(f"{domain}{node.op_type} is not of the spike dialect", where))
            continue
        if isinstance(definition, OpDef):
            problems += [Problem(text, where) for text in definition.problems(len(node.inputs), attrs)]
        inputs = tuple(None if value is None else _name(value) for value in node.inputs)
        names = tuple(_name(value) for value in node.outputs)
        steps.append(_Step(where, definition, inputs, names, attrs, tuple(dying.get(index, ()))))
    if problems:
        raise UnsupportedError(
            "SNN422",
            "the numpy runtimes run models of the spike dialect only",
            problems=problems,
            hint="convert the model first, or run it in onnxruntime",
        )
    return steps


class NumpyPacked(_NumpyRuntime):
    """Evaluates whole codes at once: exact wherever the compiler's range proofs hold, and fast.

    Args:
        model: A model of the spike dialect, its nodes in order.
        batch_size: Samples evaluated together where the model leaves the batch free.
    """

    spikes_in_time = False


class NumpyTimestep(_NumpyRuntime):
    """The definition: spikes go step by step, membranes charge by shift and add, neurons fire bit by bit.

    Args:
        model: A model of the spike dialect, its nodes in order.
        batch_size: Samples evaluated together where the model leaves the batch free.
    """

    spikes_in_time = True
