"""One well-formed node and some with adversarial values for every native operator.

`CASES` has an entry for each operator of the library; tests compare its keys with the registry and with the
C++ sources, so that no operator can be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnc.coding import CodeBook
from snnc.ir.functions import parse_function_proto
from snnc.ops import DOMAIN, OPS
from snnc.ops.types import onnx_type

__all__ = ["CASES", "Case", "message", "reference"]

Array = npt.NDArray[Any]

LOW, HIGH = -(2**31), 2**31 - 1
BOOK = CodeBook(4, 2)
SIGNED = CodeBook(4, 4, signed=True)
WIDE = CodeBook(12, 4, signed=True)
EDGES = np.array([LOW, LOW + 1, -1, 0, 1, HIGH - 1], np.int32)


@dataclass(frozen=True)
class Case:
    """A node: its operator, inputs in order, attributes, and what its output is.

    Attributes:
        op: Operator type.
        label: What is special about it.
        inputs: Arrays; those at `constants` are initializers, the others are fed.
        attrs: Attributes; a value may be of any type that ONNX has.
        constants: Positions of the inputs that are initializers.
        output: ONNX element type that the file declares for the output.
        second: That of a second output, which nothing reads; 0: there is none.
    """

    op: str
    label: str
    inputs: tuple[Array, ...]
    attrs: Mapping[str, Any]
    constants: frozenset[int] = frozenset()
    output: int = TensorProto.INT32
    second: int = 0

    def feeds(self) -> dict[str, Array]:
        """Return the arrays to feed."""
        return {f"x{i}": a for i, a in enumerate(self.inputs) if i not in self.constants}


@cache
def _function(op: str) -> onnx.FunctionProto:
    return parse_function_proto(OPS[op].function_text(17))


def message(case: Case, *, native: bool) -> bytes:
    """Serialise a model of one node; ``native`` leaves its function body out."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim)
        for name, a in case.feeds().items()
    ]
    constants = [numpy_helper.from_array(case.inputs[i], f"x{i}") for i in sorted(case.constants)]
    names = [f"x{i}" for i in range(len(case.inputs))]
    results = ["y", "z"] if case.second else ["y"]
    node = helper.make_node(case.op, names, results, "node", domain=DOMAIN, **case.attrs)
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_tensor_value_info("y", case.output, None)], constants
    )
    if case.second:
        graph.value_info.append(helper.make_tensor_value_info("z", case.second, None))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    functions = [] if native else [_function(case.op)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    return bytes(model.SerializeToString())


def _neuron(book: CodeBook) -> dict[str, Any]:
    return {
        **book.to_attributes(),
        "codes": book.codes.tolist(),
        "code_type": onnx_type(book.dtype),
        "depth": (book.levels - 1).bit_length(),
    }


def _table(book: CodeBook, rows: Array, dtype: npt.DTypeLike = np.int32) -> Array:
    width = (1 << (book.levels - 1).bit_length()) - 1
    table = np.full((len(rows), width), np.inf if np.dtype(dtype).kind == "f" else HIGH, dtype)
    table[:, : book.levels - 1] = rows
    return table


def _codes(book: CodeBook, shape: Sequence[int], seed: int = 0) -> Array:
    """Codes of a book, both ends among them."""
    drawn = np.random.default_rng(seed).choice(book.codes, tuple(shape)).astype(book.dtype)
    if drawn.size > 1:
        drawn.reshape(-1)[[0, -1]] = book.codes[[0, -1]]
    return drawn


def _many(make: Callable[[str], Case | None], *labels: str) -> tuple[Case, ...]:
    return tuple(case for label in labels if (case := make(label)) is not None)


def _strided(array: Array) -> Array:
    """Return the same numbers as a view that is not contiguous."""
    doubled = np.repeat(array, 2, axis=-1)
    return doubled[..., ::2]


def _shaped(label: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return {"empty": (0, *shape[1:]), "size 1": tuple(1 for _ in shape)}.get(label, shape)


STANDARD = ("plain", "empty", "size 1", "strided")


def _few(op: str) -> Case:
    """A single potential, and codes that no fast table has: every limit is compared."""
    v = np.array([2], np.int32)
    attrs = {**_neuron(BOOK), "codes": [0, 5, 40_000], "code_type": TensorProto.INT32, "depth": 2}
    inputs = (v, np.array([[1, 3, HIGH]], np.int32), np.zeros(1, np.int32))
    if op == "ExpGIF":
        return Case(op, "few", inputs, attrs, frozenset({1, 2}))
    gain = (v.astype(np.int64) * 4, np.full(1, 3, np.int64), *inputs[1:])
    return Case(op, "few", gain, {**attrs, "fraction_bits": 0}, frozenset({2, 3}))


def _fire_at_ends(label: str) -> Case:
    """Limits and potentials at and beside the ends of their type."""
    v = np.array([LOW, LOW + 1, LOW + 2, LOW + 3, -1, 0, 1, HIGH - 4, HIGH - 3, HIGH - 2, HIGH - 1], np.int32)
    low, high = np.arange(LOW, LOW + 4), np.arange(HIGH - 4, HIGH)
    limits = np.stack(
        [
            np.r_[low + 1, high],
            np.r_[low, low + 4],
            np.r_[[LOW + 2] * 4, [HIGH - 1] * 4],
            np.r_[high - 4, high],
        ]
    )
    attrs = _neuron(BOOK)
    inputs = (np.stack([v] * 4)[None], _table(BOOK, limits), np.arange(4, dtype=np.int32).reshape(4, 1))
    return Case("ExpGIF", label, inputs, attrs, frozenset({1, 2}), attrs["code_type"])


def _fire(label: str) -> Case:
    if label in {"few", "ends"}:
        return _few("ExpGIF") if label == "few" else _fire_at_ends(label)
    book = SIGNED if label == "signed" else BOOK
    limits = np.cumsum(np.random.default_rng(1).integers(0, 4, (3, book.levels - 1)), axis=1) - 9
    if label == "huge":
        limits[0], limits[1], limits[2] = LOW, HIGH, np.linspace(LOW, HIGH, book.levels - 1)
    limits = limits.astype(np.int32)
    v = np.stack([limits, limits - (limits > LOW), np.minimum(limits, HIGH - 2) + 1, limits]).astype(np.int32)
    v = np.minimum(v, HIGH - 1)
    v[3, :, : len(EDGES)] = EDGES
    rows = np.arange(3, dtype=np.int32).reshape(3, 1)
    if label in {"empty", "size 1"}:
        v = np.zeros(_shaped(label, v.shape), np.int32)
        rows = rows[:1] if label == "size 1" else rows
    v = _strided(v) if label == "strided" else v
    attrs = _neuron(book)
    inputs = (v, _table(book, limits), rows)
    return Case("ExpGIF", label, inputs, attrs, frozenset({1, 2}), attrs["code_type"])


def _fire_gain(label: str) -> Case:
    if label == "few":
        return _few("ExpGIFGain")
    book = SIGNED if label == "signed" else BOOK
    attrs = {**_neuron(book), "fraction_bits": 0 if label == "no fraction" else 12}
    unit = 1 << attrs["fraction_bits"]
    limits = (
        np.cumsum(np.random.default_rng(2).integers(0, 3 * unit, (3, book.levels - 1)), axis=1) - 5 * unit
    )
    dtype: Any = np.int32 if label == "int32" else np.int64
    gain = np.array([[[1], [3], [7]], [[1000], [0], [17]]], dtype)
    if label == "huge":
        gain = gain * (2**29 // 1000)
    v = np.floor_divide(limits.astype(object) * np.maximum(gain, 1).astype(object), unit)
    v = np.concatenate([v, v - 1, v + 1], axis=-1).astype(dtype)
    rows = np.arange(3, dtype=np.int32).reshape(3, 1)
    if label in {"empty", "size 1"}:
        v = np.zeros(_shaped(label, v.shape), dtype)
        gain, rows = (gain[:1, :1], rows[:1]) if label == "size 1" else (gain[:0], rows)
    v = _strided(v) if label == "strided" else v
    inputs = (v, gain, _table(book, np.clip(limits, LOW, HIGH).astype(np.int32)), rows)
    return Case("ExpGIFGain", label, inputs, attrs, frozenset({2, 3}), attrs["code_type"])


def _encode(label: str) -> Case:
    attrs = _neuron(BOOK)
    limits = np.sort(np.random.default_rng(3).normal(size=(3, BOOK.levels - 1)).astype(np.float32), axis=1)
    below = np.nextafter(limits, np.float32(-np.inf))
    v = np.stack([limits, below, np.zeros_like(limits)])
    v[2, :, :4] = [np.finfo(np.float32).max, np.finfo(np.float32).min, -0.0, np.float32(1e-45)]
    if label == "no numbers":
        v[1] = np.resize(np.array([np.nan, -np.inf], np.float32), v[1].shape)
    rows = np.arange(3, dtype=np.int32).reshape(3, 1)
    if label in {"empty", "size 1"}:
        v = np.zeros(_shaped(label, v.shape), np.float32)
        rows = rows[:1] if label == "size 1" else rows
    v = _strided(v) if label == "strided" else v
    inputs = (v, _table(BOOK, limits, np.float32), rows)
    return Case("Encode", label, inputs, attrs, frozenset({1, 2}), attrs["code_type"])


def _conv(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        rng = np.random.default_rng(4)
        batch, channels, *extents = _shaped(label, (2, 4, 5, 6))
        group = 4 if label.startswith("depthwise") else 2 if label == "groups" else 1
        kernel = (1, 1) if label == "size 1" else (3, 2)
        outputs = 1 if label == "size 1" else 4
        w = rng.choice(np.array([-128, 127, 1, 0]), (outputs, channels // group, *kernel)).astype(np.int8)
        if op == "HostConv":
            x: Array = rng.choice(np.array([-(2**23) + 1, 2**23 - 1, 5, 0]), (batch, channels, *extents))
            x = x.astype(np.int32)
        else:
            book = {"signed": SIGNED, "depthwise signed": SIGNED, "depthwise words": WIDE}.get(label, BOOK)
            x = _codes(book, (batch, channels, *extents))
        attrs: dict[str, Any] = {"group": group, "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}
        if label == "window":
            attrs.update(strides=[2, 3], pads=[1, 0, 2, 1], dilations=[2, 1])
        if label in {"depthwise signed", "depthwise words"}:
            attrs.update(pads=[1, 0, 2, 1])
        if label == "wide":  # sums just below the bound of the product
            w = np.resize(np.array([-32768, 32767, 0, 1, -1]), w.shape).astype(np.int16)
        x = _strided(x) if label == "strided" else x
        output = TensorProto.INT64 if op == "HostConv" else TensorProto.INT32
        if op == "HostConv":
            w = w.astype(np.int32) if label != "wide" else w // 64
        return Case(op, label, (x, w), attrs, frozenset({1}), output)

    return make


def _product(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        rng = np.random.default_rng(5)
        rows, depth = _shaped(label, (3, 70))
        columns = 1 if label == "size 1" else 20
        if op == "HostMatMul":
            a: Array = rng.choice(np.array([-(2**23), 2**23 - 1, 1]), (2, rows, depth)).astype(np.int32)
            b: Array = rng.choice(np.array([-128, 127, 0]), (depth, columns)).astype(np.int32)
        elif op == "SpikeMatMul":
            a = _codes(SIGNED if label == "signed" else BOOK, (2, rows, depth))
            b = rng.choice(np.array([-128, 127, -1, 0]), (depth, columns)).astype(np.int8)
        else:
            a = _codes(WIDE if label == "signed" else BOOK, (2, rows, depth))
            b = _codes(BOOK if label == "signed" else SIGNED, (2, depth, columns), 1)
        if label == "no depth":
            a, b = a[..., :0], b[..., :0, :]
        if label == "no columns":
            b = b[..., :0]
        if label == "wide":
            b = np.resize(np.array([-32768, 32767, 0, 1, -1]), b.shape).astype(np.int16)
        a = _strided(a) if label == "strided" else a
        constants = frozenset() if op == "SpikeMatMulHeld" else frozenset({1})
        output = TensorProto.INT64 if op == "HostMatMul" else TensorProto.INT32
        return Case(op, label, (a, b), {}, constants, output)

    return make


def _join(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        shape = _shaped(label, (4, 3, 6))
        a = np.resize(EDGES if op == "MembraneAdd" else EDGES // 1024, shape).astype(np.int32)
        b: Array = np.zeros(shape, np.int32)
        if label == "huge":
            b = np.where(a > 0, LOW, np.where(a < 0, HIGH, 5)).astype(np.int32)
        if label == "broadcast":
            b, a = np.array([[7], [-7], [0]], np.int32), a // 2
        if op == "MembraneScale":
            b = np.array([1024 if label == "huge" else -3], np.int32)
        a = _strided(a) if label == "strided" else a
        return Case(op, label, (a, b), {}, frozenset({1}) if op == "MembraneScale" else frozenset())

    return make


def _round(label: str) -> Case:
    shift = {"no shift": 0, "ties": 3, "huge": 45}.get(label, 9)
    v = np.arange(-20, 20).reshape(2, 20) * (1 << max(shift - 1, 0))
    dtype: Any = np.int64 if label == "huge" else np.int32
    v = np.concatenate([v, v - 1, v + 1], axis=1).astype(dtype)
    if label in {"empty", "size 1"}:
        v = np.full(_shaped(label, v.shape), -1, dtype)
    v = _strided(v) if label == "strided" else v
    return Case("MembraneRound", label, (v,), {"shift": shift})


def _fixed(label: str) -> Case:
    x = np.array([[0.5, 1.5, 2.5, -0.5, -1.5], [3e38, -3e38, 0.0, -0.0, 1e-45]], np.float32)
    x[0] /= 4096
    if label == "ends":
        x = np.array([[2048.0, -2048.0, 2047.9998, 2048.0001, -2047.9999]], np.float32)
    if label in {"empty", "size 1"}:
        x = np.zeros(_shaped(label, x.shape), np.float32)
    x = _strided(x) if label == "strided" else x
    return Case("FixedPointEncode", label, (x,), {"fraction_bits": 12, "bits": 24})


def _readout(label: str) -> Case:
    v = np.resize(np.array([LOW, HIGH, 2**24 + 1, -(2**24) - 1, 0, 3], np.int32), _shaped(label, (4, 6)))
    scale: Array = np.array(0.1, np.float32)
    bias: Array = np.full(v.shape[1:], -0.3, np.float32)
    if label == "channels":
        scale = np.linspace(-1, 1e-30, 6).astype(np.float32)
    v = _strided(v) if label == "strided" else v
    return Case("Readout", label, (v, scale, bias), {}, frozenset({1, 2}), TensorProto.FLOAT)


def _charge(label: str) -> Case:
    x = _codes(WIDE if label == "signed" else BOOK, _shaped(label, (3, 9)))
    return Case("Charge", label, (_strided(x) if label == "strided" else x,), {})


def _mul_held(label: str) -> Case:
    shape = _shaped(label, (3, 4, 5))
    a, b = _codes(WIDE, shape), _codes(SIGNED if label == "signed" else BOOK, shape[1:], 1)
    return Case("SpikeMulHeld", label, (_strided(a) if label == "strided" else a, b), {})


def _gate(label: str) -> Case:
    book = WIDE if label == "signed" else BOOK
    x = _codes(book, _shaped(label, (3, 4, 5)))
    gate = np.resize(np.array([True, False, True]), (*x.shape[:-1], 1) if label == "broadcast" else x.shape)
    code_type = onnx_type(book.dtype)
    x = _strided(x) if label == "strided" else x
    return Case("SpikeGate", label, (x, gate), {"code_type": code_type}, frozenset(), code_type)


def _mask(label: str) -> Case:
    s = np.resize(EDGES, _shaped(label, (3, 4, 5))).astype(np.int32)
    gate = np.resize(
        np.array([True, False, False, True, False]), s.shape[-1:] if label == "broadcast" else s.shape
    )
    if label == "all shut":
        gate = np.zeros_like(gate)
    s = _strided(s) if label == "strided" else s
    return Case("MembraneMask", label, (s, gate), {"axis": 1 if label == "inner" else -1})


def _slice(label: str) -> Case:
    book = WIDE if label == "signed" else BOOK
    x = _codes(book, _shaped(label, (3, 9)))
    attrs = {"shift": 2, "bits": 2} if label != "all" else {"shift": 0, "bits": 16}
    x = _strided(x) if label == "strided" else x
    return Case("CodeSlice", label, (x,), attrs, frozenset(), onnx_type(book.dtype))


def _quotient(label: str) -> Case:
    gain = np.array([[1], [3], [0], [2**31 - 1]], np.int64)
    v = np.array([[-1, 0, 1, 7, -7]]) * np.maximum(gain, 1) + np.array([-1, 0, 1, -1, 1])
    v = v // (2 if label == "plain" else 1)
    if label in {"empty", "size 1"}:
        v = np.zeros(_shaped(label, v.shape), np.int64)
        gain = gain[: len(v)]
    v = _strided(v) if label == "strided" else v
    return Case("HostQuotient", label, (v, gain), {"fraction_bits": 12})


def _pool(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        shape = _shaped(label, (2, 3, 5, 6))
        codes = op.startswith("Spike")
        book = SIGNED if label == "signed" else BOOK
        x: Array = _codes(book, shape) if codes else np.resize(np.arange(-(2**20), 2**20, 99_991), shape)
        x = x if codes else x.astype(np.int32)
        if label == "ends":  # floats of 32 bits do not tell these apart
            x = np.resize(np.array([LOW + 1, HIGH - 1, HIGH - 2, LOW + 2, HIGH - 1], np.int32), shape)
        attrs: dict[str, Any] = {"kernel_shape": [1, 1] if label == "size 1" else [2, 3], "strides": [1, 2]}
        attrs["pads"] = [0, 0, 0, 0]
        if "Max" in op:
            attrs.update(dilations=[1, 1], ceil_mode=0)
        if label == "window":
            attrs.update(pads=[1, 0, 0, 1], strides=[2, 1])
            if "Max" in op:
                attrs["ceil_mode"] = 1
        x = _strided(x) if label == "strided" else x
        output = onnx_type(book.dtype) if op == "SpikeMaxPool" else TensorProto.INT32
        return Case(op, label, (x,), attrs, frozenset(), output)

    return make


def _pad(label: str) -> Case:
    book = WIDE if label == "signed" else BOOK
    x = _codes(book, _shaped(label, (3, 4, 5)))
    pads = [0, -1, -2, 0, 2, 1] if label == "cropped" else [0, 1, 0, 0, 0, 2]
    x = _strided(x) if label == "strided" else x
    return Case("SpikePad", label, (x,), {"pads": pads}, frozenset(), onnx_type(book.dtype))


def _sum(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        shape = _shaped(label, (3, 4, 5))
        x: Array = np.resize(EDGES // 20, shape).astype(np.int32)
        if op == "SpikeSum":
            x = _codes(WIDE if label == "signed" else BOOK, shape)
        attrs: dict[str, Any] = {"axes": [0, 2] if label == "apart" else [-1], "keepdims": 1}
        if label == "dropped":
            attrs["keepdims"] = 0
        return Case(op, label, (_strided(x) if label == "strided" else x,), attrs)

    return make


def _max(label: str) -> Case:
    a = np.resize(np.array([LOW, LOW, HIGH, HIGH - 1, 0, -1, LOW], np.int32), _shaped(label, (3, 4, 5)))
    a = _strided(a) if label == "strided" else a
    return Case("MembraneMax", label, (a,), {"axis": 1 if label == "inner" else -1})


def _norm(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        shape = _shaped(label, (3, 4, 24))
        most = (2**31 - 2**10) // shape[-1] // (4 if label == "inner" else 1)
        r = np.resize(np.array([most, -most, 0, 1, most], np.int32), shape)
        axes = [1, 2] if label == "inner" else [-1]
        attrs: dict[str, Any] = {"axes": axes, "centred": int(label != "plain mean"), "epsilon": 7}
        r = _strided(r) if label == "strided" else r
        if op == "NormGain":
            return Case(op, label, (r,), attrs, frozenset(), TensorProto.INT64)
        sign = np.resize(np.array([1, -1, -1], np.int32), shape[-1:])
        del attrs["epsilon"]
        return Case(op, label, (r, sign), attrs, frozenset({1}), TensorProto.INT64)

    return make


def _matmul_fire(label: str) -> Case:
    base = _product("SpikeMatMul")(label)
    columns = base.inputs[1].shape[1]
    limits = (np.arange(BOOK.levels - 1) * 900 - 4000 + np.arange(columns)[:, None] * 37).astype(np.int32)
    attrs = {name: value for name, value in _neuron(BOOK).items() if name in {"codes", "code_type", "depth"}}
    rows = np.arange(columns, dtype=np.int32)
    inputs = (*base.inputs, _table(BOOK, limits), rows)
    return Case("NativeMatMulFire", label, inputs, attrs, frozenset({1, 2, 3}), attrs["code_type"])


def _norm_fire(label: str) -> Case:
    base = _norm("NormPotential")("plain mean" if label == "plain mean" else label)
    limits = (np.cumsum(np.full(SIGNED.levels - 1, 700)) - 9000).astype(np.int32)[None]
    attrs = {
        name: value for name, value in _neuron(SIGNED).items() if name in {"codes", "code_type", "depth"}
    }
    attrs.update(centred=base.attrs["centred"], epsilon=7, fraction_bits=12)
    factors = np.ones(1, np.int32)
    if label == "scaled":
        factors = np.arange(1, base.inputs[0].shape[-1] + 1, dtype=np.int32)
        attrs.update(shifts=[1, 0, 3])
    inputs = (*base.inputs, _table(SIGNED, limits), np.zeros(1, np.int32), factors)
    return Case("NativeNormFire", label, inputs, attrs, frozenset({1, 2, 3, 4}), attrs["code_type"])


def _matmul_finish(label: str) -> Case:
    base = _product("SpikeMatMul")("plain" if label in {"added", "moved"} else label)
    a, b = base.inputs
    if label == "moved":
        a = np.where(np.arange(a.size).reshape(a.shape) % 9 == 0, 250, -5).astype(np.int16)
    # before, bias, factor, constant, weight of each column
    chosen = [[3, -5, -2, 11, 4], [-7, 9, 5, -1, -3]]
    numbers = np.resize(np.array(chosen, np.int32), (b.shape[1], 5)).T.copy()
    shift = {"size 1": -1, "strided": 0, "signed": 40}.get(label, 4)
    if shift < 0:
        numbers[:2] = [[1], [0]]  # only what is rounded is scaled and moved before
    other = numbers[:1]
    if label == "added":
        other = np.resize(EDGES // 8, (*a.shape[:-1], b.shape[1])).astype(np.int32)
    attrs = {"shift": shift, "has_other": int(label == "added")}
    constants = frozenset({1, 2} if label == "added" else {1, 2, 3})
    return Case("NativeMatMulFinish", label, (a, b, numbers, other), attrs, constants)


def _attention(label: str) -> Case:
    heads, tokens, width = (1, 1, 1) if label == "size 1" else (0 if label == "empty" else 2, 5, 8)
    q, k = _codes(SIGNED, (heads, tokens, width)), _codes(SIGNED, (heads, tokens, width), 1)
    v = _codes(SIGNED, (heads, tokens, width), 2)
    transposed = label == "transposed"
    k = k if transposed else np.ascontiguousarray(k.swapaxes(-1, -2))
    scores = (np.arange(BOOK.levels - 1) * 30 - 200).astype(np.int32)[None]
    values = (np.arange(SIGNED.levels - 1) * 2000 - 25_000).astype(np.int32)[None]
    score, value = _neuron(BOOK), _neuron(SIGNED)
    attrs = {
        "transposed": int(transposed),
        "score_type": score["code_type"],
        "score_codes": score["codes"],
        "score_depth": score["depth"],
        "score_row": 0,
        "fraction_bits": 12,
        **{name: value[name] for name in ("codes", "code_type", "depth")},
    }
    inputs = (q, k, v, _table(BOOK, scores), _table(SIGNED, values), np.zeros(1, np.int32))
    return Case("NativeAttention", label, inputs, attrs, frozenset({3, 4, 5}), attrs["code_type"])


def _conv_chain(op: str) -> Callable[[str], Case]:
    def make(label: str) -> Case:
        base = _conv("SpikeConv")(label if label in {"empty", "size 1", "depthwise", "window"} else "plain")
        x, w = base.inputs
        outputs = len(w)
        # before, bias, factor, constant, weight of each channel
        rounds = label != "size 1"  # only what is rounded is scaled and moved before
        chosen = (3, -5, -2, 11, 4) if rounds else (1, 0, -2, 11, 4)
        numbers = np.stack([np.full(outputs, n) for n in chosen]).astype(np.int32)
        other = numbers[:1]
        if label == "added":
            sums = OPS["SpikeConv"].packed([x, w], dict(base.attrs))
            other = np.resize(EDGES // 8, sums.shape).astype(np.int32)
        attrs = {
            **base.attrs,
            **{"host": 0, "stores": 0, "has_other": int(label == "added"), "unchanged": 0},
            **{"shift": 4 if rounds else -1, "wide_shift": -1},
        }
        if op == "NativeConvFinish":
            inputs: tuple[Array, ...] = (x, w, numbers, other)
            constants = frozenset({1, 2} if label == "added" else {1, 2, 3})
            return Case(op, label, inputs, attrs, constants)
        limits = (np.arange(BOOK.levels - 1) * 900 - 4000 + np.arange(outputs)[:, None] * 37).astype(np.int32)
        neuron = {
            name: value for name, value in _neuron(BOOK).items() if name in {"codes", "code_type", "depth"}
        }
        inputs = (x, w, _table(BOOK, limits), np.arange(outputs, dtype=np.int32), numbers, other)
        constants = frozenset({1, 2, 3, 4} if label == "added" else {1, 2, 3, 4, 5})
        if op == "NativeConvFire":
            return Case(op, label, inputs, {**attrs, **neuron}, constants, neuron["code_type"])
        twice = {"second_codes": SIGNED.codes.tolist(), "second_type": onnx_type(SIGNED.dtype)}
        twice["second_depth"] = (SIGNED.levels - 1).bit_length()
        table = _table(SIGNED, (np.arange(SIGNED.levels - 1) * 300 - 4000).astype(np.int32)[None])
        inputs = (*inputs, table, np.zeros(outputs, np.int32))
        attrs = {**attrs, **neuron, **twice}
        return Case(op, label, inputs, attrs, constants | {6, 7}, neuron["code_type"], twice["second_type"])

    return make


def _move(label: str) -> Case:
    book = WIDE if label == "wide" else BOOK
    x = _codes(book, (0 if label == "empty" else 1 if label == "size 1" else 3, 4, 6))
    # Where the last axis of what is written lies in a sample: (2, 4, 3) read from (4, 2, 3).
    attrs = {"shape": [2, 12], "extents": [2, 4, 3], "strides": [3, 6, 1], "first": 0, "size": 24}
    if label == "turned":
        attrs = {"shape": [6, 4], "extents": [6, 4], "strides": [1, 6], "first": 0, "size": 24}
    if label == "part":
        attrs = {"shape": [2, 4], "extents": [2, 4], "strides": [1, 6], "first": 3, "size": 24}
    return Case("NativeMove", label, (x,), attrs, frozenset(), onnx_type(book.dtype))


def _places(order: Array, name: str) -> dict[str, list[int]]:
    """Take places, shape (stack, rows, columns), apart into those of NativeWindows."""
    first = order[0, 0, 0]
    parts = (order[:, 0, 0], order[0, :, 0] - first, order[0, 0] - first)
    return {
        f"{name}_{part}": places.tolist() for part, places in zip(("base", "row", "col"), parts, strict=True)
    }


def _windows(label: str) -> Case:
    # Two heads of two channels, four windows of 2 x 3; keys transposed, results as the planes are.
    heads, width, high, wide, y, x = (1,) * 6 if label == "size 1" else (2, 2, 2, 2, 2, 3)
    book = {"wide": WIDE, "signed": SIGNED}.get(label, BOOK)
    shape = (0 if label == "empty" else 2, heads * width, high * y, wide * x)
    q, k, v = (_codes(book, shape, seed) for seed in range(3))
    places = np.arange(int(np.prod(shape[1:]))).reshape(heads, width, high, y, wide, x)
    tokens = places.transpose(2, 4, 0, 3, 5, 1).reshape(-1, y * x, width)
    limits = (np.arange(BOOK.levels - 1) * (40_000 if label == "wide" else 30) - 200).astype(np.int32)[None]
    neuron = _neuron(BOOK)
    attrs = {
        **{name: neuron[name] for name in ("codes", "code_type", "depth")},
        "score_row": 0,
        "shape": list(shape[1:]),
        **_places(tokens, "q"),
        **_places(tokens.swapaxes(1, 2), "k"),
        **_places(tokens, "v"),
        **_places(tokens, "y"),
    }
    return Case("NativeWindows", label, (q, k, v, _table(BOOK, limits)), attrs, frozenset({3}))


CASES: Mapping[str, tuple[Case, ...]] = {
    "ExpGIF": _many(_fire, *STANDARD, "ends", "few", "signed", "huge"),
    "ExpGIFGain": _many(_fire_gain, *STANDARD, "few", "signed", "int32", "no fraction", "huge"),
    "Encode": _many(_encode, *STANDARD, "no numbers"),
    "SpikeConv": _many(
        _conv("SpikeConv"),
        *STANDARD,
        *("signed", "wide", "groups", "window", "depthwise", "depthwise signed", "depthwise words"),
    ),
    "HostConv": _many(_conv("HostConv"), *STANDARD, "wide", "groups", "window"),
    "SpikeMatMul": _many(_product("SpikeMatMul"), *STANDARD, "wide", "no columns", "signed", "no depth"),
    "SpikeMatMulHeld": _many(_product("SpikeMatMulHeld"), *STANDARD, "no columns", "signed", "no depth"),
    "HostMatMul": _many(_product("HostMatMul"), *STANDARD, "no columns", "no depth"),
    "MembraneAdd": _many(_join("MembraneAdd"), *STANDARD, "huge", "broadcast"),
    "MembraneScale": _many(_join("MembraneScale"), *STANDARD, "huge"),
    "MembraneRound": _many(_round, *STANDARD, "ties", "no shift", "huge"),
    "FixedPointEncode": _many(_fixed, *STANDARD, "ends"),
    "Readout": _many(_readout, *STANDARD, "channels"),
    "Charge": _many(_charge, *STANDARD, "signed"),
    "SpikeMulHeld": _many(_mul_held, *STANDARD, "signed"),
    "SpikeGate": _many(_gate, *STANDARD, "signed", "broadcast"),
    "MembraneMask": _many(_mask, *STANDARD, "inner", "broadcast", "all shut"),
    "CodeSlice": _many(_slice, *STANDARD, "signed", "all"),
    "HostQuotient": _many(_quotient, *STANDARD, "ties"),
    "MembraneSumPool": _many(_pool("MembraneSumPool"), *STANDARD, "window"),
    "SpikeSumPool": _many(_pool("SpikeSumPool"), *STANDARD, "window", "signed"),
    "MembraneMaxPool": _many(_pool("MembraneMaxPool"), *STANDARD, "ends", "window"),
    "SpikeMaxPool": _many(_pool("SpikeMaxPool"), *STANDARD, "window", "signed"),
    "SpikePad": _many(_pad, *STANDARD, "signed", "cropped"),
    "MembraneSum": _many(_sum("MembraneSum"), *STANDARD, "apart", "dropped"),
    "SpikeSum": _many(_sum("SpikeSum"), *STANDARD, "apart", "dropped", "signed"),
    "MembraneMax": _many(_max, *STANDARD, "inner"),
    "NormPotential": _many(_norm("NormPotential"), *STANDARD, "inner", "plain mean"),
    "NormGain": _many(_norm("NormGain"), *STANDARD, "inner", "plain mean"),
    "NativeMove": _many(_move, "plain", "empty", "size 1", "wide", "turned", "part"),
    "NativeMatMulFire": _many(_matmul_fire, *STANDARD, "signed"),
    "NativeConvFinish": _many(
        _conv_chain("NativeConvFinish"), "plain", "empty", "size 1", "depthwise", "added"
    ),
    "NativeConvFire": _many(_conv_chain("NativeConvFire"), "plain", "empty", "size 1", "window", "added"),
    "NativeConvFireTwice": _many(
        _conv_chain("NativeConvFireTwice"), "plain", "empty", "size 1", "window", "added"
    ),
    "NativeNormFire": _many(_norm_fire, *STANDARD, "plain mean", "scaled"),
    "NativeMatMulFinish": _many(_matmul_finish, *STANDARD, "signed", "added", "moved"),
    "NativeAttention": _many(_attention, "plain", "empty", "size 1", "transposed"),
    "NativeWindows": _many(_windows, "plain", "empty", "size 1", "signed", "wide"),
}


def _by_parts(case: Case) -> Array:
    """Return what a fused operator stands for."""
    attrs = dict(case.attrs)
    fire = {**SIGNED.to_attributes(), **attrs}
    if case.op == "NativeMatMulFire":
        sums = OPS["SpikeMatMul"].packed(case.inputs[:2], {})
        return OPS["ExpGIF"].packed([sums, *case.inputs[2:]], fire)
    if case.op == "NativeNormFire":
        r, sign, table, rows, factors = case.inputs
        r = OPS["MembraneScale"].packed([r, factors], {})
        for shift in attrs.get("shifts", []):
            r = OPS["MembraneRound"].packed([r], {"shift": shift})
        norm = {"axes": [-1], "centred": attrs["centred"], "epsilon": attrs["epsilon"]}
        v, gain = OPS["NormPotential"].packed([r, sign], norm), OPS["NormGain"].packed([r], norm)
        return OPS["ExpGIFGain"].packed([v, gain, table, rows], fire)
    if case.op in {"NativeConvFinish", "NativeConvFire", "NativeConvFireTwice", "NativeMatMulFinish"}:
        return _chain_by_parts(case, fire)
    if case.op == "NativeMove":
        x = case.inputs[0]
        place = sum(
            index * stride
            for index, stride in zip(np.indices(attrs["extents"]), attrs["strides"], strict=True)
        )
        flat = x.reshape(len(x), attrs["size"])[:, attrs["first"] + place.reshape(-1)]
        return flat.reshape(len(x), *attrs["shape"])
    if case.op == "NativeWindows":
        return _windows_by_parts(case)
    q, k, v, scores, values, rows = case.inputs
    s = OPS["SpikeMatMulHeld"].packed([q, k.swapaxes(-1, -2) if attrs["transposed"] else k], {})
    s = s - s.max(axis=-1, keepdims=True) if s.size else s
    names = {"codes": "score_codes", "code_type": "score_type", "depth": "score_depth"}
    first = {**BOOK.to_attributes(), **{name: attrs[given] for name, given in names.items()}}
    a = OPS["ExpGIF"].packed([s, scores, np.array(attrs["score_row"], np.int32)], first)
    n = OPS["SpikeMatMulHeld"].packed([a, v], {})
    return OPS["ExpGIFGain"].packed([n, a.sum(axis=-1, keepdims=True, dtype=np.int32), values, rows], fire)


def _windows_by_parts(case: Case) -> Array:
    def order(name: str) -> Array:
        base, row, col = (np.array(case.attrs[f"{name}_{part}"]) for part in ("base", "row", "col"))
        return base[:, None, None] + row[:, None] + col

    samples = len(case.inputs[0])
    q, k, v = (
        x.reshape(samples, int(np.prod(x.shape[1:])))[:, order(name)]
        for x, name in zip(case.inputs[:3], "qkv", strict=True)
    )
    s = OPS["SpikeMatMulHeld"].packed([q, k], {})
    row = np.array(case.attrs["score_row"], np.int32)
    a = OPS["ExpGIF"].packed([s, case.inputs[3], row], {**BOOK.to_attributes(), **case.attrs})
    y = np.zeros((samples, int(np.prod(case.attrs["shape"]))), np.int32)
    y[:, order("y")] = OPS["SpikeMatMulHeld"].packed([a, v], {})
    return y.reshape(samples, *case.attrs["shape"])


def _chain_by_parts(case: Case, fire: Mapping[str, Any]) -> Array:
    numbers, other = case.inputs[2:4] if case.op.endswith("Finish") else case.inputs[4:6]
    if case.op == "NativeMatMulFinish":
        sums = OPS["SpikeMatMul"].packed(case.inputs[:2], {})
        before, bias, factor, constant, weight = numbers
    else:
        window = {name: case.attrs[name] for name in ("strides", "pads", "dilations", "group")}
        sums = OPS["SpikeConv"].packed(case.inputs[:2], window)
        before, bias, factor, constant, weight = (row.reshape(-1, 1, 1) for row in numbers)
    u = sums * before + bias
    if case.attrs["shift"] >= 0:
        u = OPS["MembraneRound"].packed([u], {"shift": case.attrs["shift"]})
    u = u * factor + constant
    if case.attrs["has_other"]:
        u = u + other * weight
    if case.op in {"NativeConvFinish", "NativeMatMulFinish"}:
        return u
    return OPS["ExpGIF"].packed([u, case.inputs[2], case.inputs[3].reshape(-1, 1, 1)], fire)


def batched(case: Case, times: int) -> Case:
    """Return the case with ``times`` as many samples: all that is fed and as long as the first input."""
    first = case.inputs[0]
    inputs = [
        np.concatenate([array] * times)
        if place not in case.constants and array.ndim == first.ndim and len(array) == len(first)
        else array
        for place, array in enumerate(case.inputs)
    ]
    return replace(case, label=f"{case.label}, {times} times", inputs=tuple(inputs))


def reference(case: Case) -> Array:
    """Return what the numpy runtime makes of a well-formed case."""
    if case.op not in OPS:
        return _by_parts(case)
    return OPS[case.op].packed(list(case.inputs), dict(case.attrs))


def fed(case: Case) -> Case:
    """Return the case with every input fed instead of constant, where the operator admits that."""
    return case if case.op.startswith("Native") else replace(case, constants=frozenset())
