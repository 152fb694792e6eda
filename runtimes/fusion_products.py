"""Products with the neurons behind them, and normalisations, as one native operator each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnc.ops import LAYOUT
from snnc.runtimes.common import Array
from snnc.runtimes.fusion_chains import Chain, attributes_of, step
from snnc.runtimes.message import Message

__all__ = [
    "NEURON",
    "Rows",
    "Tree",
    "descend",
    "follow",
    "fuse_finishes",
    "fuse_norms",
    "fuse_products",
    "gather_rows",
    "move_neurons",
]

_MOVERS = frozenset({"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
NEURON = ("codes", "code_type", "depth")


@dataclass
class Tree:
    """What is behind a product: tensors that its sums move through, and the neurons at their ends."""

    moved: list[str] = field(default_factory=list)
    neurons: list[tuple[int, Any, Array]] = field(default_factory=list)


def fuse_products(view: Message) -> None:
    """Let each product with weights fire the neurons that alone read its sums.

    Layout ops between them then move codes in place of sums; which threshold row a column of the product
    gets is found by moving the numbers of the columns along.
    """
    for index, node in enumerate(view.graph.node):
        if node.op_type != "SpikeMatMul" or node.domain != "ai.snnc" or not view.is_constant(node.input[1]):
            continue
        weights = view.constant(node.input[1])
        if weights is None or weights.ndim != 2:
            continue
        tree = follow(view, node.output[0], weights.shape[1], -1)
        if tree is not None and tree.neurons:
            _fire_in_product(view, index, node, tree, weights.shape[1])


@dataclass
class Rows:
    """The threshold row of each column of a product.

    Attributes:
        rows: Row numbers, shape (columns,).
        tables: Thresholds, to be concatenated.
        names: Their tensors.
        attributes: What the neurons have in common.
        kind: ONNX element type of the codes.
    """

    rows: Array
    tables: list[Array]
    names: list[str]
    attributes: list[Any]
    kind: int


def follow(view: Message, source: str, columns: int, axis: int) -> Tree | None:
    """Return all that reads a product, if it is neurons behind layout ops and nothing else.

    Args:
        view: The graph.
        source: The product.
        columns: How many there are.
        axis: Where they are: the last axis (-1), or one whose number is the same for all samples.
    """
    tree = Tree()
    readers = view.readers.get(source, [])
    if not readers or view.is_output(source):
        return None
    if all(node.op_type == "ExpGIF" and node.input[0] == source for _, node in readers):
        last = np.arange(columns)
        tree.neurons = [(at, node, last) for at, node in readers]
        return tree if len(readers) == 1 and axis == -1 else None
    shape = view.shape(source)
    if shape is None or len(shape) < 2 or any(extent is None for extent in shape[1:]):
        return None
    if shape[axis] != columns:
        return None
    place = np.arange(columns).reshape((columns, *[1] * (-1 - axis if axis < 0 else len(shape) - 1 - axis)))
    numbers = np.broadcast_to(place, (shape[0] or 1, *(extent or 0 for extent in shape[1:])))
    return tree if descend(view, source, np.ascontiguousarray(numbers), tree) else None


def descend(view: Message, name: str, numbers: Array, tree: Tree) -> bool:
    """Note all that reads a tensor; return whether it is neurons behind layout ops and nothing else.

    Args:
        view: The graph.
        name: The tensor.
        numbers: The column of each of its elements.
        tree: Where to note it.
    """
    if view.is_output(name) or not view.readers.get(name):
        return False
    tree.moved.append(name)
    for index, node in view.readers[name]:
        if node.op_type == "ExpGIF" and node.domain == "ai.snnc" and node.input[0] == name:
            tree.neurons.append((index, node, numbers))
            continue
        if node.domain != "" or node.op_type not in _MOVERS or node.input[0] != name:
            return False
        rest = [view.constant(other) if other else None for other in node.input[1:]]
        if any(value is None and other for value, other in zip(rest, node.input[1:], strict=True)):
            return False
        attrs = {a.name: list(a.ints) if a.ints else a.i for a in node.attribute}
        try:
            results = LAYOUT[node.op_type].packed([numbers, *rest], attrs, len(node.output))
        except (ValueError, KeyError, IndexError):
            return False
        for output, result in zip(node.output, results, strict=True):
            if not descend(view, output, result, tree):
                return False
    return True


def gather_rows(view: Message, tree: Tree, columns: int) -> Rows | None:
    """Return the threshold row of each column, None if the neurons differ or a column has several rows."""
    first = attributes_of(tree.neurons[0][1])
    wanted = {name: first[name].SerializeToString() for name in NEURON}
    rows = np.full(columns, -1, dtype=np.int64)
    tables: list[Array] = []
    names: list[str] = []
    for _, neuron, numbers in tree.neurons:
        found = attributes_of(neuron)
        if any(found[name].SerializeToString() != text for name, text in wanted.items()):
            return None
        table, row = view.constant(neuron.input[1]), view.constant(neuron.input[2])
        if table is None or row is None:
            return None
        if numbers.ndim == 1 and any(extent != 1 for extent in row.shape[:-1]):
            return None  # the rows change along another axis than the columns
        try:
            spread = np.broadcast_to(row.reshape(-1) if numbers.ndim == 1 else row, numbers.shape)
        except ValueError:
            return None
        start = sum(len(other) for other in tables)
        place = numbers.reshape(-1)
        if (rows[place] != -1).any():
            return None  # a column is fired twice
        rows[place] = spread.reshape(-1) + start
        if not np.array_equal(rows[place], spread.reshape(-1) + start):
            return None  # a column has different rows for different samples or tokens
        tables.append(table)
        names.append(neuron.input[1])
    if (rows < 0).any():
        return None
    return Rows(rows, tables, names, [first[name] for name in NEURON], first["code_type"].i)


def move_neurons(view: Message, tree: Tree, output: str, kind: int) -> dict[str, str]:
    """Let codes move where sums did; return the new names of tensors, for `Message.rename`.

    Args:
        view: The graph.
        tree: What is behind the product.
        output: The tensor of its codes.
        kind: Their ONNX element type.
    """
    view.retype(output, kind)
    if tree.moved:
        view.shape_like(output, tree.moved[0])
    ends = {neuron.input[0]: (at, neuron.output[0]) for at, neuron, _ in tree.neurons}
    renamed = {tree.moved[0]: output} if tree.moved else {}
    for name in tree.moved:
        if name in ends and name not in renamed and len(view.readers[name]) == 1:
            at, renamed[name] = ends[name]
            view.remove(at)
        elif name in ends:
            neuron = view.graph.node[ends[name][0]]
            view.identity(ends[name][0], renamed.get(name, name), neuron.output[0])
        view.retype(renamed.get(name, name), kind)
    return renamed


def _fire_in_product(view: Message, index: int, node: Any, tree: Tree, columns: int) -> None:
    found = gather_rows(view, tree, columns)
    if found is None:
        return
    output = f"{node.output[0]}.native_fired" if tree.moved else tree.neurons[0][1].output[0]
    thresholds = found.names[0]
    if len(found.tables) > 1:
        thresholds = view.add_constant(
            f"{output}.native_thresholds", np.concatenate(found.tables).astype("<i4")
        )
    row_name = view.add_constant(f"{output}.native_rows", found.rows.astype("<i4"))
    renamed = move_neurons(view, tree, output, found.kind)
    if not tree.moved:
        view.remove(tree.neurons[0][0])
    inputs = [node.input[0], node.input[1], thresholds, row_name]
    view.replace(index, "NativeMatMulFire", inputs, [output], found.attributes)
    view.rename(renamed, index)


def fuse_finishes(view: Message) -> None:
    """Let each product with weights that fires no neuron do the membrane arithmetic on its sums."""
    for index, node in enumerate(view.graph.node):
        if node.op_type != "SpikeMatMul" or node.domain != "ai.snnc" or view.is_gone(index):
            continue
        weights, shape = view.constant(node.input[1]), view.shape(node.output[0])
        if weights is None or weights.ndim != 2 or not view.is_constant(node.input[1]):
            continue
        if shape is None or len(shape) < 2:
            continue
        chain = Chain(node.output[0], index, weights.shape[1], -1)
        while step(view, chain, node):
            pass
        if not chain.consumed:
            continue
        for at in (index, *chain.consumed[:-1]):
            view.remove(at)
        numbers = view.add_constant(f"{chain.name}.native_numbers", chain.numbers())
        attributes = [view.integer("shift", chain.shift), view.integer("has_other", int(bool(chain.other)))]
        inputs = [*node.input, numbers, chain.other or numbers]
        view.replace(chain.consumed[-1], "NativeMatMulFinish", inputs, [chain.name], attributes)


def fuse_norms(view: Message) -> None:
    """Let potential, gain and neuron of a normalisation of the last axis be one operator."""
    for index, node in enumerate(view.graph.node):
        if node.op_type != "ExpGIFGain" or node.domain != "ai.snnc":
            continue
        sources = {name: view.writers.get(name) for name in node.input[:2]}
        potential, gain = (sources[name] for name in node.input[:2])
        if potential is None or gain is None:
            continue
        (at_v, v), (at_g, g) = potential, gain
        if v.op_type != "NormPotential" or g.op_type != "NormGain" or v.input[0] != g.input[0]:
            continue
        if view.only_reader(v.output[0]) is None or view.only_reader(g.output[0]) is None:
            continue
        shape = view.shape(v.input[0])
        left, right, fire = attributes_of(v), attributes_of(g), attributes_of(node)
        axes = list(left["axes"].ints)
        centred = [a["centred"].i if "centred" in a else 1 for a in (left, right)]
        if shape is None or not shape or shape[-1] is None or axes != list(right["axes"].ints):
            continue
        if axes not in ([-1], [len(shape) - 1]) or centred[0] != centred[1] or fire["fraction_bits"].i > 20:
            continue
        sign, row = view.constant(v.input[1]), view.constant(node.input[3])
        if sign is None or row is None or not view.is_constant(node.input[2]):
            continue
        length = shape[-1]
        if any(extent != 1 for extent in (*sign.shape[:-1], *row.shape[:-1])):
            continue
        if sign.size not in (1, length) or row.size not in (1, length):
            continue
        name = node.output[0]
        spread = np.broadcast_to(sign.reshape(-1), (length,)).astype("<i4")
        source, factor, shifts = _before(view, v.input[0], {at_v, at_g}, length)
        inputs = [source, view.add_constant(f"{name}.native_sign", spread), node.input[2]]
        inputs.append(view.add_constant(f"{name}.native_row", row.reshape(-1).astype("<i4")))
        inputs.append(view.add_constant(f"{name}.native_factor", factor.astype("<i4")))
        given = [fire[each] for each in (*NEURON, "fraction_bits")] + [right["epsilon"]]
        given += [left["centred"]] if "centred" in left else []
        given += [view.integers("shifts", shifts)] if shifts else []
        view.remove(at_v)
        view.remove(at_g)
        view.replace(index, "NativeNormFire", inputs, [name], given)


def _before(view: Message, name: str, readers: set[int], length: int) -> tuple[str, Array, list[int]]:
    """Take the scaling and the roundings before a normalisation away.

    Returns:
        What is normalised then, the factors it is multiplied with first (one, or one for each element), and
        the shifts of the roundings in turn.
    """
    factor: Array = np.ones(1, np.int64)
    shifts: list[int] = []
    while not view.is_output(name) and all(at in readers for at, _ in view.readers[name]):
        writer = view.writers.get(name)
        if writer is None or writer[1].domain != "ai.snnc" or view.is_gone(writer[0]):
            break
        index, node = writer
        if node.op_type == "MembraneRound" and attributes_of(node)["shift"].i < 32:
            shifts.insert(0, attributes_of(node)["shift"].i)
            name, readers = node.input[0], {index}
            view.remove(index)
            continue
        scale = view.constant(node.input[1]) if node.op_type == "MembraneScale" else None
        if (
            scale is not None
            and view.is_constant(node.input[1])
            and view.same_shape(node.input[0], name)
            and scale.size in (1, length)
            and all(extent == 1 for extent in scale.shape[:-1])
        ):
            name, factor = node.input[0], scale.reshape(-1)
            view.remove(index)
        break
    return name, factor, shifts
