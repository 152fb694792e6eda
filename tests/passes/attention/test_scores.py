"""Biases, masks and factors on the scores go along to the pairs that are left; so do heads in the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from snnc.passes.attention.adjacent_attention import AdjacentAttention
from snnc.passes.attention.burst_attention import BurstAttention
from snnc.passes.attention.group_attention import GroupAttention
from snnc.pipeline.contract import PassResult

HEADS, SIZE, HEIGHT, WIDTH = 3, 4, 2, 6
CHANNELS, PATCHES = HEADS * SIZE, HEIGHT * WIDTH
TOKENS = PATCHES + 1
RANDOM = np.random.default_rng(7)
CLOSED = np.where(RANDOM.random((TOKENS, TOKENS)) < 0.3, -np.inf, 0).astype(np.float32)
CLOSED[np.diag_indices(TOKENS)] = 0
HELD: dict[str, np.ndarray] = {
    "each": RANDOM.standard_normal((1, HEADS, TOKENS, TOKENS)).astype(np.float32),
    "pairs": RANDOM.standard_normal((TOKENS, TOKENS)).astype(np.float32),
    "keys": RANDOM.standard_normal((HEADS, 1, TOKENS)).astype(np.float32),
    "slopes": RANDOM.random((HEADS, 1, 1)).astype(np.float32) + np.float32(0.5),
    "closed": CLOSED,
    "open": CLOSED == 0,
    "low": np.array(-1e9, np.float32),
    "half": np.array(0.5, np.float32),
    "shut": np.array(-np.inf, np.float32),
    "wide": RANDOM.standard_normal((HEADS, SIZE, PATCHES)).astype(np.float32),
    "tall": RANDOM.standard_normal((HEADS, SIZE, HEIGHT)).astype(np.float32),
    "by_row": np.array([0, HEADS, HEIGHT, WIDTH, HEIGHT, 1]),
    "by_side": np.array([0, HEADS, HEIGHT, WIDTH, HEIGHT, WIDTH]),
    "mix": RANDOM.standard_normal((HEADS, HEADS)).astype(np.float32),
    "mix4": RANDOM.standard_normal((HEADS, HEADS, 1, 1)).astype(np.float32),
    "sq": np.array([0, HEADS, PATCHES, PATCHES]),
}
HEAD = f"""<ir_version: 10, opset_import: ["" : 17]>
g (float[N, {CHANNELS}, {HEIGHT}, {WIDTH}] x, float[N, 1, {CHANNELS}] cls, bool[N, 1, 1, {TOKENS}] seen)
  => (float[N, heads, rows, size] y)
<int64[3] flat = {{0, {CHANNELS}, {PATCHES}}}, int64[4] apart = {{0, {TOKENS}, {HEADS}, {SIZE}}},
 int64[3] folded = {{-1, {TOKENS}, {SIZE}}}, int64[4] taken = {{-1, {HEADS}, {TOKENS}, {SIZE}}}> {{
  f = Reshape(x, flat) patches = Transpose<perm = [0, 2, 1]>(f) t = Concat<axis = 1>(cls, patches)
  h = Reshape(t, apart) q = Transpose<perm = [0, 2, 1, 3]>(h) k = Transpose<perm = [0, 2, 3, 1]>(h)
"""
SCORES = "r = MatMul(q, k) "
TAIL = "p = Softmax<axis = -1>(s) y = MatMul(p, q) }"
#: From the scores `r` to `s`, and what that is in numpy.
FORMS: dict[str, tuple[str, Any]] = {
    "each head its own": ("s = Add(r, each)", lambda r: r + HELD["each"]),
    "one for all heads": ("s = Add(pairs, r)", lambda r: r + HELD["pairs"]),
    "of keys alone": ("s = Sub(r, keys)", lambda r: r - HELD["keys"]),
    "a factor for each head": (
        "a = Mul(r, slopes) s = Add(a, pairs)",
        lambda r: r * HELD["slopes"] + HELD["pairs"],
    ),
    "capped": ("a = Mul(r, half) b = Tanh(a) s = Div(b, half)", lambda r: np.tanh(r * 0.5) / 0.5),
    "a constant mask": ("s = Add(r, closed)", lambda r: r + HELD["closed"]),
    "chosen by a constant": ("s = Where(open, r, low)", lambda r: np.where(HELD["open"], r, -np.inf)),
}


def model_of(body: str, head: str = HEAD, **more: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(head + body)
    used = {name for node in proto.graph.node for name in node.input}
    for name, array in {**HELD, **more}.items():
        if name in used:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for value in [entry for entry in proto.graph.input if entry.name not in used]:
        proto.graph.input.remove(value)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def without_class_token(body: str) -> ir.Model:
    head = HEAD.replace("t = Concat<axis = 1>(cls, patches)", "t = Identity(patches)")
    return model_of(body, head.replace(f"0, {TOKENS}, {HEADS}", f"0, {PATCHES}, {HEADS}"))


def feeds(count: int = 2) -> dict[str, np.ndarray]:
    random = np.random.default_rng(count)
    return {
        "x": random.standard_normal((count, CHANNELS, HEIGHT, WIDTH)).astype(np.float32),
        "cls": random.standard_normal((count, 1, CHANNELS)).astype(np.float32),
        "seen": np.arange(TOKENS) < random.integers(2, TOKENS + 1, (count, 1, 1, 1)),
    }


def run(model: ir.Model, given: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    read = {entry.name: given[entry.name] for entry in session.get_inputs()}
    return np.asarray(session.run(["y"], read)[0])


def wanted(given: dict[str, np.ndarray], on_scores: Any, left: np.ndarray) -> np.ndarray:
    """The definition: all scores, those of pairs that are not left at minus infinity."""
    tokens = given["x"].reshape(len(given["x"]), CHANNELS, -1).transpose(0, 2, 1)
    tokens = np.concatenate([given["cls"], tokens], 1)
    q = tokens.reshape(len(tokens), TOKENS, HEADS, SIZE).transpose(0, 2, 1, 3)
    scores = np.where(left, on_scores(q @ q.transpose(0, 1, 3, 2)), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray((weights / weights.sum(-1, keepdims=True)) @ q)


def pairs_left(kind: str) -> np.ndarray:
    row, column = np.divmod(np.arange(PATCHES), WIDTH)

    def same(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.equal.outer(rows, rows) & np.equal.outer(columns, columns)

    mask = np.ones((HEADS, TOKENS, TOKENS), bool)
    if kind == "grouped":
        mask[:2, 1:, 1:] = same(row % 2, column % 2)
        mask[2:, 1:, 1:] = same(row // 1, column // 3)
    else:
        far = np.maximum(np.abs(np.subtract.outer(row, row)), np.abs(np.subtract.outer(column, column)))
        mask[:, 1:, 1:] = far <= 1
    return mask


def rewritten(model: ir.Model, kind: str) -> PassResult:
    return (GroupAttention(2) if kind == "grouped" else AdjacentAttention(3)).run(model)


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_done_to_the_scores_is_done_at_the_pairs_that_are_left(form: str, kind: str) -> None:
    text, on_scores = FORMS[form]
    model, given = model_of(SCORES + text + " " + TAIL), feeds()
    result = rewritten(model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    left = pairs_left(kind)
    np.testing.assert_allclose(run(model, given), wanted(given, on_scores, left), atol=1e-5)
    computed = [node.outputs[0].shape for node in model.graph if node.op_type == "Softmax"]
    assert sum(np.prod(list(shape)[1:]) for shape in computed) == left.sum()


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_a_mask_of_the_input_goes_along(kind: str) -> None:
    model, given = model_of(SCORES + "s = Where(seen, r, low) " + TAIL), feeds(5)
    assert len(rewritten(model, kind).rewrites) == 1
    found = wanted(given, lambda r: np.where(given["seen"], r, -np.inf), pairs_left(kind))
    np.testing.assert_allclose(run(model, given), found, atol=1e-5)


#: Biases that the network computes from its queries, as SAM, MViT and BoTNet do, by rows and columns.
COMPUTED = {
    "of pairs": (
        "b = MatMul(q, wide) s = Add(r, b)",
        lambda r, q: r + q @ HELD["wide"],
    ),
    "of keys, seen as rows and columns": (
        "c = MatMul(q, tall) n = Reshape(c, by_row) w = Reshape(r, by_side) a = Add(w, n) s = Reshape(a, sq)",
        lambda r, q: r + np.repeat(q @ HELD["tall"], WIDTH, -1),
    ),
}


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
@pytest.mark.parametrize("form", COMPUTED)
def test_a_bias_that_the_network_computes_goes_along(form: str, kind: str) -> None:
    text, on_scores = COMPUTED[form]
    model, given = without_class_token(SCORES + text + " " + TAIL), feeds()
    result = rewritten(model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    tokens = given["x"].reshape(2, CHANNELS, -1).transpose(0, 2, 1)
    q = tokens.reshape(2, PATCHES, HEADS, SIZE).transpose(0, 2, 1, 3)
    left = pairs_left(kind)[:, 1:, 1:]
    scores = np.where(left, on_scores(q @ q.transpose(0, 1, 3, 2), q), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    found = (weights / weights.sum(-1, keepdims=True)) @ q
    np.testing.assert_allclose(run(model, given), found, atol=1e-5)


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_values_on_the_left(kind: str) -> None:
    """``v^T p^T``, as networks write it whose tokens are the last axis of a map."""
    body = SCORES + "p = Softmax<axis = -1>(r) pt = Transpose<perm = [0, 1, 3, 2]>(p) y = MatMul(k, pt) }"
    model, given = model_of(body), feeds()
    result = rewritten(model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    found = wanted(given, lambda r: r, pairs_left(kind)).transpose(0, 1, 3, 2)
    np.testing.assert_allclose(run(model, given), found, atol=1e-5)


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_keys_and_values_of_one_head(kind: str) -> None:
    """Attention with several queries (MobileNetV4): all heads read the same keys and values."""
    body = SCORES.replace("q, k", "q, k1") + "p = Softmax<axis = -1>(r) y = MatMul(p, v1) }"
    first = "none = Constant<value = int64[1] {0}>() k1 = Gather<axis = 1>(k, none)"
    first += " v1 = Gather<axis = 1>(q, none)"
    model, given = model_of(f"{first} {body}"), feeds()
    result = rewritten(model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    tokens = given["x"].reshape(2, CHANNELS, -1).transpose(0, 2, 1)
    q = np.concatenate([given["cls"], tokens], 1).reshape(2, TOKENS, HEADS, SIZE).transpose(0, 2, 1, 3)
    scores = np.where(pairs_left(kind), q @ q[:, :1].transpose(0, 1, 3, 2), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    found = (weights / weights.sum(-1, keepdims=True)) @ q[:, :1]
    np.testing.assert_allclose(run(model, given), found, atol=1e-5)


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_an_axis_of_one_beside_the_heads(kind: str) -> None:
    """Windows of which there is one, as HieraModel counts them where it attends to all."""
    body = f"""five = Constant<value = int64[5] {{0, {HEADS}, 1, {TOKENS}, {SIZE}}}>()
      q5 = Reshape(q, five) k5 = Transpose<perm = [0, 1, 2, 4, 3]>(q5) r = MatMul(q5, k5)
      s = Add(r, pairs) p = Softmax<axis = -1>(s) z = MatMul(p, q5)
      back = Constant<value = int64[4] {{0, {HEADS}, {TOKENS}, {SIZE}}}>() y = Reshape(z, back) }}"""
    model, given = model_of(body), feeds()
    result = rewritten(model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    found = wanted(given, lambda r: r + HELD["pairs"], pairs_left(kind))
    np.testing.assert_allclose(run(model, given), found, atol=1e-5)


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
def test_rows_without_a_pair_stay_zero(kind: str) -> None:
    """``Where(IsNaN(p), 0, p)``, which exporters put behind a softmax with a mask of truth values."""
    guard = "q0 = IsNaN(p0) zero = Constant<value = float {0.0}>() p = Where(q0, zero, p0)"
    body = f"s = Where(seen, r, shut) p0 = Softmax<axis = -1>(s) {guard} y = MatMul(p, q) }}"
    model, given = model_of(SCORES + body), feeds(5)
    given["seen"][0] = False
    result = rewritten(model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    with np.errstate(invalid="ignore"):
        found = wanted(given, lambda r: np.where(given["seen"], r, -np.inf), pairs_left(kind))
    np.testing.assert_allclose(run(model, given), np.nan_to_num(found), atol=1e-5)


#: Heads in the batch: scores as Baddbmm leaves them, or apart again where a bias is added.
FOLDS = {
    "all the way": "r = MatMul(qf, kf) s = Add(r, pairs) p = Softmax<axis = -1>(s) z = MatMul(p, vf)",
    "apart for a bias": "r = MatMul(qf, kf) r4 = Reshape(r, square) b = Add(r4, each) "
    "p4 = Softmax<axis = -1>(b) p = Reshape(p4, flat_square) z = MatMul(p, vf)",
}


@pytest.mark.parametrize("kind", ["grouped", "adjacent"])
@pytest.mark.parametrize("form", FOLDS)
def test_heads_in_the_batch(form: str, kind: str) -> None:
    shapes = f"square = Constant<value = int64[4] {{-1, {HEADS}, {TOKENS}, {TOKENS}}}>()"
    shapes += f" flat_square = Constant<value = int64[3] {{-1, {TOKENS}, {TOKENS}}}>()"
    body = f"{shapes} qf = Reshape(q, folded) kt = Transpose<perm = [0, 2, 1]>(qf) kf = Identity(kt)"
    body += f" vf = Reshape(q, folded) {FOLDS[form]} y = Reshape(z, taken) }}"
    proto_model, given = model_of(body), feeds()
    result = rewritten(proto_model, kind)
    assert len(result.rewrites) == 1, result.not_matched
    bias = HELD["pairs"] if form == "all the way" else HELD["each"]
    found = wanted(given, lambda r: r + bias, pairs_left(kind))
    np.testing.assert_allclose(run(proto_model, given), found, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("b = MatMul(q, k) s = Add(r, b) " + TAIL, "the network computes a mask or bias on its scores"),
        ("s = Relu(r) " + TAIL, "(Relu)"),
        ("s = Transpose<perm = [0, 1, 3, 2]>(r) " + TAIL, "Transpose"),
        ("s = Identity(r) p = Softmax<axis = 2>(s) y = MatMul(p, q) }", "its softmax is not over the keys"),
        ("p0 = Softmax<axis = -1>(r) p = Mul(p0, pairs) y = MatMul(p, q) }", "no product with values"),
        ("a = Transpose<perm = [0, 2, 3, 1]>(r) b = MatMul(a, mix) s = Transpose<perm = [0, 3, 1, 2]>(b) "
         + TAIL, "its heads are mixed in front of its softmax"),
        ("s = Conv(r, mix4) " + TAIL, "its heads are mixed in front of its softmax"),
        ("p = Softmax<axis = -1>(t) y = MatMul(p, k) }", "its scores are no product of queries and keys"),
        ("s = Identity(r) p = Softmax<axis = -1>(s) y0 = MatMul(p, q) y = Add(y0, p) }", "several nodes"),
        ("u = Relu(r) s = Identity(r) " + TAIL, "its scores are read elsewhere too, behind"),
        ("s = MatMul(r, pairs) " + TAIL, "its heads are mixed in front of its softmax"),
        ("p = Softmax<axis = -1>(r) y = MatMul(k, p) }", "no product with values alone"),
        ("o = Softmax<axis = -1>(r) p = Mul(pairs, o) y = MatMul(p, q) }", "no product with values alone"),
        ("o = Softmax(r) a = Transpose<perm = [0, 1, 3, 2]>(o) p = Mul(a, half) y = MatMul(k, p) }",
         "no product with values alone"),
        ("s = Identity(r) p = Softmax<axis = -1>(s) y = MatMul(p, p) }", "several nodes"),
    ],
)  # fmt: skip
def test_reasons(body: str, reason: str) -> None:
    model = model_of(SCORES + body)
    result = GroupAttention(2).run(model)
    assert not result.rewrites and reason in result.not_matched[0].reason


def test_a_mask_that_leaves_a_token_alone_in_its_group_is_named() -> None:
    closed = np.zeros((TOKENS, TOKENS), np.float32)
    closed[3, :] = -np.inf
    closed[3, 4] = 0
    result = GroupAttention(2).run(model_of(SCORES + "s = Add(r, alone) " + TAIL, alone=closed))
    assert not result.rewrites and "closes all that a token" in result.not_matched[0].reason


def test_attention_among_channels_has_no_grid() -> None:
    """Four channels are a square, and no grid of tokens."""
    body = """c = MatMul(t, weight) ch = Reshape(c, apart)
      cq = Transpose<perm = [0, 2, 3, 1]>(ch) ck = Transpose<perm = [0, 2, 1, 3]>(ch) s = MatMul(cq, ck)
      p = Softmax<axis = -1>(s) y = MatMul(p, cq) }"""
    weight = np.ones((CHANNELS, CHANNELS), np.float32)
    result = GroupAttention(2).run(model_of(body, weight=weight))
    assert not result.rewrites and "among channels" in result.not_matched[0].reason


def test_bursts_keep_a_mask_closed_and_drop_a_bias() -> None:
    model, given = model_of(SCORES + "a = Add(r, closed) s = Add(a, pairs) " + TAIL), feeds()
    from snnc.ops import attach_functions
    from snnc.passes.quantise.insert_quantisers import Choice

    books = BurstAttention(3).books
    choices = {
        f"y.burst.{kind}": Choice(book, np.float32(0.5)) for kind, book in zip("qkv", books, strict=True)
    }
    gain = np.ones((1, HEADS, 1, SIZE), np.float32)
    choices["y.burst.out"] = Choice(books[0], gain, 0 * gain)
    result = BurstAttention(3, 3, choices=choices).run(model)
    assert len(result.rewrites) == 1 and "the bias of its scores is dropped" in result.notes[0]
    attach_functions(model)
    tokens = given["x"].reshape(2, CHANNELS, -1).transpose(0, 2, 1)
    q = np.concatenate([given["cls"], tokens], 1).reshape(2, TOKENS, HEADS, SIZE).transpose(0, 2, 1, 3)
    binary, bursts = 0.5 * (q >= 0.25), 0.5 * np.clip(np.floor(q / 0.5 + 0.5), 0, 3)
    signed = 0.5 * np.sign(q) * (np.abs(q) >= 0.25)
    scores = binary @ bursts.transpose(0, 1, 3, 2) * pairs_left("adjacent") * (CLOSED == 0)
    np.testing.assert_allclose(run(model, given), scores @ signed, atol=1e-4)


def test_bursts_refuse_a_mask_of_the_input() -> None:
    result = BurstAttention(3, choices={}).run(model_of(SCORES + "s = Where(seen, r, low) " + TAIL))
    assert not result.rewrites and "a mask that the host computes: seen" in result.not_matched[0].reason


@pytest.mark.parametrize("form", ["of pairs", "of keys, seen as rows and columns"])
def test_bursts_refuse_a_bias_of_the_network(form: str) -> None:
    model = without_class_token(f"{SCORES}{COMPUTED[form][0]} {TAIL}")
    result = BurstAttention(3, choices={}).run(model)
    assert not result.rewrites and "a mask or bias that the network computes" in result.not_matched[0].reason


def test_shapes_that_only_the_batch_settles_are_enough() -> None:
    """Values that inference left without a shape: the extents come from two batch sizes."""
    model, given = model_of(SCORES + "s = Add(r, each) " + TAIL), feeds()
    for node in model.graph:
        if node.op_type == "Transpose":
            node.outputs[0].shape = None
    assert len(rewritten(model, "grouped").rewrites) == 1
    found = wanted(given, lambda r: r + HELD["each"], pairs_left("grouped"))
    np.testing.assert_allclose(run(model, given), found, atol=1e-5)
