"""Sums of many products of two codes, such as the state of a recurrent cell, and the steps that suit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snnc.coding import CodeBook
from snnc.ir import Model, Node, constant
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.quantise.histogram import Distribution
from snnc.passes.quantise.sites import Site
from snnc.passes.quantise.steps import StepChoice, cost_of

__all__ = ["LongSum", "common_steps", "long_sums"]

#: Products whose steps have any ratio: sums of more have no room left for the bits of all the ratios.
_ROOMY = 4
_HANDS_ON = LAYOUT_OPS | {"Neg", "Add", "Sub"}
#: What the steps of the factors that are no gates may be, times powers of two.
_MANTISSAS = np.arange(16, 32) / 16


@dataclass(frozen=True)
class LongSum:
    """A sum of many products of two codes, by the names of their sites.

    Attributes:
        products: The factors of each product that have a site; one or two.
    """

    products: tuple[tuple[str, ...], ...]

    @property
    def factors(self) -> frozenset[str]:
        """All factors."""
        return frozenset(name for pair in self.products for name in pair)


def long_sums(model: Model, sites: Sequence[Site]) -> list[LongSum]:
    """Return the sums that have more products than any ratios of steps leave room for.

    Args:
        model: The network in float; not changed.
        sites: Where quantisers will be put.
    """
    made = {id(site.value): site.value.name or "" for site in sites}
    # Values of one sum, as a forest: each names another of its sum, the last itself.
    root: dict[int, int] = {}
    products: dict[int, tuple[str, ...]] = {}

    def top(key: int) -> int:
        while root.setdefault(key, key) != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    for node in model.graph:
        if _is_product(node):
            names = tuple(made[id(value)] for value in node.inputs if id(value) in made)
            products[id(node.outputs[0])] = names
            top(id(node.outputs[0]))
        elif node.op_type in _HANDS_ON:
            read = [id(value) for value in node.inputs if id(value) in root]
            for key in [*read, *map(id, node.outputs)] if read else []:
                root[top(key)] = top(read[0])
    sums: dict[int, list[tuple[str, ...]]] = {}
    for key, names in products.items():
        sums.setdefault(top(key), []).append(names)
    return [LongSum(tuple(found)) for found in sums.values() if len(found) > _ROOMY]


def _is_product(node: Node) -> bool:
    return (
        node.op_type == "Mul" and node.domain == "" and all(constant(value) is None for value in node.inputs)
    )


def common_steps(
    whole: LongSum, seen: Mapping[str, tuple[Distribution, CodeBook, StepChoice]]
) -> dict[str, StepChoice]:
    """Choose steps near the best ones so that the steps of all products are powers of two apart.

    Gates get powers of two, what they scale one number times powers of two: the one that loses least.

    Args:
        whole: The sum.
        seen: What calibration saw of each factor, its code, and the steps that suit it best.

    Returns:
        The choice for each factor.
    """
    gates: set[str] = set()
    others: set[str] = set()
    for names in whole.products:
        gate = min(names, key=lambda name: seen[name][1].smallest < 0, default=None)
        gates |= {gate} if gate is not None and len(names) > 1 else set()
        others |= {name for name in names if name != gate or len(names) == 1}
    chosen = {name: _near(*seen[name], 1.0) for name in gates}
    tries = []
    # A factor that is scaled here and scales there leaves powers of two alone.
    for mantissa in [1.0] if gates & others else _MANTISSAS.tolist():
        found = {name: _near(*seen[name], mantissa) for name in sorted(others - gates)}
        tries.append((sum(10 ** (-entry.decibel / 10) for entry in found.values()), mantissa, found))
    return {**chosen, **min(tries, key=lambda entry: entry[:2])[2]}


def _near(seen: Distribution, book: CodeBook, choice: StepChoice, mantissa: float) -> StepChoice:
    """Return the choice with steps that are powers of two times a number, whichever near ones lose less."""
    exponents: npt.NDArray[np.float64] = np.log2(choice.step.astype(np.float64) / mantissa)
    tries = [
        cost_of(seen, (np.exp2(side(exponents)) * mantissa).astype(np.float32), book)
        for side in (np.floor, np.ceil)
    ]
    return max(tries, key=lambda entry: entry.decibel)
