"""What the passes that rewrite attention share: the attentions of a model, and word of those that stay."""

from __future__ import annotations

from collections.abc import Iterator

from snnc.passes.attention.pairs import Pairs
from snnc.passes.attention.recognise import Attention, Recogniser
from snnc.passes.attention.scores import closed_places, shuts_out
from snnc.passes.editing import Editor, is_standard, rank_of
from snnc.pipeline.contract import PassResult

__all__ = ["accepted", "attentions", "result"]

#: A softmax of fewer axes is a classifier's.
_LEAST_RANK = 3


def attentions(
    editor: Editor, *, grid: bool = True, stated: tuple[int, int] | None = None
) -> Iterator[Attention]:
    """Yield the attentions of a model that stand at its softmaxes; the others are reported.

    Args:
        editor: Editor of the model.
        grid: Whether the tokens must be a grid.
        stated: Height and width of the grid of tokens whose map is not seen.
    """
    nodes = [node for node in editor.model.graph if is_standard(node, "Softmax")]
    if not nodes:
        return
    recogniser = Recogniser(editor.model, stated)
    found = [(node, recogniser.recognise(node, grid=grid)) for node in nodes]
    for node, entry in found:
        if isinstance(entry, str):
            editor.fail(entry, node)
        else:
            yield entry


def accepted(editor: Editor, found: Attention, made: list[Pairs] | str) -> list[Pairs] | None:
    """Return the pairs that are to be left of an attention; None, with a report, if that cannot be.

    Args:
        editor: Editor of the model.
        found: The attention.
        made: The pairs, or why there are none.
    """
    if isinstance(made, str):
        editor.fail(made, found.softmax)
        return None
    closed = closed_places(found.steps, found.heads, found.tokens)
    if closed.any() and shuts_out(closed, made):
        editor.fail("its mask closes all that a token of a group could attend to", found.softmax)
        return None
    return made


def result(editor: Editor) -> PassResult:
    """Return the record of the pass, with a note of what stays as it is where something was rewritten."""
    ranks: dict[str, int] = {
        node.name or "": rank_of(node.inputs[0]) or 0
        for node in editor.model.graph
        if is_standard(node, "Softmax")
    }
    stays: dict[str, list[str]] = {}
    for entry in editor.not_matched:
        if ranks.get(entry.node, _LEAST_RANK) >= _LEAST_RANK:
            stays.setdefault(entry.reason, []).append(entry.node)
    if editor.rewrites:
        for reason, nodes in stays.items():
            more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
            editor.notes.append(f"left as it is: {nodes[0]}{more}: {reason}")
    return editor.result()
