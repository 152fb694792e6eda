"""``snnc inspect``."""

from __future__ import annotations

import numpy as np
import onnx_ir

from snnc import ir
from snnc.arrays import read_arrays


def test_text_tells_dialect_and_operators(home, snnc):
    result = snnc("inspect", "net.snn.onnx")
    assert result.exit_code == 0
    for text in ("spike", "image: float[N, 3]", "ai.snnc::ExpGIF", "neuron layer"):
        assert text in result.stdout
    assert result.stderr == ""
    assert "ann" in snnc("inspect", "ann.onnx").stdout


def test_document(home, snnc, validate):
    content = validate(snnc("inspect", "net.snn.onnx", "--json").stdout, "inspect")
    assert content["dialect"] == "spike"
    assert content["problems"] == []
    assert content["cost"] is None
    assert content["parameters"] == 31
    assert content["inputs"] == [{"name": "image", "dtype": "float", "shape": ["N", 3]}]
    assert content["operators"][0] == {"operator": "ai.snnc::SpikeMatMul", "count": 2, "first": "first"}
    neuron = content["neuron_layers"][1]
    assert (neuron["name"], neuron["timesteps"], neuron["groups"], neuron["levels"]) == ("neuron", 2, 2, 4)


def test_cost_is_counted_on_the_data(home, snnc, validate):
    content = validate(snnc("inspect", "net.snn.onnx", "--data", "x.npz", "--json").stdout, "inspect")
    codes = np.searchsorted([0.25, 0.5, 0.75], read_arrays("x.npz")["image"], side="right")
    spikes = int(np.array([0, 1, 1, 2])[codes].sum())
    layers = {layer["name"]: layer for layer in content["cost"]["layers"]}
    assert layers["encoder"]["spikes"] == spikes
    # Every input spike reaches the four neurons of the layer.
    assert layers["first"]["sops"] == 4 * spikes
    assert content["cost"]["images"] == 5


def test_invalid_spike_graph_is_said(home, snnc):
    model = ir.load("net.snn.onnx")
    node = model.graph.node(2)
    node.attributes["codes"] = ir.Attr("codes", onnx_ir.AttributeType.INTS, (0, 1, 2, 9))
    ir.save(model, "bad.snn.onnx")
    result = snnc("inspect", "bad.snn.onnx")
    assert "not a valid spike graph: node 'neuron'" in result.stdout


def test_hostile_names_stay_text(home, snnc):
    model = ir.load("ann.onnx")
    model.graph.node(0).name = "\x1b]0;pwned\x07[red]bold[/red]"
    ir.save(model, "evil.onnx")
    result = snnc("inspect", "evil.onnx")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "[red]bold[/red]" in result.stdout


def test_unknown_node_of_why_is_a_usage_error(home, snnc):
    result = snnc("inspect", "ann.onnx", "--why", "prodcut")
    assert result.exit_code == 2
    assert "did you mean product?" in result.stderr
