"""Which layers a rule means: the names and roles of codes and of layers with weights.

A code belongs to the layer whose neurons emit it: it is known by its tensor, and by the nodes and constants
on the way back to the product or normalisation that it codes. A layer with weights is known by its node, its
weights and bias.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from snnc.coding import CodeBook, Partition
from snnc.errors import UsageError, Where
from snnc.ir import AI_SNNC, DataType, Model, Node, Value, constant
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.settings import LayerRule, chosen, parse_rules

__all__ = ["PRODUCTS", "Chooser", "Place", "book_of"]

PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_NORMS = frozenset({"LayerNormalization", "RMSNormalization"})
_CARRIERS = LAYOUT_OPS | {"MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Concat"}
_AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Cast"})
#: Metadata that torch's exporter puts on nodes: the modules a node stands in, from outside to inside.
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, eq=False)
class Place:
    """A code, or the weights of a layer.

    Attributes:
        name: Tensor of the code, or node with the weights.
        names: All names that it is known by.
        roles: Its roles; see `snnc.settings.ROLES`.
    """

    name: str
    names: frozenset[str]
    roles: frozenset[str]


class Chooser:
    """Tells what rules choose for the codes and weights of a model; without rules it costs nothing.

    Args:
        model: The model, functions inlined and constants folded; not changed.
        texts: Rules.
        coded: Values that get a code, besides those that have one: a code further on is not theirs.
    """

    def __init__(self, model: Model, texts: tuple[str, ...], coded: Iterable[Value] = ()) -> None:
        self._model = model
        self.rules: tuple[LayerRule, ...] = parse_rules(texts)
        self._coded = {id(value) for value in coded}
        self._marks: _Marks | None = None

    def code(self, value: Value) -> dict[str, Any]:
        """Return what the rules choose for the code of a value, by name of the setting."""
        return self._choose(lambda: self.place_of_code(value))

    def weights(self, node: Node) -> dict[str, Any]:
        """Return what the rules choose for the weights of a product, by name of the setting."""
        return self._choose(lambda: self.place_of_weights(node))

    def place_of_code(self, value: Value) -> Place:
        """Return names and roles of the code of a value, which may be the code or what is coded."""
        marks = self._find_marks()
        names, origin = self._way_back(value)
        names |= {f"{value.name}.code" if _is_softmax(origin) else f"{value.name}_code"}
        roles = {"last"} if id(value) in marks.last else set()
        if origin is not None and origin.op_type in _NORMS:
            roles.add("norm")
        if _is_softmax(origin) and id(value) in marks.operands:
            roles.add("attention")
        elif id(value) in marks.operands:
            roles.add("operand")
        if origin is not None and id(origin) in marks.first:
            roles.add("first")
        return Place(value.name or "", frozenset(names), frozenset(roles or {"hidden"}))

    def place_of_weights(self, node: Node) -> Place:
        """Return names and roles of a product with constant weights."""
        marks = self._find_marks()
        names = set(_names_of(node))
        behind = _only_reader(node.outputs[0])
        while behind is not None and behind.op_type in ("Add", "Mul") and _constants(behind):
            names |= set(_names_of(behind))
            behind = _only_reader(behind.outputs[0])
        roles = {
            role
            for role, members in (("first", marks.first), ("last", marks.last_products))
            if id(node) in members
        }
        return Place(node.name or "", frozenset(names), frozenset(roles or {"hidden"}))

    def _choose(self, place: Callable[[], Place]) -> dict[str, Any]:
        if not self.rules:
            return {}
        found = place()
        return chosen(self.rules, found.names, found.roles)

    def _way_back(self, value: Value) -> tuple[set[str], Node | None]:
        """Return the names between a code and what it codes, and that product, normalisation or softmax."""
        names: set[str] = {value.name} if value.name else set()
        quantiser = value.producer()
        if quantiser is not None and _is_quantiser(quantiser) and quantiser.inputs[0] is not None:
            names |= set(_names_of(quantiser))
            value = quantiser.inputs[0]
        while (node := value.producer()) is not None and not _is_quantiser(node):
            names |= set(_names_of(node))
            inputs = [entry for entry in node.inputs if entry is not None and constant(entry) is None]
            # What exp(s - max s) codes is the softmax that it was.
            exponential = node.op_type == "Exp" and node.domain == ""
            if node.op_type in PRODUCTS | _NORMS | {"Softmax"} or exponential:
                return names, node
            if len(inputs) != 1 or id(inputs[0]) in self._coded:
                return names, None
            value = inputs[0]
        return names, None

    def _find_marks(self) -> _Marks:
        if self._marks is None:
            self._marks = _Marks(self._model)
        return self._marks


class _Marks:
    """Products and values with a role, found in one walk over the model."""

    def __init__(self, model: Model) -> None:
        host = {id(value) for value in model.graph.inputs}
        self.first: set[int] = set()
        self.last_products: set[int] = set()
        #: Values that a last product, or a product of two activations, reads as they are or rearranged.
        self.last: set[int] = set()
        self.operands: set[int] = set()
        for node in model.graph:
            inputs = [value for value in node.inputs if value is not None and constant(value) is None]
            from_input = bool(inputs) and all(id(value) in host for value in inputs)
            if node.op_type in PRODUCTS and node.domain == "":
                weights = [value for value in inputs if _is_weight(value)]
                if id(inputs[0]) in host:
                    self.first.add(id(node))
                if len(inputs) - len(weights) > 1:
                    for value in inputs[:2]:
                        self.operands |= {id(entry) for entry in _carried(value)}
            elif from_input and (
                node.op_type in _CARRIERS | _AFFINE
                or (node.domain == AI_SNNC and node.op_type == "FixedPoint")
            ):
                host |= {id(value) for value in node.outputs}
        for node in _last_products(model):
            self.last_products.add(id(node))
            if node.inputs[0] is not None:
                self.last |= {id(entry) for entry in _carried(node.inputs[0])}


def book_of(
    choice: dict[str, Any],
    timesteps: int,
    groups: int,
    partition: Partition,
    *,
    signed: bool,
    tensor: str,
) -> CodeBook:
    """Return the code book that a choice makes of the defaults.

    Args:
        choice: What rules choose.
        timesteps: T unless chosen.
        groups: G unless chosen, at most T.
        partition: Partition unless chosen.
        signed: Whether the codes have both signs.
        tensor: Tensor, for messages.

    Raises:
        UsageError: SNN277, a rule asks for more groups than the layer has time-steps.
    """
    steps = int(choice.get("timesteps", timesteps))
    wanted = choice.get("groups")
    if wanted is not None and wanted > steps:
        raise UsageError(
            "SNN277",
            f"a rule asks for {wanted} groups of {steps} time-steps",
            where=Where(tensor=tensor),
            hint="groups are at most as many as time-steps",
        )
    count = min(groups, steps) if wanted is None else int(wanted)
    return CodeBook(steps, count, choice.get("partition", partition), signed=signed)


def _carried(value: Value) -> Iterator[Value]:
    """Yield a value and those before it that it only rearranges, up to a quantiser's input."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        entry = pending.pop()
        if id(entry) in seen:
            continue
        seen.add(id(entry))
        yield entry
        node = entry.producer()
        if node is None:
            continue
        inputs = [source for source in node.inputs if source is not None and constant(source) is None]
        scaled = node.op_type in ("Mul", "Div") and len(inputs) == 1
        if _is_quantiser(node):
            yield from inputs[:1]
        elif node.op_type in _CARRIERS or scaled:
            pending += inputs[: None if node.op_type == "Concat" else 1]


def _last_products(model: Model) -> Iterator[Node]:
    """Yield the products from which an output is reached without another product."""
    seen: set[int] = set()
    pending = list(model.graph.outputs)
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type in PRODUCTS and node.domain == "":
            yield node
        else:
            pending += [source for source in node.inputs if source is not None and constant(source) is None]


def _names_of(node: Node) -> Iterator[str]:
    """Yield the names of a node, its outputs, its constants and its modules."""
    source = node.metadata_props.get("snnc.source", "").removesuffix(".replaced")
    yield from filter(None, (node.name, source))
    for value in (*node.outputs, *_constants(node)):
        if value.name:
            yield value.name.removesuffix(".transposed")
    with contextlib.suppress(ValueError, SyntaxError):
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        if isinstance(scopes, list):
            yield from (scope for scope in scopes if isinstance(scope, str) and scope)


def _constants(node: Node) -> list[Value]:
    """Return the constants that a node computes with; axes and shapes are shared by many nodes."""
    return [
        value
        for value in node.inputs
        if value is not None and value.dtype == DataType.FLOAT and constant(value) is not None
    ]


def _only_reader(value: Value) -> Node | None:
    uses = list(value.uses())
    return uses[0][0] if len(uses) == 1 else None


def _is_quantiser(node: Node | None) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type == "Quantise"


def _is_weight(value: Value) -> bool:
    node = value.producer()
    return node is not None and node.domain == AI_SNNC and node.op_type == "Weight"


def _is_softmax(node: Node | None) -> bool:
    return node is not None and node.op_type in ("Softmax", "Exp")
