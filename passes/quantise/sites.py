"""Where a float network needs quantisers: in front of every synapse and behind every activation function."""

from __future__ import annotations

from dataclasses import dataclass, field

from snnc.coding import CodeBook
from snnc.ir import AI_SNNC, Model, Node, Value, attributes, clone, constant
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.quantise.demands import Walk
from snnc.passes.quantise.jumps import jumps
from snnc.passes.quantise.loads import EIGHT_BITS

__all__ = ["SITE", "Site", "host_values", "quantiser_sites", "without_codes"]

_SYNAPSES = frozenset({"Conv", "MatMul", "Gemm", "ConvTranspose"})
#: Operators that hand codes on: what is coded before them is coded behind them.
_PASSES_CODES = LAYOUT_OPS | {
    "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Pad",
}  # fmt: skip
_SELECTS = frozenset({"Gather", "Slice", "Split"})
_AFFINE = frozenset({"Add", "Sub", "Mul", "Div", "Neg"})
#: Functions whose result is no sum of spikes: whoever reads it reads a code.
NONLINEAR = frozenset(
    {
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
        "Softplus", "Softsign", "Erf", "Exp", "Clip", "Abs", "Mish", "ThresholdedRelu", "Gelu", "Silu",
        "Table", "Bipolar", "Softmax", "LayerNormalization", "RMSNormalization", "RMSNorm", "Sqrt",
        "Reciprocal",
    }
)  # fmt: skip

#: Metadata key of an inserted quantiser: the float tensor it was made for.
SITE = "snnc.site"


@dataclass(eq=False)
class Site:
    """One value that gets a quantiser.

    Attributes:
        value: The float value.
        uses: Readers (node, input position) that will read the code; the others keep the float value.
        output: The value is an output of the graph, which will be the code.
        firm: No reader could take the value without a code, whatever quantisers the network brings along.
    """

    value: Value
    uses: list[tuple[Node, int]] = field(default_factory=list)
    output: bool = False
    firm: bool = False

    def add(self, node: Node, position: int) -> None:
        """Add a reader once."""
        if all(node is not other or position != place for other, place in self.uses):
            self.uses.append((node, position))


def quantiser_sites(model: Model, largest: int = EIGHT_BITS) -> list[Site]:
    """Return the values that need a quantiser, in graph order.

    Args:
        model: A model in which no quantiser, or some, are present; not changed.
        largest: Largest product of a code and a weight.

    Returns:
        Operands of products that carry no code and do not come from the network input alone; results of
        activation functions that are added, pooled, joined or returned; what else no operator takes as it is.
    """
    sites: dict[int, Site] = {}
    host = host_values(model, clipped=True)
    for node in model.graph:
        if node.op_type not in _SYNAPSES or node.domain != "":
            continue
        for position, operand in enumerate(node.inputs[:2]):
            if operand is None or constant(operand) is not None or id(operand) in host:
                continue
            origin, use = _origin(operand, (node, position))
            producer = origin.producer()
            if _is_code(producer) or _hands_on_a_code(operand):
                continue
            site = sites.setdefault(id(origin), Site(origin, firm=True))
            site.add(*use)

    def coded(value: Value, node: Node | None, position: int) -> bool:
        site = sites.get(id(value))
        return site is not None and (site.output if node is None else (node, position) in site.uses)

    def demand(value: Value, node: Node | None, position: int, firm: bool) -> None:
        if value.dtype is not None and not value.dtype.is_floating_point():
            return  # truth values and integers are no membranes; whoever cannot take them refuses
        if _hands_on_a_code(value):
            return  # a second code could only lose levels; what cannot take the first is refused later
        site = sites.setdefault(id(value), Site(value))
        site.firm = site.firm or firm
        if node is None:
            site.output = True
        else:
            site.add(node, position)

    walk = Walk(host, coded, demand, largest, jumps(model, host))
    for node in model.graph:
        walk.visit(node)
    walk.finish(list(model.graph.outputs))
    order = {
        id(value): rank for rank, value in enumerate(value for node in model.graph for value in node.outputs)
    }
    return sorted(sites.values(), key=lambda site: order.get(id(site.value), -1))


def _is_function(node: Node) -> bool:
    """Whether what a node gives can be read by a neuron alone."""
    return node.op_type in NONLINEAR or _is_quotient(node)


def _is_quotient(node: Node) -> bool:
    """Whether a node divides by a run-time value."""
    return node.op_type == "Div" and node.domain == "" and constant(node.inputs[1]) is None


def _is_code(node: Node | None) -> bool:
    return node is not None and node.domain == AI_SNNC and node.op_type in ("Quantise", "Weight", "Gate")


def _hands_on_a_code(operand: Value) -> bool:
    """Whether a value is a code already, perhaps a join of some of one book, or scaled."""
    waiting = [operand]
    seen: set[int] = set()
    books: set[str] = set()
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if node is not None and _is_code(node):
            books.add(_book(node))
            continue
        if node is None or node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "Concat":
            waiting += [entry for entry in node.inputs if entry is not None]
            continue
        held = [constant(entry) for entry in node.inputs[1:]]
        scales = node.op_type in ("Mul", "Div") and all(h is not None and bool((h > 0).all()) for h in held)
        if not (scales or node.op_type in _PASSES_CODES) or node.inputs[0] is None:
            return False
        waiting.append(node.inputs[0])
    return len(books) <= 1


def _book(node: Node) -> str:
    """Return the code book of a quantiser as text, the same for equal books."""
    while node.op_type == "Gate" and node.inputs[0] is not None:
        before = node.inputs[0].producer()
        if before is None or not _is_code(before):
            return node.op_type
        node = before
    if node.op_type != "Quantise":
        return node.op_type
    return str(CodeBook.from_attributes(attributes(node)))


def without_codes(model: Model) -> Model:
    """Return a copy without the quantisers of inputs and softmax numerators: with a float source's values."""
    copy = clone(model)
    for node in list(copy.graph):
        source = node.inputs[0] if node.op_type == "Quantise" and node.domain == AI_SNNC else None
        if source is None or node.outputs[0].is_graph_output():
            continue
        maker = source.producer()
        if SITE in node.metadata_props or (maker is not None and maker.op_type == "Exp"):
            node.outputs[0].replace_all_uses_with(source)
    return copy


def host_values(model: Model, *, clipped: bool = False) -> set[int]:
    """Return ids of the values that the host computes from the network inputs alone.

    Args:
        model: The model; not changed.
        clipped: Whether Relu and Clip of floats count as such operations.
    """
    host = {id(value) for value in model.graph.inputs}
    for node in host_nodes(model).values():
        if not clipped and node.op_type in ("Relu", "Clip", "Pad"):
            continue
        inputs = [value for value in node.inputs if value is not None and constant(value) is None]
        if node.op_type in ("Shape", "Size") or all(id(value) in host for value in inputs):
            host |= {id(value) for value in node.outputs}
    return host


def _origin(operand: Value, use: tuple[Node, int]) -> tuple[Value, tuple[Node, int]]:
    """Follow an operand back through operators that hand codes on.

    Returns:
        The value to quantise and its reader on this path.
    """
    selected: tuple[Value, tuple[Node, int]] | None = None
    while True:
        node = operand.producer()
        position = _carrier(node)
        source = node.inputs[position] if node is not None and position is not None else None
        if node is None or position is None or source is None or constant(source) is not None:
            # Parts of a sum, such as queries, keys and values, have a step each; of a code they have one.
            whole = node is not None and (_is_function(node) or _is_code(node))
            return (operand, use) if whole or selected is None else selected
        if node.op_type in _SELECTS and selected is None:
            selected = operand, use
        operand, use = source, (node, position)


def _carrier(node: Node | None) -> int | None:
    """Return the input whose code a node hands on: of layouts, pools, and scalings by a positive number."""
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "AveragePool" and _has_edges(node):
        return None  # windows at the edge have a step of their own
    if node.op_type in _PASSES_CODES:
        return 0
    if node.op_type not in ("Mul", "Div"):
        return None
    factors = [constant(value) for value in node.inputs]
    place = 1 if factors[1] is not None else 0
    factor = factors[place]
    if factor is None or factor.size != 1 or not bool((factor > 0).all()):
        return None
    return None if place == 0 and node.op_type == "Div" else 1 - place


def _has_edges(node: Node) -> bool:
    attrs = attributes(node)
    return any(attrs.get("pads", ())) and not attrs.get("count_include_pad", 0)
