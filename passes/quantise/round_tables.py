"""Put the tables of embeddings on integer grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnc.errors import InputError, Where
from snnc.ir import (
    AI_SNNC,
    DataType,
    Model,
    Node,
    Shape,
    Value,
    constant,
    initializer,
    insert_node,
    make_node,
)
from snnc.passes.analysis.hosted import is_table_read
from snnc.pipeline.contract import PassResult, Rewrite, Semantics, whole

__all__ = ["RoundTables"]


@dataclass(frozen=True)
class RoundTables:
    """Round the tables that are read at run-time places (word, position and type embeddings) to integers.

    A row of the table is then a membrane: reading it is one table read a token, with no arithmetic. The step
    is a power of two, so that the sum of several embeddings needs shifts alone.

    Matches: constants that a Gather reads at places computed from the network input.
    Leaves alone: Gather at constant places.
    Keeps: names and shapes.

    Attributes:
        bits: Bits of the magnitude of the integers.
    """

    bits: int = whole(18, 1, 31)

    name: ClassVar[str] = "round-tables"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Insert ``RoundMembrane`` on the tables; the result notes the step of each."""
        result = PassResult()
        rounded: dict[int, Value] = {}
        for node in list(model.graph):
            table = node.inputs[0] if is_table_read(node) else None
            if table is None:
                continue
            if id(table) not in rounded:
                rounded[id(table)] = self._round(model, node, table, result)
            node.replace_input_with(0, rounded[id(table)])
        return result

    def _round(self, model: Model, node: Node, table: Value, result: PassResult) -> Value:
        array = constant(table)
        if array is None or not np.isfinite(array).all():
            raise InputError("SNN323", "reads a table that is not finite", where=Where(node=node.name))
        largest = float(np.abs(array).max(initial=0.0))
        exponent = int(np.ceil(np.log2(largest))) if largest > 0 else 0
        step = np.array(2.0 ** (exponent - self.bits))
        made = make_node(
            model.graph,
            "RoundMembrane",
            [table, initializer(model.graph, f"{table.name}_step", step)],
            domain=AI_SNNC,
            name=f"{table.name}_rounded",
            dtype=DataType.FLOAT,
            shape=Shape(array.shape),
            source=node,
        )
        result.rewrites.append(Rewrite("round a table", (), (made.name or "",)))
        result.notes.append(f"{node.name}: {len(array)} rows rounded to multiples of {float(step):.3g}")
        return insert_node(model.graph, node, made)
