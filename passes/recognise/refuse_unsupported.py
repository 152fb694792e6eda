"""Pass ``refuse-unsupported``: ops that no later pass can take end the conversion, all of them named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import DataType, Model
from snnc.passes.canonical.chain import WHY
from snnc.passes.canonical.keep_on_host import is_asked, why_not_hosted
from snnc.passes.recognise.remedies import refusal
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["RefuseUnsupported"]

#: Integers index tables, and truth values mask; what is computed from them stays on the host.
_INPUTS = frozenset(
    DataType[name] for name in ("FLOAT", "FLOAT16", "DOUBLE", "INT64", "INT32", "UINT8", "BOOL")
)


@dataclass(frozen=True)
class RefuseUnsupported:
    """Refuse integer operators of other tools, control flow and unknown domains early.

    Without this pass they would fail later, in shape inference, with a worse message.

    Matches:
        Nothing: the graph does not change.
    Leaves alone:
        Every model without such nodes; nodes that the user allows to stay on the host, where they can.
    Keeps:
        Everything.

    Attributes:
        allow_host: Operators and nodes that stay in float on the host.

    Raises:
        UnsupportedError: SNN461, listing every such node with the flag or the op to change.
    """

    allow_host: tuple[str, ...] = ()

    name: ClassVar[str] = "refuse-unsupported"
    requires: ClassVar[frozenset[str]] = frozenset({"no-functions"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Check; see the class."""
        problems = [
            Problem(
                f"its type is {value.dtype.name if value.dtype else 'unknown'}: export the model with inputs "
                "of float32, integers or truth values",
                Where(tensor=value.name),
            )
            for value in model.graph.inputs
            if value.dtype not in _INPUTS
        ]
        problems += [
            Problem("it has no elements: one of its dimensions is 0", Where(tensor=value.name))
            for value in model.graph.inputs
            if value.shape is not None and 0 in list(value.shape)
        ]
        left = model.graph.meta.get(WHY, {})
        for node in model.graph:
            allowed = is_asked(node, self.allow_host) and why_not_hosted(node) is None
            reason = None if allowed else refusal(node, left.get(node.name or ""))
            if reason is not None:
                problems.append(Problem(reason, Where(node=node.name)))
        if problems:
            raise UnsupportedError(
                "SNN461",
                f"{len(problems)} parts of the model cannot be converted",
                where=Where(pass_name=self.name),
                problems=problems,
            )
        return PassResult()
