"""``snnc run``."""

from __future__ import annotations

import numpy as np
import pytest

from snnc import ir
from snnc.arrays import read_arrays

RUNTIMES = ["numpy", "numpy-timestep", "ort", "ort-stock", "expg1"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_every_runtime_writes_the_same_bits(home, snnc, reference, validate, runtime, suffix):
    result = snnc(
        "run", "net.snn.onnx", "--input", "x.npz", "--output", f"y.{suffix}", "--runtime", runtime, "--json"
    )
    assert result.exit_code == 0, result.output
    content = validate(result.stdout, "run")
    assert (content["samples"], content["runtime"]) == (5, runtime)
    assert content["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [5, 2]}]
    (logits,) = read_arrays(f"y.{suffix}").values()
    np.testing.assert_array_equal(logits, reference(read_arrays("x.npz")["image"]))


def test_any_number_of_samples_on_a_fixed_batch(home, snnc, reference):
    model = ir.load("net.snn.onnx")
    model.graph.inputs[0].shape = ir.Shape([3, 3])
    for value in [node.outputs[0] for node in model.graph]:
        value.shape = ir.Shape([3, value.shape[1]])
    ir.save(model, "fixed.snn.onnx")
    for runtime in RUNTIMES:
        done = snnc(
            "run", "fixed.snn.onnx", "--input", "x.npz", "--output", "y.npz", "--runtime", runtime, "--force"
        )
        assert done.exit_code == 0, done.output
        np.testing.assert_array_equal(
            read_arrays("y.npz")["logits"], reference(read_arrays("x.npz")["image"])
        )


def test_without_output_it_says_how_to_keep_it(home, snnc):
    result = snnc("run", "net.snn.onnx", "--input", "random:3")
    assert result.exit_code == 0
    assert "nothing; add --output y.npz" in result.stdout
    assert "not on real data" in result.stderr
    quiet = snnc("run", "net.snn.onnx", "--input", "random:3", "--quiet")
    assert quiet.stderr == ""


def test_existing_output_survives_without_force(home, snnc):
    (home / "y.npz").write_bytes(b"precious")
    result = snnc("run", "net.snn.onnx", "--input", "x.npz", "--output", "y.npz")
    assert (result.exit_code, (home / "y.npz").read_bytes()) == (2, b"precious")
    assert snnc("run", "net.snn.onnx", "--input", "x.npz", "--output", "y.npz", "--force").exit_code == 0
    assert (home / "y.npz").read_bytes() != b"precious"


@pytest.mark.parametrize("target", ["x.npz", "net.snn.onnx"])
def test_inputs_survive_force(home, snnc, target):
    before = (home / target).read_bytes()
    result = snnc("run", "net.snn.onnx", "--input", "x.npz", "--output", target, "--force")
    assert result.exit_code == 2
    assert (home / target).read_bytes() == before


@pytest.mark.parametrize(
    ("model", "source", "code", "text"),
    [
        ("net.snn.onxx", "x.npz", 3, "SNN301"),
        ("net.snn.onnx", "y.npz", 3, "SNN301"),
        ("x.npz", "x.npz", 3, "SNN302"),
        ("ann.onnx", "x.npz", 3, "is not a converted model"),
        ("net.snn.onnx", "net.snn.onnx", 3, "neither an .npy nor an .npz"),
        ("net.snn.onnx", "random:0", 2, "random:N"),
        ("net.snn.onnx", "wrong.npz", 3, "expected image: float32[?, 3]"),
        ("net.snn.onnx", "nan.npz", 3, "not finite"),
    ],
)
def test_refusals_name_the_file(home, snnc, model, source, code, text):
    np.savez("wrong.npz", image=np.zeros((2, 4), np.float32))
    np.savez("nan.npz", image=np.full((2, 3), np.nan, np.float32))
    result = snnc("run", model, "--input", source, "--output", "out.npz")
    assert result.exit_code == code
    assert text in result.stderr
    assert result.stderr.count("error:") == 1
    assert not (home / "out.npz").exists()


@pytest.mark.parametrize("target", ["y.txt", "y", "y.npz.gz"])
def test_unusable_suffix_is_refused_before_the_run(home, snnc, monkeypatch, target):
    def fail(*_, **__):
        raise AssertionError("the model was run")

    monkeypatch.setattr("snnc.runtimes.numpy_runtime.NumpyPacked.run", fail)
    result = snnc("run", "net.snn.onnx", "--input", "x.npz", "--output", target)
    assert result.exit_code == 2
    assert "end in .npy or .npz" in result.stderr
