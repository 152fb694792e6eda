"""Give a float network quantisers, their steps chosen from calibration data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc import strict
from snnc.coding import CodeBook, Partition
from snnc.errors import InputError, InternalError, UsageError, Where
from snnc.ir import (
    AI_SNNC,
    DataType,
    Model,
    Node,
    Value,
    attributes,
    initializer,
    make_node,
    unique_name,
)
from snnc.passes.layers import Chooser, book_of
from snnc.passes.quantise.balance import balanced_steps
from snnc.passes.quantise.channels import Channels, Rows, channels_of
from snnc.passes.quantise.choices import Choice, Observer, Sampler, TensorSample
from snnc.passes.quantise.grids import WeightFormat
from snnc.passes.quantise.histogram import Distribution
from snnc.passes.quantise.jump_levels import Reading, levels_at, read_as, reading_of, values_of_levels
from snnc.passes.quantise.jumps import jumps
from snnc.passes.quantise.loads import EIGHT_BITS
from snnc.passes.quantise.long_sums import common_steps, long_sums
from snnc.passes.quantise.sites import SITE, Site, host_values, quantiser_sites, without_codes
from snnc.passes.quantise.steps import ObserverName, StepChoice, best_step, per_axis
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Rewrite, Semantics, whole
from snnc.settings import parse_rules

__all__ = [
    "SITE",
    "Choice",
    "InsertQuantisers",
    "Observer",
    "Sampler",
    "TensorSample",
    "levels_at",
    "measured_at",
]

_MOST_NAMES = 4
_MEASURED = "snnc.measured"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class InsertQuantisers:
    """Put a quantiser in front of every synapse that reads floats and behind every activation function.

    Steps minimise the mean squared error on the calibration data, or what else ``method`` says, per tensor,
    or per channel where the products behind the code can absorb them (RepQ-ViT's reparametrisation).
    Functions that jump read levels as values that calibration saw there; see `values_of_levels`.

    Matches: operands of Conv and MatMul without a code; results of activation functions that are summed.
    Leaves alone: what carries a code; the first layer, which reads the network input.
    Keeps: names of all float values; the residual stream stays unquantised.

    Attributes:
        timesteps: T of the codes.
        groups: G of the codes.
        partition: Partition of time-steps into groups.
        observer: Runs the model on the calibration data and counts the values of tensors.
        method: How steps are chosen: ``mse``, ``percentile`` or ``entropy``; see `best_step`.
        weights: Form of the weights behind the codes, which bounds how far steps of channels may differ.
        layers: Rules for single layers; see `snnc.settings.LayerRule`.
        sampler: Runs the model again and keeps values that functions that jump read; without one, levels
            stand for themselves.
        choices: Quantisers chosen before, by tensor, used instead of observing.
    """

    timesteps: int = whole(8, 1, 16)
    groups: int = whole(4, 1, 16)
    partition: Partition = "interleaved"
    observer: Observer | None = field(default=None, compare=False, repr=False)
    choices: Mapping[str, Choice] | None = field(default=None, compare=False, repr=False)
    method: ObserverName = "mse"
    weights: str = "int8"
    layers: tuple[str, ...] = ()
    sampler: Sampler | None = field(default=None, compare=False, repr=False)

    name: ClassVar[str] = "insert-quantisers"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "unique-names", "constants-folded"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert the quantisers; the result notes step and error of each."""
        result = PassResult()
        partly = any(_is_trained(node) for node in model.graph)
        sites = quantiser_sites(model, EIGHT_BITS if partly else self._largest_product(model))
        if not sites or (partly and not any(site.firm for site in sites)):
            # Who trained quantisers chose where codes are; what sums cannot do is refused later.
            return result
        readings = self._readings(model, sites)
        if self.choices is not None:
            chosen = self.choices
        elif self.observer is not None:
            channels = dict(zip([name for name, _ in _named(sites)], channels_of(model, sites), strict=True))
            if self.method == "entropy":
                # A divergence needs finer bins than there is room for in a histogram for each channel.
                channels = {name: Channels() for name in channels}
            # Each distribution is let go once its step is chosen: what the search sums up takes memory.
            axes = {name: entry.axes for name, entry in channels.items()}
            seen = dict(self.observer(model, axes, {name: entry.places for name, entry in channels.items()}))
            chooser = Chooser(model, self.layers, [site.value for site in sites])

            sums = long_sums(model, sites)
            # What sums of many products are made of is chosen together, the rest one after the other.
            kept: dict[str, tuple[Distribution, CodeBook, StepChoice]] = {}
            together = frozenset().union(*(entry.factors for entry in sums))
            found: dict[str, tuple[CodeBook, StepChoice, tuple[int, ...]]] = {}
            for name, site in _named(sites):
                here = seen.pop(name)
                book, choice = self._best(name, here, channels[name].rows, chooser.code(site.value))
                found[name] = book, choice, _steps_shape(choice, here, site)
                if name in together:
                    kept[name] = here, book, choice
            for entry in sums:
                for name, choice in common_steps(entry, kept).items():
                    found[name] = found[name][0], choice, found[name][2]
            chosen = {
                name: self._noted(name, *found[name], chooser.code(site.value), result)
                for name, site in _named(sites)
            }
            self._read_levels(model, readings, chosen, result)
        else:
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
            self._insert(model, site, chosen[name], readings.get(name), result)
        return result

    @staticmethod
    def _readings(model: Model, sites: Sequence[Site]) -> dict[str, Reading]:
        """Return the functions that jump, by the name of the value whose code they will read."""
        found = jumps(model, host_values(model, clipped=True))
        readings = {name: reading_of(site.value, site.uses, found) for name, site in _named(sites)}
        return {name: reading for name, reading in readings.items() if reading is not None}

    def _read_levels(
        self, model: Model, readings: Mapping[str, Reading], chosen: dict[str, Choice], result: PassResult
    ) -> None:
        """Choose what levels stand for to the functions that jump."""
        if not readings or self.sampler is None:
            return
        opsets = dict(model.graph.opset_imports)
        # What is zero as a code may be small in the source.
        for name, sample in self.sampler(without_codes(model), list(readings)).items():
            choice = chosen[name]
            if choice.step.size != 1:
                continue
            step = np.float32(choice.step.reshape(())[()])
            evaluate = partial(readings[name].evaluate, opsets=opsets)
            try:
                levels = values_of_levels(choice.book, step, sample.values, evaluate)
            except ValueError:
                continue  # nor will a table hold it
            own = np.arange(choice.book.smallest, choice.book.largest + 1).astype(np.float32) * step
            moved = int(np.count_nonzero(levels != own))
            if moved:
                chosen[name] = replace(choice, levels=levels)
                result.notes.append(
                    f"{name}: {moved} levels are read as values seen, on their side of a jump"
                )

    def _best(
        self, name: str, seen: Distribution, rows: tuple[Rows, ...], asked: dict[str, Any]
    ) -> tuple[CodeBook, StepChoice]:
        if not np.isfinite([seen.low, seen.high]).all():
            raise InputError(
                "SNN346",
                "the calibration data give values here that are not finite",
                where=Where(tensor=name, pass_name=self.name),
                hint="leave out the samples that cause them, such as empty ones, whose norm is zero",
            )
        signed = seen.low < 0
        book = book_of(asked, self.timesteps, self.groups, self.partition, signed=signed, tensor=name)
        if seen.axes:
            return book, balanced_steps(seen, book, self.method, rows, WeightFormat(self.weights))
        return book, best_step(seen, book, self.method)

    def _noted(
        self,
        name: str,
        book: CodeBook,
        found: StepChoice,
        shape: tuple[int, ...],
        asked: dict[str, Any],
        result: PassResult,
    ) -> Choice:
        kind = "one step per channel" if shape else "one step"
        if asked:
            kind = f"T={book.timesteps} G={book.groups}, {kind}"
        result.notes.append(
            f"{name}: {kind}, signal to noise {found.decibel:.1f} dB, "
            f"{found.clipped:.2%} of the values clipped"
        )
        decibel = round(found.decibel, 2) if np.isfinite(found.decibel) else None
        step = np.asarray(found.step).reshape(shape)
        return Choice(book, step, measured={"sqnr_db": decibel, "clipped": round(found.clipped, 6)})

    def _insert(
        self, model: Model, site: Site, choice: Choice, reading: Reading | None, result: PassResult
    ) -> None:
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
        if choice.measured:
            node.metadata_props[_MEASURED] = json.dumps(dict(choice.measured), sort_keys=True)
        _insert_behind(model, producer, node)
        for reader, position in site.uses:
            reader.replace_input_with(position, node.outputs[0])
        if reading is not None and choice.levels is not None:
            read_as(model, node, choice, reading)
        if site.output:
            _give_out(model, value, node.outputs[0])
        result.rewrites.append(Rewrite("insert a quantiser", (), (node.name or "",)))

    def _largest_product(self, model: Model) -> int:
        """Return the largest product of a code and a weight that any layer may have."""
        rules = [dict(rule.values) for rule in parse_rules(self.layers)]
        steps = max(self.timesteps, *(int(rule.get("timesteps", 1)) for rule in rules), 1)
        codes: list[int] = [2**steps - 1]
        for node in model.graph:
            if node.domain == AI_SNNC and node.op_type == "Quantise":  # the encoder of the input
                book = CodeBook.from_attributes(attributes(node))
                codes.append(max(book.largest, -book.smallest))
        forms = {self.weights, *(str(rule.get("weights", self.weights)) for rule in rules)}
        # Weights on the widest grid leave room of themselves.
        return int(max(codes) * max(WeightFormat(form).largest or 1 for form in forms))


def _is_trained(node: Node) -> bool:
    """Whether a node is a quantiser that the network brought along: the input's encoder is none."""
    return node.domain == AI_SNNC and node.op_type == "Quantise" and SITE not in node.metadata_props


def _listed(sites: Sequence[Site]) -> str:
    """Name the values that lack a quantiser, the first few of them."""
    names = [site.value.name or "" for site in sites]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    listed = ", ".join(map(repr, names[:_MOST_NAMES]))
    subject, verb = ("values", "carry") if len(names) > 1 else ("value", "carries")
    return f"{len(names)} {subject} of the network ({listed}{more}) {verb}"


def measured_at(node: Node) -> dict[str, float | None]:
    """Return what coding costs at an inserted quantiser on the calibration data; see `Choice`."""
    content = strict.loads(node.metadata_props.get(_MEASURED, "{}"))
    return {str(key): value for key, value in content.items()}


def _steps_shape(choice: StepChoice, seen: Distribution, site: Site) -> tuple[int, ...]:
    """Return the shape in which steps broadcast to the tensor."""
    return per_axis(choice.step, seen, len(site.value.shape or ())).shape if seen.axes else ()


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
