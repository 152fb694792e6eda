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
