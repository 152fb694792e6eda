"""What each code and each layer could become, what it would cost and how much noise it would add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.auto.surrogate import Coding, Surrogate, book_of, rounded_weights
from snnc.coding import CodeBook, Partition
from snnc.ir import constant
from snnc.passes.quantise.grids import WeightFormat

__all__ = ["Item", "Option", "Step", "code_items", "path_of", "weight_items"]

Array = npt.NDArray[Any]
#: Codes that are tried, from fine to coarse: (T, G).
CODES = (
    (8, 8), (8, 6), (8, 5), (8, 4), (8, 3), (8, 2), (6, 6), (6, 4), (6, 3), (6, 2), (5, 5), (5, 3),
    (4, 4), (4, 3), (4, 2), (3, 3), (3, 2), (4, 1), (2, 2), (3, 1), (2, 1),
)  # fmt: skip
_BITS = (8, 7, 6, 5, 4, 3)
_WIDE_BITS = 14
_VALUES = 4096
_RATIOS = np.concatenate([np.linspace(1.05, 0.3, 16), np.geomspace(0.25, 0.03, 6)])


@dataclass(frozen=True, eq=False)
class Option:
    """One choice for an item.

    Attributes:
        noise: Squared error it adds, relative to the signal.
        spikes: Mean spikes of a neuron; 0 for weights.
        bits: Bits of a weight; 0 for codes.
        coding: The code, for codes.
        form: The weight format, for layers with weights.
    """

    noise: float
    spikes: float = 0.0
    bits: float = 0.0
    coding: Coding | None = None
    form: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """What a rule for it chooses."""
        if self.coding is None:
            return {"weights": self.form}
        return {"timesteps": self.coding.book.timesteps, "groups": self.coding.book.groups}


@dataclass(eq=False)
class Item:
    """A code or a layer with weights, with what it could become, from fine to coarse.

    Attributes:
        name: Name of the code's tensor, or of the product.
        options: Its options; the first is the finest.
        probe: The option whose effect on the outputs is measured.
        sensitivity: Change of the outputs for each unit of noise; measured.
        neurons: Neurons that send the code.
        operations: Synaptic operations that one spike of it causes.
        weights: Number of weights.
    """

    name: str
    options: list[Option]
    probe: int
    sensitivity: float = 0.0
    neurons: float = 0.0
    operations: float = 0.0
    weights: int = 0

    @property
    def is_code(self) -> bool:
        """Whether it is a code, and no layer with weights."""
        return self.options[0].coding is not None


@dataclass(frozen=True)
class Step:
    """One item becomes one notch coarser.

    Attributes:
        item: Number of the item.
        option: Number of its new option.
        damage: Change of the outputs that it adds, by prediction.
        saving: Cost that it saves.
    """

    item: int
    option: int
    damage: float
    saving: float


def code_items(
    surrogate: Surrogate,
    tapped: Mapping[str, Array],
    timesteps: int,
    groups: int,
    partition: Partition,
    fixed: frozenset[str],
) -> Iterator[Item]:
    """Yield an item for every code that may be chosen.

    Args:
        surrogate: The network.
        tapped: What each code would code, by its name.
        timesteps: Most time-steps.
        groups: Most groups.
        partition: Partition of all codes.
        fixed: Codes that the user has chosen.
    """
    pairs = [(t, g) for t, g in CODES if t <= timesteps and g <= groups]
    if (timesteps, groups) not in pairs:
        pairs.insert(0, (timesteps, groups))
    for name, values in tapped.items():
        if name in fixed:
            continue
        node = surrogate.present.get(name)
        held = None if node is None else (book_of(node), constant(node.inputs[1]))
        if held is not None and (not _is_numerator(node) or held[0].timesteps > timesteps):
            continue
        rows = _rows(values)
        per_channel = surrogate.inserted.get(name, False)
        peaks = np.maximum(np.abs(rows).max(axis=0), 1e-30) if per_channel else None
        scaled = _thinned(rows / peaks if peaks is not None else rows)
        signed = bool(scaled.min(initial=0.0) < 0)
        options = []
        for steps, count in pairs:
            book = CodeBook(steps, count, partition, signed=signed)
            ratio = 1.0 / book.max_abs if held is not None else _best(scaled, book)
            step = np.asarray(ratio * peaks if peaks is not None else ratio, dtype=np.float32)
            codes = book.nearest(scaled / ratio)
            noise, spikes = _noise(scaled, codes * ratio), float(book.spike_count(codes).mean())
            options.append(Option(noise, spikes, coding=Coding(book, step)))
        options = _useful(options, lambda option: option.spikes)
        if len(options) > 1:
            yield Item(name, options, _probe(options))


def weight_items(surrogate: Surrogate, form: str, fixed: frozenset[str]) -> Iterator[Item]:
    """Yield an item for every layer whose weights may become coarser.

    Args:
        surrogate: The network.
        form: The format of all others, the finest that is used.
        fixed: Layers that the user has chosen.
    """
    finest = _WIDE_BITS if form == "wide" else int(form.removeprefix("int"))
    for name, node in surrogate.products.items():
        array = constant(node.inputs[1])
        if name in fixed or array is None or not array.size:
            continue
        forms = [form, *(f"int{bits}" for bits in _BITS if bits < finest)]
        options = [
            Option(
                _noise(array, rounded_weights(node, WeightFormat(each))),
                bits=float(_WIDE_BITS if each == "wide" else int(each[3:])),
                form=each,
            )
            for each in forms
        ]
        if len(options) > 1:
            yield Item(name, options, _probe(options), weights=array.size)


def path_of(items: Sequence[Item], costs: Sequence[Sequence[float]]) -> list[Step]:
    """Return the steps from all finest options to all coarsest, least damage for what it saves first.

    Only options on the lower convex hull of cost and damage are used, so that the order is the best one as
    far as damages add up.

    Args:
        items: The items.
        costs: Cost of every option of every item.
    """
    steps: list[tuple[Fraction, Step]] = []
    for number, (item, cost) in enumerate(zip(items, costs, strict=True)):
        at = 0
        while True:
            best: tuple[Fraction, int] | None = None
            for option in range(at + 1, len(item.options)):
                saving = cost[at] - cost[option]
                if saving <= 0:
                    continue
                damage = item.sensitivity * (item.options[option].noise - item.options[at].noise)
                slope = Fraction(max(0.0, damage)) / Fraction(saving)
                if best is None or slope <= best[0]:
                    best = slope, option
            if best is None:
                break
            slope, option = best
            damage = item.sensitivity * (item.options[option].noise - item.options[at].noise)
            steps.append((slope, Step(number, option, max(0.0, damage), cost[at] - cost[option])))
            at = option
    # Slopes of one item grow, so that sorting keeps the order of its steps.
    return [step for _, step in sorted(steps, key=lambda entry: (entry[0], entry[1].item, entry[1].option))]


def _is_numerator(node: Any) -> bool:
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    return producer is not None and producer.op_type == "Exp"


def _rows(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1]).astype(np.float64)


def _thinned(rows: Array) -> Array:
    flat = rows.reshape(-1)
    stride = max(1, len(flat) // _VALUES)
    # Prime to usual widths, so that not always the same channels are seen.
    while stride > 1 and (stride % 2 == 0 or stride % 3 == 0):
        stride += 1
    return np.asarray(flat[::stride])


def _best(values: Array, book: CodeBook) -> float:
    peak = float(np.abs(values).max(initial=0.0)) or 1.0
    base = peak / book.max_abs
    errors = [_noise(values, book.nearest(values / (base * ratio)) * (base * ratio)) for ratio in _RATIOS]
    return float(base * _RATIOS[int(np.argmin(errors))])


def _noise(signal: Array, found: Array) -> float:
    power = float((np.asarray(signal, np.float64) ** 2).sum())
    return float(((np.asarray(found, np.float64) - signal) ** 2).sum()) / power if power else 0.0


def _useful(options: Sequence[Option], cost: Any) -> list[Option]:
    """Return the options that no other one beats in noise and cost, from fine to coarse."""
    ordered = sorted(options, key=lambda option: (option.noise, cost(option)))
    kept: list[Option] = []
    for option in ordered:
        if not kept or cost(option) < cost(kept[-1]):
            kept.append(option)
    return kept


def _probe(options: Sequence[Option]) -> int:
    """Return an option coarse enough that its effect is seen: the first whose noise is beyond 20 dB."""
    return next((index for index, option in enumerate(options) if option.noise > 0.01), len(options) - 1)
