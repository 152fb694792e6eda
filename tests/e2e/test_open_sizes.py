"""Networks whose sequence length is open: it becomes that of the calibration data, or a given one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from snnc.compile import ConvertOptions, convert, look_through, options_of_file
from snnc.cost.audit import audit
from snnc.debug.verify import verify
from snnc.errors import InputError, UnsupportedError, UsageError
from snnc.ir import save
from snnc.runtimes import OnnxRuntime

Network = Callable[..., Path]

#: Position ids by Shape, Gather, Range, Unsqueeze; a causal mask by comparison and Expand; heads by Reshape.
TEXT = """g (int64[batch, sequence] ids) => (float[batch, sequence, 4] y)
<float[20, 8] words = {RANDOM}, float[16, 8] places = {RANDOM}, float[8, 8] wq = {RANDOM},
 float[8, 8] wk = {RANDOM}, float[8, 8] wv = {RANDOM}, float[8, 4] wo = {RANDOM}, int64[1] rows = {1},
 int64 first = {0}, int64 second = {1}, int64 one = {1}, int64[1] zero = {0}, int64[3] parts = {-1, 2, 4},
 float open = {0}, float closed = {-3.4e38}> {
  shape = Shape(ids)
  n = Gather<axis = 0>(shape, first)
  t = Gather<axis = 0>(shape, second)
  count = Range(first, t, one)
  row = Unsqueeze(count, zero)
  column = Unsqueeze(count, rows)
  later = Greater(row, column)
  n1 = Unsqueeze(n, zero)
  t1 = Unsqueeze(t, zero)
  ones = Unsqueeze(one, zero)
  extents = Concat<axis = 0>(n1, ones, t1, t1)
  everywhere = Expand(later, extents)
  mask = Where(everywhere, closed, open)
  w = Gather<axis = 0>(words, ids)
  p = Gather<axis = 0>(places, row)
  x = Add(w, p)
  heads = Constant<value = int64[2] {2, 4}>()
  split = Concat<axis = 0>(n1, t1, heads)
  width = Constant<value = int64[1] {8}>()
  joined = Concat<axis = 0>(n1, t1, width)
  q0 = MatMul(x, wq)
  q1 = Reshape(q0, split)
  q = Transpose<perm = [0, 2, 1, 3]>(q1)
  k0 = MatMul(x, wk)
  k1 = Reshape(k0, split)
  k = Transpose<perm = [0, 2, 3, 1]>(k1)
  v0 = MatMul(x, wv)
  v1 = Reshape(v0, split)
  v = Transpose<perm = [0, 2, 1, 3]>(v1)
  raw = MatMul(q, k)
  s = Add(raw, mask)
  a = Softmax<axis = -1>(s)
  z0 = MatMul(a, v)
  z1 = Transpose<perm = [0, 2, 1, 3]>(z0)
  z = Reshape(z1, joined)
  y = MatMul(z, wo)
}"""


def ids(tokens: int, count: int = 12) -> np.ndarray:
    return np.random.default_rng(tokens).integers(0, 20, (count, tokens))


@pytest.mark.parametrize("given", [(), ("ids:1=7",)])
def test_the_length_is_that_of_the_data_or_the_one_given(
    network: Network, tmp_path: Path, given: tuple[str, ...]
) -> None:
    source = network(TEXT)
    np.savez(tmp_path / "x.npz", ids=ids(7))
    conversion = convert(source, ConvertOptions(8, 8, calibrate=str(tmp_path / "x.npz"), sizes=given))
    target = tmp_path / "out.snn.onnx"
    save(conversion.model, target)
    assert options_of_file(conversion.model).sizes == (given or ("sequence=7",))
    report = verify(source, target, {"ids": ids(7, 5)})
    assert report.identical, report.first_mismatch()
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 25
    assert audit(conversion.model).clean
    with pytest.raises(InputError, match="SNN336"):
        OnnxRuntime(conversion.model).run({"ids": ids(6)})
    for value in (*onnx.load(target).graph.input, *onnx.load(target).graph.output):
        dims = value.type.tensor_type.shape.dim
        assert not dims[0].HasField("dim_value"), value.name
        assert dims[1].dim_value == 7, value.name
    assert any("sequence = 7 alone" in note for record in conversion.records for note in record.notes)


def test_random_samples_need_the_number(network: Network) -> None:
    with pytest.raises(UsageError, match=r"(?s)SNN232.*--size"):
        convert(network(TEXT), ConvertOptions(calibrate="random:8"))


def test_without_data_the_number_is_asked_for(network: Network) -> None:
    with pytest.raises(UsageError, match=r"(?s)SNN293.*open: sequence.*--calibrate x.npz.*--size sequence="):
        convert(network(TEXT))


def test_sizes_that_do_not_fit(network: Network, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=ids(7))
    options = {"calibrate": str(tmp_path / "x.npz")}
    with pytest.raises(UsageError, match=r"(?s)SNN292.*open sizes: batch, sequence"):
        convert(network(TEXT), ConvertOptions(**options, sizes=("length=7",)))
    with pytest.raises(UsageError, match=r"(?s)SNN292.*two numbers"):
        convert(network(TEXT), ConvertOptions(**options, sizes=("sequence=7", "sequence=8")))
    with pytest.raises(UsageError, match="SNN272"):
        ConvertOptions(sizes=("sequence",))
    with pytest.raises(InputError, match="SNN336"):
        convert(network(TEXT), ConvertOptions(**options, sizes=("sequence=8",)))


def test_samples_of_several_lengths_are_refused(network: Network) -> None:
    batches = [{"ids": ids(7)}, {"ids": ids(8)}]
    with pytest.raises(InputError, match=r"SNN348: .*'sequence' is 7 and 8"):
        convert(network(TEXT), calibration=batches)


def test_without_data_any_length_shows_what_can_be_converted(network: Network) -> None:
    text = TEXT.replace("float[16, 8] places", "float[64, 8] places")
    assert not look_through(network(text)).problems


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_a_tracer_wrote_into_a_reshape(
    network: Callable[..., Path], tmp_path: Path, batch: int
) -> None:
    """The input's batch is open, the Reshape has the number that was traced with."""
    source = network(
        f"""g (float[N, 4, 6] x) => (float[N, 5] y)
        <float[6, 6] w = {{RANDOM}}, float[24, 5] v = {{RANDOM}}, int64[2] flat = {{{batch}, 24}}> {{
        a = MatMul(x, w) r = Relu(a) f = Reshape(r, flat) y = MatMul(f, v) }}"""
    )
    samples = np.random.default_rng(0).standard_normal((16, 4, 6)).astype(np.float32)
    with pytest.raises(UnsupportedError, match=f"'n_f': Reshape: a fixed number of samples, {batch}, where"):
        convert(source, ConvertOptions(), calibration=samples)
