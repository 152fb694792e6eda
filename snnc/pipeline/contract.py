"""What a pass is: a frozen dataclass that declares what it needs, what it gives and whether it is exact.

The declarations are data, so that the manager can prove the order of a pipeline before anything runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from snnc.ir import Model

__all__ = ["NoMatch", "Pass", "PassResult", "Probe", "Rewrite", "Semantics", "options_of", "whole"]

Semantics = Literal["exact", "approximate"]


def whole(default: int | None, low: int, high: int) -> Any:
    """Return the field of an option that takes whole numbers.

    Args:
        default: Its value where nobody gives one.
        low: Smallest number that text may give.
        high: Largest one: a pass may take memory or time after its options.
    """
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Rewrite:
    """What one rewrite did to the graph.

    Attributes:
        rule: Name of the rule, in words.
        removed: Names of the nodes it removed.
        added: Names of the nodes it added.
        note: What a reader of the dump should know, such as a value that was computed.
    """

    rule: str
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class NoMatch:
    """Why a rule did not apply at a node; data for ``snnc inspect --why``, never an error.

    Attributes:
        reason: Why, in one sentence.
        node: Name of the node.
    """

    reason: str
    node: str


@dataclass(frozen=True)
class PassResult:
    """What a pass reports.

    Attributes:
        rewrites: Every rewrite; empty exactly when the graph did not change (the manager checks).
        not_matched: Nodes a rule looked at and left alone.
        notes: What was approximated and by how much, or anything else a user should read.
    """

    rewrites: list[Rewrite] = field(default_factory=list)
    not_matched: list[NoMatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Pass(Protocol):
    """One step of a pipeline; implementations are frozen dataclasses whose fields are their options.

    A pass edits the model in place. It touches no file, environment variable or global random state,
    calls no other pass, and never writes into an array of the graph: it makes new ones.

    Attributes:
        name: Verb phrase such as ``fold-batch-norm``.
        requires: Invariants (names of :data:`snnc.verify.INVARIANTS`) that must hold before.
        establishes: Invariants that hold afterwards.
        invalidates: Invariants that may no longer hold afterwards.
        semantics: ``exact`` changes no bit of any result; ``approximate`` does, and says by how much.
    """

    name: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    establishes: ClassVar[frozenset[str]]
    invalidates: ClassVar[frozenset[str]]
    semantics: ClassVar[Semantics]

    def run(self, model: Model) -> PassResult:
        """Rewrite ``model`` in place.

        Args:
            model: The model; every invariant in ``requires`` holds.

        Returns:
            What was done and what was left alone.
        """
        ...


class Probe(Protocol):
    """Runs a model on fixed inputs, so that a pass can be checked by numbers."""

    def __call__(self, model: Model) -> Mapping[str, NDArray[Any]]:
        """Execute the model.

        Args:
            model: A model in whatever dialect it is in at that moment.

        Returns:
            Results by tensor name, in a deterministic order; the graph's outputs must be among them.
        """
        ...


def options_of(step: Pass) -> dict[str, Any]:
    """Return the options of a pass by name, in their declared order, as JSON-able values where possible.

    Arrays and other objects are described by a short text instead of their content, without addresses, so
    that two runs give the same text.
    """
    if not dataclasses.is_dataclass(step):
        return {}
    return {entry.name: _plain(getattr(step, entry.name)) for entry in dataclasses.fields(step) if entry.repr}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    return f"<{type(value).__name__}>"
