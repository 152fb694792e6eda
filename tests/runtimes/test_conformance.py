"""Every op, in every runtime, at every optimisation level of onnxruntime: the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.ops import OPS

Array = npt.NDArray[Any]

QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BOOKS = [
    CodeBook(timesteps, groups, partition, signed)
    for timesteps, groups in [
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 1),
        (4, 2),
        (4, 3),
        (4, 4),
        (5, 2),
        (7, 4),
        (8, 2),
        (8, 8),
    ]
    for partition in ("interleaved", "contiguous")
    for signed in (False, True)
    if partition == "interleaved" or 1 < groups < timesteps
]
BOOKS += [
    CodeBook(8, 8, signed=True, smallest=-128, largest=127),
    CodeBook(3, 3, largest=4),
    CodeBook(4, 4, signed=True, smallest=-3, largest=12),
    CodeBook(4, 2, signed=True, smallest=1),
    CodeBook(4, 2, signed=True, largest=-1),
    CodeBook(12, 3, signed=True),
    CodeBook(16, 16),
]
SOME_BOOKS = [CodeBook(4, 2), CodeBook(4, 4, signed=True), CodeBook(8, 4), CodeBook(7, 7, signed=True)]


def label(book: CodeBook) -> str:
    bounds = f"_{book.smallest}..{book.largest}"
    return f"T{book.timesteps}G{book.groups}{book.partition[0]}{'s' if book.signed else 'u'}{bounds}"


@st.composite
def windows(draw: st.DrawFn, rank: int) -> dict[str, list[int]]:
    """Attributes of a sliding window that fits an input of at least 5 in each direction."""
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    return {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "pads": [draw(st.integers(0, extent - 1)) for extent in [*kernel, *kernel]],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
    }


def levels_input(rng: np.random.Generator, book: CodeBook, shape: tuple[int, ...]) -> Array:
    """Level indices, every one likely, some beyond both ends."""
    return rng.integers(-2, book.levels + 2, shape, dtype=np.int32)


@pytest.mark.parametrize("book", BOOKS, ids=label)
def test_every_code_is_fired_and_decoded(builder: Any, everywhere: Any, book: CodeBook) -> None:
    model = builder()
    v = np.arange(-2, book.levels + 2, dtype=np.int32)[None]
    model.input("v", np.int32, ["N", v.size])
    spikes = model.spikes("v", book)
    membrane = model.node("Charge", [spikes])
    result = everywhere(model.proto({spikes: (book.dtype, 2), membrane: (np.int32, 2)}), {"v": v})
    expected = book.codes[np.clip(v, 0, book.levels - 1)]
    assert np.array_equal(result[membrane], expected)
    assert np.array_equal(result[spikes], expected)


@pytest.mark.parametrize("opset", [17, 21, 23])
@pytest.mark.parametrize("book", SOME_BOOKS, ids=label)
def test_thresholds_of_each_channel(
    builder: Any, everywhere: Any, neuron: Any, padded: Any, book: CodeBook, opset: int
) -> None:
    rng = np.random.default_rng(1)
    # Few distinct values, so that thresholds repeat (codes that are skipped) and potentials meet them.
    limits = np.sort(rng.integers(-40, 40, (5, book.levels - 1), dtype=np.int32), axis=1)
    limits[0, :] = -(2**31)
    v = rng.integers(-45, 45, (3, 5, 4), dtype=np.int32)
    v[0, 0] = [-(2**31), -(2**31) + 1, 0, 2**31 - 2]
    model = builder(opset)
    model.input("v", np.int32, ["N", 5, 4])
    rows = model.constant(np.arange(5).reshape(5, 1), np.int32)
    code = model.node("ExpGIF", ["v", model.constant(padded(book, limits)), rows], **neuron(book))
    result = everywhere(model.proto({code: (book.dtype, 3)}), {"v": v})
    count = (v[..., None] >= limits[:, None, :]).sum(axis=-1)
    assert np.array_equal(result[code], book.codes[count])


@pytest.mark.parametrize("book", SOME_BOOKS, ids=label)
def test_encode(builder: Any, everywhere: Any, neuron: Any, padded: Any, book: CodeBook) -> None:
    rng = np.random.default_rng(2)
    limits = np.sort(rng.normal(size=(3, book.levels - 1)).astype(np.float32), axis=1)
    v = rng.normal(size=(4, 3, 6)).astype(np.float32)
    v[0, :, 0] = limits[:, 0]
    v[1, :, :4] = [np.finfo(np.float32).max, np.finfo(np.float32).min, 0.0, -0.0]
    v[2, :, 0] = np.nextafter(limits[:, 0], np.float32(-np.inf))
    model = builder()
    model.input("v", np.float32, ["N", 3, 6])
    rows = model.constant(np.arange(3).reshape(1, 3, 1), np.int32)
    code = model.node("Encode", ["v", model.constant(padded(book, limits)), rows], **neuron(book))
    result = everywhere(model.proto({code: (book.dtype, 3)}), {"v": v})
    assert np.array_equal(result[code], book.codes[(v[..., None] >= limits[:, None, :]).sum(axis=-1)])


def test_a_table_that_does_not_ascend(builder: Any, everywhere: Any, padded: Any, neuron: Any) -> None:
    book = CodeBook(4, 2)
    attrs = neuron(book) | {"codes": [2, 1, 0, 1, 4, 6, 8, 9, 12]}
    table = padded(book, np.arange(1, 9, dtype=np.int32)[None])
    model = builder()
    model.input("v", np.int32, ["N", 2])
    code = model.node("ExpGIF", ["v", model.constant(table), model.constant(0, np.int32)], **attrs)
    result = everywhere(
        model.proto({code: (np.uint8, 2)}), {"v": np.arange(-1, 11, dtype=np.int32).reshape(6, 2)}
    )
    assert result[code].ravel().tolist() == [2, 2, 1, 0, 1, 4, 6, 8, 9, 12, 12, 12]


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("book", SOME_BOOKS, ids=label)
def test_convolution(builder: Any, everywhere: Any, book: CodeBook, rank: int, data: st.DataObject) -> None:
    group = data.draw(st.sampled_from([1, 2, 4]))
    per_group = data.draw(st.sampled_from([1, 3]))
    multiplier = data.draw(st.sampled_from([1, 4]))
    attrs = data.draw(windows(rank)) | {"group": group}
    kernel = attrs.pop("kernel_shape")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    extents = [data.draw(st.integers(5, 8)) for _ in range(rank)]
    shape = (2, group * per_group, *extents)
    model = builder()
    model.input("v", np.int32, ["N", *shape[1:]])
    weights = rng.integers(-128, 128, (group * multiplier, per_group, *kernel)).astype(np.int8)
    y = model.node("SpikeConv", [model.spikes("v", book), model.constant(weights)], **attrs)
    everywhere(model.proto({y: (np.int32, 2 + rank)}), {"v": levels_input(rng, book, shape)})


@pytest.mark.parametrize("channels", [(16, 32), (8, 16), (32, 32)])
@pytest.mark.parametrize("group", [1, 2, "depthwise"])
def test_convolution_in_blocked_layouts(
    builder: Any, everywhere: Any, channels: tuple[int, int], group: int | str
) -> None:
    """At level `all` onnxruntime rearranges channels into blocks of 8 or 16 and fuses pools and additions."""
    book = CodeBook(4, 2)
    rng = np.random.default_rng(3)
    inside, outside = channels if group != "depthwise" else (channels[0], channels[0])
    groups = inside if group == "depthwise" else int(group)
    model = builder()
    model.input("v", np.int32, ["N", inside, 9, 9])
    weights = rng.integers(-128, 128, (outside, inside // groups, 3, 3)).astype(np.int8)
    spikes = model.spikes("v", book)
    first = model.node("SpikeConv", [spikes, model.constant(weights)], pads=[1] * 4, group=groups)
    pooled = model.node("MembraneMaxPool", [first], kernel_shape=[2, 2], strides=[2, 2])
    both = model.node("MembraneAdd", [pooled, pooled])
    total = model.node("MembraneSum", [both], axes=[2, 3], keepdims=0)
    scale = model.constant(0.0123, np.float32)
    bias = model.constant(rng.normal(size=outside), np.float32)
    y = model.node("Readout", [total, scale, bias])
    feeds = {"v": levels_input(rng, book, (3, inside, 9, 9))}
    everywhere(model.proto({y: (np.float32, 2)}), feeds)


@pytest.mark.parametrize("op", ["SpikeConv", "SpikeMatMul"])
def test_sums_up_to_the_bound(builder: Any, everywhere: Any, op: str) -> None:
    """Sums just below 2^24 and odd, so that one lost bit would show."""
    book = CodeBook(8, 8)
    rng = np.random.default_rng(4)
    count = 64
    weights = rng.integers(0, 2, (8, count)) * 2 - 1
    weights *= rng.integers(900, 1028, weights.shape)
    assert np.abs(weights).sum(axis=1).max() * 255 < 2**24
    v = rng.choice([254, 255], (6, count)).astype(np.int32)
    v[0] = 255
    weights[0] = np.abs(weights[0])
    model = builder()
    if op == "SpikeConv":
        model.input("v", np.int32, ["N", 1, 8, 8])
        kernel = model.constant(weights.reshape(8, 1, 8, 8), np.int16)
        y = model.node(op, [model.spikes("v", book), kernel])
        result = everywhere(model.proto({y: (np.int32, 4)}), {"v": v.reshape(6, 1, 8, 8)})
    else:
        model.input("v", np.int32, ["N", count])
        y = model.node(op, [model.spikes("v", book), model.constant(weights.T, np.int16)])
        result = everywhere(model.proto({y: (np.int32, 2)}), {"v": v})
    expected = v.astype(np.int64) @ weights.T
    assert np.array_equal(result[y].reshape(6, 8), expected)
    assert np.abs(expected).max() > 2**23


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("book", SOME_BOOKS, ids=label)
def test_matrix_products(builder: Any, everywhere: Any, book: CodeBook, data: st.DataObject) -> None:
    size = st.integers(1, 6)
    m, k, n = data.draw(size), data.draw(size), data.draw(size)
    lead = data.draw(st.sampled_from([(), (2,), (2, 3)]))
    batched = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    model = builder()
    model.input("v", np.int32, ["N", *lead, m, k])
    model.input("u", np.int32, ["N", *lead, k, n])
    spikes, held = model.spikes("v", book), model.spikes("u", SOME_BOOKS[1])
    weights = rng.integers(-127, 128, (*(lead if batched else ()), k, n)).astype(np.int8)
    product = model.node("SpikeMatMul", [spikes, model.constant(weights)])
    joint = model.node("SpikeMatMulHeld", [spikes, held])
    rank = 3 + len(lead)
    feeds = {
        "v": levels_input(rng, book, (2, *lead, m, k)),
        "u": levels_input(rng, SOME_BOOKS[1], (2, *lead, k, n)),
    }
    result = everywhere(model.proto({product: (np.int32, rank), joint: (np.int32, rank)}), feeds)
    codes = {name: result[name].astype(np.int64) for name in (spikes, held)}
    assert np.array_equal(result[product], codes[spikes] @ weights.astype(np.int64))
    assert np.array_equal(result[joint], codes[spikes] @ codes[held])


@pytest.mark.parametrize("book", [*SOME_BOOKS, CodeBook(12, 12, signed=True)], ids=label)
@pytest.mark.parametrize(("shift", "bits"), [(0, 3), (2, 2), (3, 8), (0, 16), (14, 2)])
def test_code_slice(builder: Any, everywhere: Any, book: CodeBook, shift: int, bits: int) -> None:
    model = builder()
    model.input("v", np.int32, ["N"])
    spikes = model.spikes("v", book)
    part = model.node("CodeSlice", [spikes], shift=shift, bits=bits)
    charge = model.node("Charge", [part])
    feeds = {"v": np.arange(book.levels, dtype=np.int32)}
    result = everywhere(model.proto({part: (book.dtype, 1), charge: (np.int32, 1)}), feeds)
    codes = book.codes.astype(np.int64)
    assert np.array_equal(result[charge], np.sign(codes) * ((np.abs(codes) >> shift) % 2**bits))


@pytest.mark.parametrize("book", [*SOME_BOOKS, CodeBook(8, 8, signed=True)], ids=label)
@pytest.mark.parametrize("pads", [[0, 1, 0, 2], [0, -1, 0, 1], [0, 0, 0, -2]])
def test_pad(builder: Any, everywhere: Any, book: CodeBook, pads: list[int]) -> None:
    model = builder()
    model.input("v", np.int32, ["N", 4])
    y = model.node("SpikePad", [model.spikes("v", book)], pads=pads)
    v = levels_input(np.random.default_rng(1), book, (3, 4))
    result = everywhere(model.proto({y: (book.dtype, 2)}), {"v": v})
    inside = book.codes[np.clip(v, 0, book.levels - 1)][:, max(0, -pads[1]) : 4 + min(0, pads[3])]
    assert np.array_equal(result[y], np.pad(inside, [(0, 0), (max(0, pads[1]), max(0, pads[3]))]))


def test_slices_of_a_product_add_up(builder: Any, everywhere: Any) -> None:
    """A product too large for one float32 sum, split by time-steps and joined by shifts."""
    book = CodeBook(12, 12)
    rng = np.random.default_rng(5)
    weights = rng.integers(-2000, 2001, (40, 3)).astype(np.int16)
    model = builder()
    model.input("v", np.int32, ["N", 40])
    spikes, held = model.spikes("v", book), model.constant(weights)
    low = model.node("SpikeMatMul", [model.node("CodeSlice", [spikes], shift=0, bits=6), held])
    high = model.node("SpikeMatMul", [model.node("CodeSlice", [spikes], shift=6, bits=6), held])
    y = model.node("MembraneAdd", [model.node("MembraneScale", [high, model.constant(64, np.int32)]), low])
    v = rng.integers(0, 4096, (5, 40), dtype=np.int32)
    result = everywhere(model.proto({y: (np.int32, 2)}), {"v": v})
    assert np.array_equal(result[y], v.astype(np.int64) @ weights)


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("op", ["SpikeMaxPool", "MembraneMaxPool", "MembraneSumPool"])
def test_pools(builder: Any, everywhere: Any, op: str, rank: int, data: st.DataObject) -> None:
    attrs = data.draw(windows(rank))
    attrs["pads"] = [
        min(pad, extent // 2) for pad, extent in zip(attrs["pads"], attrs["kernel_shape"] * 2, strict=True)
    ]
    if op == "MembraneSumPool":
        attrs.pop("dilations")
    else:
        attrs["ceil_mode"] = data.draw(st.integers(0, 1))
    book = data.draw(st.sampled_from(SOME_BOOKS))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (2, 3, *(data.draw(st.integers(5, 8)) for _ in range(rank)))
    model = builder()
    model.input("v", np.int32, ["N", *shape[1:]])
    if op == "SpikeMaxPool":
        v = levels_input(rng, book, shape)
        y = model.node(op, [model.spikes("v", book)], **attrs)
        outputs = {y: (book.dtype, 2 + rank)}
    else:
        # Neighbours near 2^31 are one number in float32; sums are exact below 2^24.
        v = rng.integers(-(10**6), 10**6, shape, dtype=np.int32)
        if op == "MembraneMaxPool":
            v = ((2**31 - 1 - rng.integers(0, 50, shape)) * rng.choice([-1, 1], shape)).astype(np.int32)
        y = model.node(op, ["v"], **attrs)
        outputs = {y: (np.int32, 2 + rank)}
    # ONNX's shape inference (opset 17) counts ceil_mode windows that start in the padding; runtimes do not.
    everywhere(model.proto(outputs), {"v": v}, full_check=not attrs.get("ceil_mode"))


@pytest.mark.parametrize("op", ["SpikeMaxPool", "MembraneMaxPool"])
def test_zeros_padded_in_front_of_a_maximum_take_part(builder: Any, everywhere: Any, op: str) -> None:
    """onnxruntime folds a Pad into the padding of the MaxPool behind it, which never wins."""
    book = CodeBook(4, 2, signed=True)
    v = np.random.default_rng(0).integers(book.smallest, 0, (2, 3, 4, 4), dtype=np.int32)
    model = builder()
    model.input("v", np.int32, ["N", 3, 4, 4])
    x = model.spikes("v", book) if op == "SpikeMaxPool" else "v"
    padded = model.node("Pad", [x, model.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.int64)])
    y = model.node(op, [padded], kernel_shape=[2, 2], strides=[2, 2])
    found = everywhere(model.proto({y: (book.dtype if op == "SpikeMaxPool" else np.int32, 4)}), {"v": v})[y]
    assert (found[:, :, [0, -1]] == 0).all(), "every window at the border holds a zero, and nothing above"
    assert (found[:, :, 1, 1] < 0).all()


def test_the_comparison_sees_a_wrong_body(builder: Any, everywhere: Any) -> None:
    """Canary: with > for >= in the neuron's body, the runtimes must be found to differ."""
    model = builder()
    model.input("v", np.int32, ["N"])
    y = model.spikes("v", CodeBook(4, 2))
    proto = model.proto({y: (np.uint8, 1)})
    feeds = {"v": np.arange(9, dtype=np.int32)}
    everywhere(proto, feeds)
    loop = next(node for node in proto.functions[0].node if node.op_type == "Loop")
    wrong = next(node for node in loop.attribute[0].g.node if node.op_type == "GreaterOrEqual")
    wrong.op_type = "Greater"
    with pytest.raises(AssertionError, match="onnxruntime none"):
        everywhere(proto, feeds)


def nodes_of(nodes: Any) -> Any:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nodes_of(attribute.g.node)


@pytest.mark.parametrize("name", sorted(OPS))
def test_bodies_use_standard_ops_only(builder: Any, name: str) -> None:
    from snnc.ir.functions import parse_function_proto

    function = parse_function_proto(OPS[name].function_text())
    assert function.domain == "ai.snnc"
    assert [(entry.domain, entry.version) for entry in function.opset_import] == [("", 17)]
    for node in nodes_of(function.node):
        assert node.domain == ""
        assert not onnx.defs.get_schema(node.op_type, 17).deprecated


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_op_is_covered(name: str) -> None:
    """A new op needs a conformance test here or in a file beside this one."""
    files = sorted(Path(__file__).parent.glob("test_conformance*.py"))
    assert any(f'"{name}"' in file.read_text(encoding="utf-8") for file in files)
