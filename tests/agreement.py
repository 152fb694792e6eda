"""What must agree of a converted network: every runtime with the oracle, and the oracle with float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from snnc.coding import CodeBook
from snnc.compile import Conversion
from snnc.debug.verify import coded_tensors
from snnc.emit.compiled import compile_program
from snnc.errors import UnsupportedError
from snnc.ir import Model
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime
from snnc.runtimes.common import one_sample
from snnc.runtimes.oracle import QuantisedOracle

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]


class NearTie(Exception):
    """A value lies so close to a mid-point that float64 may not decide it."""


def _reached(u: Array, limit: Array, closed: bool) -> Array:
    distance = np.abs(u - limit)
    if bool(np.any((distance > 0) & (distance <= 1e-11 * (np.abs(u) + np.abs(limit))))):
        raise NearTie
    return (u >= limit) if closed else (u > limit)


class Quantise(OpRun):  # type: ignore[misc]
    op_domain = "ai.snnc"

    def _run(self, u: Array, step: Array, **attrs: Any) -> tuple[Array]:
        book = CodeBook.from_attributes(attrs)
        codes = np.full(u.shape, book.smallest, dtype=np.float64)
        for point, low, high in zip(
            book.break_points(attrs["ties"]), book.codes[:-1], book.codes[1:], strict=True
        ):
            codes += _reached(u, point.twice_midpoint / 2 * step, point.closed) * float(high - low)
        return (codes * step,)


class Weight(OpRun):  # type: ignore[misc]
    op_domain = "ai.snnc"

    def _run(self, integers: Array, numerator: Array, denominator: Array) -> tuple[Array]:
        return (integers.astype(np.float64) * numerator / denominator,)


class FixedPoint(OpRun):  # type: ignore[misc]
    op_domain = "ai.snnc"

    def _run(self, x: Array, fraction_bits: int = 12, bits: int = 24) -> tuple[Array]:
        limit = 2 ** (bits - 1) - 1
        return (np.clip(np.rint(x * 2.0**fraction_bits), -limit, limit) / 2.0**fraction_bits,)


class Rescale(OpRun):  # type: ignore[misc]
    op_domain = "ai.snnc"

    def _run(self, u: Array, multiplier: Array, step: Array, source_step: Array) -> tuple[Array]:
        dead = source_step == 0
        return (np.where(dead, u, u * multiplier * step / np.where(dead, 1, source_step)),)


class RoundMembrane(OpRun):  # type: ignore[misc]
    op_domain = "ai.snnc"

    def _run(self, u: Array, step: Array) -> tuple[Array]:
        ratio = u / step
        # Integers shifted to the right: half of all are ties, which float64 products only come close to.
        near = np.rint(ratio * 2.0**20) / 2.0**20
        ratio = np.where(np.abs(ratio - near) < 1e-9 * np.maximum(1, np.abs(ratio)), near, ratio)
        return (step * np.floor(ratio + 0.5),)


def evaluate_in_float64(model: Model, feeds: Feeds) -> dict[str, Array]:
    """Evaluate a network of either quant dialect or standard ops in float64 with ONNX's own reference.

    Returns:
        Every value by name.

    Raises:
        NearTie: A comparison is too close to call.
    """
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    del proto.functions[:]
    for position, tensor in enumerate(proto.graph.initializer):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            proto.graph.initializer[position].CopyFrom(numpy_helper.from_array(wide, tensor.name))
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend([onnx.ValueInfoProto(name=name) for name in names])
    evaluator = ReferenceEvaluator(proto, new_ops=[Quantise, Weight, FixedPoint, Rescale, RoundMembrane])
    results = evaluator.run(None, {name: array.astype(np.float64) for name, array in feeds.items()})
    return dict(zip(names, results, strict=True))


# --- runtimes ----------------------------------------------------------------------------------------------


def same_bits(runtime: str, name: str, expected: Array, found: Array) -> None:
    assert found.shape == expected.shape, (runtime, name, found.shape, expected.shape)
    if expected.dtype == np.float32:
        assert found.dtype == np.float32, (runtime, name, found.dtype)
        different = int(np.count_nonzero(expected.view(np.int32) != found.view(np.int32)))
    else:
        different = int(np.count_nonzero(expected.astype(np.int64) != found.astype(np.int64)))
    assert not different, (runtime, name, f"{different} of {found.size} differ")


def everywhere(
    conversion: Conversion,
    feeds: Feeds,
    *,
    levels: Sequence[str] = ("none", "all"),
    tapped: Sequence[str] | None = None,
    words: bool = True,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Require equal bits from the oracle, both numpy runtimes, onnxruntime and the instructions.

    Args:
        conversion: The converted network.
        feeds: Inputs.
        levels: Optimisation levels of onnxruntime.
        tapped: Levels at which every coded tensor is compared too; default all.
        words: Whether the network is also compiled for ExpG-1 and simulated, one sample.

    Returns:
        Outputs by name, and codes by the name of their tensor in the quantised network.
    """
    model = conversion.model
    taps = coded_tensors(model)
    outputs, codes = QuantisedOracle(conversion.quantised).run_batch(feeds, list(taps.values()))
    expected = {**{name: codes[meant] for name, meant in taps.items()}, **outputs}
    found = {
        "numpy": NumpyPacked(model).run(feeds, list(taps)),
        "numpy-timestep": NumpyTimestep(model).run(feeds, list(taps)),
    }
    runtime = OnnxRuntime(model, levels[0], threads=1)  # type: ignore[arg-type]
    for level in levels:
        runtime = runtime if level == levels[0] else runtime.at(level)  # type: ignore[arg-type]
        # Without taps, because a value that is also an output blocks fusions.
        found[f"onnxruntime {level}"] = runtime.run(feeds)
        if tapped is None or level in tapped:
            found[f"onnxruntime {level}, tapped"] = runtime.run(feeds, list(taps))
    if words:
        compare_with_words(model, feeds, expected)
    for name, results in found.items():
        for tensor, array in results.items():
            same_bits(name, tensor, expected[tensor], array)
    return outputs, codes


def compare_with_words(model: Model, feeds: Feeds, expected: Mapping[str, Array]) -> None:
    """Compile for ExpG-1 and compare one sample."""
    try:
        runtime = compile_program(model).runtime()
    except UnsupportedError as error:
        assert error.code == "SNN471", error
        return
    sample = one_sample(feeds, runtime.inputs)
    share = len(next(iter(sample.values()))), len(next(iter(feeds.values())))
    names = [name for name in expected if name in runtime.tensors and name not in runtime.outputs]
    for tensor, array in runtime.run(sample, names).items():
        wanted = _of_the_first(expected[tensor], *share, array.size)
        same_bits("ExpG-1", tensor, wanted, array.reshape(wanted.shape))


def _of_the_first(array: Array, size: int, count: int, elements: int) -> Array:
    """Return the part of a tensor that belongs to the first samples, along whichever axis the samples lie."""
    for axis, extent in enumerate(array.shape):
        part = np.take(array, range(extent // count * size), axis=axis)
        if part.size == elements:
            return np.asarray(part)
    raise AssertionError(f"no axis of {array.shape} holds {count} samples")


def compare_with_float64(
    model: Model, feeds: Feeds, outputs: Mapping[str, Array], codes: Mapping[str, Array], tolerance: float
) -> None:
    values = evaluate_in_float64(model, feeds)
    quantisers = {node.outputs[0].name or "": node for node in model.graph if node.op_type == "Quantise"}
    assert set(codes) <= set(quantisers)
    for name in codes:
        node = quantisers[name]
        value = node.inputs[1].const_value if node.inputs[1] is not None else None
        assert value is not None
        wanted = np.rint(values[name] / np.asarray(value.numpy(), dtype=np.float64))
        same_bits("float64", name, wanted.astype(np.int32), codes[name])
    for name, array in outputs.items():
        limit = tolerance * max(1e-3, float(np.abs(values[name]).max(initial=0.0)))
        assert array.shape == values[name].shape
        assert np.abs(array - values[name]).max(initial=0.0) <= limit, name
