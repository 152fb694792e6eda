"""Rounding for the sums and corrected biases: never worse on what was seen, and recorded in the file."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from snnc.calibration import Calibration, observe_inputs
from snnc.compile import (
    ConvertOptions,
    choices_of_file,
    convert,
    load_spiking,
    options_of_file,
    quantise,
    repairs_of_file,
)
from snnc.data import open_samples
from snnc.errors import InputError, UsageError
from snnc.ir import attributes, constant, to_bytes
from snnc.passes.quantise.reconstruct import Inputs, Repair, read_repairs, repaired, write_repairs
from snnc.runtimes import NumpyPacked, OnnxRuntime

Array = Any


def correlated(random: Any, count: int, rows: int) -> Array:
    return random.standard_normal((count, rows)) @ random.standard_normal((rows, rows)) + 0.5


def test_sums_err_less_and_no_column_more_than_by_nearest_integers() -> None:
    random = np.random.default_rng(0)
    x = correlated(random, 400, 12)
    weights = random.standard_normal((12, 40))
    step = np.abs(weights).max(axis=0, keepdims=True) / 3
    nearest = np.clip(np.rint(weights / step), -3, 3).astype(np.int64)
    inputs = Inputs(x.mean(0)[None], x.mean(0)[None], (x.T @ x / len(x))[None])
    repair = repaired(weights, np.ones((1, 1)), nearest, step, inputs, 3, convolution=False)
    assert repair.moved is not None
    chosen = nearest + repair.moved
    assert np.abs(chosen).max() <= 3
    before, after = (((x @ (whole * step - weights)) ** 2).sum(axis=0) for whole in (nearest, chosen))
    assert (after <= before * (1 + 1e-9)).all() and after.sum() < 0.6 * before.sum()
    np.testing.assert_allclose((x @ (chosen * step) + repair.bias).mean(0), (x @ weights).mean(0), atol=1e-5)


def test_three_weights_are_rounded_nearly_as_well_as_by_trying_all() -> None:
    random = np.random.default_rng(1)
    found = best = nearest_lost = 0.0
    for _ in range(40):
        x = correlated(random, 60, 3)
        weights = random.standard_normal((3, 1)) * 2
        moments = x.T @ x / len(x)
        nearest = np.rint(weights).astype(np.int64)
        inputs = Inputs(x.mean(0)[None], x.mean(0)[None], moments[None])
        repair = repaired(weights, np.ones((1, 1)), nearest, np.ones((1, 1)), inputs, 9, convolution=False)
        assert repair.moved is not None

        def lost(whole: Array, weights: Array = weights, moments: Array = moments) -> float:
            error = (whole - weights)[:, 0]
            return float(error @ moments @ error)

        around = [[np.floor(w) - 1, np.floor(w), np.ceil(w), np.ceil(w) + 1] for w in weights]
        found += lost(nearest + repair.moved)
        nearest_lost += lost(nearest)
        best += min(lost(np.array(corner)) for corner in itertools.product(*around))
    assert best <= found < best + 0.35 * (nearest_lost - best)


@pytest.mark.parametrize(
    ("shape", "weights", "attrs"),
    [
        ((3, 4, 6, 5), (8, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((3, 4, 7, 7), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [0, 1, 1, 0]}),
        ((3, 4, 9, 8), (4, 1, 3, 3), {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        ((3, 4, 11), (5, 4, 3), {"strides": [2], "pads": [1, 1]}),
    ],
)
def test_inputs_of_convolutions(shape: Any, weights: Any, attrs: Any, net: Any) -> None:
    """The weights times the mean input of a window are the mean output; the moments are those of windows."""
    made = net()
    x = made.input(["N", *shape[1:]])
    conv = made.op("Conv", [made.op("Relu", [x]), made.const(made.normal(*weights))], **attrs)
    made.output(conv)
    model = made.model()
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    node = next(node for node in model.graph if node.op_type == "Conv")
    found = observe_inputs(Calibration(open_samples(data)), model, [node.name or ""], True)[node.name or ""]
    outputs = next(iter(OnnxRuntime(model, "none").run({x: data}).values()))
    kernel = constant(node.inputs[1])
    assert kernel is not None and found.moments is not None
    groups = len(found.mean)
    split = kernel.reshape(groups, -1, found.mean.shape[1]).astype(np.float64)
    wanted = outputs.astype(np.float64).reshape(len(outputs), groups, -1, *outputs.shape[2:])
    means = wanted.mean(axis=(0, *range(3, wanted.ndim)))
    np.testing.assert_allclose(np.einsum("gor,gr->go", split, found.coded), means, rtol=1e-4, atol=1e-5)
    squares = (wanted**2).mean(axis=(0, *range(3, wanted.ndim)))
    given = np.einsum("gor,grs,gos->go", split, found.moments, split)
    np.testing.assert_allclose(given, squares, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.mean, found.coded)  # nothing is coded here


def network(net: Any) -> tuple[Any, Array]:
    made = net(opset=20)
    x = made.input(["N", 16])
    bias = made.const(np.full(48, 0.3, np.float32))
    hidden = made.op("Relu", [made.op("Add", [made.matmul(x, (16, 48)), bias])])
    hidden = made.op("Relu", [made.matmul(hidden, (48, 48))])
    made.output(made.matmul(hidden, (48, 10)))
    return made, correlated(np.random.default_rng(2), 300, 16).astype(np.float32)


def test_converted_networks_err_less_and_their_files_say_how(net: Any, tmp_path: Any) -> None:
    made, data = network(net)
    model, name = made.model(), made.model().graph.inputs[0].name
    wanted = next(iter(OnnxRuntime(model, "none").run({name: data}).values()))
    shift, noise = {}, {}
    for way in ("none", "biases", "weights"):
        options = ConvertOptions(weights="int3", reconstruct=way)  # type: ignore[arg-type]
        result = convert(model, options, calibration=data)
        outputs = [
            runtime.run({name: data}) for runtime in (NumpyPacked(result.model), OnnxRuntime(result.model))
        ]
        first, second = (next(iter(each.values())) for each in outputs)
        np.testing.assert_array_equal(first, second)
        shift[way] = np.abs((first - wanted).mean(axis=0)).max()
        noise[way] = float(((first - wanted) ** 2).mean())
        path = tmp_path / f"{way}.snn.onnx"
        path.write_bytes(to_bytes(result.model))
        file = load_spiking(path)
        again = quantise(model, options_of_file(file), choices_of_file(file), repairs_of_file(file))
        for one, other in zip(result.quantised.graph, again.graph, strict=True):
            assert one.op_type == other.op_type and attributes(one) == attributes(other)
            for held, kept in zip(one.inputs, other.inputs, strict=True):
                if constant(held) is not None:
                    np.testing.assert_array_equal(constant(held), constant(kept))
    assert shift["biases"] < 0.3 * shift["none"]
    assert noise["biases"] < noise["none"] and noise["weights"] < 0.7 * noise["biases"]


def test_without_data_there_is_nothing_to_mend_by(net: Any) -> None:
    made, data = network(net)
    with pytest.raises(UsageError, match="SNN26"):
        convert(made.model(), ConvertOptions(reconstruct="biases"))
    with pytest.raises(UsageError, match="reconstruct"):
        ConvertOptions(reconstruct="all")  # type: ignore[arg-type]
    assert repairs_of_file(convert(made.model(), calibration=data).model) is None


def test_records_of_repairs_are_read_as_they_were_written() -> None:
    random = np.random.default_rng(0)
    repairs = {
        "a": Repair(random.standard_normal(4).astype(np.float32)),
        "b": Repair(np.zeros(2, np.float32), random.integers(-3, 4, (2, 3, 1)).astype(np.int16)),
    }
    again = read_repairs(write_repairs(repairs))
    for name, repair in repairs.items():
        np.testing.assert_array_equal(again[name].bias, repair.bias)
        np.testing.assert_equal(again[name].moved, repair.moved)
    for text in ("[]", '{"a": 3}', '{"a": {"bias": "?"}}', '{"a": {"bias": "AAAA"}}'):
        with pytest.raises(InputError, match="SNN305"):
            read_repairs(text)


@pytest.mark.parametrize("moments", [False, True])
def test_groups_of_a_convolution_are_repaired_each_for_itself(moments: bool) -> None:
    """As products of matrices, of which a group's rows are the taps of its channels."""
    random = np.random.default_rng(2)
    groups, outputs, taps = 2, 3, 4
    weights = random.standard_normal((groups * outputs, 2, 2))
    step = np.abs(weights).max(axis=(1, 2), keepdims=True) / 3
    nearest = np.rint(weights / step).astype(np.int64)
    seen = [correlated(random, 300, taps) for _ in range(groups)]
    coded = [x + 0.1 for x in seen]
    squares = np.stack([x.T @ x / len(x) for x in coded]) if moments else None
    inputs = Inputs(np.stack([x.mean(0) for x in seen]), np.stack([x.mean(0) for x in coded]), squares)
    whole = repaired(weights, np.ones((1, 1, 1)), nearest, step, inputs, 3, convolution=True)
    for group in range(groups):
        part = slice(group * outputs, (group + 1) * outputs)
        of_one = Inputs(
            inputs.mean[group : group + 1],
            inputs.coded[group : group + 1],
            None if squares is None else squares[group : group + 1],
        )
        matrix, integers, steps = (
            np.ascontiguousarray(array[part].reshape(outputs, -1).T) for array in (weights, nearest, step)
        )
        alone = repaired(matrix, np.ones((1, 1)), integers, steps, of_one, 3, convolution=False)
        np.testing.assert_allclose(whole.bias[part], alone.bias, rtol=1e-6)
        assert (whole.moved is None) == (alone.moved is None) == (not moments)
        if moments:
            assert np.array_equal(whole.moved[part].reshape(outputs, -1).T, alone.moved)
            assert alone.moved.any()


def test_inputs_that_were_always_zero_move_nothing() -> None:
    random = np.random.default_rng(4)
    weights = random.standard_normal((5, 6))
    step = np.full((1, 6), 0.3)
    nearest = np.rint(weights / step).astype(np.int64)
    nothing = Inputs(np.zeros((1, 5)), np.zeros((1, 5)), np.zeros((1, 5, 5)))
    repair = repaired(weights, np.ones((1, 1)), nearest, step, nothing, 9, convolution=False)
    assert repair.moved is not None and not repair.moved.any() and not repair.bias.any()
