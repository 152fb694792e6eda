"""The neuron: ExpG-IF."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from snnc.ops.schema import BOOK_ATTRIBUTES, Array, Attribute, Attributes, OpDef, arrays, integer, integers
from snnc.ops.search import SEARCH_BODY, code_table, count_reached, fire
from snnc.ops.signal import Signal, SpikeTrain, book_of
from snnc.ops.types import numpy_dtype

__all__ = ["EXPG_IF"]


def _expg_if(inputs: Sequence[Array], attrs: Attributes) -> Array:
    v, thresholds, rows = inputs
    table = code_table(integers(attrs, "codes"), integer(attrs, "code_type"))
    # Thresholds beyond the last code are padding.
    return np.asarray(table.take(count_reached(v, thresholds[:, : len(table) - 1], rows)))


def _expg_if_in_time(inputs: Sequence[Signal], attrs: Attributes) -> Signal:
    v, thresholds, rows = arrays(inputs)
    codes = integers(attrs, "codes")
    book = book_of(attrs)
    dtype = numpy_dtype(integer(attrs, "code_type"))
    if all(low < high for low, high in pairwise(codes)):
        return SpikeTrain(fire(v, thresholds, rows, codes, book), book, dtype)
    # A table that does not ascend has no bit-serial form: the interval is looked up first (semantics 6.2).
    return SpikeTrain(book.encode(np.asarray(codes)[count_reached(v, thresholds, rows)]), book, dtype)


EXPG_IF = OpDef(
    name="ExpGIF",
    dialect="spike",
    doc="""The neuron: compare the potential with break points, emit the pattern of the interval.

    Semantics: code = codes[k], k = #{j : v >= thresholds[row, j]}; sent most significant step first. Bit
    by bit: keep the interval of codes that are still possible, spike iff v reaches the first code of the
    interval that has a spike at this step (semantics 1.6).
    Inputs: v (int32); thresholds (int32, (R, K), ascending along K, padded with 2^31 - 1);
    rows (int32, broadcastable to v, in 0 .. R-1).
    Output: code (type code_type, shape of v).
    Constraints: C1 K = 2^depth - 1; C2 codes has one entry per reachable k; C3 codes belong to the book;
    C4 v < 2^31 - 1.
    """,
    inputs=("v", "thresholds", "rows"),
    output="code",
    attributes=(
        *BOOK_ATTRIBUTES,
        Attribute("codes", "ints", "code of each k"),
        Attribute("code_type", "int", "ONNX element type of the codes"),
        Attribute("depth", "int", "rounds of the binary search"),
    ),
    body=SEARCH_BODY,
    packed=_expg_if,
    timestep=_expg_if_in_time,
)
