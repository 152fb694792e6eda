"""settle-shapes: what the batch size alone decides."""

from __future__ import annotations

import pytest

from snnc.ir import constant
from snnc.passes.canonical.settle_shapes import SettleShapes

#: Pads rows and columns to multiples of a window, as Swin does: the list is turned round before Pad reads it.
PADDED = """g (float[{batch}, 5, 6, 2] x) => (float[{batch}, 8, 8, 2] y)
<int64 one = {{1}}, int64 four = {{4}}, int64[1] first = {{0}}, int64[1] none = {{0}}, int64[2] pairs =
 {{4, 2}},
 int64[2] zeros = {{0, 0}}, int64[1] minus = {{-1}}, int64[1] low = {{-9000}}, int64[1] flat = {{-1}}> {{
  s = Shape(x) h = Gather<axis = 0>(s, one)
  m = Mod(h, four) r = Sub(four, m) p = Mod(r, four) p1 = Unsqueeze(p, first)
  two = Constant<value = int64 {{2}}>() w = Gather<axis = 0>(s, two)
  n = Mod(w, four) q = Sub(four, n) t = Mod(q, four) t1 = Unsqueeze(t, first)
  l = Concat<axis = 0>(zeros, none, t1, none, p1, zeros)
  k = Reshape(l, pairs) v = Slice(k, minus, low, first, minus) u = Transpose<perm = [1, 0]>(v) f =
 Reshape(u, flat)
  y = Pad(x, f)
}}"""


@pytest.mark.parametrize("batch", ["N", "1", "3"])
def test_paddings_to_a_multiple_of_a_window_are_constant(parse, check, ops, batch):
    model = parse(PADDED.format(batch=batch))
    check(SettleShapes(), model)
    pad = next(node for node in model.graph if node.op_type == "Pad")
    assert constant(pad.inputs[1]).tolist() == [0, 0, 0, 0, 0, 3, 2, 0]


def test_windows_merged_with_the_batch(parse, check):
    model = parse("""g (float[N, 8, 8, 2] x) => (float[N, 8, 8, 2] y)
      <int64 zero = {0}, int64 one = {1}, int64 four = {4}, int64[1] first = {0}, int64[3] rest = {4, 4, 2},
       int64[4] out = {-1, 8, 8, 2}> {
        s = Shape(x) b = Gather<axis = 0>(s, zero) h = Gather<axis = 0>(s, one) n = Div(h, four)
        m = Mul(b, n) k = Mul(m, n) k1 = Unsqueeze(k, first) t = Concat<axis = 0>(k1, rest)
        w = Reshape(x, t) y = Reshape(w, out)
      }""")
    check(SettleShapes(), model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert constant(reshape.inputs[1]).tolist() == [-1, 4, 4, 2]
    assert [str(dim) for dim in reshape.outputs[0].shape] == ["4*N", "4", "4", "2"]


def test_two_open_entries_copy_one_from_the_input(parse, check):
    model = parse("""g (float[N, 6] x) => (float[N, 3, M] y)
      <int64 zero = {0}, int64[1] first = {0}, int64[1] three = {3}> {
        s = Shape(x) b = Gather<axis = 0>(s, zero) b1 = Unsqueeze(b, first) c = Div(b1, b1) d = Add(c, c)
        t = Concat<axis = 0>(b1, three, d) y = Reshape(x, t)
      }""")
    check(SettleShapes(), model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert constant(reshape.inputs[1]).tolist() == [-1, 3, 2]


def test_two_open_entries_at_new_places_stay_computed(parse, check, ops):
    model = parse("""g (float[N, 6] x, float[N, 6] z) => (float y)
      <int64 zero = {0}, int64[1] first = {0}, int64[2] ones = {1, 1}> {
        t = Transpose<perm = [1, 0]>(z) g = MatMul(x, t) s = Shape(x) b = Gather<axis = 0>(s, zero)
        b1 = Unsqueeze(b, first) k = Concat<axis = 0>(ones, b1, b1) r = Reshape(g, k)
        y = ReduceMax<keepdims = 0>(r)
      }""")
    done = check(SettleShapes(), model)
    assert "Shape" in ops(model)
    assert "more than one entry" in done.not_matched[0].reason


def test_two_open_entries_of_a_product_of_samples(parse, check):
    """Scores of all samples with all: one extent is that of the input, the other one is left open."""
    model = parse("""g (float[N, 6] x, float[N, 6] z) => (float[N, 1, M] y)
      <int64 zero = {0}, int64[1] first = {0}, int64[1] one = {1}> {
        t = Transpose<perm = [1, 0]>(z) g = MatMul(x, t) s = Shape(x) b = Gather<axis = 0>(s, zero)
        b1 = Unsqueeze(b, first) k = Concat<axis = 0>(b1, one, b1) y = Reshape(g, k)
      }""")
    check(SettleShapes(), model)
    reshape = next(node for node in model.graph if node.op_type == "Reshape")
    assert constant(reshape.inputs[1]).tolist() == [0, 1, -1]


def test_a_batch_and_one_more_keeps_its_name(parse, check):
    model = parse("""g (float[N, 3] x) => (float y) <float[1, 3] token = {1, 2, 3}> {
        s = Shape(x) m = Concat<axis = 0>(token, x) y = ReduceMax<keepdims = 0>(m)
      }""")
    value = next(node for node in model.graph if node.op_type == "Concat").outputs[0]
    before = str(value.shape)
    check(SettleShapes(), model)
    assert str(value.shape) == before and "N" not in str(value.shape[0])


def test_fixed_shapes_are_left_alone(parse, check):
    model = parse("g (float[N, 6] x) => (float[N, 6] y) { y = Relu(x) }")
    assert not check(SettleShapes(), model).rewrites
