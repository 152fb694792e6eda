"""Converted files that somebody changed, and models that no exporter writes, through all commands."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.data_rows import kit, prepared
from tests.hostile.rows import CONVERT, Row, good, info, node

Change = Callable[[onnx.ModelProto], object]
REPORT = (
    *("report", "{}/bad.onnx", "--data", "random:2", "-o", "{}/r.html"),
    *("--trade-off", "none", "--no-plots"),
)
#: Commands that read a converted file; each row takes the next three.
VERBS = cycle(
    {
        "run": "run {}/bad.onnx --input random:3",
        "inspect": "inspect {}/bad.onnx --data random:2",
        "ort": "run {}/bad.onnx --input random:3 --runtime ort",
        "audit": "audit {}/bad.onnx",
        "compare": "compare {}/good.snn.onnx {}/bad.onnx --data random:3",
        "verify": "verify {}/good.onnx {}/bad.onnx --data random:3",
        "emit": "emit {}/bad.onnx -o {}/out",
        "stock": "run {}/bad.onnx --input random:2 --runtime ort-stock",
        "report": " ".join(REPORT),
        "recipe": "convert {}/good.onnx --recipe {}/bad.onnx -o {}/out.onnx --calibrate random:4",
    }.items()
)


def changed(change: Change) -> Callable[[Path], onnx.ModelProto]:
    def make(folder: Path) -> onnx.ModelProto:
        prepared("good")(folder)
        made = onnx.load_from_string(kit()["good.snn.onnx"])
        change(made)
        return made

    return make


def rows_of(what: str, change: Change, code: str = "SNN322", *words: str, count: int = 3) -> list[Row]:
    """The same damage through some commands; all refuse it before they run anything."""
    found = []
    for _ in range(count):
        verb, command = next(VERBS)
        found.append(
            Row(47, f"{what}: {verb}", changed(change), 3, code, words, tuple(command.split()), seconds=20)
        )
    return found


def first(made: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(each for each in made.graph.node if each.op_type == op)


def attribute(op: str, name: str, **fields: Any) -> Change:
    def change(made: onnx.ModelProto) -> None:
        held = next(each for each in first(made, op).attribute if each.name == name)
        for key, value in fields.items():
            if isinstance(value, list):
                del getattr(held, key)[:]
                getattr(held, key).extend(value)
            else:
                setattr(held, key, value)

    return change


def listed(op: str, name: str) -> Change:
    """A number becomes a list of numbers."""

    def change(made: onnx.ModelProto) -> None:
        held = next(each for each in first(made, op).attribute if each.name == name)
        held.CopyFrom(helper.make_attribute(name, [held.i] * 4))

    return change


def without(op: str, name: str) -> Change:
    def change(made: onnx.ModelProto) -> None:
        held = first(made, op)
        kept = [each for each in held.attribute if each.name != name]
        del held.attribute[:]
        held.attribute.extend(kept)

    return change


def constant(op: str, position: int, change: Callable[[Any], Any]) -> Change:
    def apply(made: onnx.ModelProto) -> None:
        name = first(made, op).input[position]
        held = next(each for each in made.graph.initializer if each.name == name)
        array = np.ascontiguousarray(change(np.array(numpy_helper.to_array(held))))
        held.CopyFrom(numpy_helper.from_array(array, name))

    return apply


def note(key: str, value: str) -> Change:
    def change(made: onnx.ModelProto) -> None:
        for entry in made.metadata_props:
            if entry.key == key:
                entry.value = value

    return change


def huge_batch(made: onnx.ModelProto) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**40


def recursive(made: onnx.ModelProto) -> None:
    held = made.functions[0]
    del held.node[:]
    held.node.append(helper.make_node(held.name, list(held.input), list(held.output), domain=held.domain))


TAMPERED = [
    *rows_of("-1 time-steps", attribute("ExpGIF", "timesteps", i=-1)),
    *rows_of("2^63 time-steps", attribute("ExpGIF", "timesteps", i=2**63 - 1)),
    *rows_of("time-steps as a fraction", attribute("ExpGIF", "timesteps", f=4.0, type=1), "SNN303"),
    *rows_of("more groups than steps", attribute("ExpGIF", "groups", i=99)),
    *rows_of("-3 groups", attribute("ExpGIF", "groups", i=-3)),
    *rows_of("an unknown partition", attribute("ExpGIF", "partition", s=b"evil")),
    *rows_of("a partition that is no text", attribute("ExpGIF", "partition", s=b"\xff\xfe")),
    *rows_of("no partition", without("ExpGIF", "partition")),
    *rows_of("a range upside down", attribute("ExpGIF", "largest", i=-5)),
    *rows_of("a range beyond all codes", attribute("ExpGIF", "smallest", i=-(2**40))),
    *rows_of("no codes", attribute("ExpGIF", "codes", ints=[]), "SNN322", "codes"),
    *rows_of("codes of 2^62", attribute("ExpGIF", "codes", ints=[2**62] * 4)),
    *rows_of("100,000 codes", attribute("ExpGIF", "codes", ints=list(range(100_000)))),
    *rows_of("a search of no rounds", attribute("ExpGIF", "depth", i=0), "SNN322", "depth"),
    *rows_of("a search of 2^31 rounds", attribute("ExpGIF", "depth", i=2**31), "SNN322", "depth", count=4),
    *rows_of("a search of -1 rounds", attribute("ExpGIF", "depth", i=-1), "SNN322", "depth"),
    *rows_of("no search", without("ExpGIF", "depth"), "SNN322", "depth"),
    *rows_of("codes of no type", attribute("ExpGIF", "code_type", i=0), "SNN322", "type"),
    *rows_of("codes of type -4", attribute("ExpGIF", "code_type", i=-4), "SNN322", "type"),
    *rows_of("codes as floats", attribute("ExpGIF", "code_type", i=1), "SNN322", "type"),
    *rows_of("thresholds as floats", constant("ExpGIF", 1, lambda a: a.astype(np.float32))),
    *rows_of("thresholds that descend", constant("ExpGIF", 1, lambda a: a[:, ::-1]), "SNN322", "ascend"),
    *rows_of("a threshold too few", constant("ExpGIF", 1, lambda a: a[:, :-1]), "SNN322", "shape"),
    *rows_of("thresholds in one line", constant("ExpGIF", 1, np.ravel), "SNN322", "shape"),
    *rows_of("no thresholds", constant("ExpGIF", 1, lambda a: a[:0])),
    *rows_of("rows outside", constant("ExpGIF", 2, lambda a: a + 999), "SNN322", "rows"),
    *rows_of("negative rows", constant("ExpGIF", 2, lambda a: a - 5), "SNN322", "rows"),
    *rows_of("rows of 64 bits", constant("ExpGIF", 2, lambda a: a.astype(np.int64)), "SNN322", "rows"),
    *rows_of("weights of spikes as floats", constant("SpikeMatMul", 1, lambda a: a.astype(np.float32))),
    *rows_of("weights that are true or false", constant("SpikeMatMul", 1, lambda a: a > 0)),
    *rows_of("weights of 64 bits", constant("SpikeMatMul", 1, lambda a: a.astype(np.int64))),
    *rows_of(
        "weights beyond a sum", constant("SpikeMatMul", 1, lambda a: np.full(a.shape, 2**31 - 1, np.int32))
    ),
    *rows_of("a readout to infinity", constant("Readout", 1, lambda a: a * 0 + np.inf)),
    *rows_of("a readout that is NaN", constant("Readout", 1, lambda a: a * np.nan), "SNN323"),
    *rows_of("a function that calls itself", recursive, "SNN320"),
    *rows_of("codes of several types", listed("ExpGIF", "code_type"), count=10),
    *rows_of("a list of bits", listed("FixedPointEncode", "bits"), count=10),
    Row(
        47,
        "weights of another shape: run",
        changed(constant("SpikeMatMul", 1, np.transpose)),
        3,
        "SNN322",
        ("damaged",),
        ("run", "{}/bad.onnx", "--input", "random:3", "--quiet"),
    ),
    Row(
        47,
        "a readout of another shape: compare",
        changed(constant("Readout", 1, lambda a: np.ones(7, np.float32))),
        3,
        "SNN322",
        (),
        ("compare", "{}/good.snn.onnx", "{}/bad.onnx", "--data", "random:3", "--quiet"),
    ),
    *(
        Row(
            47,
            f"a batch of 2^40: {command.split()[0]}",
            changed(huge_batch),
            3,
            "SNN336",
            ("samples at once",),
            tuple(command.split()),
            bomb=True,
        )
        for command in (
            "run {}/bad.onnx --input random:3 --quiet",
            "compare {}/bad.onnx {}/bad.onnx --data random:2 --quiet",
        )
    ),
    Row(
        47,
        "notes nested without end: report",
        changed(note("snnc.calibration", "[" * 20_000)),
        0,
        command=(*REPORT, "--quiet"),
        left=("r.html", "r.json"),
    ),
    Row(
        47,
        "diff: a weight of another shape",
        changed(constant("SpikeMatMul", 1, np.transpose)),
        0,
        command=("diff", "{}/good.snn.onnx", "{}/bad.onnx"),
    ),
]  # fmt: skip


def source(change: Change) -> Callable[[Path], onnx.ModelProto]:
    def make(folder: Path) -> onnx.ModelProto:
        prepared("good")(folder)
        made = good()
        change(made)
        return made

    return make


def behind(op: str, *stored: tuple[str, Any], **attributes: Any) -> Change:
    """Another operator in place of the ReLU."""

    def change(made: onnx.ModelProto) -> None:
        names = [name for name, _ in stored]
        made.graph.node[1].CopyFrom(node(op, "p", *names, output="r", name="guilty", **attributes))
        made.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array), name) for name, array in stored
        )

    return change


def typed(kind: int) -> Change:
    def change(made: onnx.ModelProto) -> None:
        made.graph.input[0].type.tensor_type.elem_type = kind

    return change


def another_output(made: onnx.ModelProto) -> None:
    made.graph.output.append(info("w", [4, 3]))


def own_quantiser(made: onnx.ModelProto) -> None:
    made.graph.node[1].domain, made.graph.node[1].op_type = "ai.snnc", "Quantise"
    made.opset_import.append(helper.make_opsetid("ai.snnc", 1))


VERIFY = ("verify", "{}/bad.onnx", "{}/good.snn.onnx", "--data", "random:3", "--quiet")
BISECT = ("bisect", "{}/bad.onnx", "--calibrate", "random:4", "--data", "random:4", "--quiet")
SOURCES = [
    *(
        Row(48, f"{what}: {command[0]}", source(change), status, code, (), command)
        for what, change, status, code, commands in (
            ("a weight as another output", another_output, 5, "SNN511", (VERIFY,)),
            ("500 axes", behind("Einsum", equation="ij->" + "i" * 500), 3, "SNN303", (CONVERT, BISECT)),
            ("an axis of 99", behind("Softmax", axis=-99), 3, "SNN303", (CONVERT, BISECT)),
            ("a cast to type 12345", behind("Cast", to=12345), 3, "SNN303", (CONVERT, BISECT)),
            (
                "another operator than was converted",
                behind("Pow", ("e", np.float32(3.0))),
                5,
                "SNN511",
                (VERIFY,),
            ),
            ("complex numbers", typed(TensorProto.COMPLEX128), 4, "SNN461", (CONVERT,)),
            ("floats of 8 bits", typed(TensorProto.FLOAT8E4M3FN), 4, "SNN461", (CONVERT, BISECT)),
            ("our quantiser without a step", own_quantiser, 3, "SNN322", (CONVERT, BISECT)),
        )
        for command in commands
    ),
]  # fmt: skip
