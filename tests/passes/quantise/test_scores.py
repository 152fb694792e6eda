"""Which scores of a softmax need a code: those whose channels have steps of their own."""

from __future__ import annotations

from typing import Any

import pytest

from snnc.ir import infer_shapes
from snnc.passes.quantise.sites import quantiser_sites
from snnc.passes.quantise.split_softmax import SplitSoftmax


def scores_with_a_code(net: Any, build: Any, axis: int) -> bool:
    made = net()
    x = made.op("Relu", [made.matmul(made.input(["N", 5, 6]), (6, 6))])
    scores = build(made, x)
    made.output(made.matmul(made.op("Softmax", [scores], axis=axis), (5, 3)))
    model = made.model()
    infer_shapes(model)
    SplitSoftmax().run(model)
    readers = {
        site.value.name: sorted(node.op_type for node, _ in site.uses) for site in quantiser_sites(model)
    }
    assert readers.get(scores, ["ReduceMax", "Sub"]) == ["ReduceMax", "Sub"]
    return scores in readers


LAYER = {
    "a layer": lambda net, x: net.matmul(x, (6, 5)),
    "a layer with bias": lambda net, x: net.op("Add", [net.matmul(x, (6, 5)), net.const([1, 2, 3, 4, 5])]),
    "a scaled layer": lambda net, x: net.op("Mul", [net.matmul(x, (6, 5)), net.const(0.5)]),
}


@pytest.mark.parametrize("build", LAYER.values(), ids=LAYER)
@pytest.mark.parametrize(("axis", "coded"), [(2, True), (1, False)])
def test_scores_of_a_layer(net: Any, build: Any, axis: int, coded: bool) -> None:
    """Along the tokens all scores of a channel have one step; along the channels they do not."""
    assert scores_with_a_code(net, build, axis) == coded


def test_scores_of_queries_and_keys(net: Any) -> None:
    def build(made: Any, x: str) -> str:
        return str(made.op("MatMul", [x, made.op("Transpose", [x], perm=[0, 2, 1])]))

    assert not scores_with_a_code(net, build, 2)
