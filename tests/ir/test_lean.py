"""Large weights are taken out of a file before it is parsed, and nothing else of it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import InputError
from snnc.ir import constant, load
from snnc.ir.lean import take_out

RANDOM = np.random.default_rng(0)
LARGE = RANDOM.standard_normal((128, 160)).astype(np.float32)
SMALL = RANDOM.standard_normal(160).astype(np.float32)


def model(*weights: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "lean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 160])],
        [*weights, numpy_helper.from_array(SMALL, "b")],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def plain() -> TensorProto:
    tensor = numpy_helper.from_array(LARGE, "w")
    tensor.doc_string = "of a layer"
    return tensor


def as_numbers() -> TensorProto:
    return helper.make_tensor("w", TensorProto.FLOAT, LARGE.shape, LARGE.reshape(-1))


def of_half_floats() -> TensorProto:
    return numpy_helper.from_array(np.concatenate([LARGE, LARGE]).astype(np.float16), "w")


def of_brain_floats() -> TensorProto:
    bits = (np.concatenate([LARGE, LARGE]).view(np.uint32) >> 16).astype(np.uint16)
    return helper.make_tensor("w", TensorProto.BFLOAT16, bits.shape, bits.tobytes(), raw=True)


@pytest.mark.parametrize("weight", [plain, of_half_floats])
def test_a_plain_weight_is_taken_out_and_the_rest_stays(weight: Callable[[], TensorProto]) -> None:
    whole = model(numpy_helper.from_array(SMALL, "first"), weight())
    message, held = take_out(memoryview(whole.SerializeToString()))
    assert list(held) == [1] and np.array_equal(held[1], numpy_helper.to_array(weight()))
    assert held[1].flags.aligned and not held[1].flags.writeable
    parsed = onnx.ModelProto.FromString(bytes(message))
    init = parsed.graph.initializer[1]
    assert init.data_location == TensorProto.EXTERNAL and not init.HasField("raw_data")
    init.ClearField("data_location")
    init.raw_data = held[1].tobytes()
    assert parsed == whole


def damaged(**fields: object) -> Callable[[], TensorProto]:
    def make() -> TensorProto:
        tensor = plain()
        for name, value in fields.items():
            setattr(tensor, name, value)
        return tensor

    return make


def in_two_payloads() -> TensorProto:
    tensor = plain()
    tensor.float_data.append(1.0)
    return tensor


@pytest.mark.parametrize(
    "weight",
    [as_numbers, of_brain_floats, in_two_payloads, damaged(raw_data=bytes(1 << 17)), damaged(data_type=999)],
)
def test_what_is_not_plain_stays_for_the_parser(weight: Callable[[], TensorProto]) -> None:
    data = memoryview(model(weight()).SerializeToString())
    message, held = take_out(data)
    assert message is data and not held


def test_a_graph_in_two_parts_is_left_to_the_parser() -> None:
    part = onnx.ModelProto(graph=onnx.GraphProto(doc_string="more"))
    data = memoryview(model(plain()).SerializeToString() + part.SerializeToString())
    message, held = take_out(data)
    assert message is data and not held


@pytest.mark.parametrize("weight", [plain, as_numbers])
def test_a_file_is_read_as_it_is(tmp_path: Path, weight: Callable[[], TensorProto]) -> None:
    # Weights lie at any place of a file: one byte more or less in front of them makes no difference.
    for shift in range(4):
        whole = model(weight())
        whole.producer_name = "p" * shift
        path = tmp_path / f"{shift}.onnx"
        path.write_bytes(whole.SerializeToString())
        read = load(path)
        for name, array in (("w", LARGE), ("b", SMALL)):
            found = constant(read.graph.initializers[name])
            assert found is not None and found.dtype == array.dtype and np.array_equal(found, array)


def test_a_weight_that_was_taken_out_must_be_finite(tmp_path: Path) -> None:
    wrong = LARGE.copy()
    wrong[5, 7] = np.nan
    path = tmp_path / "m.onnx"
    path.write_bytes(model(numpy_helper.from_array(wrong, "w")).SerializeToString())
    with pytest.raises(InputError, match=r"SNN323.*first at \[5, 7\]") as caught:
        load(path)
    assert caught.value.where.tensor == "w"


def test_a_weight_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(plain(), plain()).SerializeToString())
    with pytest.raises(InputError, match="SNN303"):
        load(path)
