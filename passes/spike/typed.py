"""What typing has proved of a node before it is encoded; a rule that finds otherwise is a bug of snnc."""

from __future__ import annotations

from typing import TypeVar

from snnc.errors import InternalError, Where
from snnc.ir import Node

__all__ = ["given", "of_kind"]

Found = TypeVar("Found")


def given(found: Found | None, node: Node) -> Found:
    """Return an operand, a constant or a type that a node must have.

    Raises:
        InternalError: SNN156, it is absent.
    """
    if found is None:
        raise _untyped(node)
    return found


def of_kind(kind: object, form: type[Found], node: Node) -> Found:
    """Return the kind of a value, which must be of one form.

    Raises:
        InternalError: SNN156, it is of another.
    """
    if not isinstance(kind, form):
        raise _untyped(node)
    return kind


def _untyped(node: Node) -> InternalError:
    return InternalError("SNN156", f"an untyped {node.op_type} was encoded", where=Where(node=node.name))
