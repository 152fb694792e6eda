"""write-out-moves of a ScatterND that overwrites all elements is no move."""

from __future__ import annotations

from snnc.passes.canonical.write_out_moves import WriteOutMoves


def test_what_overwrites_all_is_what_it_writes(parse, check, ops):
    """MViTv2 adds position biases in place, to all scores where there is no class token."""
    model = parse(
        """g (float[N, 3] x, float[N, 3] u) => (float[N, 3] y)
        <int64 none = {0}, int64 one = {1}, int64[2] behind = {1, 2}, int64[2] rest = {3, 1},
         int64[1] first = {0}, int64[1, 3, 1] columns = {0, 1, 2}> {
          shape = Shape(x) n = Gather(shape, none) n1 = Gather(shape, first)
          extents = Concat<axis = 0>(n1, rest)
          r = Range(none, n, one) r3 = Unsqueeze(r, behind) a = Expand(r3, extents)
          b = Expand(columns, extents) places = Concat<axis = -1>(a, b)
          s = ScatterND(x, places, u) y = Relu(s) }"""
    )
    check(WriteOutMoves(), model)
    relu = next(node for node in model.graph if node.op_type == "Relu")
    assert "ScatterND" not in ops(model)
    above = {relu.inputs[0]}
    while producers := {value.producer() for value in above if value.producer() is not None}:
        assert {node.op_type for node in producers} <= {"Reshape", "Identity"}
        above = {node.inputs[0] for node in producers}
    assert {value.name for value in above} == {"u"}
