"""The frames of a file: what each byte is, how much is counted, and where reading stops."""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from snnc.errors import InputError
from snnc.ir import load, wire
from snnc.ir.wire import check_frames

GRAPH, INPUT, TYPE, SEQUENCE, ELEMENT = 7, 11, 2, 4, 1


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + content


def held(number: int, content: bytes) -> bytes:
    """A field that holds a message, text or packed numbers."""
    return field(number, 2, varint(len(content)) + content)


def nested(depth: int) -> bytes:
    """Messages within each other: a model, a graph, an input, its type, and sequences of sequences."""
    content = b""
    for level in range(depth, 1, -1):
        content = held({2: GRAPH, 3: INPUT, 4: TYPE}.get(level, SEQUENCE if level % 2 else ELEMENT), content)
    return content


def check(data: bytes) -> None:
    check_frames(memoryview(data), "m.onnx")


def refused(data: bytes, code: str, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        check(data)
    assert caught.value.code == code and "m.onnx" in str(caught.value)


def model(nodes: int = 1, **attributes: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"], name=f"n{i}", **attributes) for i in range(nodes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    return helper.make_model(graph)


def test_depth() -> None:
    assert (
        onnx.ModelProto.FromString(nested(9))
        .graph.input[0]
        .type.sequence_type.elem_type.HasField("sequence_type")
    )
    check(nested(64))
    refused(nested(65), "SNN324", "nested too deep: 65")


def test_number_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph, its node, and an input and an output of five messages each: type, tensor, shape, dimension.
    data = model().SerializeToString()
    count = 1 + 1 + 2 * 5 + len(model().opset_import)
    monkeypatch.setattr(wire, "_MOST_MESSAGES", count)
    check(data)
    monkeypatch.setattr(wire, "_MOST_MESSAGES", count - 1)
    refused(data, "SNN324", "parts")


@pytest.mark.parametrize(
    ("content", "weight"),
    [
        # A byte of the file counts once; an unpacked number 8, a text 24, a message 160 besides.
        (field(1, 0, varint(8)), 2 + 8),
        (field(1, 0, varint(300)), 3 + 8),
        (held(2, b"abc"), 5 + 24),
        (held(2, b"a" * 200), 203 + 24),
        (held(GRAPH, b""), 2 + 160),
        (held(GRAPH, held(1, b"") * 3), 8 + 4 * 160),
        # dims of an initializer: packed numbers become eight bytes for each of theirs.
        (held(GRAPH, held(5, held(1, bytes([1, 2, 3])))), 9 + 2 * 160 + 3 * 8),
        # raw bytes of an initializer stay what they are.
        (held(GRAPH, held(5, held(9, bytes(3)))), 9 + 2 * 160),
        # f of an attribute: four bytes that need no more.
        (held(GRAPH, held(1, held(5, field(2, 5, bytes(4))))), 11 + 3 * 160),
    ],
)
def test_what_reading_takes(content: bytes, weight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.ModelProto.FromString(content)
    monkeypatch.setattr(wire, "_MOST_BYTES", weight)
    check(content)
    monkeypatch.setattr(wire, "_MOST_BYTES", weight - 1)
    refused(content, "SNN324", "memory")


def test_six_gibibytes_are_the_most(tmp_path: Path) -> None:
    """One initializer with as many packed dims as that, in a file that is one hole: nothing of it is read."""

    def around(dims: int) -> bytes:
        tensor = field(1, 2, varint(dims))
        graph = field(5, 2, varint(len(tensor) + dims)) + tensor
        return field(GRAPH, 2, varint(len(graph) + dims)) + graph

    most = (6 << 30) - 2 * 160
    dims = (most - len(around(2**29))) // 9
    assert most - 9 < len(around(dims)) + 9 * dims <= most
    path = tmp_path / "m.onnx"
    for more in (0, 1):
        head = around(dims + more)
        with path.open("wb") as stream:
            stream.write(head)
            stream.truncate(len(head) + dims + more)
        with path.open("rb") as stream:
            view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        if not more:
            check_frames(view, "m.onnx")
            continue
        with pytest.raises(InputError, match="more than 6 GiB") as caught:
            check_frames(view, "m.onnx")
        assert caught.value.code == "SNN324"


def test_a_file_of_two_gibibytes_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)
    with pytest.raises(InputError, match="2,147,483,648 bytes, one file holds 2,147,483,647") as caught:
        load(path)
    assert caught.value.code == "SNN302"


@pytest.mark.parametrize("kind", [1, 5])
def test_numbers_of_fixed_size(kind: int) -> None:
    size = 4 if kind == 5 else 8
    inside = [held(GRAPH, field(100, kind, bytes(size)) + held(2, b"name")), field(1, 0, b"\x08")]
    check(b"".join(inside))
    for short in range(size):
        refused(held(GRAPH, field(100, kind, bytes(short))), "SNN302", "cut short")


@pytest.mark.parametrize("kind", [3, 4, 6, 7])
def test_kinds_that_are_none(kind: int) -> None:
    refused(field(1, kind, b"\x00"), "SNN302", "begins no field")


def test_field_zero_and_fields_of_no_model() -> None:
    refused(field(0, 0, b"\x00"), "SNN302", "begins no field")
    refused(held(GRAPH, field(0, 0, b"\x00")), "SNN302", "begins no field")
    refused(field(99, 0, b"\x00"), "SNN302", "holds a field 99")
    refused(held(900, b"x"), "SNN302", "holds a field 900")
    # A newer ONNX may know more of a graph; of a model, nothing may follow.
    check(held(GRAPH, held(900, b"x")))


@pytest.mark.parametrize("data", [model(3, some=1.5, numbers=[1, 2, 300]).SerializeToString()])
def test_a_sound_file_and_each_of_its_beginnings(data: bytes) -> None:
    check(data)
    whole = {0}
    place = 0
    while place < len(data):
        _, place = wire._number(memoryview(data), place, len(data), "")
        if data[place - 1] & 7 == 2:
            size, place = wire._number(memoryview(data), place, len(data), "")
            place += size
        else:
            _, place = wire._number(memoryview(data), place, len(data), "")
        whole.add(place)
    assert len(whole) > 3
    for end in range(len(data)):
        if end in whole:
            check(data[:end])
        else:
            refused(data[:end], "SNN302", "cut short")


def test_numbers_of_several_bytes() -> None:
    for number in (0, 127, 128, 16383, 16384, 2**63, 2**64 - 1):
        data = memoryview(varint(number) + b"\x7f")
        assert wire._number(data, 0, len(data), "m") == (number, len(data) - 1)
    # A field whose first byte holds none of its number's bits, and lengths of one byte and of two.
    check(held(GRAPH, field(16, 0, varint(8))))
    for size in (126, 127, 128, 129):
        check(held(2, b"a" * size))
        refused(held(2, b"a" * size)[:-1], "SNN302", "cut short")
    check(field(1, 0, b"\x80" * 9 + b"\x01"))
    refused(field(1, 0, b"\x80" * 10 + b"\x01"), "SNN302", "begins no field")
    refused(field(1, 0, b"\x80" * 3), "SNN302", "cut short")


def test_largest_file(tmp_path: Path) -> None:
    """One message holds less than 2 GiB; the files have no content, and take no room."""
    path = tmp_path / "m.onnx"
    for size, words in ((2**31 - 1, "begins no field"), (2**31, "is too large for an ONNX model")):
        with path.open("wb") as stream:
            stream.truncate(size)
        with pytest.raises(InputError, match=words) as caught:
            load(path)
        assert caught.value.code == "SNN302"


def test_text_is_utf8() -> None:
    check(held(2, "é".encode()))
    refused(held(2, b"\xff"), "SNN302", "field 2 of a ModelProto.*UTF-8")
    # Bytes of an attribute are no text.
    check(held(GRAPH, held(1, held(5, held(4, b"\xff")))))
