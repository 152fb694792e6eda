"""Pass ``lift-constants``: Constant nodes become initializers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, constant
from snnc.passes.editing import Editor, is_output, is_standard
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["LiftConstants"]


@dataclass(frozen=True)
class LiftConstants:
    """Turn Constant nodes into initializers of the same name.

    Matches:
        Constant nodes of the main graph that hold numbers.
    Leaves alone:
        "the constant is not a tensor of numbers" (strings, sparse tensors); "the constant is an output of
        the graph".
    Keeps:
        Value names, except where a graph output is concerned.
    """

    name: ClassVar[str] = "lift-constants"
    requires: ClassVar[frozenset[str]] = frozenset({"unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset({"constants-folded"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Lift; see the class."""
        editor = Editor(model)
        for node in [entry for entry in model.graph if is_standard(entry, "Constant")]:
            old = node.outputs[0]
            array = constant(old)
            if array is None or array.dtype.hasobject:
                editor.fail("the constant is not a tensor of numbers", node)
                continue
            if is_output(old):
                editor.fail("the constant is an output of the graph", node)
                continue
            editor.replace("lift-constant", old, editor.constant_for(old, array))
        return editor.result()
