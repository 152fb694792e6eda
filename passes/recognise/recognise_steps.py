"""Pass ``recognise-steps``: a comparison that is cast to a number is a neuron that fires or does not."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from snnc.coding import Ties
from snnc.ir import DataType, Model, Node, Value, attributes, constant, consumers_of
from snnc.passes.analysis.hosted import host_nodes
from snnc.passes.editing import Editor, is_output, is_standard
from snnc.passes.recognise.uniform import Match, Uniform, build, rationals
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RecogniseSteps"]

#: Comparison, and the one with its operands exchanged.
_EXCHANGED = {
    "Greater": "Less",
    "GreaterOrEqual": "LessOrEqual",
    "Less": "Greater",
    "LessOrEqual": "GreaterOrEqual",
}
_FLOATS = (DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE)


@dataclass(frozen=True)
class RecogniseSteps:
    """Replace ``Cast(u >= threshold)`` by a quantiser of one level: the spike of an IF or LIF neuron.

    This is how libraries for spiking networks export a neuron whose loop over time is unrolled; its potential
    is ordinary arithmetic of earlier spikes and currents. The threshold becomes the mid-point of a quantiser
    of step 1, by a constant added in front.

    Matches:
        Greater, GreaterOrEqual, Less and LessOrEqual of a computed value and a constant, or of two computed
        values, whose results are only cast to floats.
    Leaves alone:
        Comparisons of the network input, which the host makes; "its result is read as truth values".
    Keeps:
        The name of the cast value.
    """

    name: ClassVar[str] = "recognise-steps"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted", "constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recognise; see the class."""
        editor = Editor(model)
        hosted = host_nodes(model)
        made: dict[tuple[object, ...], Value] = {}
        for node in [entry for entry in model.graph if is_standard(entry, *_EXCHANGED)]:
            if id(node) in hosted or all(constant(value) is not None for value in node.inputs):
                continue
            if node.inputs[0] is None or node.inputs[0].dtype not in _FLOATS:
                continue
            readers = consumers_of(node.outputs[0])
            if is_output(node.outputs[0]) or not readers or not all(map(_is_cast, readers)):
                editor.fail("its result is read as truth values", node)
                continue
            for cast in readers:
                self._rewrite(editor, node, cast, made)
        if editor.rewrites:
            editor.notes.append(
                f"{len(editor.rewrites)} spikes of stateful neurons: thresholds are constants added in front"
            )
        return editor.result()

    def _rewrite(self, editor: Editor, node: Node, cast: Node, made: dict[tuple[object, ...], Value]) -> None:
        first, second = node.inputs[0], node.inputs[1]
        assert first is not None and second is not None
        op_type, limit = node.op_type, constant(second)
        if constant(first) is not None:
            op_type, first, limit = _EXCHANGED[op_type], second, constant(first)
        out = cast.outputs[0]
        key = (id(first), op_type, None if limit is None else (limit.shape, limit.tobytes()))
        if limit is not None and key in made and not is_output(out):
            # The reset asks once more what the spike was.
            editor.replace("step, a second reader", out, made[key], removed=[cast, node])
            return
        if limit is None:
            # Two computed values: their difference against zero.
            first = editor.add(cast, "Sub", [first, second], name=f"{out.name}.difference", shape=out.shape)
            limit = np.zeros((), np.float32)
        if op_type in ("Less", "LessOrEqual"):
            # Fires below: the negative potential against the negative threshold.
            first = editor.add(cast, "Neg", [first], name=f"{out.name}.negative", shape=out.shape)
            op_type, limit = _EXCHANGED[op_type], -limit
        shift = np.asarray(Fraction(1, 2) - rationals(limit))
        ties: Ties = "up"
        if op_type == "Greater":
            # Open at the threshold: of 0 and 1, half to even is 0.
            ties = "even"
        one = rationals(1)
        found = Uniform(step=one, smallest=0, largest=1, ties=ties, gain=one, shift=shift)
        made[key] = build(editor, "step", Match(first, out, (node, cast), found))


def _is_cast(node: Node) -> bool:
    return is_standard(node, "Cast") and int(attributes(node).get("to", 0)) in map(int, _FLOATS)
