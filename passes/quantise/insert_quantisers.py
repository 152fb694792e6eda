"""Give a float network quantisers, their steps chosen from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook, Partition
from snnc.errors import InternalError, UsageError, Where
from snnc.ir import AI_SNNC, DataType, Model, Node, Value, initializer, make_node, unique_name
from snnc.passes.quantise.sites import Site, quantiser_sites
from snnc.passes.quantise.steps import best_step
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["SITE", "Choice", "InsertQuantisers", "Observer", "TensorSample"]

#: Metadata key of an inserted quantiser: the float tensor it was made for.
SITE = "snnc.site"
_MOST_NAMES = 4

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TensorSample:
    """What calibration saw of one tensor.

    Attributes:
        values: Sample of its values, float32, shape (n, channels) with the last axis of the tensor kept.
        low: Smallest value seen.
        high: Largest value seen.
        channel_peaks: Largest magnitude seen per position of the last axis, float32.
    """

    values: Array
    low: float
    high: float
    channel_peaks: Array


@dataclass(frozen=True, eq=False)
class Choice:
    """A quantiser that was chosen for a tensor.

    Attributes:
        book: Its code.
        step: Its step, float32, of shape () or (channels,), or one that broadcasts against the tensor.
        offset: Value of code 0 where that is not zero (a network input), of the shape of the step.
    """

    book: CodeBook
    step: Array
    offset: Array | None = None


Observer = Callable[[Model, Sequence[str]], Mapping[str, TensorSample]]


@dataclass(frozen=True)
class InsertQuantisers:
    """Put a quantiser in front of every synapse that reads floats and behind every activation function.

    Steps minimise the mean squared error on the calibration data, per tensor, or per channel where a matrix
    product with constant weights can absorb them (behind a LayerNorm; RepQ-ViT's reparametrisation).

    Matches: operands of Conv and MatMul without a code; results of activation functions that are summed.
    Leaves alone: what carries a code; the first layer, which reads the network input.
    Keeps: names of all float values; the residual stream stays unquantised.

    Attributes:
        timesteps: T of the codes.
        groups: G of the codes.
        partition: Partition of time-steps into groups.
        observer: Runs the model on the calibration data and samples tensors.
        choices: Quantisers chosen before, by tensor, used instead of observing.
    """

    timesteps: int = 8
    groups: int = 4
    partition: Partition = "interleaved"
    observer: Observer | None = field(default=None, compare=False, repr=False)
    choices: Mapping[str, Choice] | None = field(default=None, compare=False, repr=False)

    name: ClassVar[str] = "insert-quantisers"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names", "constants-folded"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert the quantisers; the result notes step and error of each."""
        result = PassResult()
        sites = quantiser_sites(model)
        if not sites:
            return result
        if self.choices is not None:
            chosen = self.choices
        elif self.observer is not None:
            samples = self.observer(model, [site.value.name or "" for site in sites])
            chosen = {name: self._choose(name, site, samples, result) for name, site in _named(sites)}
        else:
            partly = any(node.domain == AI_SNNC and node.op_type == "Quantise" for node in model.graph)
            raise UsageError(
                "SNN261",
                f"{_listed(sites)} no quantiser: it takes calibration data to give them one"
                if partly
                else "the network is in float and carries no quantisers: it needs calibration data",
                hint="snnc convert MODEL.onnx --calibrate x.npz",
            )
        for name, site in _named(sites):
            if name not in chosen:
                raise InternalError("SNN161", "no quantiser was chosen", where=Where(tensor=name))
            self._insert(model, site, chosen[name], result)
        return result

    def _choose(
        self, name: str, site: Site, samples: Mapping[str, TensorSample], result: PassResult
    ) -> Choice:
        sample = samples[name]
        book = CodeBook(self.timesteps, self.groups, self.partition, signed=sample.low < 0)
        per_channel = site.per_channel and _is_normalisation(site.value.producer())
        step, error = best_step(sample.values, sample.channel_peaks if per_channel else None, book)
        kind = "one step per channel" if per_channel else "one step"
        outside = _outside(sample, book, step)
        result.notes.append(
            f"{name}: {kind}, signal to noise {error:.1f} dB, {outside:.2%} of the values clipped"
        )
        return Choice(book, step)

    def _insert(self, model: Model, site: Site, choice: Choice, result: PassResult) -> None:
        graph, value = model.graph, site.value
        producer = value.producer()
        name = value.name or "value"
        node = make_node(
            graph,
            "Quantise",
            [value, initializer(graph, f"{name}_step", choice.step)],
            quantise_attributes(choice.book, "away"),
            domain=AI_SNNC,
            name=f"{name}_code",
            dtype=DataType.FLOAT,
            shape=value.shape,
            source=producer,
        )
        node.metadata_props[SITE] = name
        _insert_behind(model, producer, node)
        for reader, position in site.uses:
            reader.replace_input_with(position, node.outputs[0])
        if site.output:
            _give_out(model, value, node.outputs[0])
        result.rewrites.append(Rewrite("insert a quantiser", (), (node.name or "",)))


def _listed(sites: Sequence[Site]) -> str:
    """Name the values that lack a quantiser, the first few of them."""
    names = [site.value.name or "" for site in sites]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    listed = ", ".join(map(repr, names[:_MOST_NAMES]))
    subject, verb = ("values", "carry") if len(names) > 1 else ("value", "carries")
    return f"{len(names)} {subject} of the network ({listed}{more}) {verb}"


def _named(sites: Sequence[Site]) -> list[tuple[str, Site]]:
    return [(site.value.name or "", site) for site in sites]


def _insert_behind(model: Model, producer: Node | None, node: Node) -> None:
    if producer is None:
        first = next(iter(model.graph))
        model.graph.insert_before(first, node)
    else:
        model.graph.insert_after(producer, node)


def _give_out(model: Model, value: Value, code: Value) -> None:
    """Let the code be the output of the graph, under its name."""
    outputs = model.graph.outputs
    place = next(index for index, entry in enumerate(outputs) if entry is value)
    outputs[place] = code
    name = value.name or "output"
    value.name, code.name = unique_name(model.graph, f"{name}_float"), name


def _is_normalisation(node: Node | None) -> bool:
    while node is not None and node.op_type in ("Add", "Mul") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type in ("LayerNormalization", "RMSNormalization")


def _outside(sample: TensorSample, book: CodeBook, step: Array) -> float:
    """Share of the sampled values beyond the largest code."""
    limit = book.largest * step.reshape(-1)
    beyond = sample.values > limit
    if book.smallest < 0:
        beyond |= sample.values < book.smallest * step.reshape(-1)
    return float(np.count_nonzero(beyond)) / max(1, sample.values.size)
