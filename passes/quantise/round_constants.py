"""Put constants that are added position by position on the membrane's integer grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from snnc.ir import (
    AI_SNNC,
    DataType,
    Graph,
    Model,
    Node,
    Shape,
    constant,
    consumers_of,
    drop_if_unused,
    initializer,
    insert_node,
    make_node,
    remove_node,
    replace_with,
)
from snnc.passes.analysis import Constant, FloatValue, Membrane, TypeAnalysis, as_exact, as_membrane, same
from snnc.passes.analysis.exact import ExactArray, collapse
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.quantise.maxima import level
from snnc.passes.quantise.mirrored import follow_sign
from snnc.pipeline.contract import PassResult, Rewrite, Semantics

__all__ = ["RoundConstants"]

_MOST_READERS = 64


@dataclass(frozen=True)
class RoundConstants:
    """Round position embeddings and class tokens to multiples of the step of the membrane they join.

    A constant that depends on one axis (a bias per channel) is left alone: threshold folding takes it up
    exactly. One that depends on several would need a threshold table per position, so it is added to the
    membrane as integers instead.

    Matches: Add and Sub of a membrane and a constant that varies along two or more axes, or of any constant
    where a run-time value divides the sum or is divided by it, scaled or not; constants in a
    Concat with membranes, repeated over the batch or not, and the bias that a Concat of them has; a bias per
    channel where a maximum over channels reads it.
    Leaves alone: biases per tensor or per channel.
    Keeps: names and shapes.
    """

    name: ClassVar[str] = "round-constants"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert ``RoundMembrane`` on the constants; the result notes the largest rounding error."""
        analysis = TypeAnalysis(model)
        result = PassResult()
        for node in list(model.graph):
            if _is_idle(node, analysis):
                _leave_out(model.graph, node, result)
                continue
            if node.op_type in ("Add", "Sub", "Concat") and node.domain == "":
                partner = self._convert(model.graph, node, analysis, result)
            else:
                partner = None
            follow_sign(model.graph, node, analysis)
            level(model.graph, node, analysis, result, biases=True)
            analysis.visit(node)
            if partner is not None and isinstance(analysis.kind(node.outputs[0]), FloatValue):
                # The two steps are equal but for the last bit of a float, which aligning them mends.
                # Until then the constants added next (a mask behind position biases) go by this step.
                none = np.zeros_like(partner.bias)
                analysis.set_kind(node.outputs[0], replace(partner, bias=none))
            if node.op_type == "Concat" and node.domain == "":
                _absorb(model.graph, node, analysis, result)
        return result

    def _convert(
        self, graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult
    ) -> Membrane | None:
        """Round the constants of a node; return the membrane they join, if there was any constant."""
        before = len(result.rewrites)
        kinds = [analysis.kind(value) for value in node.inputs]
        partner = next((base for kind in kinds if (base := as_membrane(kind)) is not None), None)
        if partner is None:
            return None
        for position, kind in enumerate(kinds):
            if node.op_type == "Concat" and _expanded(node, position) is not None:
                self._round_token(graph, node, position, partner, analysis, result)
                continue
            if not isinstance(kind, Constant):
                continue
            if node.op_type != "Concat" and _axes(kind) < 2 and not _is_divided(node):
                continue
            rank = len(analysis.shape(node.outputs[0]))
            array = kind.array.reshape((1,) * (rank - kind.array.ndim) + kind.array.shape)
            _insert(graph, node, position, array, _step_for(partner, node), analysis, result)
        return partner if len(result.rewrites) > before and node.op_type != "Concat" else None

    @staticmethod
    def _round_token(
        graph: Graph, node: Node, position: int, partner: Membrane, analysis: TypeAnalysis, result: PassResult
    ) -> None:
        """Round a constant that is repeated for every sample, in front of the repetition."""
        expand = _expanded(node, position)
        array = constant(expand.inputs[0]) if expand is not None else None
        if expand is None or array is None or len(expand.outputs[0].uses()) != 1:
            return
        rank = len(analysis.shape(expand.outputs[0]))
        wide = array.reshape((1,) * (rank - array.ndim) + array.shape)
        _insert(graph, expand, 0, wide, _step_for(partner, node), analysis, result)
        analysis.visit(expand)


def _insert(
    graph: Graph,
    node: Node,
    position: int,
    array: npt.NDArray[Any],
    exact_step: ExactArray,
    analysis: TypeAnalysis,
    result: PassResult,
) -> None:
    """Let a node read a constant rounded to multiples of a step."""
    step = np.abs(exact_step.astype(np.float64))
    stem = f"{node.name}_constant"
    made = make_node(
        graph,
        "RoundMembrane",
        [initializer(graph, stem, array), initializer(graph, f"{stem}_step", step)],
        domain=AI_SNNC,
        name=f"{stem}_rounded",
        dtype=DataType.FLOAT,
        shape=Shape(array.shape),
        source=node,
    )
    replaced = node.inputs[position]
    node.replace_input_with(position, insert_node(graph, node, made))
    drop_if_unused(graph, replaced)
    analysis.adopt(made, array.shape)
    result.rewrites.append(Rewrite("round a constant", (), (made.name or "",)))
    result.notes.append(f"{node.name}: constant rounded to multiples of {float(step.max()):.3g}")


def _absorb(graph: Graph, node: Node, analysis: TypeAnalysis, result: PassResult) -> None:
    """Turn the bias of a concatenation into integers where it differs between channels and positions."""
    output = node.outputs[0]
    kind = analysis.kind(output)
    if not isinstance(kind, Membrane) or kind.host or sum(size > 1 for size in kind.bias.shape) < 2:
        return
    step = kind.step.astype(np.float64)
    if bool(np.any(kind.step <= 0)) or not same(as_exact(step), kind.step):
        return
    made = make_node(
        graph,
        "RoundMembrane",
        [output, initializer(graph, f"{node.name}_bias_step", step)],
        domain=AI_SNNC,
        name=f"{node.name}_rounded",
        dtype=DataType.FLOAT,
        shape=output.shape,
        source=node,
    )
    shape = analysis.shape(output)
    replace_with(graph, output, made.outputs[0], keep_name=False)
    made.replace_input_with(0, output)
    graph.insert_after(node, made)
    analysis.adopt(made, shape)
    result.rewrites.append(Rewrite("round a bias", (), (made.name or "",)))
    result.notes.append(f"{node.name}: bias rounded to multiples of {float(step.max()):.3g}")


def _is_idle(node: Node, analysis: TypeAnalysis) -> bool:
    """Whether a node adds what keeps a divisor from zero and is no whole step of it."""
    if node.op_type != "Add" or node.domain or node.outputs[0].is_graph_output() or not _is_divided(node):
        return False
    kinds = [analysis.kind(value) for value in node.inputs]
    base = next((found for kind in kinds if (found := as_membrane(kind)) is not None), None)
    held = next((kind.array for kind in kinds if isinstance(kind, Constant)), None)
    if base is None or held is None:
        return False
    return bool(np.all(2 * np.abs(held) < abs(_step_for(base, node).astype(np.float64)).min()))


def _leave_out(graph: Graph, node: Node, result: PassResult) -> None:
    place = 0 if constant(node.inputs[1]) is not None else 1
    kept, held = node.inputs[place], node.inputs[1 - place]
    assert kept is not None
    node.outputs[0].replace_all_uses_with(kept)
    remove_node(graph, node)
    drop_if_unused(graph, held)
    result.rewrites.append(Rewrite("leave out a constant", (node.name or "",), ()))
    result.notes.append(f"{node.name}: what is added is less than half a step, and left out")


def _is_divided(node: Node) -> bool:
    """Whether a sum is divided by a run-time value, or divides: integers divide integers."""
    waiting, seen = [node.outputs[0]], 0
    while waiting and seen < _MOST_READERS:
        value = waiting.pop()
        for reader in consumers_of(value):
            seen += 1
            if reader.op_type == "Div" and reader.domain == "" and constant(reader.inputs[1]) is None:
                return True
            if reader.domain == "" and (reader.op_type in LAYOUT_OPS or _scales(reader)):
                waiting += reader.outputs
    return False


def _scales(node: Node) -> bool:
    """Whether a node multiplies or divides by a constant."""
    return node.op_type in ("Mul", "Div") and any(constant(value) is not None for value in node.inputs)


def _expanded(node: Node, position: int) -> Node | None:
    """Return the Expand of a constant that a concatenation reads: a class token."""
    source = node.inputs[position]
    expand = source.producer() if source is not None else None
    if expand is None or expand.op_type != "Expand" or constant(expand.inputs[0]) is None:
        return None
    return expand


def _axes(kind: Constant) -> int:
    """Number of axes along which a constant really varies."""
    return sum(size > 1 for size in collapse(kind.array).shape)


def _step_for(partner: Membrane, node: Node) -> ExactArray:
    """Step of the membrane a constant joins; in a concatenation one step for all of its channels."""
    if node.op_type != "Concat":
        return partner.step
    axis = int(node.attributes["axis"].as_int()) % partner.step.ndim
    return np.asarray(partner.step.min(axis=axis, keepdims=True), dtype=object)
