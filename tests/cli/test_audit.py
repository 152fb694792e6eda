"""What `snnc audit` says of files that it cannot clear."""

from __future__ import annotations

import onnx
import pytest

from snnc import __version__


@pytest.mark.parametrize("version", ["0.0.9", None])
def test_a_file_of_another_snnc_has_to_be_converted_again(home, snnc, version):
    """Function bodies of another snnc multiply nothing, and --allow-host has no part in it."""
    model = onnx.load("net.snn.onnx")
    body = next(function for function in model.functions if function.name == "ExpGIF")
    extra = body.node.add()
    extra.CopyFrom(onnx.helper.make_node("Identity", [body.input[0]], ["unused_here"]))
    if version is not None:
        model.metadata_props.add(key="snnc.version", value=version)
    onnx.save(model, "old.snn.onnx")
    done = snnc("audit", "old.snn.onnx")
    assert done.exit_code == 5 and "SNN521" in done.stderr and "ExpGIF" in done.stderr
    assert f"this snnc, {__version__}" in " ".join(done.stderr.split())
    assert "convert the source again" in " ".join(done.stderr.split())
    assert (version or "another state of snnc") in " ".join(done.stderr.split())
    assert "allow-host" not in done.stderr
    assert snnc("emit", "old.snn.onnx", "-o", "bundle").exit_code == 0
    done = snnc("audit", "bundle")
    assert done.exit_code == 5 and "write the bundle again" in " ".join(done.stderr.split())


def test_a_multiplication_beside_it_is_still_one(home, snnc):
    model = onnx.load("net.snn.onnx")
    body = next(function for function in model.functions if function.name == "ExpGIF")
    body.node.add().CopyFrom(onnx.helper.make_node("Identity", [body.input[0]], ["unused_here"]))
    square = onnx.helper.make_node("Mul", [model.graph.node[1].output[0]] * 2, ["squared"], "squared")
    model.graph.node.insert(2, square)
    onnx.save(model, "old.snn.onnx")
    done = snnc("audit", "old.snn.onnx")
    assert done.exit_code == 5 and "SNN520" in done.stderr and "squared" in done.stderr
