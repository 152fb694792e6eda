"""What `--attention grouped` did to a network: refused where nothing was grouped, measured where it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnc.data import Samples, first_samples
from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import Model, clone
from snnc.ops import attach_functions
from snnc.passes.attention.group_attention import GroupAttention
from snnc.pipeline import Instrument, PassRecord
from snnc.pipeline.contract import Pass
from snnc.runtimes import OnnxRuntime

__all__ = ["Regrouped", "require_grouped"]

_MOST_SAMPLES = 64


class Regrouped(Instrument):
    """Keeps the network as it is before and after `GroupAttention`."""

    def __init__(self) -> None:
        self.earlier: Model | None = None
        self.later: Model | None = None

    def before(self, index: int, step: Pass, model: Model) -> None:
        """Copy the model before the pass, and before the one behind it."""
        if step.name == GroupAttention.name:
            self.earlier = clone(model)
        elif self.earlier is not None and self.later is None and step.name not in ("sort-nodes",):
            self.later = clone(model)


def require_grouped(
    records: tuple[PassRecord, ...], seen: Regrouped, samples: Samples | None
) -> tuple[PassRecord, ...]:
    """Add to the pass's notes how far the outputs moved.

    Args:
        records: One record a pass.
        seen: The network before and after.
        samples: Calibration data to measure on; without, nothing is measured.

    Returns:
        The records.

    Raises:
        UnsupportedError: SNN464 if no attention was grouped, with the reason of each.
    """
    place = next((n for n, record in enumerate(records) if record.name == GroupAttention.name), None)
    if place is None:
        return records
    record = records[place]
    if not record.rewrites:
        raise UnsupportedError(
            "SNN464",
            "there is no attention that can be grouped",
            problems=[Problem(each.reason, Where(node=each.node)) for each in record.not_matched],
            hint="--attention global, or another --stride and --window",
        )
    if samples is None or seen.earlier is None or seen.later is None:
        return records
    notes = (*record.notes, *_moved(seen.earlier, seen.later, samples))
    return (*records[:place], replace(record, notes=notes), *records[place + 1 :])


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
        notes.append(f"cost of grouping on {count} samples, in float: {name} {text}")
    return notes
