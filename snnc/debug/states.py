"""States of a network: its source, any dump between two passes, the spiking network, its instructions.

Each can be run on samples and asked for inner tensors; what one unit of a code is worth comes with it, so
that codes and real numbers can be compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from snnc import strict
from snnc.arrays import InputSpec
from snnc.debug.verify import coded_tensors, cut, fill
from snnc.emit.bundle import MANIFEST, open_bundle
from snnc.errors import InputError, SnncError, Where
from snnc.ir import AI_SNNC, DataType, Model, clone, constant, load
from snnc.ops import attach_functions, check_codes
from snnc.passes.quantise.align_membranes import AlignMembranes
from snnc.passes.quantise.introduce_gains import IntroduceGains
from snnc.passes.quantise.round_constants import RoundConstants
from snnc.passes.quantise.round_tables import RoundTables
from snnc.passes.quantise.sites import SITE
from snnc.pipeline import Pass
from snnc.runtimes import NumpyPacked, OnnxRuntime
from snnc.runtimes.numpy_runtime import input_specs
from snnc.runtimes.oracle import QuantisedOracle
from snnc.verify import dialect_of, verify_dialect

__all__ = ["Kind", "State", "Tensor", "open_state", "state_of"]

Array = npt.NDArray[Any]

#: What a state is: real numbers only; some quantisers; a network ready to be encoded; spikes; instructions.
Kind = Literal["float", "quantised", "quant", "spike", "bundle"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a state.

    Attributes:
        name: Its name in the file.
        meanings: Names under which another state may have it, the likeliest first.
        step: What one unit of its code is worth, float32, broadcastable; None for real numbers, and for codes
            whose worth the file does not tell.
        coded: Whether running gives codes instead of real numbers.
    """

    name: str
    meanings: tuple[str, ...]
    step: Array | None = None
    coded: bool = False


#: What still changes values once weights are integers.
_LAST: tuple[Pass, ...] = (RoundTables(), AlignMembranes(), RoundConstants(), IntroduceGains())


class _Runner(Protocol):
    @property
    def inputs(self) -> tuple[InputSpec, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]: ...


@dataclass(frozen=True, eq=False)
class State:
    """A state of a network that can be run.

    Attributes:
        name: What to call it: its path.
        kind: What it is.
        model: Its graph; for a bundle the network it was made from.
        tensors: Inner tensors that can be asked for, in graph order.
        runner: What executes it.
    """

    name: str
    kind: Kind
    model: Model
    tensors: tuple[Tensor, ...]
    runner: _Runner

    @property
    def exact(self) -> bool:
        """Whether everything approximate lies behind it: two such states of a network agree in every bit."""
        return self.kind in ("quant", "spike", "bundle")

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What it expects."""
        return self.runner.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its outputs."""
        return self.runner.outputs

    def run(
        self, inputs: Mapping[str, Array], taps: Sequence[str] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Evaluate samples, as many as fit into memory with the taps.

        Args:
            inputs: Checked arrays by input name, samples on axis 0.
            taps: Names of inner tensors.

        Returns:
            Outputs, and the taps: codes or real numbers. An output that is itself a code is in both.
        """
        if isinstance(self.runner, _Oracle):
            return self.runner.evaluate(inputs, taps)
        try:
            found = self.runner.run(inputs, taps)
        except SnncError as error:
            error.in_file(self.name)
            raise
        return {name: found[name] for name in self.outputs}, {name: found[name] for name in taps}


def open_state(path: str | os.PathLike[str]) -> State:
    """Read a model, a dump or a bundle.

    Raises:
        InputError: SNN3xx, it cannot be read, or its neurons have no legal code.
        UnsupportedError: SNN423, it cannot be run.
    """
    name = os.fspath(path)
    if Path(path).is_dir():
        if not (Path(path) / MANIFEST).is_file() and any(Path(path).glob("[0-9][0-9][0-9]-*.onnx")):
            raise InputError(
                "SNN301",
                "is a folder of dumps, not a model",
                where=Where(file=name),
                hint=f"name one of its files, such as {min(Path(path).glob('*.onnx'))}",
            )
        compiled = open_bundle(name)
        runtime = compiled.runtime()
        known = set(runtime.tensors)
        tensors = tuple(tensor for tensor in _spiking(compiled.model) if tensor.name in known)
        return State(name, "bundle", compiled.model, tensors, runtime)
    try:
        model = load(path)
        check_codes(model)
        return state_of(model, name, settled=_settled_by_log(Path(path)))
    except SnncError as error:
        error.in_file(name)
        raise


def state_of(model: Model, name: str, *, settled: bool | None = None) -> State:
    """Return a model as a state; the model is not changed.

    Args:
        model: The model, in whatever dialect.
        name: What to call it.
        settled: Whether no approximating pass follows; None finds out what it can.

    Raises:
        UnsupportedError: SNN423, it cannot be run.
    """
    kind = kind_of(model, settled)
    if kind == "spike":
        return State(name, kind, model, tuple(_spiking(model)), NumpyPacked(model))
    tensors = tuple(_tensors(model, kind))
    if kind == "quant":
        return State(name, kind, model, tensors, _Oracle(model))
    runnable = clone(model)
    attach_functions(runnable)
    return State(name, kind, model, tensors, OnnxRuntime(runnable, optimisation="none", threads=1))


def kind_of(model: Model, settled: bool | None = None) -> Kind:
    """Return what a model is; see `state_of`."""
    if not any(node.domain == AI_SNNC for node in model.graph):
        return "float"
    dialect = dialect_of(model)
    if dialect == "spike":
        return "spike"
    if dialect != "quant" or verify_dialect(model, "quant"):
        return "quantised"
    return "quant" if (_settled(model) if settled is None else settled) else "quantised"


def _settled(model: Model) -> bool:
    """Whether none of the passes that approximate a network of integers has anything left to do."""
    copy = clone(model)
    try:
        return not any(step.run(copy).rewrites for step in _LAST)
    except SnncError:
        return False


def _settled_by_log(path: Path) -> bool | None:
    """Whether no approximating pass changed anything after a dump, by the log beside it; None: no log."""
    try:
        place = int(path.name.partition("-")[0])
        passes = strict.loads((path.parent / "run.json").read_bytes())["passes"]
        if not path.name.endswith(f"-{passes[place - 1]['name']}.onnx"):
            return None
        later = [entry for entry in passes[place:] if entry["changed"]]
        return all(entry["semantics"] == "exact" for entry in later)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _spiking(model: Model) -> list[Tensor]:
    return [Tensor(name, (meant, name), None, coded=True) for name, meant in coded_tensors(model).items()]


def _tensors(model: Model, kind: Kind) -> list[Tensor]:
    found = []
    for node in model.graph:
        if node.domain == AI_SNNC and node.op_type == "Quantise":
            name = node.outputs[0].name or ""
            site = node.metadata_props.get(SITE)
            step = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            worth = None if step is None else np.asarray(step, dtype=np.float32)
            meanings = tuple(dict.fromkeys(each for each in (name, site) if each))
            found.append(Tensor(name, meanings, worth, coded=kind == "quant"))
        elif kind != "quant":
            found += [
                Tensor(value.name, (value.name,))
                for value in node.outputs
                if value.name and value.dtype in (None, DataType.FLOAT, DataType.DOUBLE)
            ]
    return found


class _Oracle:
    """The quantised network in exact arithmetic, as a runtime; inner tensors are codes."""

    def __init__(self, model: Model) -> None:
        self._oracle = QuantisedOracle(model)
        self.inputs = input_specs(model)
        self.outputs = tuple(value.name or "" for value in model.graph.outputs)

    def run(self, inputs: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        outputs, codes = self.evaluate(inputs, taps)
        return {**codes, **outputs}

    def evaluate(
        self, inputs: Mapping[str, Array], taps: Sequence[str]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return outputs and codes; a network of a fixed batch gets its batch filled up."""
        fixed = self.inputs[0].shape[0] if self.inputs else None
        outputs, codes = self._oracle.run_batch(fill(inputs, fixed), taps)
        return cut(outputs, inputs, fixed), cut(codes, inputs, fixed)
