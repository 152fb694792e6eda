"""What the levels of a code stand for where a function that jumps reads it.

A level is near all values that it codes, but the function may have jumped in between: a softmax is positive
where its code is 0, and a level just above 1 codes values that a Clip held at 1. Such a level is read as one
of the values that calibration saw it code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, DataType, Model, Node, Value, constant, consumers_of, initializer, make_node
from snnc.ir.rewrite import as_attribute
from snnc.passes.quantise.choices import Choice
from snnc.passes.quantise.jumps import Jump, computed

__all__ = ["Reading", "levels_at", "read_as", "reading_of", "values_of_levels"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

#: Metadata key of the table that says what levels stand for.
_LEVELS = "snnc.levels"
#: Activation functions that jump. A neuron holds them as they are, but for a code that is there already.
_ACTIVATIONS = frozenset({"ThresholdedRelu", "Bipolar"})
#: A level keeps its own value until another leaves so much less of the squared error: what is continuous, and
#: a jump that halves a level's values, stay as they are.
_LESS = 0.5


@dataclass(frozen=True, eq=False)
class Reading:
    """The functions that jump among the readers of a value.

    Attributes:
        source: The value.
        nodes: Their nodes, in graph order.
        results: What they give.
        uses: Where they read the value.
    """

    source: Value
    nodes: tuple[Node, ...]
    results: tuple[Value, ...]
    uses: tuple[tuple[Node, int], ...]

    def evaluate(self, values: Singles, opsets: dict[str, int]) -> Floats:
        """Return what the functions make of some numbers, (functions, numbers); NaN where one has no value.

        Args:
            values: The numbers, one axis.
            opsets: Versions of operator sets, by domain.
        """
        known: dict[int, npt.NDArray[np.generic]] = {id(self.source): values}
        for node in self.nodes:
            inputs = [
                None if value is None else known.get(id(value), constant(value)) for value in node.inputs
            ]
            known[id(node.outputs[0])] = computed(node, inputs, opsets)
        found = [known[id(value)].reshape(-1).astype(np.float64) for value in self.results]
        return np.stack([np.broadcast_to(array, values.shape) for array in found])


def reading_of(value: Value, uses: Iterable[tuple[Node, int]], jumps: Sequence[Jump]) -> Reading | None:
    """Return the functions that jump among those that read the code of a value; None if there are none.

    Args:
        value: The value.
        uses: What will read its code.
        jumps: All functions of one value that jump.
    """
    nodes: list[Node] = []
    results: list[Value] = []
    found: list[tuple[Node, int]] = []
    for jump in jumps:
        if jump.source is value:
            nodes += [node for node in jump.nodes if node not in nodes]
            results.append(jump.last.outputs[0])
            found += [use for use in jump.uses() if use not in found]
    for node, position in uses:
        if node.op_type in _ACTIVATIONS and node.domain in ("", "ai.onnx", AI_SNNC) and node not in nodes:
            nodes.append(node)
            results.append(node.outputs[0])
            found.append((node, position))
    return Reading(value, tuple(nodes), tuple(results), tuple(found)) if found else None


def values_of_levels(
    book: CodeBook, step: np.float32, seen: Singles, function: Callable[[Singles], Floats]
) -> Singles:
    """Return what each level stands for, levels from the smallest code to the largest.

    Of the values seen that a level codes, and itself if it lies within what was seen, the function takes one
    result for the one that stands for them: that with the least squared error over all of them. A level stays
    its own unless that leaves less than half of its own error, and where nothing was seen.

    Args:
        book: The code.
        step: Its step.
        seen: Values that calibration saw, of any shape.
        function: Results of numbers, (results, numbers).

    Returns:
        float32, one for each integer from the smallest code to the largest.
    """
    codes = np.arange(book.smallest, book.largest + 1)
    levels = codes.astype(np.float32) * step
    values, counts = np.unique(seen.reshape(-1).astype(np.float32), return_counts=True)
    if not values.size:
        return levels
    place = book.nearest(values.astype(np.float64) / float(step)) - book.smallest
    # One sample more for each level that could be one: few samples on one side of a jump prove little.
    inside = np.flatnonzero((levels >= values[0]) & (levels <= values[-1]) & np.isin(codes, book.codes))
    place = np.concatenate([place, inside])
    values, counts = np.concatenate([values, levels[inside]]), np.concatenate([counts, np.ones_like(inside)])
    own, results = function(levels), function(values)
    finite = np.isfinite(results).all(axis=0)
    place, values, counts, results = place[finite], values[finite], counts[finite], results[:, finite]

    def total(numbers: Floats) -> Floats:
        return np.asarray(np.bincount(place, weights=numbers, minlength=codes.size), np.float64)

    number = total(counts.astype(np.float64))
    filled = np.maximum(number, 1)
    means = np.stack([total(counts * result) / filled for result in results])
    within = total(counts * ((results - means[:, place]) ** 2).sum(axis=0))
    off = ((results - means[:, place]) ** 2).sum(axis=0)
    # Of equally good ones the nearest to the level, so that nothing hangs on the order of samples.
    order = np.lexsort((values, np.abs(values - levels[place]), off, place))
    first = order[np.unique(place[order], return_index=True)[1]]
    best = place[first]
    least = within[best] + number[best] * off[first]
    with np.errstate(invalid="ignore", over="ignore"):
        kept = within[best] + number[best] * ((own[:, best] - means[:, best]) ** 2).sum(axis=0)
    # Not the other way round: what has no value is no number.
    moved = ~(kept * _LESS <= least)
    levels[best[moved]] = values[first[moved]]
    return levels


def read_as(model: Model, quantiser: Node, choice: Choice, reading: Reading) -> None:
    """Let functions that jump read what the levels of a code stand for."""
    graph, name = model.graph, f"{quantiser.name}_read"
    step = initializer(graph, f"{name}_step", choice.step.reshape(()))
    table = make_node(
        graph,
        "Table",
        [quantiser.outputs[0], step, initializer(graph, f"{name}_levels", np.asarray(choice.levels))],
        {"smallest": as_attribute("smallest", choice.book.smallest)},
        domain=AI_SNNC,
        name=name,
        dtype=DataType.FLOAT,
        shape=reading.source.shape,
        source=reading.source.producer(),
    )
    table.metadata_props[_LEVELS] = "read"
    graph.insert_after(quantiser, table)
    for reader, position in reading.uses:
        reader.replace_input_with(position, table.outputs[0])


def levels_at(node: Node) -> Singles | None:
    """Return what the levels of an inserted quantiser stand for to functions that jump; see `Choice`."""
    for reader in consumers_of(node.outputs[0]):
        if reader.op_type == "Table" and _LEVELS in reader.metadata_props:
            held = constant(reader.inputs[2])
            return None if held is None else np.array(held)
    return None
