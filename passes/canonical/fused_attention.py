"""Attention as one op, of the standard and of onnxruntime, written out as products and a softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

import numpy as np

from snnc.ir import DataType, Value
from snnc.passes.canonical.fused_rotary import rotary_of_microsoft, rotary_of_the_standard, rotated
from snnc.passes.canonical.fused_writer import CannotWrite, Writer
from snnc.passes.editing import Array

__all__ = ["ATTENTION"]

_BOOL, _INT = DataType.BOOL, DataType.INT64
#: Stands for minus infinity where a place is masked.
_CLOSED = -1e9
_CACHE = "a cache of keys and values: export the model without one (use_cache=False, no past)"
_PAST = "past_key or past_value, " + _CACHE


@dataclass
class _Attention:
    """What every form of attention comes down to.

    Attributes:
        w: Where nodes are added.
        query: (batch, heads, tokens, head).
        key: (batch, heads or a divisor of them, keys, head).
        value: (batch, as for the key, keys, head of the value).
        scale: Factor of the scores; None is one over the root of the head.
        softcap: Scores are capped by this number times tanh; 0 caps nothing.
        open_places: Truth values that broadcast to the scores, true where a key takes part.
        summands: Numbers that are added to the scores.
    """

    w: Writer
    query: Value
    key: Value
    value: Value
    scale: float | None = None
    softcap: float = 0.0
    open_places: list[Value] = field(default_factory=list)
    summands: list[Value] = field(default_factory=list)

    def repeat(self, heads: int, of_keys: int) -> None:
        """Give each group of query heads its own copy of the head of keys and values that they share."""
        if heads == of_keys:
            return
        if not of_keys or heads % of_keys:
            raise CannotWrite(f"{of_keys} heads of keys do not divide {heads} of queries")
        shared = np.repeat(np.arange(of_keys), heads // of_keys)
        self.key, self.value = (self.w.gather(entry, shared, 1) for entry in (self.key, self.value))

    def causal(self) -> None:
        """Close what comes after a token."""
        rows = self.w.unsqueeze(self.w.places(self.query, 2), 1, dtype=_INT)
        later = self.w.op("Greater", [self._columns(), rows], dtype=_BOOL)
        self.open_places.append(self.w.op("Not", [later], dtype=_BOOL))

    def window(self, left: int, right: int) -> None:
        """Close what lies further than so many places before or after a token; -1 closes nothing."""
        rows = self.w.unsqueeze(self.w.places(self.query, 2), 1, dtype=_INT)
        for bound, op_type, sign in ((left, "Less", -1), (right, "Greater", 1)):
            if bound < -1:
                raise CannotWrite(f"its window of {bound} is no number of places")
            if bound >= 0:
                last = self.w.op("Add", [rows, np.array(sign * bound, np.int64)], dtype=_INT)
                beyond = self.w.op(op_type, [self._columns(), last], dtype=_BOOL)
                self.open_places.append(self.w.op("Not", [beyond], dtype=_BOOL))

    def first(self, counts: Value) -> None:
        """Close all but the first keys of each sample; ``counts`` is (batch,) or (batch, 1)."""
        numbers = self.w.op("Reshape", [self.w.cast(counts, _INT), np.array([-1, 1, 1, 1])], dtype=_INT)
        self.open_places.append(self.w.op("Less", [self._columns(), numbers], dtype=_BOOL))

    def _columns(self) -> Value:
        return self.w.unsqueeze(self.w.places(self.key, 2), 0, dtype=_INT)

    def written(self) -> Value:
        """Return the result, (batch, heads, tokens, head of the value)."""
        w = self.w
        scores = w.op("MatMul", [self.query, w.transpose(self.key, 0, 1, 3, 2)])
        if self.scale is None:
            root = w.op("Sqrt", [w.cast(w.size(self.query, -1), DataType.FLOAT)])
            scores = w.op("Div", [scores, root])
        else:
            scores = w.scaled(scores, self.scale)
        if self.softcap:
            scores = w.op("Tanh", [w.scaled(scores, 1 / self.softcap)])
            scores = w.scaled(scores, self.softcap)
        for summand in self.summands:
            scores = w.op("Add", [scores, summand])
        if self.open_places:
            gate = self.open_places[0]
            for other in self.open_places[1:]:
                gate = w.op("And", [gate, other], dtype=_BOOL)
            scores = w.op("Where", [gate, scores, np.array(_CLOSED, np.float32)])
        return w.op("MatMul", [w.op("Softmax", [scores], axis=-1), self.value])


def _heads(w: Writer, value: Value, heads: int) -> Value:
    """Split the hidden axis of (batch, tokens, hidden) into heads, and bring them in front of the tokens."""
    return w.transpose(w.reshape(value, 0, 0, heads, -1), 0, 2, 1, 3)


def _joined(w: Writer, value: Value) -> Value:
    return w.reshape(w.transpose(value, 0, 2, 1, 3), 0, 0, -1)


def _number_of_heads(w: Writer, name: str = "num_heads") -> int:
    heads = int(w.attrs.get(name, 0))
    if heads < 1:
        raise CannotWrite(f"it has no {name}")
    return heads


def _scale(w: Writer, head: int | None) -> float | None:
    given = float(w.attrs.get("scale", 0.0))
    return given or (1 / sqrt(head) if head else None)


def _mask(w: Writer, attention: _Attention, mask: Value, batch: Value) -> None:
    """Read a mask of onnxruntime: 0 and 1 of each key, or how many keys come before the padding."""
    dims = w.dims(mask)
    if len(dims) == 1:
        first = w.dims(batch)[0]
        if str(dims[0]) != str(first) or str(first) in ("None", ""):
            raise CannotWrite("its mask_index holds more than the length of each sample")
        attention.first(mask)
    elif len(dims) in (2, 3):
        ones = w.op("Greater", [w.cast(mask, _INT), np.array(0, np.int64)], dtype=_BOOL)
        axes = (1, 2) if len(dims) == 2 else (1,)
        attention.open_places.append(w.unsqueeze(ones, *axes, dtype=_BOOL))
    else:
        raise CannotWrite(f"its mask has {len(dims)} axes")


def _attention(w: Writer) -> None:
    """com.microsoft::Attention, which holds the projections of queries, keys and values."""
    w.refuse_inputs((4, _CACHE), (6, _CACHE))
    w.refuse_outputs((1, "present"))
    w.refuse_attributes(do_rotary=0, past_present_share_buffer=0)
    source, heads = w.needed(0, "input"), _number_of_heads(w)
    weights = w.held(1, "weight")
    bias = w.held(2, "bias") if w.given(2) is not None else None
    third = weights.shape[1] // 3
    sizes = [int(size) for size in w.attrs.get("qkv_hidden_sizes", [third] * 3)]
    if sum(sizes) != weights.shape[1] or any(size % heads for size in sizes):
        raise CannotWrite("the sizes of its projections do not add up")
    parts, start = [], 0
    for size in sizes:
        part = w.op("MatMul", [source, np.ascontiguousarray(weights[:, start : start + size])])
        if bias is not None:
            part = w.op("Add", [part, bias[start : start + size]])
        parts.append(_heads(w, part, heads))
        start += size
    query, key, value = parts
    attention = _Attention(w, query, key, value, scale=_scale(w, sizes[0] // heads))
    _finish(w, attention, source, 3, 5)


def _finish(w: Writer, attention: _Attention, batch: Value, mask: int, bias: int) -> None:
    summand, given = w.given(bias), w.given(mask)
    if summand is not None:
        attention.summands.append(summand)
    if given is not None:
        _mask(w, attention, given, batch)
    if int(w.attrs.get("unidirectional", 0)):
        attention.causal()
    w.result(_joined(w, attention.written()))


def _multi_head(w: Writer) -> None:
    """com.microsoft::MultiHeadAttention of separate or packed queries, keys and values."""
    w.refuse_inputs((6, _PAST), (7, _PAST), (8, _CACHE), (9, _CACHE))
    w.refuse_outputs((3, "qk"))
    query, key, value, heads = w.needed(0, "query"), w.given(1), w.given(2), _number_of_heads(w)
    bias = w.held(3, "bias") if w.given(3) is not None else None
    if key is None:
        packed = [w.gather(query, place, 3) for place in range(3)]
    elif value is None:
        packed = [query, *(w.gather(key, place, 3) for place in range(2))]
    else:
        packed = [query, key, value]
    parts = _with_bias(w, packed, bias)
    split = [w.transpose(w.reshape(part, 0, 0, heads, -1), 0, 2, 1, 3) for part in parts[:1]]
    for part in parts[1:]:
        # Keys and values of a cross-attention may have their heads in front already.
        apart = part is key or part is value
        split.append(part if apart and len(w.dims(part)) == 4 else _heads(w, part, heads))
    attention = _Attention(w, split[0], split[1], split[2], scale=_scale(w, None))
    w.result(split[1], 1)
    w.result(split[2], 2)
    _finish(w, attention, query, 4, 5)


def _with_bias(w: Writer, parts: list[Value], bias: Array | None) -> list[Value]:
    if bias is None:
        return parts
    if any(len(w.dims(part)) == 4 for part in parts[1:]) and w.given(2) is not None:
        raise CannotWrite("it adds a bias to keys that are split into heads")
    # Packed parts have their heads apart: (batch, tokens, heads, head).
    flat = [w.reshape(part, 0, 0, -1) if len(w.dims(part)) == 4 else part for part in parts]
    hidden = w.extent(flat[0], -1, "hidden size")
    ends = [0, hidden, 2 * hidden, bias.size]
    return [
        w.op("Add", [part, bias[start:end]])
        for part, start, end in zip(flat, ends[:-1], ends[1:], strict=True)
    ]


def _of(w: Writer, parts: list[Value]) -> _Attention:
    query, key, value = parts
    return _Attention(w, query, key, value, _scale(w, None), float(w.attrs.get("softcap", 0.0)))


def _group_query(w: Writer) -> None:
    """com.microsoft::GroupQueryAttention of a whole sequence, without what came before."""
    w.refuse_inputs(
        (3, _PAST), (4, _PAST), (9, "position_ids"), (11, "head_sink"), (12, "k_scale"), (13, "v_scale"),
        (14, "q_norm_weight"), (15, "k_norm_weight"),
    )  # fmt: skip
    w.refuse_outputs((3, "output_qk"))
    w.refuse_attributes(smooth_softmax=-1, local_window_size=-1, sliding_window_cache=0, qk_output=0)
    query, key, value = w.needed(0, "query"), w.given(1), w.given(2)
    heads, of_keys = _number_of_heads(w), _number_of_heads(w, "kv_num_heads")
    if (key is None) != (value is None):
        raise CannotWrite("it has keys without values")
    if key is None or value is None:
        ends = [0, heads, heads + of_keys, heads + 2 * of_keys]
        apart = w.reshape(query, 0, 0, ends[-1], -1)
        slices = [w.slice(apart, 2, start, end) for start, end in pairwise(ends)]
        parts = [w.transpose(part, 0, 2, 1, 3) for part in slices]
    else:
        parts = [_heads(w, query, heads), _heads(w, key, of_keys), _heads(w, value, of_keys)]
    if int(w.attrs.get("do_rotary", 0)):
        caches = (w.needed(7, "cos_cache"), w.needed(8, "sin_cache"))
        places = w.places(query, 1)
        last = w.extent(query, -1, "hidden size") // (heads if key is not None else heads + 2 * of_keys)
        width = 2 * w.extent(caches[0], -1, "number of angles")
        pairs = bool(w.attrs.get("rotary_interleaved", 0))
        parts[:2] = [
            rotated(w, part, caches, places, head=last, interleaved=pairs, rotary=width) for part in parts[:2]
        ]
    w.result(parts[1], 1)
    w.result(parts[2], 2)
    attention = _of(w, parts)
    attention.repeat(heads, of_keys)
    counts = w.cast(w.needed(5, "seqlens_k"), _INT)
    attention.first(w.op("Add", [counts, np.array(1, np.int64)], dtype=_INT))
    bias = w.given(10)
    if bias is not None:
        attention.summands.append(bias)
    if int(w.attrs.get("causal", 1)):
        attention.causal()
    w.result(_joined(w, attention.written()))


def _standard(w: Writer) -> None:
    """Attention of opset 23 to 25."""
    w.refuse_inputs((4, _PAST), (5, _PAST))
    w.refuse_outputs((3, "qk_matmul_output"))
    inputs = [w.needed(place, name) for place, name in enumerate(("query", "key", "value"))]
    ranks = [len(w.dims(entry)) for entry in inputs]
    if len(set(ranks)) != 1 or ranks[0] not in (3, 4):
        raise CannotWrite(f"its operands have {', '.join(map(str, ranks))} axes")
    if ranks[0] == 3:
        heads, of_keys = _number_of_heads(w, "q_num_heads"), _number_of_heads(w, "kv_num_heads")
        parts = [
            _heads(w, entry, count) for entry, count in zip(inputs, (heads, of_keys, of_keys), strict=True)
        ]
    else:
        heads, of_keys = (w.extent(entry, 1, "number of heads") for entry in inputs[:2])
        parts = inputs
    attention = _of(w, parts)
    if ranks[0] == 4:
        w.result(parts[1], 1)
        w.result(parts[2], 2)
    else:
        w.refuse_outputs((1, "present_key"), (2, "present_value"))
    attention.repeat(heads, of_keys)
    mask, counts = w.given(3), w.given(6)
    if mask is not None:
        keys = w.dims(inputs[1])[-2 if ranks[0] == 4 else 1]
        if str(w.dims(mask)[-1]) not in ("1", str(keys)):
            raise CannotWrite("its mask is shorter than its keys")
        truth = mask.dtype == _BOOL
        (attention.open_places if truth else attention.summands).append(mask)
    if counts is not None:
        attention.first(counts)
    if int(w.attrs.get("is_causal", 0)):
        if counts is not None:
            raise CannotWrite("it is causal with nonpad_kv_seqlen, " + _CACHE)
        attention.causal()
    window = [int(w.attrs.get(f"{side}_window_size", -1)) for side in ("left", "right")]
    if window != [-1, -1]:
        if counts is not None:
            raise CannotWrite("it has a window with nonpad_kv_seqlen, " + _CACHE)
        attention.window(*window)
    total = attention.written()
    w.result(_joined(w, total) if ranks[0] == 3 else total)


#: Fused attention by domain and op type.
ATTENTION: dict[tuple[str, str], Callable[[Writer], None]] = {
    ("com.microsoft", "Attention"): _attention,
    ("com.microsoft", "MultiHeadAttention"): _multi_head,
    ("com.microsoft", "GroupQueryAttention"): _group_query,
    ("com.microsoft", "RotaryEmbedding"): rotary_of_microsoft,
    ("", "Attention"): _standard,
    ("", "RotaryEmbedding"): rotary_of_the_standard,
}
