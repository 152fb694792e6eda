"""fold-shapes: the class token that exporters expand over the batch."""

from __future__ import annotations

from snnc.ir import constant
from snnc.passes.canonical import DropDeadCode, FoldShapes, InferShapes

EXPORTED = """g (float[N, 4, 3] x) => (float[N, 5, 3] y)
<float[1, 1, 3] token = {1, 2, 3}, int64 first = {0}, int64[1] axis = {0}, int64[2] rest = {-1, -1},
 int64[1] flat = {-1}, int64 minus = {-1}>
{
  size = Shape(x)
  batch = Gather<axis = 0>(size, first)
  listed = Unsqueeze(batch, axis)
  wanted = Concat<axis = 0>(listed, rest)
  target = Reshape(wanted, flat)
  length = Shape(target)
  ones = ConstantOfShape<value = int64[1] {1}>(length)
  open = Mul(ones, minus)
  keeps = Equal(target, open)
  extents = Where(keeps, ones, target)
  tokens = Expand(token, extents)
  y = Concat<axis = 1>(tokens, x)
}"""


def test_class_token(parse, check, ops):
    model = parse(EXPORTED)
    check(FoldShapes(), model)
    DropDeadCode().run(model)
    InferShapes().run(model)
    assert ops(model) == ["Shape", "Gather", "Concat", "Expand", "Concat"]
    expand = next(node for node in model.graph if node.op_type == "Expand")
    rest = expand.inputs[1].producer().inputs[1]
    assert constant(rest).tolist() == [1, 1]
    assert not FoldShapes().run(model).rewrites
