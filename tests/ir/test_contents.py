"""What tensors of a file must hold: each payload of each type, sizes one off, numbers, sparse forms."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import InputError, Where
from snnc.ir import contents
from snnc.ir.contents import check_finite, check_sparse, check_tensor, make_dense


def held(kind: int, shape: list[int], **payload: object) -> TensorProto:
    tensor = TensorProto(name="t", data_type=kind, dims=shape)
    for field, values in payload.items():
        if field == "raw_data":
            tensor.raw_data = values  # type: ignore[assignment]
        else:
            getattr(tensor, field).extend(values)
    return tensor


def refusal(tensor: TensorProto, *weights: str) -> str:
    with pytest.raises(InputError) as caught:
        check_tensor(tensor, "m.onnx", weights)
    assert caught.value.where is not None and caught.value.where.tensor == "t"
    return f"{caught.value.code}: {caught.value.message}"


#: Type, field, and the numbers that five elements take in it.
PAYLOADS = [
    ("FLOAT", "float_data", 5),
    ("COMPLEX64", "float_data", 10),
    ("DOUBLE", "double_data", 5),
    ("COMPLEX128", "double_data", 10),
    ("INT64", "int64_data", 5),
    ("UINT64", "uint64_data", 5),
    ("UINT32", "uint64_data", 5),
    ("INT32", "int32_data", 5),
    ("INT8", "int32_data", 5),
    ("BOOL", "int32_data", 5),
    ("FLOAT16", "int32_data", 5),
    ("BFLOAT16", "int32_data", 5),
    ("INT4", "int32_data", 3),
    ("UINT4", "int32_data", 3),
    ("FLOAT4E2M1", "int32_data", 3),
]


@pytest.mark.parametrize(("kind", "field", "count"), PAYLOADS)
def test_typed_payloads(kind: str, field: str, count: int) -> None:
    number = TensorProto.DataType.Value(kind)
    check_tensor(held(number, [5], **{field: [1] * count}), "m.onnx")
    for wrong in (count - 1, count + 1):
        assert f"SNN303: has {wrong} numbers in {field}" in refusal(held(number, [5], **{field: [1] * wrong}))
    for other in ("float_data", "int32_data", "int64_data"):
        if other != field:
            text = f"SNN303: is of {kind.lower()} and keeps its values in {other}"
            assert refusal(held(number, [5], **{other: [1] * count})) == text


@pytest.mark.parametrize(
    ("kind", "bits"), [("INT8", 8), ("BOOL", 8), ("INT4", 4), ("UINT4", 4), ("UINT2", 2)]
)
@pytest.mark.parametrize("elements", range(1, 20))
def test_elements_of_less_than_a_byte_are_packed(kind: str, bits: int, elements: int) -> None:
    number, size = TensorProto.DataType.Value(kind), -(-elements * bits // 8)
    check_tensor(held(number, [elements], raw_data=bytes(size)), "m.onnx")
    check_tensor(held(number, [elements], int32_data=[0] * size), "m.onnx")
    for wrong in (size - 1, size + 1):
        assert f"needs {size}" in refusal(held(number, [elements], int32_data=[0] * wrong)) or not wrong


@pytest.mark.parametrize(
    ("kind", "size"), [("FLOAT", 20), ("INT8", 5), ("FLOAT16", 10), ("INT4", 3), ("UINT2", 2), ("DOUBLE", 40)]
)
def test_raw_payloads(kind: str, size: int) -> None:
    number = TensorProto.DataType.Value(kind)
    check_tensor(held(number, [5], raw_data=bytes(size)), "m.onnx")
    for wrong in (size - 1, size + 1):
        text = f"SNN303: has {wrong} bytes of data, its shape [5] needs {size}"
        assert refusal(held(number, [5], raw_data=bytes(wrong))) == text


def test_text() -> None:
    check_tensor(held(TensorProto.STRING, [2], string_data=[b"a", b"b"]), "m.onnx")
    assert "keeps text as raw bytes" in refusal(held(TensorProto.STRING, [2], raw_data=bytes(2)))


def test_no_payload_or_two() -> None:
    check_tensor(held(TensorProto.FLOAT, [0]), "m.onnx")
    check_tensor(held(TensorProto.FLOAT, [0], raw_data=b""), "m.onnx")
    assert "has no data for its 6 elements" in refusal(held(TensorProto.FLOAT, [2, 3]))
    assert "holds its values twice" in refusal(
        held(TensorProto.FLOAT, [1], float_data=[1], raw_data=bytes(4))
    )
    assert "holds its values twice" in refusal(held(TensorProto.FLOAT, [1], float_data=[1], int32_data=[1]))
    assert "is a weight without elements" in refusal(held(TensorProto.FLOAT, [0]), "t")
    elsewhere = held(TensorProto.FLOAT, [2])
    elsewhere.data_location = TensorProto.EXTERNAL
    check_tensor(elsewhere, "m.onnx")


def test_shapes_and_types() -> None:
    check_tensor(held(TensorProto.FLOAT, [1] * 32, float_data=[1]), "m.onnx")
    assert "has 33 dimensions" in refusal(held(TensorProto.FLOAT, [1] * 33, float_data=[1]))
    assert "has a negative dimension" in refusal(held(TensorProto.FLOAT, [0, -1]))
    assert "has no data for its" in refusal(held(TensorProto.FLOAT, [2**20, 2**20]))
    assert "claims" in refusal(held(TensorProto.FLOAT, [2**20, 2**20 + 1]))
    assert "claims" in refusal(held(TensorProto.FLOAT, [0, 2**41]))
    assert "has the element type 99, which does not exist" in refusal(held(99, [1]))


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"])
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_that_are_none(kind: str, raw: bool) -> None:
    number = TensorProto.DataType.Value(kind)
    bits = {
        "FLOAT16": (np.uint16, [0x7C00, 0xFC00, 0x7E00, 0x7BFF]),
        "BFLOAT16": (np.uint16, [0x7F80, 0xFF80, 0x7FC0, 0x7F7F]),
    }
    dtype = {"FLOAT": np.float32, "DOUBLE": np.float64}.get(kind)
    infinite, minus, nothing, largest = (
        np.array([np.inf, -np.inf, np.nan, np.finfo(dtype).max], dtype)
        if dtype
        else np.array(bits[kind][1], np.uint16)
    )

    def made(*values: object) -> TensorProto:
        array = np.array([[values[0], largest], [largest, *values[1:]]], dtype or np.uint16)
        if raw:
            return held(number, [2, 2], raw_data=array.tobytes())
        field = {"FLOAT": "float_data", "DOUBLE": "double_data"}.get(kind, "int32_data")
        return held(number, [2, 2], **{field: array.reshape(-1).tolist()})

    check_tensor(made(largest, largest), "m.onnx", ["t"])
    check_tensor(made(infinite, minus), "m.onnx")
    assert refusal(made(largest, minus), "t") == "SNN323: has 1 value that is not finite, the first at [1, 1]"
    assert (
        refusal(made(infinite, minus), "t") == "SNN323: has 2 values that are not finite, the first at [0, 0]"
    )
    assert refusal(made(infinite, nothing)) == "SNN323: has 1 value that is not finite, the first at [1, 1]"


def test_numbers_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_CHUNK", 4)
    values = np.zeros((3, 5))
    check_finite(values, [3, 5], Where(), infinite=False)
    for places in ([0], [3], [4], [0, 6], [5, 11], [14], [7, 8, 9]):
        wrong = values.copy()
        wrong.reshape(-1)[places] = np.nan
        with pytest.raises(InputError) as caught:
            check_finite(wrong, [3, 5], Where(), infinite=True)
        first = [places[0] // 5, places[0] % 5]
        assert caught.value.message.startswith(f"has {len(places)} value")
        assert caught.value.message.endswith(f"the first at {first}")
    with pytest.raises(InputError, match=r"first at \[\]"):
        check_finite(np.array(np.nan), [], Where(), infinite=True)
    check_finite(None, [1], Where(), infinite=False)


def sparse(values: list[float] | float, indices: object, dims: list[int]) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "t"),
        numpy_helper.from_array(np.asarray(indices), "i"),
        dims,
    )


@pytest.mark.parametrize(
    ("values", "indices", "dims", "dense"),
    [
        ([1, 2], [0, 5], [2, 3], [[1, 0, 0], [0, 0, 2]]),
        ([1, 2], [[0, 2], [1, 0]], [2, 3], [[0, 0, 1], [2, 0, 0]]),
        ([], np.zeros((0,), np.int64), [2], [0, 0]),
    ],
)
def test_sparse_tensors_become_dense(
    values: list[float], indices: object, dims: list[int], dense: object
) -> None:
    proto = onnx.ModelProto()
    proto.graph.sparse_initializer.append(sparse(values, indices, dims))
    make_dense(proto, "m.onnx")
    (made,) = proto.graph.initializer
    assert not proto.graph.sparse_initializer and made.name == "t"
    assert numpy_helper.to_array(made).tolist() == dense


@pytest.mark.parametrize(
    ("values", "indices", "dims", "message"),
    [
        ([1, 2], [0, 6], [2, 3], "has an index outside"),
        ([1, 2], [-1, 1], [2, 3], "has an index outside"),
        ([1, 2], [[0, 3], [1, 0]], [2, 3], "has an index outside"),
        ([1, 2], [[0, 0], [2, 0]], [2, 3], "has an index outside"),
        ([1, 2], [0, 1, 2], [2, 3], "indices of shape [3] for 2 values"),
        (1, [0], [2, 3], "indices of shape [1] for 0 values"),
        ([1, 2], [[0], [1]], [2, 3], "indices of shape [2, 1] for 2 values"),
        ([1, 2], np.array([0, 1], np.int32), [2, 3], "has no indices"),
        ([1], [[[0]]], [2, 3], "has no indices"),
        ([1], [0], [2, -3], "has a negative dimension"),
        ([np.nan], [0], [2], "not finite"),
    ],
)
def test_sparse_tensors_are_checked(
    values: list[float] | float, indices: object, dims: list[int], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_sparse(sparse(values, indices, dims), "m.onnx")
    assert message in caught.value.message


def test_the_largest_sparse_tensor() -> None:
    """2**26 elements and no more: a few bytes of a file are not to take all memory."""
    proto = onnx.ModelProto()
    proto.graph.sparse_initializer.append(sparse([1], [63], [8, 8]))
    make_dense(proto, "m.onnx")
    assert numpy_helper.to_array(proto.graph.initializer[0])[7, 7] == 1
    proto.graph.sparse_initializer.append(sparse([1], [0], [2**26 + 1]))
    with pytest.raises(InputError, match="would have 67,108,865 elements"):
        make_dense(proto, "m.onnx")


def test_sparse_tensors_together_have_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_MOST_DENSE_TOGETHER", 12)
    proto = onnx.ModelProto()
    for _ in range(2):
        proto.graph.sparse_initializer.append(sparse([1], [0], [6]))
    held = helper.make_node("Constant", [], ["c"], sparse_value=sparse([1], [0], [1]))
    with pytest.raises(InputError, match=r"would have 1 elements.*with those before it 13"):
        make_dense(proto, "m.onnx", [held])
    make_dense(proto, "m.onnx")
    assert len(proto.graph.initializer) == 2


def test_sparse_constants_become_dense() -> None:
    held = helper.make_node("Constant", [], ["c"], sparse_value=sparse([2], [1], [3]))
    make_dense(onnx.ModelProto(), "m.onnx", [held])
    (attribute,) = held.attribute
    assert attribute.name == "value" and numpy_helper.to_array(attribute.t).tolist() == [0, 2, 0]
    foreign = helper.make_node("Constant", [], ["c"], domain="mine", sparse_value=sparse([2], [1], [3]))
    make_dense(onnx.ModelProto(), "m.onnx", [foreign])
    assert foreign.attribute[0].name == "sparse_value"


def test_four_bits_are_counted_by_pairs() -> None:
    """Two elements share a number, of an odd count the last has one of its own."""
    for elements in range(1, 20):
        check_tensor(held(TensorProto.INT4, [elements], int32_data=[1] * ((elements + 1) // 2)), "m.onnx")


def test_a_sparse_tensor_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_MOST_DENSE", 6)
    proto = onnx.ModelProto()
    proto.graph.sparse_initializer.append(sparse([1], [0], [2, 3]))
    make_dense(proto, "m.onnx")
    proto.graph.sparse_initializer.append(sparse([1], [0], [7]))
    with pytest.raises(InputError, match="would have 7 elements"):
        make_dense(proto, "m.onnx")
    elsewhere = sparse([1], [9], [7])
    elsewhere.indices.data_location = TensorProto.EXTERNAL
    check_sparse(elsewhere, "m.onnx")
