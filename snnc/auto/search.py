"""The search: how sensitive every code and layer is, in which order to coarsen them, what that gives."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snnc.auto.candidates import Item, Step, code_items, path_of, weight_items
from snnc.auto.fanout import fan_outs
from snnc.auto.judge import Array, Judge, Trial, divergence
from snnc.auto.surrogate import Coding, Surrogate, rounded_weights
from snnc.auto.target import Target, parse_target
from snnc.compile import ConvertOptions, convert, stage_before_quantisers
from snnc.errors import UnsupportedError, UsageError
from snnc.ir import Model, concrete_shapes, constant
from snnc.passes.layers import Chooser
from snnc.passes.quantise.grids import WeightFormat
from snnc.passes.quantise.sites import quantiser_sites
from snnc.settings import LayerRule

__all__ = ["AutoResult", "choose"]

#: Work that bounds the numbers of samples, in multiplications of the dense network, so that a result depends
#: on the network and not on the speed of a machine.
_PROBE_WORK, _JUDGE_WORK = 3e12, 1.5e11
_ROUNDS = 6
_PICOJOULES = 0.9
#: Codes that no synapse reads as spikes (keys, values) cost this share of what others cost, so that they are
#: not left finer than they need to be.
_HELD = 0.01

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AutoResult:
    """What was chosen, and how it was judged.

    Attributes:
        target: What was asked for.
        options: The options with the choice as rules, ready to convert with.
        met: Whether the held-out samples meet the target.
        chosen: The choice, or the nearest one if the target is not met, on the held-out samples.
        default: The settings without ``--auto``, on the same samples.
        judged: Number of held-out samples.
        fitted: Number of samples that calibration and search saw.
        sensitivity: For every code and layer what it became and how much of the predicted damage it does.
    """

    target: Target
    options: ConvertOptions
    met: bool
    chosen: Trial
    default: Trial
    judged: int
    fitted: int
    sensitivity: tuple[Mapping[str, Any], ...]

    @property
    def nearest(self) -> str:
        """What the chosen trial reaches, in the words of a target."""
        return self.target.reached(self.chosen.loss, self.chosen.spikes, self.chosen.energy)


def choose(
    source: str | os.PathLike[str],
    options: ConvertOptions,
    labels: Array | None = None,
    progress: Progress | None = None,
) -> AutoResult:
    """Choose T, G and weight bits layer by layer so that the network meets ``options.auto``.

    Half of the calibration data, every other sample, is held out: sensitivities, steps and the order of
    coarsening come from the other half, and what is reported is measured on the held-out half on the
    converted network. Deterministic: work is bounded by counts, never by time.

    Args:
        source: ONNX file of a float network.
        options: Options with ``auto`` and ``calibrate``. T and G that are given are the most that is used,
            and layers that rules speak of are left as the rules say.
        labels: Class of every calibration sample; without them the float network's class is the right one.
        progress: Called with what is being done, how far it is and how far it will go.

    Returns:
        The choice; whether it meets the target is for the caller to judge.

    Raises:
        UsageError: SNN280 to SNN282, no such target, or no or too few calibration data.
        UnsupportedError: SNN450, there is nothing to choose.
    """
    target = parse_target(options.auto or "")
    if options.calibrate is None:
        raise UsageError(
            "SNN281", "--auto judges candidates on calibration data", hint="add --calibrate x.npz"
        )
    plain = replace(options, auto=None, labels=None, calibrate=None)
    report = progress or (lambda text, done, count: None)
    stage = stage_before_quantisers(source, plain, options.calibrate)
    macs = _multiplications(stage)
    most = 2 * int(np.clip(_JUDGE_WORK / macs, 16, 256))
    judge = Judge(source, options.calibrate, options.seed, labels, most, target.kind == "loss")
    search = _Search(source, plain, target, stage, judge, report, macs)
    return search.run()


class _Search:
    def __init__(
        self,
        source: str | os.PathLike[str],
        options: ConvertOptions,
        target: Target,
        stage: Model,
        judge: Judge,
        report: Progress,
        macs: float,
    ) -> None:
        self._source, self._options, self._target = source, options, target
        self._judge, self._report, self._macs = judge, report, macs
        self._surrogate = Surrogate(stage)
        self._rounded: dict[tuple[str, str], Array] = {}
        self._items = self._find_items(stage)
        self._trials: dict[int, Trial | None] = {}
        self._round = 0
        self._path: list[Step] = []

    def run(self) -> AutoResult:
        """Search; see `choose`."""
        self._report("measuring the default settings", 0, 1)
        conversion = convert(self._source, self._options, calibration=self._judge.fit)
        default = self._judge.trial(conversion)
        self._measure_sensitivity()
        for name, (neurons, operations) in fan_outs(conversion, default.cost).items():
            for item in self._items:
                if item.name == name and item.is_code:
                    item.neurons, item.operations = neurons, operations
        self._path = path_of(self._items, self._costs())
        limit = self._target.value * (default.energy if self._target.relative else 1.0)
        at, trial, met = self._within_loss(limit) if self._target.kind == "loss" else self._within(limit)
        options = self._options_at(at)
        if (
            self._target.kind == "loss"
            and default.loss <= limit
            and (not met or default.energy < trial.energy)
        ):
            # Nothing better than what one would get without asking.
            options, trial, met = self._options, default, True
        return AutoResult(
            self._target,
            options,
            met,
            trial,
            default,
            self._judge.judged,
            self._judge.fitted,
            tuple(self._table(at)),
        )

    def _find_items(self, stage: Model) -> list[Item]:
        options = self._options
        sites = quantiser_sites(stage)
        chooser = Chooser(stage, options.layers, [site.value for site in sites])
        values = [site.value for site in sites] + [
            node.outputs[0] for node in self._surrogate.present.values()
        ]
        codes = frozenset(
            value.name or "" for value in values if {"timesteps", "groups"} & set(chooser.code(value))
        )
        layers = frozenset(
            name for name, node in self._surrogate.products.items() if "weights" in chooser.weights(node)
        )
        timesteps = options.timesteps or 8
        groups = min(options.groups or timesteps, timesteps)
        tapped = self._surrogate.tapped(self._judge.few(8))
        items = [*code_items(self._surrogate, tapped, timesteps, groups, options.partition, codes)]
        if self._target.kind == "loss":
            items += weight_items(self._surrogate, options.weights, layers)
        if not any(item.is_code for item in items):
            raise UnsupportedError(
                "SNN450",
                "nothing is left to choose: the network brings quantisers, or rules choose all codes",
                hint="--auto is for networks in float; use --timesteps, --groups or --layer",
            )
        return items

    def _measure_sensitivity(self) -> None:
        """Coarsen each item alone in the float network and see how far the outputs move."""
        count = int(np.clip(_PROBE_WORK / (self._macs * len(self._items)), 4, 64))
        inputs = self._judge.few(count)
        straight = self._surrogate.run(inputs, {}, {})
        for number, item in enumerate(self._items):
            self._report("sensitivity", number, len(self._items))
            option = item.options[item.probe]
            if option.coding is not None:
                found = self._surrogate.run(inputs, {item.name: option.coding}, {})
            else:
                weights = self._weights(item.name, option.form or "")
                found = self._surrogate.run(inputs, {}, {item.name: weights})
            item.sensitivity = divergence(straight, found) / option.noise if option.noise else 0.0
        self._report("sensitivity", len(self._items), len(self._items))

    def _costs(self) -> list[list[float]]:
        """Return the cost of every option: spikes, energy, or shares of energy and of weight memory."""
        codes = [item for item in self._items if item.is_code]
        if self._target.kind == "spikes":
            return [[option.spikes * item.neurons for option in item.options] for item in self._items]
        usual = max((item.operations for item in codes), default=1.0) or 1.0

        def energy(item: Item, spikes: float) -> float:
            return spikes * item.neurons * max(item.operations, _HELD * usual) * _PICOJOULES

        whole = sum(energy(item, item.options[0].spikes) for item in codes) or 1.0
        memory = sum(item.weights * item.options[0].bits for item in self._items) or 1.0
        return [
            [
                energy(item, option.spikes) / whole if item.is_code else item.weights * option.bits / memory
                for option in item.options
            ]
            for item in self._items
        ]

    def _within_loss(self, limit: float) -> tuple[int, Trial, bool]:
        """Go as far as the loss on the fitted half allows, then back until the held-out half agrees."""
        low, high = 0, len(self._path)
        while low < high:
            self._report("searching", low, high)
            middle = (low + high + 1) // 2
            if self._judge.loss_of(self._fast(middle)) <= limit:
                low = middle
            else:
                high = middle - 1
        # The held-out half decides: the coarsest choice that it accepts, found by bisection from here.
        best: tuple[int, Trial] | None = None
        at, too_coarse = low, low + 1
        for _ in range(_ROUNDS):
            trial = self._trial(at)
            if trial is not None and trial.loss <= limit:
                best = at, trial
            else:
                too_coarse = at
            if too_coarse == 0 or (best is not None and too_coarse - best[0] <= 1):
                break
            at = int(0.75 * too_coarse) if best is None else (best[0] + too_coarse) // 2
        if best is not None:
            return *best, True
        at, trial = self._finest()
        return at, trial, trial.loss <= limit

    def _within(self, limit: float) -> tuple[int, Trial, bool]:
        """Coarsen until the budget is kept, by prediction; correct the prediction by what is measured."""

        def measured(trial: Trial) -> float:
            return trial.spikes if self._target.kind == "spikes" else trial.energy

        ratio = 1.0
        best: tuple[int, Trial] | None = None
        tried: set[int] = set()
        for _ in range(_ROUNDS):
            at = self._first_within(limit / ratio)
            if at in tried:
                break
            tried.add(at)
            trial = self._trial(at)
            if trial is None:
                break
            if measured(trial) <= limit and (best is None or at < best[0]):
                best = at, trial
            ratio = max(measured(trial) / self._predicted(at), 1e-9)
        if best is None:
            end = len(self._path)
            trial = self._trial(end)
            if trial is None:
                raise UnsupportedError("SNN451", "none of the candidates can be converted")
            return end, trial, measured(trial) <= limit
        return *best, True

    def _predicted(self, at: int) -> float:
        """Return spikes per neuron, or picojoules with those of the host, as predicted."""
        chosen = self._chosen(at)
        codes = [(item, item.options[chosen[i]]) for i, item in enumerate(self._items) if item.is_code]
        if self._target.kind == "spikes":
            neurons = sum(item.neurons for item, _ in codes) or 1.0
            return sum(option.spikes * item.neurons for item, option in codes) / neurons
        return sum(option.spikes * item.neurons * item.operations for item, option in codes) * _PICOJOULES

    def _first_within(self, budget: float) -> int:
        low, high = 0, len(self._path)
        while low < high:
            middle = (low + high) // 2
            if self._predicted(middle) <= budget:
                high = middle
            else:
                low = middle + 1
        return low

    def _finest(self) -> tuple[int, Trial]:
        """Return the finest choice that can be converted; very fine codes may not fit 32-bit sums."""
        at = 0
        while (trial := self._trial(at)) is None:
            if at >= len(self._path):
                raise UnsupportedError("SNN451", "none of the candidates can be converted")
            at = min(len(self._path), at + max(1, len(self._path) // 10))
        return at, trial

    def _trial(self, at: int) -> Trial | None:
        """Convert with the choice and measure on the held-out half; None if it does not fit."""
        if at not in self._trials:
            self._round += 1
            self._report("measuring candidate", self._round, self._round)
            try:
                conversion = convert(self._source, self._options_at(at), calibration=self._judge.fit)
                self._trials[at] = self._judge.trial(conversion)
            except UnsupportedError:
                self._trials[at] = None
        return self._trials[at]

    def _chosen(self, at: int) -> list[int]:
        chosen = [0] * len(self._items)
        for step in self._path[:at]:
            chosen[step.item] = step.option
        return chosen

    def _fast(self, at: int) -> Array:
        """Return the outputs on the fitted half, by the surrogate."""
        codes: dict[str, Coding] = {}
        weights: dict[str, Array] = {}
        for item, index in zip(self._items, self._chosen(at), strict=True):
            option = item.options[index]
            if option.coding is not None:
                codes[item.name] = option.coding
            else:
                weights[item.name] = self._weights(item.name, option.form or "")
        return self._surrogate.run(self._judge.fit, codes, weights)

    def _weights(self, name: str, form: str) -> Array:
        if (name, form) not in self._rounded:
            product = self._surrogate.products[name]
            self._rounded[name, form] = rounded_weights(product, WeightFormat(form))
        return self._rounded[name, form]

    def _options_at(self, at: int) -> ConvertOptions:
        """Return the options with the choice: what is most common for all, the rest as rules."""
        picked = [item.options[index] for item, index in zip(self._items, self._chosen(at), strict=True)]
        common = {
            kind: Counter(
                tuple(option.values.items())
                for item, option in zip(self._items, picked, strict=True)
                if item.is_code == kind and item.name not in self._surrogate.present
            ).most_common(1)
            for kind in (True, False)
        }
        usual = {kind: dict(entries[0][0]) if entries else {} for kind, entries in common.items()}
        rules = []
        for item, option in zip(self._items, picked, strict=True):
            if option.values != usual[item.is_code] or item.name in self._surrogate.present:
                rules.append(str(LayerRule(_pattern(item.name), None, tuple(option.values.items()))))
        chosen = {**usual[True], **usual[False], "layers": (*rules, *self._options.layers)}
        return replace(self._options, **chosen)

    def _table(self, at: int) -> Sequence[dict[str, Any]]:
        rows = []
        for item, index in zip(self._items, self._chosen(at), strict=True):
            option = item.options[index]
            rows.append(
                {
                    "name": item.name,
                    "chosen": option.values,
                    "sqnr_db": round(-10 * float(np.log10(option.noise)), 2) if option.noise else None,
                    "damage": item.sensitivity * option.noise,
                    "sensitivity": item.sensitivity,
                }
            )
        return rows


def _pattern(name: str) -> str:
    return glob.escape(name) if set(name) & set("*?[") else name


def _multiplications(stage: Model) -> float:
    """Return the multiplications of one sample in the products of a network; at least one."""
    shapes = concrete_shapes(stage, 1)
    total = 0.0
    for node in stage.graph:
        if node.op_type not in ("Conv", "MatMul") or node.domain != "":
            continue
        out = shapes.get(node.outputs[0].name or "")
        weights = constant(node.inputs[1])
        read = shapes.get((node.inputs[0].name if node.inputs[0] is not None else None) or "")
        if out is None or (weights is None and read is None):
            continue
        if weights is None:
            inner = int((read or (1,))[-1])
        else:
            inner = int(np.prod(weights.shape[1:])) if node.op_type == "Conv" else int(weights.shape[0])
        total += float(np.prod(out)) * inner
    return max(total, 1.0)
