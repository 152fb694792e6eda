"""What the host takes from the machine and puts back: at the end, or between parts of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnc.ir import Value
from snnc.passes.lower import vectors
from snnc.passes.lower.kernels import Kernel, Operand, View

if TYPE_CHECKING:
    from snnc.passes.lower.select import Selector

__all__ = ["expose", "made_by_machine", "put"]


def made_by_machine(selector: Selector, value: Value) -> bool:
    """Whether a value comes from the machine, and not from the host or from constants alone."""
    split = selector.split
    return (
        value.name is not None
        and value.name not in split.held
        and value.name in split.samples
        and not split.is_constant(value)
    )


def expose(selector: Selector, value: Value) -> None:
    """Let the host read a tensor in DRAM."""
    name = value.name or ""
    if name in selector.found.outputs:
        return
    view = selector.view(value)
    if view.buffer.kind != "activation" or view.elements != view.buffer.elements:
        moved = selector.build.fresh(f"{name}.out", view.shape, view.buffer.dtype)
        vectors.copy(selector.build, f"{name}.out", moved, view, complete=False)
        view = moved
    view.buffer.kind, view.buffer.in_dram = "output", True
    selector.found.outputs[name] = view


def put(selector: Selector, value: Value, view: View) -> None:
    """Let the host take what a tensor of its own needs, then put the tensor.

    Args:
        selector: The selection; all that the tensor needs has been lowered.
        value: What the host computes.
        view: All of a buffer in DRAM.
    """
    for needed in _sources(selector, value):
        expose(selector, needed)
        name = needed.name or ""
        if name not in selector.taken:
            selector.taken.add(name)
            port = list(selector.found.outputs).index(name)
            _add(selector, "HGET", "src", needed, selector.found.outputs[name], port)
    # The number of an input is its place among them; this one comes next.
    _add(selector, "HPUT", "dst", value, view, len(selector.found.inputs))


def _sources(selector: Selector, value: Value) -> list[Value]:
    """Return the tensors of the machine from which the host computes one of its own, in graph order."""
    found: dict[str, Value] = {}
    seen: set[str] = set()
    todo = [value]
    while todo:
        at = todo.pop()
        if at.name is None or at.name in seen:
            continue
        seen.add(at.name)
        if made_by_machine(selector, at):
            found[at.name] = at
            continue
        node = at.producer()
        if node is not None:
            todo += [item for item in node.inputs if item is not None]
    order = {name: place for place, name in enumerate(selector.split.samples)}
    return sorted(found.values(), key=lambda item: order[item.name or ""])


def _add(selector: Selector, name: str, field: str, value: Value, view: View, port: int) -> None:
    producer = value.producer()
    node = (producer.name if producer is not None else None) or value.name or ""
    whole = View(view.buffer, 0, _stored_shape(view), _dense(view))
    operand = Operand(field, whole, (None,) * len(whole.shape))
    kernel = Kernel(name, node, value.name or "", (operand,), {"port": port})
    selector.build.add(node, (1,), [kernel], fixed=(0,))


def _stored_shape(view: View) -> tuple[int, ...]:
    return tuple(view.shape[axis] for axis in view.order()) or (1,)


def _dense(view: View) -> tuple[int, ...]:
    return tuple(view.strides[axis] for axis in view.order()) or (1,)
