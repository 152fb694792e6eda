"""Buffers on several cores: each core has its own copy of what it makes, sends or takes, no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from snnc.passes.lower.folding import Lowered, Ref
from snnc.passes.lower.kernels import Buffer, View
from snnc.passes.lower.tile import Macro

__all__ = ["Copies", "local_copies"]

Copies = Mapping[tuple[int, int], tuple[Buffer, int]]
"""For a buffer, by identity, and a core: the copy, and which element of the buffer is its first."""


def _copied(buffer: Buffer) -> bool:
    return buffer.kind == "activation" and not buffer.in_dram


def local_copies(order: Sequence[Macro]) -> tuple[list[Macro], Copies]:
    """Give every core copies of its own of the buffers that lie on cores.

    Args:
        order: Instructions; operands are parts of whole buffers.

    Returns:
        The same instructions on copies, each as large as what the core touches; and the copies.
    """
    reach: dict[tuple[int, int], tuple[Buffer, int, int]] = {}
    for macro in order:
        for ref in macro.lowered.refs.values():
            if _copied(ref.buffer):
                key = (id(ref.buffer), macro.core)
                low, high = _span(ref)
                _, first, last = reach.get(key, (ref.buffer, low, high))
                reach[key] = (ref.buffer, min(first, low), max(last, high))
    copies = {
        key: (
            Buffer(buffer.name, buffer.dtype, last - first + 1, buffer.memory, buffer.kind, origin=buffer),
            first,
        )
        for key, (buffer, first, last) in reach.items()
    }
    return [_on_copies(macro, copies) for macro in order], copies


def _span(ref: Ref) -> tuple[int, int]:
    steps = [(extent - 1) * stride for extent, stride in zip(ref.shape, ref.strides, strict=True)]
    low = ref.offset + sum(min(0, step) for step in steps)
    return low, ref.offset + sum(max(0, step) for step in steps)


def _on_copies(macro: Macro, copies: Copies) -> Macro:
    refs = {}
    for name, ref in macro.lowered.refs.items():
        buffer, first = copies.get((id(ref.buffer), macro.core), (ref.buffer, 0))
        refs[name] = Ref(buffer, ref.offset - first, ref.shape, ref.strides)
    return replace(macro, lowered=Lowered(macro.lowered.name, refs, macro.lowered.fields))


def view_on(view: View, core: int, copies: Copies) -> View:
    """Return a view of a buffer as a core has it."""
    buffer, first = copies.get((id(view.buffer), core), (view.buffer, 0))
    return View(buffer, view.offset - first, view.shape, view.strides)
