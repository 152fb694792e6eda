"""What `--attention` did to a network: refused where nothing was rewritten, measured where something was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from snnc.data import Samples, first_samples
from snnc.errors import Problem, UnsupportedError, UsageError, Where
from snnc.ir import Model, clone
from snnc.ops import attach_functions
from snnc.passes.attention.adjacent_attention import AdjacentAttention
from snnc.passes.attention.burst_attention import BurstAttention, Collect
from snnc.passes.attention.group_attention import GroupAttention
from snnc.passes.quantise.insert_quantisers import Choice
from snnc.pipeline import Instrument, PassRecord
from snnc.pipeline.contract import Pass
from snnc.runtimes import OnnxRuntime

__all__ = ["Regrouped", "attention_pass", "with_cost"]

_MOST_SAMPLES = 64
_PASSES = frozenset({GroupAttention.name, AdjacentAttention.name, BurstAttention.name})
_NEIGHBOURS = 3


class _Options(Protocol):
    @property
    def attention(self) -> str: ...
    @property
    def stride(self) -> int: ...
    @property
    def window(self) -> int | None: ...
    @property
    def grid(self) -> str | None: ...
    @property
    def bursts(self) -> int: ...


def attention_pass(
    options: _Options, collect: Collect | None, choices: Mapping[str, Choice] | None
) -> Pass | None:
    """Return the pass that ``--attention`` asks for, None for global attention.

    Args:
        options: Of the conversion.
        collect: Runs a model on the calibration data, if there are any.
        choices: What calibration chose before.

    Raises:
        UsageError: SNN290 if a neighbourhood has an even side.
    """
    window, grid = options.window or 0, options.grid or ""
    if options.attention == "grouped":
        return GroupAttention(options.stride, window, grid)
    if options.attention == "global":
        return None
    if window and window % 2 == 0:
        raise UsageError(
            "SNN290",
            f"a neighbourhood of {window} patches has no patch in its middle",
            hint=f"--window {window + 1}",
        )
    if options.attention == "adjacent":
        return AdjacentAttention(window or _NEIGHBOURS, grid)
    return BurstAttention(options.bursts, window, collect, choices, grid)


class Regrouped(Instrument):
    """Keeps the network as it is before and after attention is rewritten; refuses where it is not."""

    def __init__(self) -> None:
        self.earlier: Model | None = None
        self.later: Model | None = None

    def before(self, index: int, step: Pass, model: Model) -> None:
        """Copy the model before the pass, and before the one behind it."""
        if step.name in _PASSES:
            self.earlier = clone(model)
        elif self.earlier is not None and self.later is None and step.name not in ("sort-nodes",):
            self.later = clone(model)

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Refuse before anything is calibrated.

        Raises:
            UnsupportedError: SNN464 if no attention was rewritten, with the reason of each.
        """
        if record.name in _PASSES and not record.rewrites:
            nothing = "the network has no attention: it has no softmax"
            raise UnsupportedError(
                "SNN464",
                "there is no attention that can be rewritten" if record.not_matched else nothing,
                problems=[Problem(each.reason, Where(node=each.node)) for each in record.not_matched],
                hint=_remedy(record),
            )


def _remedy(record: PassRecord) -> str:
    """Return what can be done where no attention was rewritten, by the reasons."""
    reasons = " ".join(each.reason for each in record.not_matched)
    ways = ["--attention global"]
    if "does not divide" in reasons or "leaves no pair out" in reasons:
        ways.insert(0, "another --stride or --window")
    if "no grid" in reasons and record.name != BurstAttention.name:
        ways.append("--attention burst, which needs none")
    return ", or ".join(ways)


def with_cost(
    records: tuple[PassRecord, ...], seen: Regrouped, samples: Samples | None
) -> tuple[PassRecord, ...]:
    """Add to the notes of the pass how far the outputs moved.

    Args:
        records: One record a pass.
        seen: The network before and after.
        samples: Calibration data to measure on; without, nothing is measured.

    Returns:
        The records.
    """
    place = next((n for n, record in enumerate(records) if record.name in _PASSES), None)
    if place is None or samples is None or seen.earlier is None or seen.later is None:
        return records
    notes = (*records[place].notes, *_moved(seen.earlier, seen.later, samples))
    return (*records[:place], replace(records[place], notes=notes), *records[place + 1 :])


def _moved(earlier: Model, later: Model, samples: Samples) -> list[str]:
    for model in (earlier, later):
        attach_functions(model)
    one, two = OnnxRuntime(earlier, "none"), OnnxRuntime(later, "none")
    feeds = first_samples(samples, one.inputs, _MOST_SAMPLES)
    count = len(next(iter(feeds.values())))
    wanted, found = one.run(feeds), two.run(feeds)
    notes = []
    for name, array in wanted.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        signal, noise = float(np.square(array).sum()), float(np.square(found[name] - array).sum())
        text = f"{10 * np.log10(signal / noise):.1f} dB" if noise and signal else "no error"
        if array.ndim == 2 and array.shape[1] > 1:
            same = float((array.argmax(1) == found[name].argmax(1)).mean())
            text += f", same class for {100 * same:.1f} %"
        notes.append(f"cost of the other attention on {count} samples, in float: {name} {text}")
    return notes
