"""The digest sees every change that matters and no other."""

from __future__ import annotations

import numpy as np
import pytest

from snnc import ir
from snnc.pipeline import GraphDigest


def rename_node(model):
    model.graph.node(1).name = "other"


def rename_value(model):
    model.graph.node(1).outputs[0].name = "other"


def reorder(model):
    first = model.graph.node(0)
    model.graph.remove(first)
    model.graph.append(first)


def weight(model):
    value = model.graph.initializers["w"]
    array = np.array(ir.constant(value))
    array[2, 1] = np.nextafter(array[2, 1], np.float32(9))
    value.const_value = ir.tensor(array, name="w")


def attribute(model):
    node = model.graph.node(2)
    node.attributes["note"] = ir.Attr("note", node_attribute_type(), 3)


def node_attribute_type():
    import onnx_ir

    return onnx_ir.AttributeType.INT


def shape(model):
    model.graph.node(0).outputs[0].shape = ir.Shape([7, 3])


def opset(model):
    model.graph.opset_imports["ai.snnc"] = 1


def metadata(model):
    model.metadata_props["key"] = "value"


def node_metadata(model):
    model.graph.node(0).metadata_props["key"] = "value"


def output_order(model):
    model.graph.outputs.append(model.graph.node(0).outputs[0])


CHANGES = [
    rename_node,
    rename_value,
    reorder,
    weight,
    attribute,
    shape,
    opset,
    metadata,
    node_metadata,
    output_order,
]


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_counts(model, change, content):
    digest = GraphDigest(content=content)
    before = digest(model)
    change(model)
    assert digest(model) != before


def test_equal_models_have_equal_digests(toys):
    assert GraphDigest()(toys.make()) == GraphDigest(remember=False)(toys.make())


def test_private_notes_do_not_count(model):
    digest = GraphDigest()
    before = digest(model)
    model.graph.meta["note"] = object()
    assert digest(model) == before


def test_cache_follows_tensor_objects_and_forgets_removed_ones(model):
    digest = GraphDigest()
    before = digest(model)
    value = model.graph.initializers["w"]
    array = np.array(ir.constant(value))
    value.const_value = ir.tensor(array * 2, name="w")
    assert digest(model) != before
    value.const_value = ir.tensor(array, name="w")
    assert digest(model) == before


NESTED = """
<ir_version: 10, opset_import: ["" : 17, "local" : 1]>
nested (float[3] x, bool c) => (float[3] y)
{
    [branch] t = If (c) <
        then_branch = a () => (float[3] u) { [inner] u = Relu(x) },
        else_branch = b () => (float[3] v) { [other] v = Neg(x) }
    >
    [table] k = Constant<value = float[3] {1.0, 2.0, 3.0}>()
    [sum] s = Add(t, k)
    [call] y = local.Twice(s)
}
<domain: "local", opset_import: ["" : 17]>
Twice (i) => (o) { [double] o = Add(i, i) }
"""


def branch_node(model):
    next(iter(model.graph.node("branch").attributes["then_branch"].as_graph())).op_type = "Neg"


def function_node(model):
    next(iter(next(iter(model.functions.values())))).op_type = "Mul"


def function_opset(model):
    next(iter(model.functions.values())).opset_imports[""] = 18


def attribute_tensor(model):
    attributes = model.graph.node("table").attributes
    held = ir.tensor(np.array([1.0, 2.0, 4.0], np.float32))
    attributes["value"] = ir.Attr("value", attributes["value"].type, held)


@pytest.mark.parametrize("change", [branch_node, function_node, function_opset, attribute_tensor])
def test_changes_within_branches_functions_and_attributes_count(toys, change):
    model, digest = toys.make(NESTED), GraphDigest()
    before = digest(model)
    assert digest(model) == before
    change(model)
    assert digest(model) != before
