"""Attention masks in every form that exporters write, constant and computed from integer inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import InputError, UnsupportedError
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime

Array = npt.NDArray[Any]
TOKENS, WIDTH = 6, 8

QUANTISED = "i = QuantizeLinear(m, coarse, top) s = DequantizeLinear(i, coarse, top)"
#: How a mask is written: from `causal` (bool [6, 6], true where open) or the input `open` (int64 [N, 6]).
FORMS = {
    "infinite": "s = Add(raw, infinite)",
    "where": "s = Where(causal, raw, large)",
    "where-not": "closed = Not(causal) s = Where(closed, huge, raw)",
    "product": "kept = Mul(raw, ones) s = Sub(kept, many)",
    "floor": "m = Add(raw, infinite) s = Max(m, huge)",
    "bert": "u = Unsqueeze(open, rows) f = Cast<to = 1>(u) c = Sub(unit, f) l = Mul(c, huge) s = Add(raw, l)",
    "compared": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) s = Where(b, raw, large)",
    "both": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) a = And(b, causal) m = Where(a, zero, endless)"
    " s = Add(raw, m)",
    "guarded": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) s = Where(b, raw, endless)",
    "subtracted": "s = Sub(raw, biased)",
    "behind a number": "s = Add(infinite, raw)",
    "floor of rows": "m = Add(raw, infinite) s = Max(low, m)",
    "two": "m = Add(raw, infinite) s = Add(m, window)",
    "closed": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) c = Not(b) s = Where(c, large, raw)",
    "closed summand": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) c = Not(b) m = Where(c, endless, zero)"
    " s = Add(raw, m)",
    "two computed": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) m = Where(b, raw, large)"
    " f = Cast<to = 1>(u) c = Sub(unit, f) l = Mul(c, huge) s = Add(m, l)",
    # Closed where the one is, and where the other is: neither alone tells.
    "constants by choice": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) m = Where(b, infinite, large)"
    " s = Add(raw, m)",
    "constants by choice, turned": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) c = Not(b)"
    " m = Where(c, large, infinite) s = Add(raw, m)",
    "subtracted from the scores": "u = Unsqueeze(open, rows) f = Cast<to = 1>(u) c = Sub(unit, f)"
    " l = Mul(c, huge) n = Neg(l) s = Sub(raw, n)",
    "computed and constant, one summand": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u)"
    " m = Where(b, zero, large) n = Add(m, infinite) s = Add(raw, n)",
    "a choice of a sum": "u = Unsqueeze(open, rows) f = Cast<to = 1>(u) c = Sub(unit, f)"
    " l = Mul(c, huge) d = Add(raw, l) s = Where(causal, d, large)",
    # As quantize_static writes them: the lowest level masks.
    "where, quantised": f"m = Where(causal, raw, large) {QUANTISED}",
    "summand, quantised": f"m = Add(raw, infinite) {QUANTISED}",
    "compared, quantised": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) m = Where(b, raw, large)"
    f" {QUANTISED}",
    "bert, quantised": "u = Unsqueeze(open, rows) f = Cast<to = 1>(u) c = Sub(unit, f) l = Mul(c, large)"
    f" m = Add(raw, l) {QUANTISED}",
    "computed and constant": "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) m = Where(b, raw, large)"
    " s = Add(m, infinite)",
}
CONSTANT = {
    "infinite", "where", "where-not", "product", "floor", "subtracted", "behind a number", "floor of rows",
    "two", "where, quantised", "summand, quantised",
}  # fmt: skip


def network(form: str, *, guarded: bool = False) -> onnx.ModelProto:
    """Ids to embeddings, one masked attention of two heads' worth of work, and a projection."""
    softmax = "p = Softmax<axis = -1>(s)"
    if guarded:
        softmax = "q0 = Softmax<axis = -1>(s) nan = IsNaN(q0) p = Where(nan, zero, q0)"
    text = f"""<ir_version: 10, opset_import: ["" : 17]>
    g (int64[N, {TOKENS}] ids, int64[N, {TOKENS}] open) => (float[N, {TOKENS}, 3] y)
    <int64[1] rows = {{1}}, float unit = {{1}}, float zero = {{0}}, float large = {{-1000000000}},
     float huge = {{-3.4e38}}, float coarse = {{4}}, uint8 top = {{250}}> {{
      x = Gather<axis = 0>(table, ids)
      q = MatMul(x, wq)
      k = MatMul(x, wk)
      v = MatMul(x, wv)
      kt = Transpose<perm = [0, 2, 1]>(k)
      raw = MatMul(q, kt)
      {FORMS[form]}
      {softmax}
      z = MatMul(p, v)
      y = MatMul(z, wo)
    }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(5)
    causal = np.tril(np.ones((TOKENS, TOKENS), dtype=bool))
    held: dict[str, Any] = {
        "table": rng.standard_normal((12, WIDTH)).astype(np.float32),
        **{name: rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 3 for name in ("wq", "wk", "wv")},
        "wo": rng.standard_normal((WIDTH, 3)).astype(np.float32),
        "causal": causal,
        "infinite": np.where(causal, 0, -np.inf).astype(np.float32),
        "endless": np.array(-np.inf, dtype=np.float32),
        "ones": causal.astype(np.float32),
        "many": np.where(causal, 0, 1e9).astype(np.float32),
        "biased": np.where(causal, np.arange(TOKENS) / 4, 1e9).astype(np.float32),
        "window": np.where(np.triu(causal, -2), 0, -np.inf).astype(np.float32),
        "low": np.full((1, TOKENS), -3.4e38, dtype=np.float32),
    }
    used = {name for node in model.graph.node for name in node.input}
    for name, array in held.items():
        if name in used:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    kept = [entry for entry in model.graph.initializer if entry.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def samples(count: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, TOKENS + 1, (count, 1))
    return {
        "ids": rng.integers(0, 12, (count, TOKENS)),
        "open": (np.arange(TOKENS) < lengths).astype(np.int64),
    }


def converted(tmp_path: Path, model: onnx.ModelProto) -> tuple[Path, Conversion]:
    path, data = tmp_path / "net.onnx", tmp_path / "cal.npz"
    onnx.save(model, path)
    np.savez(data, **samples(24))
    return path, convert(path, ConvertOptions(timesteps=8, groups=8, calibrate=str(data)))


@pytest.mark.parametrize("form", sorted(FORMS))
def test_masks_become_gates(tmp_path: Path, form: str) -> None:
    path, conversion = converted(tmp_path, network(form, guarded=form == "guarded"))
    report = verify(path, conversion.model, samples(4, seed=1))
    for agreement in report.agreements:
        assert agreement.identical, f"{agreement.runtime}: {agreement.first}"
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 25
    assert audit(conversion.model).clean
    ops = [node.op_type for node in conversion.model.graph]
    assert ops.count("SpikeGate") == ops.count("MembraneMask") == 1
    hosted = [row.op for row in audit(conversion.model).host if "Readout" not in row.op]
    assert bool(hosted) == (form not in CONSTANT)


def test_a_row_without_an_open_place_is_zero(tmp_path: Path) -> None:
    _, conversion = converted(tmp_path, network("guarded", guarded=True))
    data = samples(2)
    data["open"][:] = 0
    for runtime in (NumpyPacked, NumpyTimestep, OnnxRuntime):
        assert not next(iter(runtime(conversion.model).run(data).values())).any()


def test_closed_places_change_nothing(tmp_path: Path) -> None:
    _, conversion = converted(tmp_path, network("bert"))
    data = samples(3)
    data["open"][:, 4:] = 0
    other = {"ids": data["ids"].copy(), "open": data["open"]}
    other["ids"][:, 4:] = (other["ids"][:, 4:] + 5) % 12
    one, two = (next(iter(NumpyPacked(conversion.model).run(x).values())) for x in (data, other))
    assert (one[:, :4] == two[:, :4]).all()


def test_a_bias_in_a_mask_is_kept(tmp_path: Path) -> None:
    model = network("infinite")
    rng = np.random.default_rng(8)
    mask = next(entry for entry in model.graph.initializer if entry.name == "infinite")
    causal = onnx.numpy_helper.to_array(mask) == 0
    bias = np.where(causal, rng.standard_normal(causal.shape) * 2, -np.inf).astype(np.float32)
    mask.CopyFrom(onnx.numpy_helper.from_array(bias, "infinite"))
    path, conversion = converted(tmp_path, model)
    report = verify(path, conversion.model, samples(4, seed=1))
    assert report.identical
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 25


def test_a_summand_of_the_host_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    model = network("bert")
    for entry in model.graph.initializer:
        if entry.name == "huge":
            entry.CopyFrom(onnx.numpy_helper.from_array(np.array(-2, np.float32), "huge"))
    with pytest.raises(UnsupportedError, match="and no mask: its values are -2, "):
        converted(tmp_path, model)


#: What masks nothing, or not where it stands: the reason that is given.
UNMASKED = {
    "c = Greater(raw, zero) s = Where(c, raw, large)": "a mask that depends on coded values",
    "m = Where(causal, raw, large) i = QuantizeLinear(m, unit, top) s = DequantizeLinear(i, unit, top)": (
        "a choice between scores and numbers that do not mask"
    ),
    **{
        f"{mask} s = Transpose<perm = [0, 2, 1]>(m)": "in front of a change of their layout"
        for mask in (
            "m = Add(raw, infinite)",
            "m = Sub(raw, biased)",
            "m = Where(causal, raw, large)",
            "u = Unsqueeze(open, rows) b = Cast<to = 9>(u) c = Where(b, zero, large) m = Add(raw, c)",
        )
    },
}


@pytest.mark.parametrize("form", UNMASKED)
def test_what_masks_nothing_is_refused_with_its_reason(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMS, "other", form)
    with pytest.raises(UnsupportedError, match=UNMASKED[form]):
        converted(tmp_path, network("other"))


def test_places_beyond_the_table_are_refused(tmp_path: Path) -> None:
    _, conversion = converted(tmp_path, network("infinite"))
    data = samples(2)
    data["ids"][1, 2] = 12
    for runtime in (NumpyPacked, NumpyTimestep, OnnxRuntime):
        with pytest.raises(InputError) as caught:
            runtime(conversion.model).run(data)
        assert caught.value.code == "SNN347"


def test_random_samples_are_rows_and_masks(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network("bert"), path)
    conversion = convert(path, ConvertOptions(calibrate="random:8"))
    from snnc.data.named import load_samples

    drawn = load_samples("random:50", NumpyPacked(conversion.model).inputs)
    assert drawn["ids"].min() == 0
    assert drawn["ids"].max() == 11
    assert set(np.unique(drawn["open"])) == {0, 1}
    assert (np.diff(drawn["open"], axis=1) <= 0).all()
    assert drawn["open"][:, 0].all()


def test_a_mask_of_zeros_for_every_sample(tmp_path, network):
    """A mask made of the batch size, as exporters write it for cross attention: nothing is added."""
    weights = ", ".join(f"float[6, 6] {name} = {{RANDOM}}" for name in ("q", "k", "v", "o"))
    source = network(
        f"""g (float[N,4,6] x) => (float[N,4,6] y) <{weights}, int64[1] z = {{0}}, int64[2] r = {{4, 4}}> {{
        s = Shape(x) n = Gather(s, z) e = Concat<axis = 0>(n, r) m = ConstantOfShape(e)
        a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v) t = Transpose<perm = [0, 2, 1]>(b)
        w = MatMul(a, t) u = Add(w, m) p = Softmax<axis = -1>(u) h = MatMul(p, c) y = MatMul(h, o) }}""",
        17,
    )
    samples = np.random.default_rng(3).standard_normal((16, 4, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", samples)
    conversion = convert(source, ConvertOptions(calibrate=str(tmp_path / "x.npy")))
    assert verify(source, conversion.model, {"x": samples[:3]}).identical
