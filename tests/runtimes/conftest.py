"""Fixtures for runtime tests: spike models built node by node, and a comparison of all runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from snnc.coding import CodeBook
from snnc.emit.compiled import compile_program
from snnc.errors import UnsupportedError
from snnc.ir import Model
from snnc.ir.functions import parse_function_proto
from snnc.ops import DOMAIN, OPS
from snnc.ops.types import onnx_type
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime
from snnc.runtimes.common import one_sample
from snnc.runtimes.ort import native_library

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

INT32_MAX = np.iinfo(np.int32).max


def neuron_attributes(book: CodeBook) -> dict[str, Any]:
    """Attributes of an ExpGIF or Encode node that emits a book's codes."""
    depth = (book.levels - 1).bit_length()
    return {
        **book.to_attributes(),
        "codes": book.codes.tolist(),
        "code_type": onnx_type(book.dtype),
        "depth": depth,
    }


def threshold_table(book: CodeBook, limits: Array) -> Array:
    """Pad ascending thresholds, shape (R, levels - 1), to (R, 2^depth - 1)."""
    depth = (book.levels - 1).bit_length()
    padding = np.inf if limits.dtype.kind == "f" else INT32_MAX
    table = np.full((len(limits), (1 << depth) - 1), padding, dtype=limits.dtype)
    table[:, : book.levels - 1] = limits
    return table


class Builder:
    """A model under construction; every node has one output, named after its position."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[str] = []

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        kind = onnx_type(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, **attrs: Any) -> Any:
        index = len(self.nodes)
        names = [f"{op}_{index}" if outputs == 1 else f"{op}_{index}_{i}" for i in range(outputs)]
        domain = DOMAIN if op in OPS else ""
        self.nodes.append(helper.make_node(op, list(inputs), names, f"n{index}", domain=domain, **attrs))
        return names[0] if outputs == 1 else names

    def spikes(self, source: str, book: CodeBook) -> str:
        """Read int32 level indices as codes: index k gives the book's k-th code."""
        table = threshold_table(book, np.arange(1, book.levels, dtype=np.int32)[None])
        rows = self.constant(0, np.int32)
        return str(self.node("ExpGIF", [source, self.constant(table), rows], **neuron_attributes(book)))

    def proto(self, outputs: Mapping[str, tuple[npt.DTypeLike, int]]) -> onnx.ModelProto:
        """Finish: outputs by name, with element type and rank."""
        used = sorted({node.op_type for node in self.nodes if node.domain == DOMAIN})
        infos = [
            helper.make_tensor_value_info(name, onnx_type(np.dtype(dtype)), [None] * rank)
            for name, (dtype, rank) in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.initializers)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset), helper.make_opsetid(DOMAIN, 1)],
            functions=[parse_function_proto(OPS[name].function_text(self.opset)) for name in used],
            ir_version=10,
        )


@pytest.fixture
def builder() -> type[Builder]:
    return Builder


def assert_same_bits(name: str, expected: Array, found: Array, runtime: str) -> None:
    assert found.dtype == expected.dtype, (runtime, name, found.dtype, expected.dtype)
    assert found.shape == expected.shape, (runtime, name, found.shape, expected.shape)
    different = int(np.count_nonzero(found != expected))
    assert found.tobytes() == expected.tobytes(), (runtime, name, f"{different} of {found.size} differ")


def run_everywhere(
    proto: onnx.ModelProto, feeds: Feeds, *, taps: Sequence[str] | None = None, full_check: bool = True
) -> dict[str, Array]:
    """Run in every runtime, require equal bits of outputs and taps, and return them.

    ``taps=None`` taps every tensor.
    """
    onnx.checker.check_model(proto, full_check=full_check)
    model: Model = ir.from_proto(proto)
    if taps is None:
        taps = [name for node in proto.graph.node for name in node.output]
    expected = NumpyTimestep(model).run(feeds, taps)
    results = {"packed": NumpyPacked(model).run(feeds, taps)}
    for level in ("none", "basic", "extended", "all"):
        runtime = OnnxRuntime(model, level, threads=1)
        # Without taps, because an output that is also read inside blocks fusions.
        results[f"onnxruntime {level}"] = runtime.run(feeds)
        if level in {"none", "all"}:
            results[f"onnxruntime {level}, tapped"] = runtime.run(feeds, taps)
    if native_library() is not None:
        for level, threads in (("none", 1), ("all", 2)):
            runtime = OnnxRuntime(model, level, stock=False, threads=threads)
            results[f"native {level}"] = runtime.run(feeds)
            results[f"native {level}, tapped"] = runtime.run(feeds, taps)
    _run_words(model, feeds, expected)
    for runtime_name, result in results.items():
        for name, array in result.items():
            assert_same_bits(name, expected[name], array, runtime_name)
    return expected


def _run_words(model: Model, feeds: Feeds, expected: Mapping[str, Array]) -> None:
    """Compile for ExpG-1 and compare every tensor of one sample, where the machine can have it."""
    try:
        runtime = compile_program(model).runtime()
        sample = one_sample(feeds, runtime.inputs)
    except UnsupportedError as error:
        # Layout arithmetic that no network has, tables of 65,535 thresholds, inputs
        # without a sample axis or with any value of their type.
        assert error.code in {
            "SNN420",
            "SNN421",
            "SNN470",
            "SNN471",
            "SNN472",
            "SNN480",
            "SNN482",
        }, error
        return
    size = len(next(iter(sample.values())))
    total = len(next(iter(feeds.values())))
    names = [name for name in runtime.tensors if name in expected and name not in runtime.outputs]
    for name, array in runtime.run(sample, names).items():
        wanted = expected[name]
        if wanted.ndim and len(wanted) % total == 0:
            wanted = wanted[: len(wanted) // total * size]
            assert np.array_equal(array.reshape(wanted.shape), wanted), ("ExpG-1", name)


@pytest.fixture
def everywhere() -> Callable[..., dict[str, Array]]:
    return run_everywhere


@pytest.fixture
def neuron() -> Callable[[CodeBook], dict[str, Any]]:
    return neuron_attributes


@pytest.fixture
def padded() -> Callable[[CodeBook, Array], Array]:
    return threshold_table
