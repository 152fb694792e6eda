"""The audit: clean on converted networks, and every way to smuggle a multiplication in is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import convert
from snnc.cost.audit import ARITHMETIC, OPERATIONS, audit
from snnc.ir import AI_SNNC, DataType, Model, initializer, make_node
from snnc.ir.hosting import DECLARED
from snnc.ops import OPS

SOURCES = Path(__file__).parents[1] / "sources"


@pytest.fixture
def spiking() -> Model:
    return convert(SOURCES / "qcfs_dynamo.onnx").model


def first(model: Model, op: str) -> Any:
    return next(node for node in model.graph if node.op_type == op)


def put_behind(model: Model, node: Any, op: str, inputs: list[Any], domain: str = "") -> Any:
    """Let everything that reads a node read ``op`` of it instead."""
    uses = list(node.outputs[0].uses())
    made = make_node(
        model.graph, op, inputs, domain=domain, name="smuggled", dtype=node.outputs[0].dtype or DataType.INT32
    )
    model.graph.insert_after(node, made)
    for reader, position in uses:
        reader.replace_input_with(position, made.outputs[0])
    return made


def found(model: Model) -> list[str]:
    return [row.node for row in audit(model).findings]


def test_every_op_of_the_spike_dialect_is_classified() -> None:
    assert set(ARITHMETIC) == {name for name, op in OPS.items() if op.dialect != "quant"}


def test_converted_networks_are_clean(spiking: Model) -> None:
    report = audit(spiking)
    assert report.clean
    assert {row.op.removeprefix("ai.snnc::") for row in report.host} <= {
        "FixedPointEncode",
        "HostConv",
        "Readout",
    }


def test_product_of_two_runtime_values_is_found(spiking: Model) -> None:
    neuron = first(spiking, "ExpGIF")
    put_behind(spiking, neuron, "Mul", [neuron.outputs[0], neuron.outputs[0]])
    assert "smuggled" in found(spiking)


def test_product_with_a_constant_outside_the_dialect_is_found(spiking: Model) -> None:
    conv = first(spiking, "SpikeConv")
    factor = initializer(spiking.graph, "factor", np.array([3], dtype=np.int32))
    put_behind(spiking, conv, "Mul", [conv.outputs[0], factor])
    assert "smuggled" in found(spiking)


def test_multiplier_computed_at_run_time_is_found(spiking: Model) -> None:
    conv = first(spiking, "SpikeConv")
    put_behind(spiking, conv, "MembraneScale", [conv.outputs[0], conv.outputs[0]], AI_SNNC)
    assert "smuggled" in found(spiking)


def test_constant_multiplier_counts_as_shift_adds(spiking: Model) -> None:
    conv = first(spiking, "SpikeConv")
    factor = initializer(spiking.graph, "factor", np.array([3], dtype=np.int32))
    put_behind(spiking, conv, "MembraneScale", [conv.outputs[0], factor], AI_SNNC)
    before = audit(convert(SOURCES / "qcfs_dynamo.onnx").model).counts().get("shift-adds", 0)
    assert audit(spiking).counts()["shift-adds"] == before + 1
    assert audit(spiking).clean


def test_synapse_that_reads_a_membrane_is_found(spiking: Model) -> None:
    neuron = next(
        node
        for node in spiking.graph
        if node.op_type == "ExpGIF" and node.outputs[0].uses()[0][0].op_type == "SpikeConv"
    )
    reader, position = neuron.outputs[0].uses()[0]
    reader.replace_input_with(position, neuron.inputs[0])
    assert reader.name in found(spiking)


def test_weights_computed_at_run_time_are_found(spiking: Model) -> None:
    conv = first(spiking, "SpikeConv")
    conv.replace_input_with(1, conv.inputs[0])
    assert found(spiking) == [conv.name]


def test_body_that_is_not_the_definition_is_found(spiking: Model) -> None:
    key = next(key for key in spiking.functions if key[1] == "MembraneAdd")
    body = spiking.functions[key]
    next(iter(body)).op_type = "Mul"
    assert found(spiking) == ["MembraneAdd"]


def declare(node: Any) -> None:
    node.metadata_props[DECLARED] = '{"op": "Mul", "asked": "Mul"}'


def test_product_that_says_it_is_on_the_host_is_found(spiking: Model) -> None:
    """Metadata does not move spikes to the host: the values a node reads do."""
    neuron = first(spiking, "ExpGIF")
    made = put_behind(spiking, neuron, "Mul", [neuron.outputs[0], neuron.outputs[0]])
    declare(made)
    assert "smuggled" in found(spiking)


def test_arithmetic_behind_a_readout_has_to_be_declared(spiking: Model) -> None:
    readout = first(spiking, "Readout")
    value = readout.outputs[0]
    made = make_node(spiking.graph, "Mul", [value, value], name="smuggled", dtype=DataType.FLOAT)
    spiking.graph.append(made)
    assert found(spiking) == ["smuggled"]
    declare(made)
    report = audit(spiking)
    assert report.clean
    assert report.claim.endswith("except host nodes: smuggled (Mul)")
    assert report.operations()["products of run-time values"] == (0, 1)


def test_floats_of_the_host_come_back_through_an_encoder_alone(spiking: Model) -> None:
    adder = first(spiking, "MembraneAdd")
    adder.replace_input_with(1, spiking.graph.inputs[0])
    assert adder.name in found(spiking)


def test_operations_are_counted(spiking: Model) -> None:
    counts = audit(spiking).operations()
    assert set(counts) == set(OPERATIONS)
    scaled = [node for node in spiking.graph if node.op_type == "MembraneScale"]
    assert counts["products with constants"][0] <= len(scaled)
    # The first layer, and the readout.
    assert counts["products with constants"][1] == 2
    assert all(counts[name][0] == 0 for name in ("products of run-time values", "divisions", "exponentials"))
    neuron = first(spiking, "ExpGIF")
    put_behind(spiking, neuron, "Softmax", [neuron.outputs[0]])
    counts = audit(spiking).operations()
    assert (counts["exponentials"], counts["divisions"]) == ((1, 0), (1, 0))


def test_unknown_operator_is_found(spiking: Model) -> None:
    neuron = first(spiking, "ExpGIF")
    put_behind(spiking, neuron, "Softmax", [neuron.outputs[0]])
    assert "smuggled" in found(spiking)


def test_arithmetic_on_constants_alone_is_no_product_of_the_network(spiking: Model) -> None:
    numbers = initializer(spiking.graph, "numbers", np.arange(4, dtype=np.int64))
    made = make_node(spiking.graph, "Mul", [numbers, numbers], domain="", name="fixed", dtype=DataType.INT64)
    spiking.graph.insert_before(next(iter(spiking.graph)), made)
    assert audit(spiking).clean
    # What takes them for weights is found all the same.
    synapse = first(spiking, "SpikeConv")
    synapse.replace_input_with(1, made.outputs[0])
    assert synapse.name in found(spiking)
