"""A small spiking model on disk, and a way to run the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
from click.testing import CliRunner, Result

from snnc import ir
from snnc.cli.group import cli
from snnc.coding import CodeBook
from snnc.ops import attach_functions

BOOK = CodeBook(timesteps=2, groups=2)
TEXT = """
<ir_version: 10, opset_import: ["" : 17, "ai.snnc" : 1]>
spiking (float[N, 3] image) => (float[N, 2] logits)
<int8[3, 4] w = {1, -2, 3, 4, -5, 6, 7, -8, 9, 1, -1, 2}, int8[4, 2] u = {3, 1, -2, 5, 4, -4, 1, 2},
 float[1, 3] edges = {0.25, 0.5, 0.75}, int32[1, 3] taus = {1, 5, 9}, int32[1] zero = {0},
 float[2] scale = {0.5, 0.25}, float[2] bias = {1.0, -1.0}> {
    [encoder] a = ai.snnc.Encode<BOOK>(image, edges, zero)
    [first] v = ai.snnc.SpikeMatMul(a, w)
    [neuron] s = ai.snnc.ExpGIF<BOOK>(v, taus, zero)
    [second] l = ai.snnc.SpikeMatMul(s, u)
    [readout] logits = ai.snnc.Readout(l, scale, bias)
}
"""


def spiking_model() -> ir.Model:
    book = (
        'timesteps = 2, groups = 2, partition = "interleaved", signed = 0, smallest = 0, largest = 3,'
        " codes = [0, 1, 2, 3], code_type = 3, depth = 2"
    )
    model = onnx_ir.from_onnx_text(TEXT.replace("BOOK", book))
    attach_functions(model)
    ir.infer_shapes(model)
    for node, width in zip(model.graph, (3, 4, 4, 2, 2), strict=True):
        node.outputs[0].shape = ir.Shape(["N", width])
    model.metadata_props["snnc.format"] = "1.0"
    return model


def expected(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same network in plain numpy."""
    w = np.array([[1, -2, 3, 4], [-5, 6, 7, -8], [9, 1, -1, 2]])
    u = np.array([[3, 1], [-2, 5], [4, -4], [1, 2]])
    codes = np.searchsorted([0.25, 0.5, 0.75], image, side="right")
    spikes = np.searchsorted([1, 5, 9], codes @ w, side="right")
    return (spikes @ u * np.array([0.5, 0.25]) + [1.0, -1.0]).astype(np.float32)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with ``net.snn.onnx``, ``ann.onnx`` and ``x.npz``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    ir.save(spiking_model(), tmp_path / "net.snn.onnx")
    ann = onnx_ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 17]>
        ann (float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}>
        { [same] i = Identity(x)  [product] y = MatMul(i, w) }"""
    )
    ir.save(ann, tmp_path / "ann.onnx")
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).random((5, 3), np.float32))
    return tmp_path


@pytest.fixture
def snnc() -> Callable[..., Result]:
    """Run the command line; stdout and stderr are kept apart."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def reference() -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    return expected


@pytest.fixture
def validate() -> Callable[[str, str], dict[str, Any]]:
    """Check a JSON document against the shipped schema of a command."""
    folder = Path(__file__).resolve().parents[2] / "snnc" / "cli" / "schemas"

    def check(text: str, name: str) -> dict[str, Any]:
        document = json.loads(text)
        schema = json.loads((folder / f"{name}.json").read_text())
        faults = list(violations(document, schema, "$"))
        assert faults == []
        return dict(document)

    return check


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def violations(value: Any, schema: dict[str, Any], place: str) -> Any:
    """The subset of JSON Schema that the shipped schemas use; an unknown keyword is a fault of its own."""
    known = {"$schema", "title", "description", "type", "properties", "required", "items", "const", "enum"}
    known |= {"additionalProperties", "minimum"}
    for keyword in set(schema) - known:
        yield f"{place}: keyword {keyword} is not checked"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    matches = [
        kind
        for kind in kinds
        if isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind in ("integer", "number"))
    ]
    if kinds and not matches:
        yield f"{place}: {value!r} is not {kinds}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{place}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is not one of {schema['enum']!r}"
    if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
        yield f"{place}: {value!r} is too small"
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{place}: lacks {name}" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            if name in properties:
                yield from violations(item, properties[name], f"{place}.{name}")
            elif schema.get("additionalProperties", True) is False:
                yield f"{place}: unexpected {name}"
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from violations(item, schema["additionalProperties"], f"{place}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from violations(item, schema["items"], f"{place}[{index}]")
