"""fold-repeated: what follows from constants alone is a constant, if it is the same for every sample."""

from __future__ import annotations

import pytest

from snnc.passes.canonical.fold_repeated import FoldRepeated

HEAD = """<ir_version: 10, opset_import: ["" : 17]>
g (float[N, 2, 3] x) => (float[N, 2, 3] y) <float[1, 2, 3] zeros = {0, 0, 0, 0, 0, 0}, int64 rows = {1},
  int64 samples = {0}, float one = {1}, float half = {0.5}>
{ shape = Shape(x) mask = Expand(zeros, shape)
  is = Cast<to = 9>(mask) not = Not(is) on = Cast<to = 1>(not) """


def test_positions_counted_from_a_mask_are_a_constant(parse, check, ops):
    model = parse(HEAD + "place = CumSum(on, rows) angle = Sin(place) y = Add(x, angle) }")
    result = check(FoldRepeated(), model, tolerance=1e-6)
    assert [rewrite.rule for rewrite in result.rewrites].count("fold what is repeated") >= 1
    assert "Sin" not in ops(model) and "CumSum" not in ops(model)


def test_heads_of_learned_queries_merged_with_the_batch(parse, check, ops):
    """Two heads of each sample lie behind each other on the first axis: samples are repeated, heads kept."""
    model = parse(
        """<ir_version: 10, opset_import: ["" : 17]>
        g (float[N, 2, 3] x) => (float[M, 3] y)
        <float[1, 2, 3] queries = {1, 2, 3, 4, 5, 6}, int64[2] merged = {-1, 3}> {
          shape = Shape(x) each = Expand(queries, shape) heads = Reshape(each, merged) angle = Sin(heads)
          flat = Reshape(x, merged) y = Mul(flat, angle) }"""
    )
    assert check(FoldRepeated(), model, tolerance=1e-6).rewrites
    assert "Sin" not in ops(model)


@pytest.mark.parametrize(
    "body",
    [
        # The number of axes that vary with the batch is none, or two.
        "all = Expand(one, shape) all0 = ReduceMax<axes = [0]>(all) found = Sin(all0)",
        "all = Expand(one, shape) turned = Transpose(all) each = MatMul(all, turned) found = Exp(each)",
        "all = Expand(one, twice) found = Exp(all)",
        # What is not finite would be a constant that no code holds.
        "all = Expand(none, shape) found = Log(all)",
        # More than 4 million elements, too many samples, and rows that are not there.
        "all = Expand(one, large) found = Exp(all)",
        "all = Expand(five, shape) found = Exp(all)",
        "all = Expand(one, shape) found = Gather(all, far)",
    ],
)
def test_what_has_no_one_repetition_stays(parse, body):
    model = parse(
        f"""<ir_version: 10, opset_import: ["" : 17]>
        g (float[N, 3] x) => (float y)
        <float one = {{1}}, float none = {{0}}, float[5, 1] five = {{1, 2, 3, 4, 5}}, int64 far = {{99}},
         int64[1] first = {{0}}, int64[2] square = {{3000, 3000}}> {{
          shape = Shape(x) n = Gather(shape, first) twice = Concat<axis = 0>(n, n)
          large = Concat<axis = 0>(n, square) {body} y = ReduceMax<keepdims = 0>(found) }}"""
    )
    found = model.graph[-1].inputs[0]
    kind = found.producer().op_type
    FoldRepeated().run(model)
    assert model.graph[-1].inputs[0].producer().op_type == kind


def test_what_differs_from_sample_to_sample_stays(parse, ops):
    # For one sample and for two, every place is 0; the third has 1.
    model = parse(
        HEAD + "count = CumSum(on, samples) below = Sub(count, one) halved = Mul(below, half)"
        " place = Floor(halved) angle = Sin(place) y = Add(x, angle) }"
    )
    FoldRepeated().run(model)
    assert "Sin" in ops(model) and "CumSum" in ops(model)


@pytest.mark.parametrize(
    "ones",
    [
        "all = Expand(one, wide)",
        "whole = ConstantOfShape<value = int64[1] {1}>(wide) all = Cast<to = 1>(whole)",
    ],
)
def test_a_mask_of_as_many_samples_as_there_are_is_a_constant(parse, check, ops, ones):
    """As transformers' DETR pads: ones by the batch size behind another axis, resized to what is left."""
    model = parse(
        f"""<ir_version: 10, opset_import: ["" : 17]>
        g (float[N, 2, 3] x) => (float[N, 2, 3] y)
        <float one = {{1}}, int64[1] lead = {{1}}, int64[1] from = {{0}}, int64[1] to = {{2}},
         int64 zero = {{0}}, int64[2] large = {{4, 6}}, int64[2] small = {{2, 3}},
         float shut = {{-1e9}}, float none = {{0}}> {{
          shape = Shape(x) samples = Gather<axis = 0>(shape, from)
          wide = Concat<axis = 0>(lead, samples, large) {ones}
          seen = Shape(all) front = Slice(seen, from, to) sizes = Concat<axis = 0>(front, small)
          fewer = Resize<mode = "nearest">(all, , , sizes) open = Cast<to = 9>(fewer)
          mask = Gather<axis = 0>(open, zero) closed = Where(mask, none, shut) y = Add(x, closed) }}"""
    )
    check(FoldRepeated(), model, tolerance=0)
    assert "Where" not in ops(model)
