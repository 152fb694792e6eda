"""The grid that tokens were before they became a sequence: height, width, and what stands beside it."""

from __future__ import annotations

from snnc.passes.attention.origin import Axis, Origin, Shapes, kinds, origins

__all__ = ["Grid", "grid_of", "sides_of"]

#: More tokens than that beside a grid are no class tokens and registers.
_MOST_EXTRA = 16
_SIDES = 2
#: Height and width, tokens in front of the grid, tokens behind it.
Grid = tuple[tuple[int, int], int, int]


def grid_of(tokens: Axis, shapes: Shapes, stated: tuple[int, int] | None = None) -> Grid | str:
    """Return height and width of the map that became the tokens of an attention, and the tokens beside it.

    The axis of the tokens is followed to where two axes of a map were merged to it. That a number of tokens
    is a square says nothing: 4 x 6 patches and a class token are 25 tokens.

    Args:
        tokens: The axis of the tokens.
        shapes: Shapes of all values at one batch size.
        stated: Height and width by the user's word, for tokens whose map is not seen.

    Returns:
        ``(height, width), front, behind``, or why there is none.
    """
    found = origins(tokens, shapes)
    # Only where nothing is seen above: parts of an axis may be groups of tokens, and no sides of a map.
    cut = [origin for origin in found if origin.kind == "cut"]
    merged = [origin for origin in found if origin.kind == "merged"] or cut
    grids = {_placed(origin, tokens.size, shapes) for origin in merged}
    if len(grids) == 1:
        return grids.pop()
    if grids:
        known = sorted(grid for grid in grids if not isinstance(grid, str))
        return "its tokens come from several maps" if known else min(map(str, grids))
    seen = {origin.kind for origin in found}
    if "channels" in seen:
        return "it attends among channels, not among tokens"
    if stated is not None:
        return _of_size(stated, tokens.size)
    if "words" in seen:
        return "its tokens are a sequence of words, no grid"
    if "row" in seen:
        return "its tokens are one side of a map, no grid"
    behind = next((origin.node for origin in found if origin.kind == "unknown" and origin.node), None)
    lost = f", what is behind {behind.name} is not followed" if behind is not None else ""
    return f"no map is seen that its {tokens.size} tokens come from{lost}: --grid HEIGHTxWIDTH states it"


def _placed(origin: Origin, tokens: int, shapes: Shapes) -> Grid | str:
    """Return the grid of a merge, or why it is none of the tokens followed."""
    parts = [kinds(part, shapes) for part in origin.parts]
    if any("channels" in part for part in parts):
        return "it attends among channels, not among tokens"
    if len(parts) != _SIDES or any("merged" in part for part in parts):
        return "its tokens are a map of more than two axes, no grid"
    if origin.front < 0:
        return "it attends among some tokens of a grid"
    more = tokens - origin.size
    if origin.front > more:
        return "it attends among some tokens of a grid"
    if more > _MOST_EXTRA:
        return f"{more} tokens stand beside the grid, more than {_MOST_EXTRA}"
    return (origin.parts[0].size, origin.parts[1].size), origin.front, more - origin.front


def _of_size(stated: tuple[int, int], tokens: int) -> Grid | str:
    extra = tokens - stated[0] * stated[1]
    if not 0 <= extra <= _MOST_EXTRA:
        more = f"and at most {_MOST_EXTRA} more"
        return f"its {tokens} tokens are not the {stated[0]} x {stated[1]} stated, {more}"
    return stated, extra, 0


def sides_of(text: str) -> tuple[int, int] | None:
    """Return height and width of a grid that is written ``4x6``; None if it is empty."""
    if not text:
        return None
    height, _, width = text.partition("x")
    return int(height), int(width)
