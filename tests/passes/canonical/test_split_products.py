"""Columns of a product: taken from the part of the right operand that they come from."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.split_products import SplitProducts

PAD = "int64[6] p = {0, 0, 0, 0, 0, 1}, float one = {1}"
PADS = "int64[6] p2 = {0, 0, 1, 0, 0, 1}, int64[6] rows = {0, 1, 0, 0, 0, 0}"
BOUNDS = "int64[1] three = {3}, int64[1] end = {9}, int64[1] zero = {0}, int64[1] last = {-1}"


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("j = Pad(v, p, one) k = MatMul(a, j) m = MatMul(b, k)", True),
        ("j = Concat<axis = 2>(v, c) m = MatMul(a, j)", True),
        ('j = Pad<mode = "edge">(v, p) m = MatMul(a, j)', False),
        ("j = Concat<axis = -1>(c, v) m = MatMul(a, j)", False),
        ("j = Concat<axis = 1>(r, r4) m = MatMul(a, j)", False),
        ("j = Pad(v2, p2, one) m = MatMul(a, j)", True),
        ("j = Pad(r4, rows, one) m = MatMul(a, j)", False),
    ],
)
def test_columns(parse, evaluate, text, changes):
    size = 2 if "k =" in text else 4
    model = parse(
        f"g (float[N, 4, 5] a, float[N, 2, 4] b, float[N, 5, 3] v, float[N, 5, 1] c, "
        "float[N, 1, 4] r, float[N, 4, 4] r4, float[N, 5, 2] v2) => "
        f"(float[N, {size}, 3] y, float[N, {size}, 1] z) <{PAD}, {PADS}, {BOUNDS}> "
        f"{{ {text} y = Slice(m, zero, last, last) z = Slice(m, three, end, last) }}"
    )
    InferShapes().run(model)
    rng = np.random.default_rng(1)
    feeds = {
        value.name: rng.normal(0, 1, [2, *list(value.shape)[1:]]).astype(np.float32)
        for value in model.graph.inputs
    }
    before = evaluate(model, feeds)
    result = SplitProducts().run(model)
    assert bool(result.rewrites) == changes
    after = evaluate(model, feeds)
    for name, wanted in before.items():
        assert np.allclose(after[name], wanted, atol=1e-5)
    assert not SplitProducts().run(model).rewrites


def test_linear_attention_converts(tmp_path):
    """Denominators that stand as a column beside the values, which have both signs."""
    import onnx

    rng = np.random.default_rng(3)
    weights = ", ".join(f"float[6, 6] {name} = {{{numbers(rng, 36)}}}" for name in ("q", "k", "v", "o"))
    text = f"""<ir_version: 10, opset_import: ["" : 17]>
    g (float[N, 5, 6] x) => (float[N, 5, 6] y) <{weights}, {PAD}, {BOUNDS}, float e = {{0.001}}> {{
        qs = MatMul(x, q) qr = Relu(qs) ks = MatMul(x, k) kr = Relu(ks) kt = Transpose<perm = [0, 2, 1]>(kr)
        vs = MatMul(x, v) j = Pad(vs, p, one) kv = MatMul(kt, j) m = MatMul(qr, kv)
        n = Slice(m, zero, last, last) d = Slice(m, last, end, last) de = Add(d, e) r = Div(n, de)
        y = MatMul(r, o) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    samples = rng.normal(0, 1, (32, 5, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", samples)
    conversion = convert(tmp_path / "net.onnx", ConvertOptions(groups=4, calibrate=str(tmp_path / "x.npy")))
    assert audit(conversion.model).clean
    found = verify(tmp_path / "net.onnx", conversion.model, {"x": samples[:4]})
    assert found.identical
    assert found.distances[0].decibel is not None and found.distances[0].decibel > 24


def numbers(rng, count):
    return ", ".join(f"{number:.4f}" for number in rng.normal(0, 0.5, count))
