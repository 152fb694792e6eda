"""Pass ``check-quantisers``: snnc's own nodes in a source file are checked, derived attributes redone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import InputError, Problem, SnncError, Where
from snnc.ir import AI_SNNC, Model, Node, attributes, constant
from snnc.ir.hosting import is_sealed
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Editor
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["CheckQuantisers"]

#: Activation functions that ``recognise-activations`` makes; as legal in a file as the ops they stand for.
_FUNCTIONS = {"Gelu": 1, "Silu": 2, "Mish": 1, "HardSwish": 1}
_ARITY = {"Quantise": 2, "Weight": 3, **_FUNCTIONS}


def _positive(node: Node, index: int, what: str) -> str | None:
    held = constant(node.inputs[index])
    if held is None:
        return f"its {what} is not constant"
    return None if np.isfinite(held).all() and (held > 0).all() else f"its {what} is not positive"


def _weight_problem(node: Node) -> str | None:
    integers = constant(node.inputs[0])
    if integers is None or integers.dtype.kind != "i":
        return "its integers are not constant signed integers"
    return _positive(node, 1, "numerator") or _positive(node, 2, "denominator")


@dataclass(frozen=True)
class CheckQuantisers:
    """Check the Quantise and Weight nodes that a source file brings along; trust only the code book.

    ``codes``, ``twice_midpoints`` and ``closed`` follow from the code book and the ties: they are computed
    anew, so a file cannot say one thing in its book and another in its tables.

    Matches:
        ``ai.snnc::Quantise`` whose derived attributes are missing or differ.
    Leaves alone:
        Nodes that agree with their code book.
    Keeps:
        Everything but those attributes.

    Raises:
        InputError: SNN322, listing every node whose attributes, step or scales are not legal.
    """

    name: ClassVar[str] = "check-quantisers"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset({"code-attributes"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Check; see the class."""
        editor = Editor(model)
        problems: list[Problem] = []
        for node in [entry for entry in model.graph if entry.domain == AI_SNNC and not is_sealed(entry)]:
            fault = self._fault(editor, node)
            if fault is not None:
                problems.append(Problem(fault, Where(node=node.name)))
        if problems:
            raise InputError(
                "SNN322",
                f"{len(problems)} nodes of the domain ai.snnc are not legal",
                where=Where(pass_name=self.name),
                hint="export the model again with snnc.export",
                problems=problems,
            )
        return editor.result()

    @staticmethod
    def _fault(editor: Editor, node: Node) -> str | None:
        """Return what is wrong with a node, None if nothing is left to say."""
        arity = _ARITY.get(node.op_type)
        if arity is None:
            return f"a source file may not hold {node.op_type}: it is made by snnc's own passes"
        if len(node.inputs) != arity or any(value is None for value in node.inputs):
            return f"has not {arity} inputs"
        if node.op_type == "Weight":
            return _weight_problem(node)
        if node.op_type in _FUNCTIONS:
            return _positive(node, 1, "alpha") if node.op_type == "Silu" else None
        fault = _positive(node, 1, "step")
        if fault is not None:
            return fault
        attrs = attributes(node)
        try:
            book = CodeBook.from_attributes(attrs)
            wanted = quantise_attributes(book, attrs.get("ties", "away"))
        except SnncError as error:
            return error.message
        if book.levels < 2:
            return "its code book has a single level"
        if attrs != wanted:
            for name in attrs.keys() - wanted.keys():
                del node.attributes[name]
            for name, value in wanted.items():
                set_attribute(node, name, value)
            editor.record("redo derived attributes", note=node.name or "")
        return None
