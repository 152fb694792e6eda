"""Products that were taken apart, so that float32 sums stay exact, as one native product again.

Native sums are modulo 2^32: products of a code's slices, or with a weight's digits, add up to the whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from snnc.runtimes.common import Array
from snnc.runtimes.message import Message

__all__ = ["fuse_parts"]

_PRODUCTS = frozenset({"SpikeConv", "SpikeMatMul", "SpikeMatMulHeld"})
_SAME_CODES = frozenset({"SpikeMaxPool", "SpikePad", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze"})
_MAGNITUDE_BITS = {9: 1, 2: 8, 3: 8, 5: 16}  # by element type: bool, uint8, int8, int16
_LARGEST = 1 << 24  # weights that are put together: the message holds them
_DEEPEST = 64  # sums in a row that are followed: a product has fewer slices and digits


class _Part(NamedTuple):
    """One product of a sum: factor * product."""

    factor: int
    place: int
    node: Any


def fuse_parts(view: Message) -> bool:
    """Join sums of products of the slices of one code, or with the digits of one weight.

    Returns:
        Whether there were any: then the graph is to be viewed afresh.
    """
    changed = False
    for index in range(len(view.graph.node) - 1, -1, -1):
        node = view.graph.node[index]
        if node.domain != "ai.snnc" or node.op_type != "MembraneAdd" or view.is_gone(index):
            continue
        between: list[int] = []
        parts = _terms(view, index, node, between)
        if parts is None or not _alike(parts):
            continue
        inputs = _whole_code(view, parts) or _whole_weights(view, parts, node.output[0])
        if inputs is None:
            continue
        changed = True
        for at in (*between, *(part.place for part in parts)):
            view.remove(at)
        for part in parts:
            _drop_slice(view, part.node.input[0])
        product = parts[0].node
        view.replace(index, product.op_type, inputs, [node.output[0]], list(product.attribute))
    return changed


def _terms(
    view: Message, index: int, node: Any, between: list[int], left: int = _DEEPEST
) -> list[_Part] | None:
    """Return the products that a sum adds, None if it adds anything else; notes what stands between."""
    if not left:
        return None
    if node.op_type in _PRODUCTS:
        return [_Part(1, index, node)]
    sources = list(node.input)
    factor = 1
    if node.op_type == "MembraneScale":
        number = view.constant(sources[1]) if view.is_constant(sources[1]) else None
        if number is None or number.size != 1:
            return None
        factor, sources = int(number.reshape(-1)[0]), sources[:1]
    elif node.op_type != "MembraneAdd":
        return None
    parts: list[_Part] = []
    for source in sources:
        writer = view.writers.get(source)
        if writer is None or view.only_reader(source) is None or writer[1].domain != "ai.snnc":
            return None
        found = _terms(view, *writer, between, left - 1)
        if found is None:
            return None
        if writer[1].op_type not in _PRODUCTS:
            between.append(writer[0])
        parts += [part._replace(factor=factor * part.factor) for part in found]
    return parts


def _alike(parts: list[_Part]) -> bool:
    def form(node: Any) -> tuple[str, list[str]]:
        return node.op_type, sorted(str(attribute) for attribute in node.attribute)

    return len(parts) > 1 and all(form(part.node) == form(parts[0].node) for part in parts)


def _whole_code(view: Message, parts: list[_Part]) -> list[str] | None:
    """Return the inputs of one product, if the parts' codes are all the slices of one."""
    slices = []
    for part in parts:
        writer = view.writers.get(part.node.input[0])
        if writer is None or writer[1].op_type != "CodeSlice" or writer[1].domain != "ai.snnc":
            return None
        window = {attribute.name: attribute.i for attribute in writer[1].attribute}
        slices.append((window["shift"], window["bits"], part.factor, writer[1].input[0], part.node.input[1]))
    slices.sort()
    _, _, _, source, other = slices[0]
    taken = 0
    for shift, bits, factor, code, with_what in slices:
        if (code, with_what, shift, factor) != (source, other, taken, 1 << taken):
            return None
        taken += bits
    needed = _magnitude_bits(view, source)
    return [source, other] if needed is not None and needed <= taken else None


def _magnitude_bits(view: Message, name: str) -> int | None:
    """Return how many bits a code's magnitudes have at most, by its neuron or its type."""
    writer = view.writers.get(name)
    while writer is not None and writer[1].op_type in _SAME_CODES:
        writer = view.writers.get(writer[1].input[0])
    if writer is not None and writer[1].domain == "ai.snnc":
        for attribute in writer[1].attribute:
            if attribute.name == "codes" and attribute.ints:
                return int(max(map(abs, attribute.ints))).bit_length()
    return _MAGNITUDE_BITS.get(view.kind(name))


def _whole_weights(view: Message, parts: list[_Part], output: str) -> list[str] | None:
    """Return the inputs of one product, if the parts' weights are digits of one that fits 16 bits."""
    source = parts[0].node.input[0]
    total: Array | None = None
    for part in parts:
        code, name = part.node.input
        weights = view.constant(name) if code == source and view.is_constant(name) else None
        if weights is None or weights.dtype.kind != "i" or weights.size > _LARGEST:
            return None
        if abs(part.factor) >= 1 << 31:
            return None
        term = weights.astype(np.int64) * part.factor
        if total is not None and total.shape != term.shape:
            return None
        total = term if total is None else total + term
    if total is None or total.size == 0:
        return None
    for kind in (np.int8, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= total.min() and total.max() <= limits.max:
            return [source, view.add_constant(f"{output}.native_weights", total.astype(kind))]
    return None


def _drop_slice(view: Message, name: str) -> None:
    """Remove a slice that nothing reads any more."""
    writer = view.writers.get(name)
    if writer is None or writer[1].op_type != "CodeSlice" or view.is_output(name):
        return
    if all(view.is_gone(index) for index, _ in view.readers.get(name, [])):
        view.remove(writer[0])
