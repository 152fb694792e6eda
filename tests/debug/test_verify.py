"""``verify``: what it compares, and that each comparison can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.debug.distance import Distance
from snnc.debug.verify import Comparison, batch_size, default_runtimes, verify
from snnc.errors import InputError, MismatchError
from snnc.ir import load, save
from snnc.ops import attach_functions
from snnc.runtimes import NumpyPacked, OnnxRuntime

SIGNED = CodeBook(4, 4, signed=True)
PACKED = {"numpy": NumpyPacked}


@pytest.fixture(scope="module")
def network(net: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """Source file, converted model and data of a small network with three codes and two outputs."""
    made = net()
    first = made.quantise(made.conv(made.input(["N", 2, 4, 4]), (3, 2, 3, 3)), 0.3, name="first")
    second = made.quantise(made.conv(first, (3, 3, 3, 3)), 0.3, SIGNED, name="second")
    logits = made.matmul(made.op("Flatten", [second]), (48, 4))
    made.output(logits, second)
    path = made.save(tmp_path_factory.mktemp("net"))
    return path, convert(path).model, made.feeds(batch=70)


class Altered:
    """A runtime whose result for one tensor is not what it should be."""

    def __init__(
        self, model: Any, tensor: str, change: Callable[[Any], Any], base: Any = NumpyPacked
    ) -> None:
        self._runtime, self._tensor, self._change = base(model), tensor, change

    @property
    def inputs(self) -> Any:
        return self._runtime.inputs

    @property
    def outputs(self) -> Any:
        return self._runtime.outputs

    def run(self, inputs: Mapping[str, Any], taps: Sequence[str] = ()) -> dict[str, Any]:
        found = dict(self._runtime.run(inputs, taps))
        found[self._tensor] = self._change(found[self._tensor].copy())
        return found


def one_more(array: Any) -> Any:
    array[3].flat[1] += 1
    return array


def one_bit(array: Any) -> Any:
    array.view(np.int32)[3].flat[1] ^= 1
    return array


def test_every_runtime_is_compared(network: Any) -> None:
    path, model, feeds = network
    report = verify(path, model, feeds)
    assert report.identical and report.first_mismatch() is None and report.samples == 70
    assert [a.runtime for a in report.agreements] == [
        "numpy",
        "numpy-timestep",
        *(f"onnxruntime ({level})" for level in ("none", "basic", "extended", "all")),
    ]
    for agreement in report.agreements:
        assert list(agreement.tensors) == ["first", "second_integers", "matmul", "second"]
        assert [c.elements for c in agreement.tensors.values()] == [70 * 48, 70 * 48, 70 * 4, 70 * 48]
    (distance, _) = report.distances
    assert distance.samples == 70 and (distance.decibel or 0) > 15


@pytest.mark.parametrize(
    ("tensor", "change", "shown"),
    [
        ("first", one_more, r"first at \(3, "),
        ("second_integers", one_more, "expected"),
        ("matmul", one_bit, r"first at \(3, "),
        ("second", one_bit, "1 of"),
    ],
)
def test_one_wrong_element_of_any_tensor_is_found(network: Any, tensor: str, change: Any, shown: str) -> None:
    path, model, feeds = network
    runtimes = {"good": NumpyPacked, "bad": lambda made: Altered(made, tensor, change)}
    report = verify(path, model, {"x": feeds["x"][:5]}, runtimes=runtimes)
    good, bad = report.agreements
    assert good.identical and not bad.identical and not report.identical
    assert bad.mismatches == 1 and bad.first is not None and bad.first.tensor == tensor
    error = report.first_mismatch()
    assert error is not None and error.code == "SNN510" and error.where.tensor == tensor
    assert error.message.startswith("bad differs")
    assert shown.replace("\\", "") in error.message


@pytest.mark.parametrize("name", list(default_runtimes()))
def test_every_default_runtime_can_fail(network: Any, name: str) -> None:
    path, model, feeds = network
    make = default_runtimes()[name]
    runtimes = {name: lambda made: Altered(made, "matmul", one_bit, make)}
    report = verify(path, model, {"x": feeds["x"][:4]}, runtimes=runtimes)
    assert not report.identical and report.agreements[0].tensors["first"].mismatches == 0


def test_the_first_differing_tensor_in_graph_order_is_named(network: Any) -> None:
    path, model, feeds = network

    class Both(Altered):
        def run(self, inputs: Any, taps: Any = ()) -> Any:
            found = super().run(inputs, taps)
            found["matmul"] = one_bit(found["matmul"].copy())
            return found

    report = verify(
        path, model, {"x": feeds["x"][:4]}, runtimes={"bad": lambda m: Both(m, "second_integers", one_more)}
    )
    error = report.first_mismatch()
    assert error is not None and error.where.tensor == "second_integers"


def test_the_sample_named_counts_through_batches(network: Any) -> None:
    path, model, feeds = network

    class Late(Altered):
        def run(self, inputs: Any, taps: Any = ()) -> Any:
            if len(inputs["x"]) == 64:
                return self._runtime.run(inputs, taps)
            return super().run(inputs, taps)

    report = verify(path, model, feeds, runtimes={"late": lambda made: Late(made, "first", one_more)})
    first = report.agreements[0].tensors["first"].first
    assert first is not None and first[0][0] == 64 + 3 and first[2] == first[1] + 1


def test_outputs_come_from_the_file_as_it_is(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that taps hide (they block fusions) is found all the same."""
    path, model, feeds = network
    run = OnnxRuntime.run

    def without_taps_wrong(self: Any, inputs: Any, taps: Any = ()) -> Any:
        found = run(self, inputs, taps)
        return found if taps else {**found, "matmul": one_bit(found["matmul"].copy())}

    monkeypatch.setattr(OnnxRuntime, "run", without_taps_wrong)
    name = "onnxruntime (all)"
    report = verify(path, model, {"x": feeds["x"][:4]}, runtimes={name: default_runtimes()[name]})
    assert report.agreements[0].tensors["matmul"].mismatches == 1


# --- the comparison itself ---


@pytest.mark.parametrize(
    ("expected", "found", "mismatches"),
    [
        (np.array([0.0, 1.0], np.float32), np.array([-0.0, 1.0], np.float32), 1),
        (np.array([np.nan], np.float32), np.array([np.nan], np.float32), 0),
        (np.array([1.0], np.float32), np.nextafter(np.array([1.0], np.float32), 2), 1),
        (np.array([1, 2], np.int32), np.array([1, 2], np.int8), 0),
        (np.array([255], np.int32), np.array([255], np.uint8), 0),
        (np.array([-1], np.int32), np.array([255], np.uint8), 1),
        (np.zeros((2, 3), np.int32), np.zeros((3, 2), np.int32), 6),
        (np.zeros((2, 0), np.int32), np.zeros((2, 1), np.int32), 1),
        (np.zeros((2, 1), np.float32), np.zeros(2, np.float32), 2),
    ],
)
def test_comparison(expected: Any, found: Any, mismatches: int) -> None:
    comparison = Comparison("x")
    comparison.add(expected, found, 0)
    assert comparison.mismatches == mismatches and comparison.elements == expected.size


def test_distance() -> None:
    distance = Distance("y")
    distance.add(np.array([[3.0, 4.0]], np.float32), np.array([[3.0, 4.5]], np.float32))
    assert distance.largest_error == 0.5 and distance.decibel == pytest.approx(20.0)
    assert distance.cosine == pytest.approx((9 + 18) / (5 * np.hypot(3, 4.5)))
    silent = Distance("y")
    silent.add(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32))
    assert silent.decibel is None and silent.cosine is None


def test_every_code_is_measured_against_the_tensor_of_the_source(network: Any) -> None:
    path, model, feeds = network
    report = verify(path, model, feeds, runtimes=PACKED)
    original = load(path)
    attach_functions(original)
    source = OnnxRuntime(original, "none").run(feeds, ["first", "second"])
    assert {name: entry.tensor for name, entry in report.tensors.items()} == {
        "first": "first",
        "second_integers": "second",
    }
    codes = NumpyPacked(model).run(feeds, ["first", "second_integers"])
    for name, entry in report.tensors.items():
        quantised = codes[name].astype(np.float32) * np.float32(0.3)
        assert entry.elements == 70 * 48
        assert entry.largest_error == pytest.approx(float(np.abs(quantised - source[entry.tensor]).max()))
        assert entry.noise == pytest.approx(float(((quantised - source[entry.tensor]) ** 2).sum()))


def test_fewer_samples_together_where_tensors_are_large(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model, feeds = network
    assert batch_size(model, ["first"]) == 64
    monkeypatch.setattr("snnc.debug.verify._TAPPED_ELEMENTS", 48 * 2 * 7)
    assert batch_size(model, ["first", "second_integers"]) == 7
    assert verify(path, model, feeds, runtimes=PACKED).samples == 70


def test_a_source_with_external_data_is_measured(network: Any, tmp_path: Path) -> None:
    path, _, feeds = network
    copy = tmp_path / "external.onnx"
    onnx.save(onnx.load(path), copy, save_as_external_data=True, location="w.data", size_threshold=0)
    report = verify(copy, convert(copy).model, feeds, runtimes=PACKED)
    assert report.identical and report.notes == []
    assert len(report.tensors) == 2 and len(report.distances) == 2


# --- models of other forms ---


def check(made: Any, folder: Path, feeds: Mapping[str, Any], **options: Any) -> Any:
    path = made.save(folder)
    report = verify(path, convert(path, ConvertOptions(**options)).model, feeds, runtimes=PACKED)
    assert report.identical, report.first_mismatch()
    return report


@pytest.mark.parametrize("count", [1, 4, 7])
def test_fixed_batch(net: Any, tmp_path: Path, count: int) -> None:
    made = net()
    x = made.quantise(made.input([4, 5, 3]), 0.3, SIGNED)
    rows = made.op("Reshape", [x, made.const([20, 3], np.int64)])
    rows = made.quantise(made.matmul(rows, (3, 6)), 0.3, SIGNED, name="rows")
    made.output(made.op("Reshape", [made.matmul(rows, (6, 2)), made.const([4, 5, 2], np.int64)]))
    feeds = {"x": made.random.standard_normal((count, 5, 3)).astype(np.float32)}
    report = check(made, tmp_path, feeds)
    assert report.samples == count
    assert report.agreements[0].tensors["rows"].elements == count * 5 * 6


@pytest.mark.parametrize("count", [3, 66])
def test_codes_with_several_rows_a_sample(net: Any, tmp_path: Path, count: int) -> None:
    made = net()
    x = made.quantise(made.input(["N", 5, 3]), 0.3, SIGNED)
    rows = made.op("Reshape", [x, made.const([-1, 3], np.int64)])
    rows = made.quantise(made.matmul(rows, (3, 6)), 0.3, SIGNED, name="rows")
    made.output(made.op("Reshape", [made.matmul(rows, (6, 2)), made.const([-1, 5, 2], np.int64)]))
    report = check(made, tmp_path, made.feeds(batch=count))
    assert report.agreements[0].tensors["rows"].elements == count * 5 * 6


def test_codes_with_the_samples_on_another_axis(net: Any, tmp_path: Path) -> None:
    made = net()
    x = made.quantise(made.input(["N", 5, 3]), 0.3, SIGNED)
    turned = made.op("Transpose", [made.matmul(x, (3, 4))], perm=[1, 0, 2])
    turned = made.quantise(turned, 0.3, SIGNED, name="turned")
    made.output(made.op("Transpose", [turned], perm=[1, 0, 2]))
    check(made, tmp_path, made.feeds(batch=3))


def test_several_inputs_and_the_options_of_the_file(net: Any, tmp_path: Path) -> None:
    made = net()
    a = made.matmul(made.quantise(made.input(["N", 4], name="a"), 0.3, (4, 4)), (4, 3))
    b = made.matmul(made.quantise(made.input(["N", 4], name="b"), 0.3, (4, 4)), (4, 3))
    made.output(made.quantise(made.op("Add", [a, b]), 0.3, (4, 4)))
    check(made, tmp_path, made.feeds(batch=5), timesteps=3, groups=2, partition="contiguous", weights="int4")


# --- accuracy, and files that do not belong together ---


def test_accuracy_counts_the_same_samples_for_all(network: Any) -> None:
    path, model, feeds = network
    scores = NumpyPacked(model).run(feeds)["matmul"].argmax(axis=1)
    labels = scores.copy()
    labels[:7] = (labels[:7] + 1) % 4
    report = verify(path, model, feeds, labels, runtimes=PACKED)
    assert report.accuracy["numpy"] == report.accuracy["oracle"] == 63
    assert 0 < report.accuracy["source"] <= 70
    with pytest.raises(InputError, match="SNN339"):
        verify(path, model, feeds, labels[:-1], runtimes=PACKED)


def test_another_networks_file_is_refused(network: Any, net: Any, tmp_path: Path) -> None:
    _, model, _ = network
    made = net()
    made.output(made.quantise(made.input(["N", 2, 4, 4]), 0.3, name="other"))
    with pytest.raises(MismatchError, match="SNN511") as caught:
        verify(made.save(tmp_path), model, made.feeds())
    assert "other" in caught.value.message


def test_a_changed_file_is_found(network: Any, tmp_path: Path) -> None:
    """Not a broken pass but a damaged file: one threshold, one weight."""
    import onnx
    from onnx import numpy_helper

    path, model, feeds = network
    save(model, tmp_path / "good.onnx")
    changes = {
        # Still in order, or the file would be refused.
        "second_thresholds": lambda array: array.__setitem__(
            (0, slice(array.shape[1] // 2, None)), array.max()
        ),
        "w1_integers_weights": lambda array: array.__setitem__((0, 0, 1, 1), array[0, 0, 1, 1] // 2 - 3),
    }
    for part, change in changes.items():
        proto = onnx.load(tmp_path / "good.onnx")
        at = [tensor.name for tensor in proto.graph.initializer].index(part)
        array = numpy_helper.to_array(proto.graph.initializer[at]).copy()
        change(array)
        proto.graph.initializer[at].CopyFrom(numpy_helper.from_array(array, part))
        onnx.save(proto, tmp_path / "bad.onnx")
        report = verify(path, tmp_path / "bad.onnx", {"x": feeds["x"][:20]}, runtimes=PACKED)
        error = report.first_mismatch()
        assert error is not None and error.where.tensor == "second_integers"


def test_progress_ends_at_the_number_of_samples(network: Any) -> None:
    path, model, feeds = network
    seen: list[tuple[int, int]] = []
    verify(path, model, feeds, runtimes=PACKED, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 70), (70, 70)]
