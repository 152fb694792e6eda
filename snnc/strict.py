"""JSON from files nobody vouches for: no key twice, no NaN, no depth without end; always a ValueError."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["loads"]


def loads(text: str | bytes) -> Any:
    """Read JSON.

    Args:
        text: The document; bytes are UTF-8.

    Returns:
        What it holds.

    Raises:
        ValueError: It is no JSON, a key is there twice, a number is NaN or infinite, or it is too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
