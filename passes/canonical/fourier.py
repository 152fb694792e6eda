"""A discrete Fourier transform of known length is a product with a constant matrix."""

from __future__ import annotations

import numpy as np

from snnc.ir import Node, attributes, constant
from snnc.passes.canonical.chain import Chain, static_rest
from snnc.passes.editing import Array, Editor

__all__ = ["fourier_matrix", "write_transform"]

_AXIS_IS_AN_INPUT = 20  # opset


def fourier_matrix(given: int, parts: int, length: int, *, inverse: bool, onesided: bool) -> Array:
    """Return the matrix that transforms real and imaginary parts, which alternate.

    Args:
        given: Elements of the signal; more than ``length`` are cut off, fewer are filled with zeros.
        parts: 1 for a real signal, 2 for a complex one.
        length: Length of the transform.
        inverse: Whether it is the inverse, which divides by the length.
        onesided: Whether frequencies beyond half of the length, which repeat the others, are left out.

    Returns:
        float64 (given · parts, frequencies · 2).
    """
    frequencies = length // 2 + 1 if onesided else length
    places = np.arange(given)
    turns = np.outer(places, np.arange(frequencies)) % length
    angles = (2 if inverse else -2) * np.pi * turns / length
    kept = (places < length)[:, None] / (length if inverse else 1)
    real, imaginary = kept * np.cos(angles), kept * np.sin(angles)
    # of (place, part) and (frequency, part)
    matrix = np.zeros((given, parts, frequencies, 2))
    matrix[:, 0, :, 0], matrix[:, 0, :, 1] = real, imaginary
    if parts > 1:
        matrix[:, 1, :, 0], matrix[:, 1, :, 1] = -imaginary, real
    return matrix.reshape(given * parts, frequencies * 2)


def write_transform(editor: Editor, node: Node) -> str | None:
    """Write a DFT as a product; return why not."""
    source, attrs = node.inputs[0], attributes(node)
    assert source is not None
    others = [constant(value) for value in node.inputs[1:]]
    if any(value is not None and held is None for value, held in zip(node.inputs[1:], others, strict=True)):
        return "its length or axis is not constant"
    rank, rest = len(source.shape or ()), static_rest(source)
    inverse, onesided = bool(attrs.get("inverse", 0)), bool(attrs.get("onesided", 0))
    if rest is None or (inverse and onesided):
        return "it is one-sided and inverse"
    opset = editor.model.opset_imports.get("", _AXIS_IS_AN_INPUT)
    axis = int(attrs.get("axis", 1)) if opset < _AXIS_IS_AN_INPUT else -2
    if opset >= _AXIS_IS_AN_INPUT and len(others) > 1 and others[1] is not None:
        axis = int(others[1].reshape(-1)[0])
    axis %= rank
    if axis == 0:
        return "it changes the batch"
    given, parts = rest[axis - 1], rest[-1]
    length = int(others[0].reshape(-1)[0]) if others and others[0] is not None else given
    matrix = fourier_matrix(given, parts, length, inverse=inverse, onesided=onesided)
    chain = Chain(editor, node, source)
    perm, apart = chain.to_last([axis, rank - 1])
    chain.append("MatMul", [matrix.astype(np.float32)], [*chain.dims[:-1], matrix.shape[1]])
    chain.back(perm, [*apart[:-2], matrix.shape[1] // 2, 2]).finish("Fourier transform")
    return None
