"""Native operators with adversarial values, at every instruction set of this machine, against numpy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError
from snnc.runtimes import NumpyPacked, OnnxRuntime, ort

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason=str(ort.native_problem()))

SIGNED = CodeBook(8, 4, signed=True)


def limits_of(kind: str, rows: int, codes: list[int]) -> Any:
    """Ascending thresholds of each row, shape (rows, one less than codes)."""
    rng = np.random.default_rng(7)
    count = len(codes) - 1
    steps = np.arange(count) - count // 2
    if kind == "even":  # halfway between the codes, as where a sum is only rounded
        scale, shift = rng.uniform(100, 900, (rows, 1)), rng.uniform(-5e4, 5e4, (rows, 1))
        return np.ceil(np.add(codes[1:], codes[:-1]) * scale + shift)
    if kind == "affine":
        scale, shift = rng.uniform(0.7, 900, (rows, 1)), rng.uniform(-5e4, 5e4, (rows, 1))
        return np.ceil(steps * scale + shift)
    if kind == "repeated":
        return np.sort(rng.integers(-30, 30, (rows, count)), axis=1)
    if kind == "curved":
        return np.sort(np.ceil(np.sinh(steps / count * 12) * rng.uniform(50, 90, (rows, 1))), axis=1)
    if kind == "shared":  # one curve for all rows, whose cells fit registers where limits are few
        return np.tile(np.ceil(np.sinh(steps[:1] / count * 4) * 90), (rows, 1))
    table = np.sort(rng.integers(-(2**31), 2**31 - 1, (rows, count)), axis=1)
    table[0], table[1] = -(2**31), 2**31 - 1
    table[2, : count // 2] = -(2**31)
    return table


@pytest.mark.parametrize("kind", ["affine", "even", "repeated", "curved", "shared", "huge"])
@pytest.mark.parametrize("book", [CodeBook(4, 2), CodeBook(8, 4), SIGNED, CodeBook(10, 5)], ids=str)
@pytest.mark.parametrize("ascending", [True, False])
def test_potentials_at_and_beside_every_threshold(
    builder: Any, neuron: Any, padded: Any, book: CodeBook, kind: str, ascending: bool
) -> None:
    """Each table of a neuron (exact, near, few, search), rows along the last axis and along the channels."""
    channels = 5
    attrs = neuron(book)
    limits = limits_of(kind, channels, attrs["codes"]).astype(np.int32)
    if not ascending:
        attrs["codes"] = [*attrs["codes"][: book.levels // 2][::-1], *attrs["codes"][book.levels // 2 :]]
    beside = np.concatenate([limits, limits.astype(np.int64) - 1, limits.astype(np.int64) + 1], axis=1)
    span = np.clip([limits.min(), limits.max()], -(2**30), 2**30)
    between = np.random.default_rng(8).integers(*span, (channels, 300), endpoint=True)
    ends = np.tile([-(2**31), -(2**31) + 1, 0, 2**31 - 2], (channels, 1))
    v = np.clip(np.concatenate([beside, between, ends], axis=1), -(2**31), 2**31 - 2).astype(np.int32)
    for across in (False, True):
        model = builder()
        model.input("v", np.int32, ["N", *(v.T.shape if across else v.shape)])
        rows = model.constant(
            np.arange(channels).reshape((1, channels) if across else (channels, 1)), np.int32
        )
        code = model.node("ExpGIF", ["v", model.constant(padded(book, limits)), rows], **attrs)
        proto = ir.from_proto(model.proto({code: (book.dtype, 3)}))
        feeds = {"v": np.ascontiguousarray(v.T if across else v)[None]}
        wanted = NumpyPacked(proto).run(feeds)[code]
        found = OnnxRuntime(proto, stock=False, threads=1).run(feeds)[code]
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("rows", [1, 16, 70])
@pytest.mark.parametrize("depth", [3, 130])
@pytest.mark.parametrize(
    "book",
    [
        CodeBook(4, 2),
        CodeBook(4, 4, signed=True),
        SIGNED,
        CodeBook(8, 8, signed=True),
        CodeBook(12, 4, signed=True),
    ],
    ids=str,
)
def test_products_of_all_sizes(builder: Any, book: CodeBook, depth: int, rows: int) -> None:
    rng = np.random.default_rng(3)
    for columns in (1, 80):
        model = builder()
        model.input("v", np.int32, ["N", rows, depth])
        weights = rng.choice([-128, 127, -1, 0, 1], (depth, columns)).astype(np.int8)
        spikes = model.spikes("v", book)
        y = model.node("SpikeMatMul", [spikes, model.constant(weights)])
        held = model.node("SpikeMatMulHeld", [spikes, model.node("Transpose", [spikes], perm=[0, 2, 1])])
        proto = ir.from_proto(model.proto({y: (np.int32, 3), held: (np.int32, 3)}))
        feeds = {"v": rng.choice([-1, 0, book.levels // 2, book.levels], (2, rows, depth)).astype(np.int32)}
        wanted = NumpyPacked(proto).run(feeds)
        for threads in (1, 2):
            found = OnnxRuntime(proto, stock=False, threads=threads).run(feeds)
            assert all(np.array_equal(found[name], wanted[name]) for name in (y, held))


@pytest.mark.parametrize("book", [SIGNED, CodeBook(8, 8, signed=True), CodeBook(10, 5, signed=True)], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("least", [None, -3])
def test_few_codes_beyond_a_byte(builder: Any, book: CodeBook, share: float, least: int | None) -> None:
    """16-bit codes that are taken as bytes and what is left of them: 255 leaves 128, more than a byte.

    Those that are hardly negative are moved into unsigned bytes as they are.
    """
    rng = np.random.default_rng(5)
    for rows, depth, columns in ((70, 131, 80), (1, 7, 17), (64, 256, 64)):
        model = builder()
        model.input("v", np.int32, ["N", rows, depth])
        weights = rng.choice([-128, 127, -1, 5], (depth, columns)).astype(np.int8)
        y = model.node("SpikeMatMul", [model.spikes("v", book), model.constant(weights)])
        proto = ir.from_proto(model.proto({y: (np.int32, 3)}))
        small = rng.integers(-3, 4, (2, rows, depth))
        ends = rng.choice([-book.largest if least is None else least, book.largest], (2, rows, depth))
        feeds = {"v": np.where(rng.random((2, rows, depth)) < share, ends, small).astype(np.int32)}
        wanted = NumpyPacked(proto).run(feeds)[y]
        assert np.array_equal(OnnxRuntime(proto, stock=False, threads=2).run(feeds)[y], wanted)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1)])
def test_empty_and_single(builder: Any, shape: tuple[int, int]) -> None:
    model = builder()
    model.input("v", np.int32, ["N", shape[1]])
    spikes = model.spikes("v", CodeBook(4, 2))
    y = model.node("SpikeMatMul", [spikes, model.constant(np.ones((shape[1], 2), np.int8))])
    proto = ir.from_proto(model.proto({y: (np.int32, 2)}))
    session = OnnxRuntime(proto, stock=False, threads=1).session
    (found,) = session.run(None, {"v": np.full(shape, 3, np.int32)})
    assert np.array_equal(found, np.full((shape[0], 2), 3 * shape[1]))


MALFORMED: list[tuple[str, str, dict[str, Any]]] = [
    ("ExpGIF", "K is not 2", {"depth": 3}),
    ("ExpGIF", "more codes", {"codes": list(range(40))}),
    ("ExpGIF", "code_type", {"code_type": None}),
    ("MembraneRound", "attribute 'shift' is a number out of range: 99", {"shift": 99}),
    ("MembraneSum", "axis is out of range", {"axes": [7]}),
    ("CodeSlice", "attribute 'shift' is a number out of range: -1", {"shift": -1, "bits": 3}),
    ("SpikeMaxPool", "wrong number of axes", {"kernel_shape": [2, 2, 2]}),
    ("SpikeMaxPool", "not positive", {"kernel_shape": [2, 2], "strides": [0, 1]}),
    ("SpikeConv", "groups", {"group": 3}),
    ("SpikeConv", "pads", {"pads": [1]}),
]


@pytest.mark.parametrize(("op", "said", "changes"), MALFORMED)
def test_malformed_attributes_are_refused(
    builder: Any, neuron: Any, padded: Any, op: str, said: str, changes: dict[str, Any]
) -> None:
    book = CodeBook(4, 2)
    model = builder()
    model.input("v", np.int32, ["N", 2, 5, 5])
    table = model.constant(padded(book, np.arange(1, book.levels, dtype=np.int32)[None]))
    attrs: dict[str, Any] = {}
    inputs = ["v"]
    if op == "ExpGIF":
        attrs, inputs = neuron(book), ["v", table, model.constant(0, np.int32)]
    elif op == "SpikeConv":
        inputs = [model.spikes("v", book), model.constant(np.ones((2, 2, 1, 1), np.int8))]
    elif op in {"CodeSlice", "SpikeMaxPool"}:
        inputs = [model.spikes("v", book)]
    attrs = {name: value for name, value in {**attrs, **changes}.items() if value is not None}
    y = model.node(op, inputs, **attrs)
    proto = model.proto(
        {y: (np.int32 if op in {"MembraneRound", "MembraneSum", "SpikeConv"} else book.dtype, 4)}
    )
    del proto.functions[:]
    with pytest.raises(UnsupportedError, match=said):
        OnnxRuntime(ir.from_proto(proto), stock=False, threads=1).run({"v": np.zeros((1, 2, 5, 5), np.int32)})


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512-vnni"])
def test_every_instruction_set_slice(isa: str) -> None:
    """The tables and products once more, in a process that may not use more than this."""
    names = ("test_empty_and_single", "test_potentials_at_and_beside_every_threshold")
    tests = [f"{Path(__file__)}::{name}" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    command += [f"{Path(__file__)}::test_products_of_all_sizes"]
    done = subprocess.run(
        command,
        env={**os.environ, "SNNC_NATIVE_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:]
