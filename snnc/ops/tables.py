"""Functions of the quant dialect that jump: values listed by code, and the sign of a number.

As all activation functions they stand in front of a quantiser, and a neuron holds them in its table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnc.ops.schema import Array, Attribute, Attributes, OpDef, integer, same_in_time

__all__ = ["BIPOLAR", "TABLE"]


def _table(inputs: Sequence[Array], attrs: Attributes) -> Array:
    x, step, values = inputs
    nearest = np.ceil(x.astype(np.float64) / np.float64(step) - 0.5).astype(np.int64)
    place = nearest - integer(attrs, "smallest")
    return np.asarray(values[np.clip(place, 0, len(values) - 1)])


TABLE = OpDef(
    name="Table",
    dialect="quant",
    doc="""Any function of one code: its values, listed.

    Semantics: y = values[clip(ceil(x / step - 1/2) - smallest, 0, levels - 1)].
    Inputs: x (float32, multiples of step), step (float32, one positive number), values (float32, (levels,)).
    Output: y (float32, shape of x).
    Constraints: C1 y is read by quantisers, through constant factors, summands and layout ops at most.
    """,
    inputs=("x", "step", "values"),
    output="y",
    attributes=(Attribute("smallest", "int", "code of the first value"),),
    body="""\
  ratio = Div(x, step)
  half = Constant<value = float {0.5}>()
  lowered = Sub(ratio, half)
  nearest = Ceil(lowered)
  code = Cast<to = 7>(nearest)
  first = Constant<value_int: int = @smallest>()
  place = Sub(code, first)
  zero = Constant<value = int64 {0}>()
  one = Constant<value = int64 {1}>()
  levels = Size(values)
  last = Sub(levels, one)
  low = Max(place, zero)
  index = Min(low, last)
  y = Gather(values, index)""",
    packed=_table,
    timestep=same_in_time(_table),
)


def _bipolar(inputs: Sequence[Array], attrs: Attributes) -> Array:
    return np.asarray(np.where(inputs[0] >= 0, 1, -1).astype(inputs[0].dtype))


BIPOLAR = OpDef(
    name="Bipolar",
    dialect="quant",
    doc="""The sign of a number, that of 0 being positive.

    Semantics: y = 1 where x >= 0, else -1.
    Inputs: x (float32).
    Output: y (float32, shape of x).
    Constraints: C1 y is read by quantisers, through constant factors, summands and layout ops at most.
    """,
    inputs=("x",),
    output="y",
    attributes=(),
    body="""\
  zero = Constant<value = float {0}>()
  up = Constant<value = float {1}>()
  down = Constant<value = float {-1}>()
  reached = GreaterOrEqual(x, zero)
  y = Where(reached, up, down)""",
    packed=_bipolar,
    timestep=same_in_time(_bipolar),
)
