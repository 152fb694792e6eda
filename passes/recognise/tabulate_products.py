"""Pass ``tabulate-products``: a function of one code, however it is written, becomes a list of its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, constant
from snnc.passes.analysis.activations import ACTIVATION_OPS
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.editing import Array, Editor, is_standard
from snnc.passes.quantise.jumps import TABULATED, acts_on_elements, computed, is_jump, operands
from snnc.passes.quantise.sites import SITE
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["TabulateProducts"]

_MOST_LEVELS = 4096
#: What gives codes of its input and no others; padding with zero gives the code 0.
_MOVES = LAYOUT_OPS | {"Pad", "MaxPool"}
_MOST_NODES = 24


def _is_quantise(node: Node | None) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type == "Quantise"


@dataclass(frozen=True)
class TabulateProducts:
    """Replace what is computed from a single code by a table of its values.

    Tools that quantise every operator put quantisers inside GELU, SiLU and HardSwish, too: ``x · Q(σ(x))``.
    No neuron multiplies, but all of it depends on one code of at most 4096 levels: the values are computed
    here, once for each, in float32 as the source does. A neuron holds them in its table.

    Between two quantisers that round half to even, their division and rounding are part of the table: values
    on the edge between two levels, of which ``0.1 · 5`` is one, fall as they do in the source.

    Matches:
        Activation functions between two quantisers; Mul and Div of two variables, and Pow, Sqrt, Log,
        Reciprocal, trigonometric and hyperbolic functions and their inverses; functions that jump or choose
        (Where, Sign, Round, Floor, Ceil, Mod, a truth value as a float); activation functions of a table.
        Their operands all come from one quantiser with one step, by elementwise operators and quantisers; its
        codes may have been moved.
    Leaves alone:
        "its operands come from more than one code"; "the step of its code differs between channels"; "its
        code has more than 4096 levels"; "a value of it is not a number".
    Keeps:
        The name of the result; every value of it, up to the last bit of float32.
    """

    name: ClassVar[str] = "tabulate-products"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Tabulate; see the class."""
        editor = Editor(model)
        order = {id(node): place for place, node in enumerate(model.graph)}
        # Backwards: what an outer product contains goes with it.
        for node in reversed(list(model.graph)):
            if node.graph is not None and _is_quantise(node) and attributes(node)["ties"] == "even":
                _between(editor, node, order)
                continue
            product = is_standard(node, "Mul", "Div") and len(_variables(node)) == 2
            held = product or is_jump(node) or is_standard(node, *TABULATED) or _reads_a_table(node)
            if node.graph is None or not held:
                continue
            found = _code(node, order)
            reason = found if isinstance(found, str) else _tabulate(editor, node, *found)
            if reason is not None:
                editor.fail(reason, node)
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} functions of one code read as tables of values computed in float32"
            )
        return editor.result()


def _quantiser(value: Value) -> Node | None:
    """Return the quantiser that gives a value, or whose codes it holds in another order; else None."""
    node = value.producer()
    while node is not None and is_standard(node, *_MOVES):
        source = node.inputs[0]
        node = source.producer() if source is not None else None
    return node if _is_quantise(node) else None


def _variables(node: Node) -> list[Value]:
    return [value for value in node.inputs if value is not None and constant(value) is None]


def _code(node: Node, order: Mapping[int, int]) -> tuple[Value, list[Node]] | str:
    """Return the codes that a node's operands come from, and the nodes between, in graph order."""
    cone = [node]
    frontier = operands(node)
    while len(frontier) != 1 or _quantiser(frontier[0]) is None:
        # Whatever was computed last cannot be what all the others come from.
        latest = max(frontier, key=lambda value: order.get(id(value.producer()), -1), default=None)
        producer = latest.producer() if latest is not None else None
        if producer is None or not acts_on_elements(producer) or len(cone) == _MOST_NODES:
            return "its operands come from more than one code"
        cone.append(producer)
        rest = [value for value in frontier if value is not latest]
        frontier = list(dict.fromkeys([*rest, *operands(producer)]))
    if not acts_on_elements(node):
        return "a constant of it differs between elements"
    return frontier[0], sorted(dict.fromkeys(cone), key=lambda entry: order[id(entry)])


def _reads_a_table(node: Node) -> bool:
    """Whether a node is an activation function of what a table gives, which no neuron holds beside it."""
    if not acts_on_elements(node) or node.op_type not in ACTIVATION_OPS - {"Table"} or node.inputs[0] is None:
        return False
    before = node.inputs[0].producer()
    return before is not None and before.domain == AI_SNNC and before.op_type == "Table"


def _is_affine(node: Node) -> bool:
    return is_standard(node, "Add", "Sub", "Mul", "Div", "Neg") and len(operands(node)) == 1


def _between(editor: Editor, last: Node, order: Mapping[int, int]) -> None:
    """Tabulate what lies between two quantisers, the second one's division and rounding with it."""
    source = last.inputs[0]
    first = source.producer() if source is not None else None
    if first is None or not (acts_on_elements(first) and not _is_quantise(first)) or first.op_type == "Table":
        return
    found = _code(first, order)
    if isinstance(found, str) or all(map(_is_affine, found[1])):
        return
    _tabulate(editor, first, *found, last)


def _tabulate(
    editor: Editor, node: Node, source: Value, cone: list[Node], last: Node | None = None
) -> str | None:
    """Put a table in the place of a node; its values are rounded by the quantiser ``last`` that reads it."""
    quantise = _quantiser(source)
    assert quantise is not None
    book, step = CodeBook.from_attributes(attributes(quantise)), constant(quantise.inputs[1])
    if step is None or step.size != 1:
        return "the step of its code differs between channels"
    # Integers between the levels never arrive; the table holds them so that its places are integers.
    codes = np.arange(book.smallest, book.largest + 1)
    if codes.size > _MOST_LEVELS:
        return f"its code has more than {_MOST_LEVELS} levels"
    out = node.outputs[0]
    unit = step.reshape(()).astype(np.float32)
    known: dict[int, Array] = {id(source): codes.astype(np.float32) * unit}
    opsets = dict(editor.graph.opset_imports)
    for entry in cone:
        inputs = [None if value is None else known.get(id(value), constant(value)) for value in entry.inputs]
        try:
            known[id(entry.outputs[0])] = computed(entry, inputs, opsets)
        except ValueError as error:
            return f"{entry.op_type} {error}"
    # A constant of one element may have more axes than the codes, as the slope of a PReLU has.
    values = np.broadcast_to(known[id(out)].reshape(-1), codes.shape).astype(np.float32)
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size < values.size:
        if not finite.size or (SITE not in quantise.metadata_props and np.isnan(values).any()):
            return "a value of it is not a number"
        # A level lies where the function has a pole, or no value and the code was chosen here. A divisor
        # that a tool quantised has the level zero, whatever was added to keep it away from there.
        nearest = np.abs(np.arange(values.size)[:, None] - finite[None, :]).argmin(axis=1)
        values = values[finite[nearest]]
        editor.notes.append(
            f"{node.name}: {codes.size - finite.size} levels read the value of the nearest one"
        )
    if last is not None:
        values = computed(last, [values, constant(last.inputs[1])], opsets)
    name = editor.take_name(node)
    made = editor.add(
        node,
        "Table",
        [source, editor.constant(f"{name}.step", unit), editor.constant(f"{name}.values", values)],
        {"smallest": book.smallest},
        name=name,
        domain=AI_SNNC,
        dtype=out.dtype,
        shape=out.shape,
    )
    if last is None:
        editor.replace("tabulate-product", out, made, removed=cone)
    else:
        last.replace_input_with(0, made)
        editor.record("tabulate-function", cone)
    return None
