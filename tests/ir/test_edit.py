"""Names and removals stay linear, whatever a graph is like."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
import pytest

from snnc.ir import initializer, remove_node, unique_name
from snnc.ir.edit import release_name


def graph() -> ir.Graph:
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2]))
    return ir.Graph([source], [], nodes=[], name="g")


def test_names_count_up_from_the_lowest_that_is_free():
    made = graph()
    assert [unique_name(made, stem) for stem in ("x", "a", "a", "a", "a_1", "x")] == [
        "x_1", "a", "a_1", "a_2", "a_1_1", "x_2",
    ]  # fmt: skip
    assert unique_name(made, "a", of_node=True) == "a"
    release_name(made, "a_1")
    assert [unique_name(made, "a") for _ in range(2)] == ["a_1", "a_3"]
    release_name(made, "a")
    assert [unique_name(made, "a") for _ in range(2)] == ["a", "a_4"]
    initializer(made, "b", np.zeros(2, np.float32))
    assert unique_name(made, "b") == "b_1"


def test_as_many_names_as_wanted_of_one_stem_take_no_more_than_a_moment():
    made, before = graph(), time.process_time()
    names = [unique_name(made, "sum") for _ in range(50_000)]
    assert len(set(names)) == 50_000 and time.process_time() - before < 5  # it was a minute and more


def test_a_node_that_reads_very_many_values_is_removed_in_a_moment():
    made = graph()
    source = made.inputs[0]
    node = ir.node("Sum", [source] * 100_000, name="sum")
    last = ir.node("Relu", [node.outputs[0]], name="last")
    made.extend([node, last])
    with pytest.raises(ValueError, match="'sum' is still needed"):
        remove_node(made, node)
    before = time.process_time()
    remove_node(made, last)
    remove_node(made, node)
    assert time.process_time() - before < 5  # it was minutes
    assert not list(made) and not source.uses() and node.graph is None
    with pytest.raises(ValueError, match="'sum' is of another graph"):
        remove_node(made, node)


def test_a_node_that_gives_an_output_of_the_graph_stays():
    made = graph()
    node = ir.node("Relu", [made.inputs[0]], name="relu")
    made.append(node)
    made.outputs.append(node.outputs[0])
    with pytest.raises(ValueError, match="'relu' is still needed"):
        remove_node(made, node)
    assert list(made) == [node] and node.inputs[0] is made.inputs[0]
