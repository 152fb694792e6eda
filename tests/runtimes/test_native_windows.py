"""Attention in windows as one native operator, with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from snnc.coding import CodeBook
from snnc.ir.weights import split
from snnc.runtimes import NumpyPacked, OnnxRuntime, fusion, ort

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason="no native library")

BOOKS = {
    "bytes": CodeBook(4, 2),
    "signed": CodeBook(4, 2, signed=True),
    "words": CodeBook(8, 4, signed=True),
}
HEADS, WIDTH, HIGH, WIDE = 2, 6, 2, 3


def fused_ops(proto: Any) -> list[str]:
    message, weights = split(ir.from_proto(proto))
    fusion.prepare(message, weights)
    return [node.op_type for node in message.graph.node]


def compare(proto: Any, feeds: dict[str, Any]) -> None:
    model = ir.from_proto(proto)
    wanted = NumpyPacked(model).run(feeds)
    for threads in (1, 2):
        found = OnnxRuntime(model, stock=False, threads=threads).run(feeds)
        for name, array in wanted.items():
            assert found[name].dtype == array.dtype
            assert found[name].tobytes() == array.tobytes(), (name, threads)


class Mixer:
    """Queries, keys and values of planes, in windows of `side` x `side`."""

    def __init__(self, model: Any, books: tuple[str, str, str], side: int, merged: bool, whole: bool) -> None:
        self.model, self.side, self.merged = model, side, merged
        self.rng = np.random.default_rng(side)
        self.infos: list[Any] = []
        self.shape = (HEADS * WIDTH, HIGH * side, WIDE * side)
        self.feeds: dict[str, Any] = {}
        operands = []
        for name, kind in zip("qkv", books, strict=True):
            channels = self.shape[0] * (1 if whole else 2)
            model.input(name, np.int32, ["N", channels, *self.shape[1:]])
            levels = BOOKS[kind].levels
            self.feeds[name] = self.rng.integers(0, levels, (3, channels, *self.shape[1:])).astype(np.int32)
            code = model.spikes(name, BOOKS[kind])
            self.note(code, 0, channels, *self.shape[1:])
            if not whole:
                bounds = [model.constant([each], np.int64) for each in (3, 3 + self.shape[0], 1)]
                code = model.node("Slice", [code, *bounds])
            operands.append(code)
        q, k, v = operands
        # From (channel, y, x) to (window, head, token, channel), and keys transposed.
        self.scores = model.node("SpikeMatMulHeld", [self.split(q, True), self.split(k, False)])
        self.values = self.split(v, True)

    def note(self, name: str, kind: int, *extents: int) -> None:
        found = {node.output[0]: node for node in self.model.nodes}[name]
        types = [attribute.i for attribute in found.attribute if attribute.name == "code_type"]
        self.infos.append(helper.make_tensor_value_info(name, kind or types[0], ["N", *extents]))

    def split(self, name: str, tokens_first: bool) -> str:
        side, tokens = self.side, self.side**2
        parts = [0, HEADS, WIDTH, HIGH, side, WIDE, side]
        apart = self.model.node("Reshape", [name, self.model.constant(parts, np.int64)])
        perm = [0, 3, 5, 1, 4, 6, 2] if tokens_first else [0, 3, 5, 1, 2, 4, 6]
        turned = self.model.node("Transpose", [apart], perm=perm)
        last = [tokens, WIDTH] if tokens_first else [WIDTH, tokens]
        stack = [-1, HEADS] if self.merged else [0, HIGH * WIDE, HEADS]
        return str(self.model.node("Reshape", [turned, self.model.constant([*stack, *last], np.int64)]))

    def finish(self, code: str) -> str:
        sums = self.model.node("SpikeMatMulHeld", [code, self.values])
        parts = [-1, HIGH, WIDE, HEADS, self.side, self.side, WIDTH]
        apart = self.model.node("Reshape", [sums, self.model.constant(parts, np.int64)])
        turned = self.model.node("Transpose", [apart], perm=[0, 3, 6, 1, 4, 2, 5])
        shape = self.model.constant([-1, *self.shape], np.int64)
        return str(self.model.node("Identity", [self.model.node("Reshape", [turned, shape])]))


def fire(model: Any, neuron: Any, padded: Any, scores: str, book: CodeBook, rows: int = 1) -> str:
    limits = (np.arange(book.levels - 1) * 37 - 150).astype(np.int32)[None] + np.arange(rows, dtype=np.int32)[
        :, None
    ]
    row = np.zeros(1, np.int32) if rows == 1 else np.arange(rows, dtype=np.int32).reshape(1, rows, 1, 1, 1)
    return str(
        model.node(
            "ExpGIF", [scores, model.constant(padded(book, limits)), model.constant(row)], **neuron(book)
        )
    )


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("side", [1, 2, 7, 9])
@pytest.mark.parametrize(
    "books",
    [
        ("signed", "signed", "signed"),
        ("bytes", "signed", "bytes"),
        ("words", "words", "words"),
        ("words", "signed", "bytes"),
    ],
)
def test_windows(
    builder: Any, neuron: Any, padded: Any, books: tuple[str, str, str], side: int, whole: bool, merged: bool
) -> None:
    model = builder()
    mixer = Mixer(model, books, side, merged, whole)
    kind = BOOKS["words" if books[2] == "bytes" else "bytes"]
    result = mixer.finish(fire(model, neuron, padded, mixer.scores, kind))
    proto = model.proto({result: (np.int32, 4)})
    proto.graph.value_info.extend(mixer.infos)
    ops = fused_ops(proto)
    assert ops == ["ExpGIF"] * 3 + ["NativeWindows", "Identity"]
    compare(proto, mixer.feeds)
    session = OnnxRuntime(ir.from_proto(proto), stock=False, threads=1).session
    (found,) = session.run(None, {name: array[:0] for name, array in mixer.feeds.items()})
    assert found.shape == (0, *mixer.shape)


@pytest.mark.parametrize("what", ["rows", "scores read", "unknown shape"])
def test_others_stay(builder: Any, neuron: Any, padded: Any, what: str) -> None:
    """Neurons with several rows, scores that are read twice, and planes of unknown extents are left alone."""
    model = builder()
    mixer = Mixer(model, ("signed", "signed", "signed"), 2, False, True)
    rows = HIGH * WIDE if what == "rows" else 1
    result = mixer.finish(fire(model, neuron, padded, mixer.scores, BOOKS["bytes"], rows))
    outputs = {result: (np.int32, 4)}
    if what == "scores read":
        outputs[model.node("Identity", [mixer.scores])] = (np.int32, 5)
    proto = model.proto(outputs)
    if what != "unknown shape":
        proto.graph.value_info.extend(mixer.infos)
    assert fused_ops(proto).count("SpikeMatMulHeld") == 2
    compare(proto, mixer.feeds)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512-vnni"])
def test_every_instruction_set(isa: str) -> None:
    """Windows and convolutions once more, in a process that may not use more than this."""
    files = [__file__, str(Path(__file__).with_name("test_native_convolutions.py"))]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *files]
    done = subprocess.run(
        command,
        env={**os.environ, "SNNC_NATIVE_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:]
