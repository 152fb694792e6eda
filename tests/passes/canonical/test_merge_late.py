"""merge-late: heads are merged with the batch behind what takes queries, keys and values apart."""

from __future__ import annotations

import pytest

from snnc.passes.canonical.merge_late import MergeLate

HEAD = """<ir_version: 10, opset_import: ["" : 17]>
g (float[N, 4, 6] x) => (%s)
<int64[5] five = {0, 4, 3, 2, 1}, int64[4] fold = {3, -1, 4, 1}, int64[2] two = {1, 2},
 int64 one = {1}, int64[1] first = {0}, int64[1] second = {1}, int64[1] third = {2}, int64[1] step = {1}>
{ a = Reshape(x, five) p = Transpose<perm = [2, 0, 3, 1, 4]>(a) """
PARTS = {
    "split": (
        "float[1, M, 4, 1] y, float[2, M, 4, 1] z",
        "m = Reshape(p, fold) y, z = Split<axis = 0>(m, two) }",
    ),
    "gather": ("float[M, 4, 1] y", "m = Reshape(p, fold) y = Gather<axis = 0>(m, one) }"),
    "slice": ("float[2, M, 4, 1] y", "m = Reshape(p, fold) y = Slice(m, second, third, first, step) }"),
    "several": (
        "float[M, 4, 1] y, float[1, M, 4, 1] z",
        "m = Reshape(p, fold) y = Gather<axis = -4>(m, one) z = Slice(m, second, third, first, step) }",
    ),
}


@pytest.mark.parametrize("form", PARTS)
def test_parts_are_taken_before_the_merge(parse, check, ops, form):
    model = parse(HEAD % PARTS[form][0] + PARTS[form][1])
    result = check(MergeLate(), model, tolerance=0)
    assert result.rewrites
    merged = [node for node in model.graph if node.op_type == "Reshape" and node.inputs[0].name != "x"]
    assert len(merged) == len(model.graph.outputs)
    assert all(node.outputs[0].is_graph_output() for node in merged)


@pytest.mark.parametrize(
    "body",
    [
        # Read whole too; parts of the axis that is merged; no merge with the batch.
        "m = Reshape(p, fold) y = Gather<axis = 0>(m, one) z = Relu(m) }",
        "m = Reshape(p, fold) y = Gather<axis = 1>(m, one) z = Gather<axis = 1>(m, first) }",
        "m = Reshape(x, five) y = Gather<axis = 2>(m, one) z = Gather<axis = 2>(m, first) }",
    ],
)
def test_what_is_left_alone(parse, body):
    model = parse(HEAD % "float[A, B, C] y, float[D, E, F, G] z" + body)
    assert not MergeLate().run(model).rewrites
