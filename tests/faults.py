"""Wrong passes: each does its work and then makes one mistake, as a programmer of passes would.

Debugging must name the pass (``tests/debug``), and the campaign must see that the network is wrong
(``tests/campaign``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir
import pytest

from snnc.coding import CodeBook
from snnc.ir import Model, attributes
from snnc.passes.canonical.drop_dead_code import DropDeadCode
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm
from snnc.passes.canonical.fold_constants import FoldConstants
from snnc.passes.canonical.gemm_to_matmul import GemmToMatmul
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.lift_constants import LiftConstants
from snnc.passes.canonical.remove_identity import RemoveIdentity
from snnc.passes.canonical.resolve_padding import ResolvePadding
from snnc.passes.canonical.sort_nodes import SortNodes
from snnc.passes.quantise.align_membranes import AlignMembranes
from snnc.passes.quantise.fixed_point_input import FixedPointInput
from snnc.passes.quantise.insert_quantisers import InsertQuantisers
from snnc.passes.quantise.integer_weights import IntegerWeights
from snnc.passes.quantise.round_constants import RoundConstants
from snnc.passes.recognise.absorb_activations import AbsorbActivations
from snnc.passes.spike.encode import Encode
from snnc.pipeline import PassResult, Rewrite

#: Changes a model after a pass did its work; returns the name of the node that was changed, if one was.
Fault = Callable[[Model], str | None]


def node(model: Model, *kinds: str, last: bool = False) -> Any:
    nodes = [each for each in model.graph if each.op_type in kinds]
    return nodes[-1 if last else 0]


def rewrite_weight(value: Any, change: Callable[[Any], Any]) -> None:
    array = np.array(value.const_value.numpy())
    changed = np.asarray(change(array))
    if changed.shape != array.shape:
        raise ValueError("the fault is of weights of another shape")
    value.const_value = onnx_ir.tensor(np.ascontiguousarray(changed.astype(array.dtype)), name=value.name)


def weight_of(kind: str, position: int, change: Callable[[Any], Any], last: bool = False) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind, last=last)
        rewrite_weight(guilty.inputs[position], change)
        return str(guilty.name)

    return apply


def attribute_of(kind: str, name: str, value: Any) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind)
        guilty.attributes[name] = onnx_ir.Attr(name, guilty.attributes[name].type, value)
        return str(guilty.name)

    return apply


def bypassed(*kinds: str, last: bool = False) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, *kinds, last=last)
        guilty.outputs[0].replace_all_uses_with(guilty.inputs[0])
        model.graph.remove(guilty, safe=True)
        return None

    return apply


def swapped_inputs(kind: str) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind)
        left, right = guilty.inputs
        guilty.replace_input_with(0, right)
        guilty.replace_input_with(1, left)
        return str(guilty.name)

    return apply


def lost_bias(model: Model) -> str | None:
    """The Add behind a MatMul goes."""
    product = node(model, "MatMul")
    (add,) = [use.node for use in product.outputs[0].uses()]
    add.outputs[0].replace_all_uses_with(product.outputs[0])
    model.graph.remove(add, safe=True)
    return None


def shifted_padding(model: Model) -> str | None:
    return attribute_of("Conv", "pads", (2, 1, 0, 1))(model)


def quantiser_step(factor: float, last: bool = False) -> Fault:
    return weight_of("Quantise", 1, lambda a: a * factor, last)


def integer_weight(change: Callable[[Any], Any]) -> Fault:
    """Change the integers of a product's weight, whatever operand holds them."""

    def apply(model: Model) -> str | None:
        guilty = node(model, "Weight", last=True)
        rewrite_weight(guilty.inputs[0], change)
        return None

    return apply


def threshold(model: Model) -> str | None:
    guilty = node(model, "ExpGIF")
    rewrite_weight(guilty.inputs[1], lambda a: np.where(a < 2**31 - 8, a + 3, a))
    return str(guilty.name)


def readout(model: Model) -> str | None:
    guilty = node(model, "Readout")
    rewrite_weight(guilty.inputs[1], lambda a: np.nextafter(a, np.float32(np.inf)))
    return str(guilty.name)


def spike_weight(model: Model) -> str | None:
    guilty = node(model, "SpikeConv", "SpikeMatMul")
    rewrite_weight(guilty.inputs[1], lambda a: a[::-1])
    return None


def dangling(model: Model) -> str | None:
    """A node reads what nobody computes: the manager's own checks stop it."""
    node(model, "MaxPool").replace_input_with(0, onnx_ir.Value(name="nobody"))
    return None


def operator(kind: str, other: str) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, kind)
        guilty.op_type = other
        return str(guilty.name)

    return apply


def part_of_weight(position: int, change: Callable[[Any], Any]) -> Fault:
    """Change the numerators (1) or denominators (2) of the first weight."""
    return weight_of("Weight", position, change)


def book_of_quantiser(change: Callable[[CodeBook], CodeBook], last: bool = False) -> Fault:
    def apply(model: Model) -> str | None:
        guilty = node(model, "Quantise", last=last)
        held = attributes(guilty)
        book = change(CodeBook.from_attributes(held))
        new = {**book.to_attributes(), "codes": book.codes.tolist()}
        new["twice_midpoints"] = book.twice_midpoints.tolist()
        new["closed"] = [int(flag) for flag in book.closed(held["ties"])]
        for name, value in new.items():
            kind = guilty.attributes[name].type
            guilty.attributes[name] = onnx_ir.Attr(name, kind, tuple(value) if kind.name == "INTS" else value)
        return str(guilty.name)

    return apply


def first_only(factor: float) -> Callable[[Any], Any]:
    """Multiply the first number of an array."""

    def change(array: Any) -> Any:
        changed = np.array(array)
        changed.reshape(-1)[0] *= factor
        return changed

    return change


def rows_of_thresholds(model: Model) -> str | None:
    guilty = node(model, "ExpGIF")
    rewrite_weight(guilty.inputs[2], lambda rows: np.roll(rows, 1))
    return str(guilty.name)


#: Name, pass, fault, options of bisect, and whether the node that was changed must be named.
FAULTS: dict[str, tuple[Any, Fault, dict[str, Any], bool]] = {
    "padding shifted": (ResolvePadding, shifted_padding, {}, True),
    "constant rolled": (FoldConstants, weight_of("Conv", 2, lambda a: np.roll(a, 1)), {}, True),
    "bias lost while lifting": (LiftConstants, weight_of("Conv", 2, lambda a: 0 * a), {}, True),
    "axes swapped": (InferShapes, attribute_of("Transpose", "perm", (0, 1, 2, 3)), {}, True),
    "operands swapped": (SortNodes, swapped_inputs("Sub"), {}, True),
    "node dropped as identity": (RemoveIdentity, bypassed("Relu"), {}, False),
    "live node dropped as dead": (DropDeadCode, bypassed("Transpose"), {}, False),
    "bias of a Gemm lost": (GemmToMatmul, lost_bias, {}, False),
    "stale scale of a BatchNorm": (
        FoldBatchNorm,
        weight_of("Conv", 1, lambda a: a * np.array([1, 9, 1, -1])[:, None, None, None]),
        {},
        True,
    ),
    "step halved": (InsertQuantisers, quantiser_step(0.125), {}, True),
    "step of the last code stale": (InsertQuantisers, quantiser_step(6.0, last=True), {}, True),
    "activation absorbed twice": (AbsorbActivations, quantiser_step(2.5), {}, True),
    "input read at half its scale": (FixedPointInput, weight_of("Conv", 1, lambda a: a / 2), {}, False),
    "rounding mode of weights": (
        IntegerWeights,
        integer_weight(lambda a: a - 24),
        {"metric": "sqnr", "threshold": 15.0},
        False,
    ),
    "output channels rolled": (IntegerWeights, integer_weight(lambda a: np.roll(a, 1, axis=-1)), {}, False),
    "step scaled": (
        RoundConstants,
        weight_of("Quantise", 1, lambda a: a * 4, last=True),
        {},
        True,
    ),
    "thresholds off": (Encode, threshold, {}, True),
    "weights of spikes reversed": (Encode, spike_weight, {}, False),
    "scale of the readout one bit off": (Encode, readout, {}, True),
    "wire to nowhere": (AlignMembranes, dangling, {}, False),
    "bias of a BatchNorm with the wrong sign": (FoldBatchNorm, weight_of("Conv", 2, lambda a: -a), {}, True),
    "difference taken for a sum": (SortNodes, operator("Sub", "Add"), {}, True),
    "another activation": (DropDeadCode, operator("Relu", "Sigmoid"), {}, True),
    "another pool": (InferShapes, attribute_of("MaxPool", "kernel_shape", (1, 1)), {}, True),
    "codes that saturate early": (
        InsertQuantisers,
        book_of_quantiser(lambda book: book.restricted(0, 2), last=True),
        {},
        True,
    ),
    "groups off by some": (
        InsertQuantisers,
        book_of_quantiser(lambda book: CodeBook(4, 1, book.partition, book.signed)),
        {"metric": "sqnr", "threshold": 18.0},
        False,
    ),
    "scale twice what it is": (IntegerWeights, part_of_weight(1, lambda a: a * 2), {}, False),
    "scale of one channel": (IntegerWeights, part_of_weight(2, first_only(8)), {}, False),
    "sign of weights lost": (IntegerWeights, integer_weight(np.abs), {}, False),
    "branches not aligned": (AlignMembranes, part_of_weight(1, lambda a: a * 2), {}, False),
    "thresholds of other channels": (Encode, rows_of_thresholds, {}, True),
    "stride of spikes": (Encode, attribute_of("SpikeMaxPool", "strides", (1, 1)), {}, False),
}


def plant(patch: pytest.MonkeyPatch, kind: Any, fault: Fault) -> list[str | None]:
    """Let a pass make a mistake once, at its last run in which the fault is possible."""
    run = kind.run
    guilty: list[str | None] = []

    def broken(self: Any, model: Model) -> PassResult:
        result: PassResult = run(self, model)
        if guilty:
            return result
        try:
            guilty.append(fault(model))
        except (IndexError, AttributeError, ValueError):
            return result
        result.rewrites.append(Rewrite("a planted fault", added=tuple(filter(None, guilty))))
        return result

    patch.setattr(kind, "run", broken)
    return guilty
