"""Standard operators that the spike dialect admits: numpy's results are onnxruntime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper

from snnc.coding import CodeBook
from snnc.errors import InternalError
from snnc.ir.functions import parse_function_proto
from snnc.ops import OPS
from snnc.ops.layout import LAYOUT
from snnc.ops.signal import SpikeTrain

Array = npt.NDArray[Any]

CUBE = np.arange(24, dtype=np.int32).reshape(2, 3, 4) - 7
FLOATS = (CUBE / 3).astype(np.float32)
IMAGE = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
TRUTH = CUBE % 3 == 0


def train_of(book: CodeBook, codes: Array) -> SpikeTrain:
    return SpikeTrain(book.encode(codes), book, book.dtype)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def by_onnxruntime(
    op: str, inputs: Sequence[Array | None], attrs: dict[str, Any], outputs: int
) -> list[Array]:
    names = ["" if array is None else f"x{place}" for place, array in enumerate(inputs)]
    made = [f"y{place}" for place in range(outputs)]
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    entries = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    node = helper.make_node(op, names, made, **attrs)
    graph = helper.make_graph([node], "one", entries, [onnx.ValueInfoProto(name=name) for name in made])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("GatherElements", [CUBE, ints(1, 0, 1, 1).reshape(1, 2, 2)], {"axis": 0}),
        ("GatherElements", [CUBE, ints(2, 0, -1, 1).reshape(2, 1, 2)], {"axis": -1}),
        ("GatherND", [CUBE, ints(1, 2, 0, -1).reshape(2, 2)], {}),
        ("GatherND", [CUBE, ints(1, 2, 3)], {}),
        ("Trilu", [CUBE], {}),
        ("Trilu", [CUBE, np.array(-1)], {"upper": 0}),
        ("Trilu", [CUBE, np.array(1)], {"upper": 1}),
        ("ArgMax", [CUBE % 5], {"axis": 2, "select_last_index": 1}),
        ("ArgMax", [CUBE % 5], {"axis": 1, "keepdims": 0}),
        ("CumSum", [FLOATS, np.array(1)], {}),
        ("CumSum", [CUBE, np.array(-1)], {"reverse": 1}),
        ("CumSum", [CUBE, np.array(0)], {"exclusive": 1}),
        ("CumSum", [CUBE, np.array(2)], {"exclusive": 1, "reverse": 1}),
        ("Tile", [CUBE, ints(1, 2, 3)], {}),
        ("Max", [CUBE, CUBE[:1] + 5, -CUBE], {}),
        ("Min", [FLOATS, -FLOATS], {}),
        ("Mod", [CUBE, np.array(5, np.int32)], {}),
        ("Mod", [FLOATS, np.array(2, np.float32)], {"fmod": 1}),
        ("Div", [CUBE + 8, np.array(3, np.int32)], {}),
        ("Where", [TRUTH, CUBE, -CUBE], {}),
        ("Xor", [TRUTH, TRUTH[:1]], {}),
        ("Clip", [FLOATS, None, np.array(1.5, np.float32)], {}),
        ("Clip", [FLOATS, np.array(-1, np.float32)], {}),
        ("ReduceProd", [ints(2, 3, 4)], {"keepdims": 0}),
        ("ReduceMax", [CUBE], {"axes": [1], "keepdims": 0}),
        ("ReduceSum", [CUBE, ints(0, 2)], {}),
        ("Slice", [CUBE, ints(3), ints(-5), ints(2), ints(-2)], {}),
        ("Range", [np.array(7), np.array(-3), np.array(-2)], {}),
        ("Shape", [CUBE], {"start": 1}),
        ("Shape", [CUBE], {"start": -2, "end": -1}),
        ("Size", [CUBE], {}),
        ("Flatten", [CUBE], {"axis": 2}),
        (
            "DepthToSpace",
            [np.arange(48, dtype=np.float32).reshape(1, 12, 2, 2)],
            {"blocksize": 2, "mode": "CRD"},
        ),
        ("SpaceToDepth", [np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)], {"blocksize": 2}),
        ("Split", [CUBE, ints(1, 3)], {"axis": 2}),
    ],
)
def test_the_same_numbers(op: str, inputs: list[Array | None], attrs: dict[str, Any]) -> None:
    count = 2 if op == "Split" else 1
    wanted = by_onnxruntime(op, inputs, attrs, count)
    found = LAYOUT[op].packed(inputs, attrs, count)
    assert LAYOUT[op].timestep(inputs, attrs, count)[0].tobytes() == found[0].tobytes()  # type: ignore[union-attr]
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("op", ["Shape", "Size"])
def test_extents_of_spikes_are_those_of_their_codes(op: str) -> None:
    book = CodeBook(3, 3)
    codes = book.codes[np.arange(6) % book.levels].reshape(2, 3)
    (found,) = LAYOUT[op].timestep([train_of(book, codes)], {})
    assert np.array_equal(found, [2, 3] if op == "Shape" else 6)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "code", "message"),
    [
        ("Transpose", [None], {"perm": [0]}, "SNN115", "input 0 is missing"),
        ("Constant", [], {}, "SNN115", "holds integers or a tensor"),
        ("GatherND", [CUBE, ints(0, 0).reshape(2, 1)], {"batch_dims": 1}, "SNN115", "GatherND with batch"),
    ],
)
def test_what_the_dialect_does_not_have_is_our_bug(
    op: str, inputs: list[Any], attrs: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(InternalError, match=message) as caught:
        LAYOUT[op].packed(inputs, attrs)
    assert caught.value.code == code


def test_spikes_and_held_values_do_not_mix() -> None:
    book = CodeBook(3, 3)
    train = train_of(book, book.codes[:3])
    for op, inputs in (
        ("Concat", [train, book.codes[:3]]),
        ("Add", [train, train]),
        ("Gather", [CUBE, train]),
    ):
        with pytest.raises(InternalError) as caught:
            LAYOUT[op].timestep(inputs, {"axis": 0})
        assert caught.value.code == "SNN112"


@pytest.mark.parametrize("name", sorted(OPS))
def test_no_pad_of_a_body_reads_widths_straight_from_an_attribute(name: str) -> None:
    """onnxruntime 1.18 looks at a Pad's widths before a call has given the attribute: no file opens then."""
    nodes = parse_function_proto(OPS[name].function_text(17)).node
    maker = {output: node for node in nodes for output in node.output}
    for node in nodes:
        if node.op_type == "Pad":
            given = maker[node.input[1]]
            assert not any(attribute.ref_attr_name for attribute in given.attribute), node.input[1]


def test_some_body_pads_by_an_attribute() -> None:
    nodes = parse_function_proto(OPS["SpikePad"].function_text(17)).node
    assert [node.op_type for node in nodes].count("Pad") == 1
