"""Rotary position embeddings, written out as two products with numbers of the position."""

from __future__ import annotations

import numpy as np

from snnc.ir import DataType, Value, constant
from snnc.passes.canonical.fused_writer import CannotWrite, Writer
from snnc.passes.editing import Array

__all__ = ["rotary_of_microsoft", "rotary_of_the_standard", "rotated"]


def rotated(
    w: Writer,
    value: Value,
    caches: tuple[Value, Value],
    positions: Value | None,
    *,
    head: int,
    interleaved: bool,
    rotary: int = 0,
) -> Value:
    """Rotate pairs of elements by angles that depend on the position.

    ``x * cos + turned(x) * sin``, in which ``turned`` swaps the two elements of a pair and the sign of the
    first one stands with the sines.

    Args:
        w: Where nodes are added.
        value: Shape (batch, heads, tokens, head).
        caches: Cosines and sines, (rows, rotary / 2), or (batch, tokens, rotary / 2) without positions.
        positions: Rows to take, (batch, tokens) or (tokens,); None takes the rows as they are.
        head: Elements of a head.
        interleaved: The elements of a pair stand beside each other, not half a head apart.
        rotary: Elements that are rotated, the first ones; 0 is all.
    """
    width = rotary or head
    half = width // 2
    places = np.arange(width)
    if interleaved:
        pair, other, first = places // 2, places ^ 1, places % 2 == 0
    else:
        pair, other, first = places % half, (places + half) % width, places < half
    turned = np.concatenate([other, np.arange(width, head)])
    tables = []
    for cache, sign, rest in zip(caches, (np.ones(width), np.where(first, -1, 1)), (1.0, 0.0), strict=True):
        table = _widened(w, cache, pair, sign.astype(np.float32), rest, head - width)
        if positions is not None:
            table = w.op("Gather", [table, positions], axis=0)
        # One for all heads: (batch, 1, tokens, head), or (1, tokens, head) for positions without a batch.
        tables.append(w.unsqueeze(table, -3) if w.opset >= 11 else w.unsqueeze(table, 1))
    kept = w.op("Mul", [value, tables[0]])
    return w.op("Add", [kept, w.op("Mul", [w.gather(value, turned, -1), tables[1]])])


def _widened(w: Writer, cache: Value, pair: Array, sign: Array, rest: float, more: int) -> Value:
    """Return the numbers of pairs as numbers of elements."""
    held = constant(cache)
    if held is not None:
        wide = held.astype(np.float32)[..., pair] * sign
        outside = np.full((*wide.shape[:-1], more), rest, np.float32)
        return w.constant("angles", np.concatenate([wide, outside], axis=-1))
    if more:
        raise CannotWrite("it rotates a part of each head by angles that are not constant")
    wide_value = w.gather(cache, pair, -1)
    return wide_value if bool(np.all(sign == 1)) else w.op("Mul", [wide_value, sign])


def _pairs(w: Writer, cache: Value) -> int:
    held = constant(cache)
    return held.shape[-1] if held is not None else w.extent(cache, -1, "number of angles")


def _rotate_any(w: Writer, caches: tuple[Value, Value], positions: Value | None) -> None:
    value, heads = w.needed(0, "input"), int(w.attrs.get("num_heads", 0))
    rank = len(w.dims(value))
    if rank not in (3, 4):
        raise CannotWrite(f"its input has {rank} axes")
    rotary = int(w.attrs.get("rotary_embedding_dim", 0))
    head = 2 * _pairs(w, caches[0])
    if rotary:
        size = w.extent(value, -1, "hidden size")
        if rank == 3 and not heads:
            raise CannotWrite("it rotates a part of each head without num_heads")
        head = size if rank == 4 else size // heads
    if rank == 3:
        value = w.transpose(w.reshape(value, 0, 0, -1, head), 0, 2, 1, 3)
    interleaved = bool(w.attrs.get("interleaved", 0))
    value = rotated(w, value, caches, positions, head=head, interleaved=interleaved, rotary=rotary)
    if rank == 3:
        value = w.reshape(w.transpose(value, 0, 2, 1, 3), 0, 0, -1)
    w.result(value)


def rotary_of_microsoft(w: Writer) -> None:
    """Write out com.microsoft::RotaryEmbedding."""
    w.refuse_attributes(is_packed_batching=0, scale=1.0)
    value, positions = w.needed(0, "input"), w.needed(1, "position_ids")
    if len(w.dims(positions)) == 1:
        # One number: where the first token stands.
        axis = 1 if len(w.dims(value)) == 3 else 2
        positions = w.op(
            "Add", [w.places(value, axis), w.cast(positions, DataType.INT64)], dtype=DataType.INT64
        )
    _rotate_any(w, (w.needed(2, "cos_cache"), w.needed(3, "sin_cache")), positions)


def rotary_of_the_standard(w: Writer) -> None:
    """Write out RotaryEmbedding of opset 23."""
    _rotate_any(w, (w.needed(1, "cos_cache"), w.needed(2, "sin_cache")), w.given(3))
