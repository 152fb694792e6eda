"""What a spiking file says of its codes, checked before anything is executed."""

from __future__ import annotations

from snnc.coding import CodeBook
from snnc.errors import InputError, Problem, SnncError, Where
from snnc.ir import AI_SNNC, Model, Node, attributes

__all__ = ["check_codes"]

_CODED = frozenset({"Encode", "ExpGIF", "ExpGIFGain"})


def check_codes(model: Model, file: str | None = None) -> None:
    """Check the code of every neuron of a spiking model.

    Args:
        model: The model.
        file: Name for messages.

    Raises:
        InputError: SNN322, attributes are missing, of another type, or no code.
    """
    problems = [
        Problem(f"{node.op_type}: {fault}", Where(node=node.name))
        for node in model.graph
        if node.domain == AI_SNNC and node.op_type in _CODED and (fault := _fault(node)) is not None
    ]
    if problems:
        raise InputError(
            "SNN322",
            f"{len(problems)} neurons have no legal code",
            where=Where(file=file),
            hint="the file is damaged: convert the model again",
            problems=problems,
        )


def _fault(node: Node) -> str | None:
    found = attributes(node)
    try:
        book = CodeBook.from_attributes(found)
    except SnncError as error:
        return error.message
    codes = found.get("codes")
    if not isinstance(codes, list) or not all(isinstance(code, int) for code in codes):
        return "its codes are no list of integers"
    if not set(codes) <= set(book.codes):
        return "its codes are not those of its time-steps and groups"
    return None
