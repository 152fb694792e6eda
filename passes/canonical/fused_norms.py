"""Fused normalisations and embeddings, written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from snnc.ir import DataType, Value
from snnc.passes.canonical.fused_writer import CannotWrite, Writer

__all__ = ["NORMS"]

_STATISTICS = ((1, "mean"), (2, "inverse deviation"))
_INT = DataType.INT64


def _epsilon(w: Writer, default: float) -> float:
    return float(w.attrs.get("epsilon", default))


def _skipped(w: Writer, bias: int) -> Value:
    """Return the sum of input, skip and bias, which is an output of its own."""
    total = w.op("Add", [w.needed(0, "input"), w.needed(1, "skip")])
    offset = w.given(bias)
    return total if offset is None else w.op("Add", [total, offset])


def _skip_layer_norm(w: Writer) -> None:
    w.refuse_outputs(*_STATISTICS)
    total = _skipped(w, 4)
    w.result(w.layer_norm(total, w.needed(2, "scale"), w.given(3), _epsilon(w, 1e-12)))
    w.result(total, 3)


def _skip_rms_norm(w: Writer) -> None:
    w.refuse_outputs(*_STATISTICS)
    total = _skipped(w, 3)
    w.result(w.rms_norm(total, w.needed(2, "scale"), _epsilon(w, 1e-12)))
    w.result(total, 3)


def _axis(w: Writer, value: Value) -> int:
    """Return the first normalised axis, counted from the end."""
    axis = int(w.attrs.get("axis", -1))
    return axis if axis < 0 else axis - len(w.dims(value))


def _rms_norm(w: Writer) -> None:
    w.refuse_outputs((1, "inverse deviation"))
    value = w.needed(0, "input")
    w.result(w.rms_norm(value, w.needed(1, "scale"), _epsilon(w, 1e-5), _axis(w, value)))


def _layer_norm(w: Writer) -> None:
    """Onnxruntime writes LayerNormalization into models of opsets that do not have it yet."""
    w.refuse_outputs(*_STATISTICS)
    value = w.needed(0, "input")
    w.result(w.layer_norm(value, w.needed(1, "scale"), w.given(2), _epsilon(w, 1e-5), _axis(w, value)))


def _embeddings(w: Writer) -> None:
    ids, segments = w.needed(0, "input_ids"), w.given(1)
    total = w.op("Gather", [w.needed(2, "word embedding"), ids], axis=0)
    table, places = w.needed(3, "position embedding"), w.given(8)
    places = w.places(ids, 1) if places is None else places
    total = w.op("Add", [total, w.op("Gather", [table, places], axis=0)])
    if segments is not None:
        rows = w.op("Gather", [w.needed(4, "segment embedding"), segments], axis=0)
        total = w.op("Add", [total, rows])
    w.result(w.layer_norm(total, w.needed(5, "scale"), w.needed(6, "offset"), _epsilon(w, 1e-12)))
    if w.used(1):
        mask = w.given(7)
        if mask is None:
            raise CannotWrite("its mask_index is read, but it has no mask")
        ones = w.op("Equal", [w.cast(mask, _INT), np.array(1, np.int64)], dtype=DataType.BOOL)
        count = w.reduced("ReduceSum", w.cast(ones, _INT), 1, dtype=_INT, keepdims=0)
        w.result(w.cast(count, DataType.INT32), 1)
    w.result(total, 2)


#: Fused normalisations by domain and op type.
NORMS: dict[tuple[str, str], Callable[[Writer], None]] = {
    ("com.microsoft", "SkipLayerNormalization"): _skip_layer_norm,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _skip_rms_norm,
    ("com.microsoft", "EmbedLayerNormalization"): _embeddings,
    ("", "SimplifiedLayerNormalization"): _rms_norm,
    ("", "LayerNormalization"): _layer_norm,
}
