"""Pooling: sums and maxima of membranes, maxima of spikes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.exact import offsets, pool_geometry, window
from snnc.ops.schema import Array, Attribute, Attributes, OpDef, integer, integers, same_in_time
from snnc.ops.signal import Signal, SpikeTrain
from snnc.ops.synapse import spikes_of

__all__ = ["MEMBRANE_MAX_POOL", "MEMBRANE_SUM_POOL", "SPIKE_MAX_POOL", "WINDOW", "sum_pool"]

WINDOW = (
    Attribute("kernel_shape", "ints", "window extents"),
    Attribute("strides", "ints", "step of the window per spatial axis; default 1", required=False),
    Attribute("pads", "ints", "padding: begins, then ends; default 0", required=False),
)
_MAX_WINDOW = (
    *WINDOW,
    Attribute("dilations", "ints", "spacing of window elements; default 1", required=False),
    Attribute("ceil_mode", "int", "1 counts a last partial window", default=0, required=False),
)
# onnxruntime folds a Pad with zeros in front, and a Cast between them, into the padding of a MaxPool, which
# never wins. It does not look past a maximum of one value, which is that value.
_MAX_POOL = (
    "MaxPool<kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads, "
    "dilations: ints = @dilations, ceil_mode: int = @ceil_mode>"
)


def _views(x: Array, attrs: Attributes, fill: int, *, ceil_mode: bool) -> list[Array]:
    """Return what each window element sees, padded with ``fill``: one array of output shape per element."""
    kernel = integers(attrs, "kernel_shape")
    out, step, spacing, padding = pool_geometry(
        x.shape[2:], kernel, attrs.get("strides"), attrs.get("pads"), attrs.get("dilations"), ceil_mode
    )
    padded = np.pad(x, [(0, 0), (0, 0), *padding], constant_values=fill)
    return [window(padded, offset, out, step, spacing) for offset in offsets(kernel)]


def sum_pool(inputs: Sequence[Array], attrs: Attributes) -> Array:
    """Return the int32 sums over each window; padding adds zeros."""
    total: Array | None = None
    for view in _views(inputs[0], attrs, 0, ceil_mode=False):
        total = view.astype(np.int32) if total is None else total + view
    return np.asarray(total)


MEMBRANE_SUM_POOL = OpDef(
    name="MembraneSumPool",
    dialect="spike",
    doc="""Sum over sliding windows; average pooling is this with a finer grid.

    Semantics: y = sum of a over each window; padding adds zeros.
    Inputs: a (int32, (N, C, *spatial)).
    Output: y (int32, (N, C, *out)).
    Constraints: C1 |a| and every sum of magnitudes stay below 2^24: the body is an exact float32 convolution
    with ones.
    """,
    inputs=("a",),
    output="y",
    attributes=WINDOW,
    body="""\
  extents = Constant<value_ints: ints = @kernel_shape>()
  ones2 = Constant<value_ints: ints = [1, 1]>()
  kernel_dims = Concat<axis = 0>(ones2, extents)
  ones = ConstantOfShape<value = float[1] {1}>(kernel_dims)
  two = Constant<value_ints: ints = [2]>()
  zero = Constant<value_ints: ints = [0]>()
  far = Constant<value_ints: ints = [9223372036854775807]>()
  shape = Shape(a)
  batch = Slice(shape, zero, two)
  spatial = Slice(shape, two, far)
  merged = Constant<value_ints: ints = [-1, 1]>()
  flat_dims = Concat<axis = 0>(merged, spatial)
  flat = Reshape(a, flat_dims)
  real = Cast<to = 1>(flat)
  s = Conv<strides: ints = @strides, pads: ints = @pads>(real, ones)
  sums = Cast<to = 6>(s)
  sums_shape = Shape(sums)
  out_spatial = Slice(sums_shape, two, far)
  out_dims = Concat<axis = 0>(batch, out_spatial)
  y = Reshape(sums, out_dims)""",
    packed=sum_pool,
    timestep=same_in_time(sum_pool),
)


def _max_pool(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x = inputs[0]
    ceil_mode = bool(integer(attrs, "ceil_mode", 0))
    best: Array | None = None
    for view in _views(x, attrs, int(np.iinfo(x.dtype).min), ceil_mode=ceil_mode):
        best = view.copy() if best is None else np.maximum(best, view, out=best)
    return np.asarray(best)


MEMBRANE_MAX_POOL = OpDef(
    name="MembraneMaxPool",
    dialect="spike",
    doc="""Maximum of membranes over sliding windows; padding never wins.

    Semantics: y = max of a over each window.
    Inputs: a (int32, (N, C, *spatial)).
    Output: y (int32, (N, C, *out)).
    Constraints: C1 every window holds an element that is not padding. The body compares float64, which holds
    every int32.
    """,
    inputs=("a",),
    output="y",
    attributes=_MAX_WINDOW,
    body=f"""\
  real = Cast<to = 11>(a)
  alone = Max(real)
  best = {_MAX_POOL}(alone)
  y = Cast<to = 6>(best)""",
    packed=_max_pool,
    timestep=same_in_time(_max_pool),
)


def _spike_max_pool_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    train = spikes_of(inputs[0])
    ceil_mode = bool(integer(attrs, "ceil_mode", 0))
    absent = -2  # below every spike: padding is out of the race from the start
    steps = []
    racing: list[Array] | None = None
    for spikes in train.patterns:
        views = _views(spikes, attrs, absent, ceil_mode=ceil_mode)
        if racing is None:
            racing = [view != absent for view in views]
        best = np.full(views[0].shape, absent, dtype=np.int8)
        for view, still in zip(views, racing, strict=True):
            np.maximum(best, view, out=best, where=still)
        racing = [still & (view == best) for view, still in zip(views, racing, strict=True)]
        steps.append(best)
    return SpikeTrain(np.stack(steps), train.book, train.dtype)


SPIKE_MAX_POOL = OpDef(
    name="SpikeMaxPool",
    dialect="spike",
    doc="""Maximum of codes over sliding windows; padding never wins.

    Semantics: y = max of x over each window. In time: pattern order is code order, most significant step
    first, so at each step the largest spike among the inputs still racing is sent, and inputs that sent less
    drop out.
    Inputs: x (codes, (N, C, *spatial)).
    Output: y (codes, type of x, (N, C, *out)).
    Constraints: C1 every window holds an element that is not padding.
    """,
    inputs=("x",),
    output="y",
    attributes=_MAX_WINDOW,
    body=f"""\
  real = Cast<to = 1>(x)
  alone = Max(real)
  best = {_MAX_POOL}(alone)
  y = CastLike(best, x)""",
    packed=_max_pool,
    timestep=_spike_max_pool_in_time,
)
