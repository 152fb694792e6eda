"""What the host computes, and what only looks like it."""

from __future__ import annotations

from snnc.passes.analysis.hosted import host_nodes


def test_a_class_token_is_the_networks_although_its_extents_come_from_the_input(parse):
    model = parse("""g (float[N, 4, 3] x) => (float[N, 5, 3] y)
    <float[1, 1, 3] token = {1, 2, 3}, int64 first = {0}, int64[1] axis = {0}, int64[2] rest = {1, 3}>
    {
      size = Shape(x)
      batch = Gather<axis = 0>(size, first)
      listed = Unsqueeze(batch, axis)
      target = Concat<axis = 0>(listed, rest)
      tokens = Expand(token, target)
      moved = Expand(x, target)
      y = Concat<axis = 1>(tokens, x)
    }""")
    hosted = {node.name for node in host_nodes(model).values()}
    assert {"n_size", "n_batch", "n_listed", "n_target", "n_moved"} <= hosted
    assert "n_tokens" not in hosted
