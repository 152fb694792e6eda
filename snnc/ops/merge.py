"""Merged wires: pools of spikes, whose sums at each time-step go on as several spikes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.pool import MEMBRANE_SUM_POOL, WINDOW, sum_pool
from snnc.ops.schema import Array, Attribute, Attributes, OpDef, integer, integers
from snnc.ops.signal import Signal, SpikeTrain
from snnc.ops.synapse import spikes_of

__all__ = ["SPIKE_SUM", "SPIKE_SUM_POOL"]


def _pool_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    train = spikes_of(inputs[0])
    merged = np.stack([sum_pool([spikes], attrs) for spikes in train.patterns])
    return SpikeTrain(merged, train.book, np.dtype(np.int32))


SPIKE_SUM_POOL = OpDef(
    name="SpikeSumPool",
    dialect="spike",
    doc="""Wires merged over sliding windows; average pooling in front of a synapse is this with a finer grid.

    Semantics: at each step the spikes of a window arrive together, x'(t) = sum of x(t) over the window;
    y = sum of 2^(T-t) x'(t). Padding never spikes.
    Inputs: x (codes, (N, C, *spatial)).
    Output: y (int32, (N, C, *out)); counts of spikes in time, their weighted sum when packed.
    Constraints: C1 the sum of magnitudes over a window stays below 2^24: the body is an exact float32
    convolution with ones.
    """,
    inputs=("a",),
    output="y",
    attributes=WINDOW,
    body=MEMBRANE_SUM_POOL.body,
    packed=sum_pool,
    timestep=_pool_in_time,
)


def _sum(inputs: Sequence[Array], attrs: Attributes) -> Array:
    axes = integers(attrs, "axes")
    keep = bool(integer(attrs, "keepdims", 1))
    return np.asarray(np.sum(inputs[0], axis=axes, keepdims=keep, dtype=np.int32))


def _sum_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    train = spikes_of(inputs[0])
    merged = np.stack([_sum([spikes], attrs) for spikes in train.patterns])
    return SpikeTrain(merged, train.book, np.dtype(np.int32))


SPIKE_SUM = OpDef(
    name="SpikeSum",
    dialect="spike",
    doc="""Wires merged over some axes; a mean in front of a synapse is this with a finer grid.

    Semantics: x'(t) = sum of x(t) over `axes`; y = sum of 2^(T-t) x'(t).
    Inputs: x (codes).
    Output: y (int32); summed axes have extent 1, or are gone if keepdims is 0.
    Constraints: C1 axes are given, not empty, in range; C2 the sum stays in int32.
    """,
    inputs=("x",),
    output="y",
    attributes=(
        Attribute("axes", "ints", "axes summed over; negative ones count from the end"),
        Attribute("keepdims", "int", "1 keeps the summed axes with extent 1", default=1, required=False),
    ),
    body="""\
  wide = Cast<to = 6>(x)
  over = Constant<value_ints: ints = @axes>()
  y = ReduceSum<keepdims: int = @keepdims>(wide, over)""",
    packed=_sum,
    timestep=_sum_in_time,
)
