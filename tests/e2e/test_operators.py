"""Float networks of one operator each: they convert, all runtimes agree, and the result is near the source.

A rewrite that is silently wrong does not come near the source; 20 dB are far below what 8-bit codes reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import VerifyReport, verify
from snnc.errors import UnsupportedError
from snnc.runtimes import NumpyPacked, OnnxRuntime

Build = Callable[[Any, str], str]
RUNTIMES = {"numpy": NumpyPacked, "onnxruntime": OnnxRuntime}
DECIBEL = 20.0


def near_source(path: Path, feeds: dict[str, Any], timesteps: int = 8) -> VerifyReport:
    """Convert with the data as calibration, and check what must hold of every conversion."""
    data = path.with_suffix(".npz")
    np.savez(data, **feeds)
    conversion = convert(path, ConvertOptions(timesteps, timesteps, calibrate=str(data)))
    report = verify(path, conversion.model, feeds, runtimes=RUNTIMES)
    assert report.identical, report.first_mismatch()
    assert audit(conversion.model).clean
    for distance in report.distances:
        assert distance.decibel is None or distance.decibel >= DECIBEL, f"{distance.decibel:.1f} dB"
    assert report.distances
    return report


def saved(net: Any, folder: Path, output: str, shape: list[Any] | None = None) -> Path:
    net.output(output)
    if shape is None:
        return Path(net.save(folder))
    proto = net.proto()
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape))
    onnx.save(proto, folder / "net.onnx")
    return folder / "net.onnx"


def ints(net: Any, *numbers: int) -> str:
    return str(net.const(list(numbers), np.int64))


def transposed(net: Any, x: str, shape: tuple[int, ...], group: int = 1, **attrs: Any) -> str:
    weights = net.const(net.random.standard_normal(shape) * 0.3)
    bias = net.const(net.random.standard_normal(shape[1] * group) * 0.1)
    return str(net.op("ConvTranspose", [x, weights, bias], group=group, **attrs))


def resize(**attrs: Any) -> Build:
    scales = attrs.pop("scales", [1.0, 1.0, 2.0, 2.0])
    return lambda net, x: net.op("Resize", [x, "", net.const(scales)], **attrs)


def reduce(op: str, *axes: int, **attrs: Any) -> Build:
    return lambda net, x: net.op(op, [x], axes=list(axes), **attrs)


def pad(mode: str, *fill: float) -> Build:
    return lambda net, x: net.op(
        "Pad", [x, ints(net, 0, 0, 1, 2, 0, 0, 2, 1), *[net.const(number) for number in fill]], mode=mode
    )


def with_branch(op: str, count: int = 2) -> Build:
    return lambda net, x: net.op(op, [x, *(net.conv(x, (4, 4, 3, 3)) for _ in range(count - 1))])


def squeeze_and_excite(net: Any, x: str) -> str:
    gate = net.op("Relu", [net.conv(net.op("GlobalAveragePool", [x]), (2, 4, 1, 1))])
    return str(net.op("Mul", [x, net.op("Sigmoid", [net.conv(gate, (4, 2, 1, 1))])]))


def spatial_gate(net: Any, x: str) -> str:
    return str(net.op("Mul", [net.op("Sigmoid", [net.conv(x, (1, 4, 3, 3))]), x]))


def arithmetic_norm(*axes: int) -> Build:
    def build(net: Any, x: str) -> str:
        centred = net.op("Sub", [x, net.op("ReduceMean", [x], axes=list(axes))])
        squares = net.op("ReduceMean", [net.op("Pow", [centred, net.const(2.0)])], axes=list(axes))
        normal = net.op("Div", [centred, net.op("Sqrt", [net.op("Add", [squares, net.const(1e-6)])])])
        scaled = net.op("Mul", [normal, net.const(net.normal(4, 1, 1) + 1)])
        return str(net.op("Add", [scaled, net.const(net.normal(4, 1, 1))]))

    return build


def length_of_channels(net: Any, x: str) -> str:
    length = net.op("Clip", [net.op("ReduceL2", [x], axes=[1]), net.const(1e-12)])
    return str(net.op("Div", [x, length]))


def split(count: int, *sizes: int, **attrs: Any) -> Build:
    def build(net: Any, x: str) -> str:
        parts = net.op("Split", [x, *([ints(net, *sizes)] if sizes else [])], outputs=count, axis=2, **attrs)
        return str(net.op("Concat", parts[::-1], axis=2))

    return build


#: Operators between two convolutions, of values of shape (N, 4, 6, 6).
OPERATORS: dict[str, Build] = {
    "sum of three": with_branch("Sum", 3),
    "mean of three": with_branch("Mean", 3),
    "max of two": with_branch("Max"),
    "min of three": with_branch("Min", 3),
    "max with a number": lambda net, x: net.op("Max", [net.const(0.1), x]),
    "max with a constant": lambda net, x: net.op("Max", [x, net.const(net.normal(4, 1, 1))]),
    "min with a constant": lambda net, x: net.op("Min", [x, net.const(net.normal(4, 1, 1))]),
    "max with a multiple": lambda net, x: net.op("Max", [x, net.op("Mul", [x, net.const(0.1)])]),
    "max with a larger multiple": lambda net, x: net.op("Max", [net.op("Mul", [x, net.const(3.0)]), x]),
    "relu6 of max and min": lambda net, x: net.op(
        "Min", [net.op("Max", [x, net.const(0.0)]), net.const(6.0)]
    ),
    "global maximum": lambda net, x: net.op("GlobalMaxPool", [x]),
    "maximum over axes": reduce("ReduceMax", 2, 3),
    "maximum over a row": lambda net, x: net.op("Unsqueeze", [net.op("ReduceMax", [x], axes=[3], keepdims=0),
                                                              ints(net, 3)]),
    "minimum over axes": reduce("ReduceMin", 2, 3),
    "sum of magnitudes": reduce("ReduceL1", 2, 3),
    "pool of magnitudes": lambda net, x: net.op("LpPool", [x], kernel_shape=[2, 2], p=1),
    "sum over no axis": lambda net, x: net.op("ReduceSum", [x], noop_with_empty_axes=1),
    "average, ceil mode": lambda net, x: net.op(
        "AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
    ),
    "average, ceil mode, padding counted": lambda net, x: net.op(
        "AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1] * 4,
        count_include_pad=1,
    ),
    "average, ceil mode, padding not counted": lambda net, x: net.op(
        "AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1] * 4
    ),
    "average, padded": lambda net, x: net.op("AveragePool", [x], kernel_shape=[3, 3], pads=[1] * 4),
    "tile": lambda net, x: net.op("Tile", [x, ints(net, 1, 1, 2, 3)]),
    "resize, floor": resize(coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "resize, half pixel": resize(),
    "resize, corners": resize(coordinate_transformation_mode="align_corners", nearest_mode="ceil"),
    "resize, smaller": resize(scales=[1.0, 1.0, 0.5, 0.7]),
    "resize, linear": resize(mode="linear"),
    "resize, linear, corners": resize(mode="linear", coordinate_transformation_mode="align_corners"),
    "resize, cubic": resize(mode="cubic", scales=[1.0, 1.0, 1.5, 2.0]),
    "depth to space": lambda net, x: net.op(
        "DepthToSpace", [net.conv(x, (16, 4, 1, 1))], blocksize=2, mode="CRD"
    ),
    "transposed, 2": lambda net, x: transposed(net, x, (4, 4, 2, 2), strides=[2, 2]),
    "transposed, output padding": lambda net, x: transposed(
        net, x, (4, 4, 3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]
    ),
    "transposed, groups": lambda net, x: transposed(
        net, x, (4, 2, 3, 3), 2, strides=[2, 1], dilations=[1, 2], pads=[0, 1, 1, 0]
    ),
    "transposed, depthwise": lambda net, x: transposed(net, x, (4, 1, 4, 4), 4, strides=[2, 2], pads=[1] * 4),
    "transposed, same": lambda net, x: transposed(
        net, x, (4, 4, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "transposed, output shape": lambda net, x: transposed(
        net, x, (4, 4, 3, 3), strides=[2, 2], output_shape=[12, 12]
    ),
    "pad, zeros": pad("constant"),
    "pad, a number": pad("constant", 0.5),
    "pad, reflect": pad("reflect"),
    "pad, edge": pad("edge"),
    "slice without axes": lambda net, x: net.op(
        "Slice", [x, ints(net, 0, 0, 1, 1), ints(net, 99, 9, -1, 5), "", ints(net, 1, 1, 2, 1)]
    ),
    "split in halves": split(2),
    "split in two sizes": split(2, 1, 5),
    "channel gate": squeeze_and_excite,
    "spatial gate": spatial_gate,
    "square": lambda net, x: net.op("Mul", [x, x]),
    "pool of squares": lambda net, x: net.op("LpPool", [x], kernel_shape=[2, 2]),
    "local response": lambda net, x: net.op("LRN", [x], size=3, alpha=0.5),
    "norm of the channels": lambda net, x: net.op("LpNormalization", [x], axis=1),
    "logarithm of sums": lambda net, x: net.op("ReduceLogSumExp", [x], axes=[2, 3]),
    "logarithm of sums, flat": lambda net, x: net.op(
        "Reshape", [net.op("ReduceLogSumExp", [x], axes=[1], keepdims=0), ints(net, 0, 4, 3, 3)]
    ),
    "logarithm of a softmax": lambda net, x: net.op("LogSoftmax", [x], axis=1),
    "inverse tangent": lambda net, x: net.op("Atan", [x]),
    "hyperbolic cosine": lambda net, x: net.op("Cosh", [x]),
    "inverse hyperbolic sine": lambda net, x: net.op("Asinh", [x]),
    "instance normalisation": lambda net, x: net.op(
        "InstanceNormalization", [x, net.const([1, -2, 0.5, 1]), net.const([0, 0.1, 0.2, -0.1])]
    ),
    "mean and variance": lambda net, x: net.op("MeanVarianceNormalization", [x], axes=[1, 3]),
    "layer norm of channels, by arithmetic": arithmetic_norm(1),
    "instance norm, by arithmetic": arithmetic_norm(2, 3),
    "division by the length of channels": length_of_channels,
    "running sum": lambda net, x: net.op("CumSum", [x, ints(net, 2)]),
    "running sum, backwards, without itself": lambda net, x: net.op(
        "CumSum", [x, ints(net, -1)], exclusive=1, reverse=1
    ),
    "softmax of channels": lambda net, x: net.op("Softmax", [x], axis=1),
    "mixture of constant rows": lambda net, x: net.matmul(
        net.op("Softmax", [net.matmul(x, (6, 5))], axis=-1), (5, 6)
    ),
    "einsum of channels": lambda net, x: net.op(
        "Einsum", [net.const(net.normal(4, 4)), x], equation="dc,bchw->bdhw"
    ),
    "einsum of two values": lambda net, x: net.op(
        "Einsum", [x, net.conv(x, (4, 4, 3, 3))], equation="bchw,bchv->bcwv"
    ),
    "prelu": lambda net, x: net.op("PRelu", [x, net.const(np.reshape([0.1, -0.2, 0.3, 0], (4, 1, 1)))]),
    "scale with signs": lambda net, x: net.op("Mul", [net.const(np.reshape([1, -2, 3, 0.5], (4, 1, 1))), x]),
    "constant of a place": lambda net, x: net.op("Sub", [net.const(net.normal(4, 6, 6)), x]),
}  # fmt: skip


@pytest.mark.parametrize("build", OPERATORS.values(), ids=OPERATORS)
def test_an_operator_between_convolutions(net: Any, tmp_path: Path, build: Build) -> None:
    made = net(seed=3)
    x = made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))
    path = saved(made, tmp_path, made.conv(build(made, x), (3, 4, 1, 1)))
    near_source(path, made.feeds(batch=8))


@pytest.mark.parametrize("name", ["max of two", "minimum over axes", "pad, a number", "channel gate", "tile"])
def test_an_operator_at_the_end(net: Any, tmp_path: Path, name: str) -> None:
    made = net(seed=3)
    x = made.op("Relu", [made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))])
    near_source(saved(made, tmp_path, OPERATORS[name](made, x)), made.feeds(batch=8))


@pytest.mark.parametrize(
    "name", ["resize, half pixel", "transposed, 2", "pad, reflect", "global maximum", "average, padded"]
)
def test_an_operator_on_the_input(net: Any, tmp_path: Path, name: str) -> None:
    made = net(seed=3)
    made.random = np.random.default_rng(3)
    y = OPERATORS[name](made, made.input(["N", 4, 6, 6]))
    near_source(saved(made, tmp_path, made.conv(y, (3, 4, 1, 1))), made.feeds(batch=8))


@pytest.mark.parametrize(("opset", "numbers"), [(18, 2), (21, 4)], ids=["of groups", "of channels"])
def test_group_normalisation(net: Any, tmp_path: Path, opset: int, numbers: int) -> None:
    """ONNX has withdrawn the form of opset 18, which files hold nevertheless."""
    made = net(seed=3, opset=opset)
    x = made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))
    held = [made.const(made.random.uniform(0.5, 1.5, numbers)) for _ in range(2)]
    x = made.op("GroupNormalization", [x, *held], num_groups=2)
    path = saved(made, tmp_path, made.conv(x, (3, 4, 1, 1)), ["N", 3, 6, 6])
    near_source(path, made.feeds(batch=8))


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12])
def test_older_forms(net: Any, tmp_path: Path, opset: int) -> None:
    """Attributes that became inputs, and Upsample."""
    made = net(seed=3, opset=opset)
    x = made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))
    x = made.op("Clip", [x], min=-1.0, max=1.0) if opset < 11 else made.op("Relu", [x])
    if opset < 9:
        x = made.op("Upsample", [x], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    elif opset < 10:
        x = made.op("Upsample", [x, made.const([1.0, 1.0, 2.0, 2.0])], mode="linear")
    elif opset < 11:
        x = made.op("Resize", [x, made.const([1.0, 1.0, 2.0, 2.0])], mode="nearest")
    parts = made.op("Split", [x], outputs=2, axis=1, split=[1, 3])
    x = made.op("Concat", [parts[1], parts[0]], axis=1)
    if opset < 11:
        x = made.op("Pad", [x], pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect")
    x = made.op("Squeeze", [made.op("Unsqueeze", [x], axes=[4])], axes=[4])
    near_source(saved(made, tmp_path, made.conv(x, (3, 4, 1, 1))), made.feeds(batch=8))


@pytest.mark.parametrize("kind", ["float", "int64"])
def test_a_factor_of_the_input_is_no_mask(net: Any, tmp_path: Path, kind: str) -> None:
    """Zeros and ones come as integers; an input of floats holds any numbers, and multiplies."""
    made = net(seed=3)
    x = made.input(["N", 4, 8])
    other = x
    if kind == "int64":
        made.inputs.append(helper.make_tensor_value_info("open", TensorProto.INT64, ["N", 4, 8]))
        other = made.op("Cast", ["open"], to=TensorProto.FLOAT)
    y = made.op("Mul", [made.op("Tanh", [made.matmul(x, (8, 8))]), other])
    feeds = made.feeds(batch=24)
    if kind == "int64":
        feeds["open"] = (feeds["open"] > 0).astype(np.int64)
    path = saved(made, tmp_path, made.matmul(y, (8, 3)), ["N", 4, 3])
    near_source(path, feeds)
    ops = [node.op_type for node in convert(path, ConvertOptions(8, 8), calibration=feeds).model.graph]
    assert ("SpikeGate" in ops) == (kind == "int64")


def test_a_softmax_of_what_the_input_gives(net: Any, tmp_path: Path) -> None:
    """Neither summand of scores that nothing but the input makes is a mask of the other."""
    made = net(seed=3)
    x = made.input(["N", 4, 8])
    y = made.op("Softmax", [made.op("Add", [made.op("ReduceMean", [x], axes=[2]), x])], axis=2)
    near_source(saved(made, tmp_path, made.matmul(y, (8, 3)), ["N", 4, 3]), made.feeds(batch=24))


def test_sizes_of_another_tensor(net: Any, tmp_path: Path) -> None:
    """Interpolation to the size of what came before: Shape, Slice, Concat, and free samples."""
    made = net(seed=3)
    x = made.op("Relu", [made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))])
    small = made.op("GlobalAveragePool", [x])
    wide = made.op("Slice", [made.op("Shape", [x]), ints(made, 2), ints(made, 4), ints(made, 0)])
    samples = made.op("Slice", [made.op("Shape", [small]), ints(made, 0), ints(made, 2), ints(made, 0)])
    sizes = made.op("Concat", [samples, wide], axis=0)
    large = made.op("Resize", [small, "", "", sizes], mode="linear")
    y = made.conv(made.op("Add", [large, x]), (3, 4, 1, 1))
    near_source(saved(made, tmp_path, y), made.feeds(batch=8))


# --- activation functions where no synapse reads them ------------------------------------------------------

FUNCTIONS = ("Relu", "LeakyRelu", "Elu", "HardSwish", "Tanh", "Softplus", "PReluChannels", "Mish")


def function(net: Any, x: str, name: str) -> str:
    if name == "PReluChannels":
        return str(net.op("PRelu", [x, net.const(np.reshape([0.1, -0.2, 0.3, 0], (4, 1, 1)))]))
    if name == "Mish":
        return str(net.op("Mul", [x, net.op("Tanh", [net.op("Softplus", [x])])]))
    return str(net.op(name, [x]))


def joined(net: Any, x: str, y: str) -> str:
    return str(net.conv(net.op("Concat", [x, y], axis=1), (4, 8, 1, 1)))


PLACES: dict[str, Callable[[Any, str, str], str]] = {
    "returned": function,
    "added": lambda net, x, name: net.op("Add", [function(net, x, name), net.conv(x, (4, 4, 3, 3))]),
    "averaged": lambda net, x, name: net.op("GlobalAveragePool", [function(net, x, name)]),
    "pooled": lambda net, x, name: net.op("MaxPool", [function(net, x, name)], kernel_shape=[2, 2]),
    "joined": lambda net, x, name: joined(net, function(net, x, name), x),
    "repeated": lambda net, x, name: net.op("Sigmoid", [function(net, x, name)]),
}


#: Every function and every place, but not every pair.
PAIRS = [
    (name, place)
    for number, name in enumerate(FUNCTIONS)
    for turn, place in enumerate(PLACES)
    if number % 2 == turn % 2 or name == "Mish"
]


@pytest.mark.parametrize(("name", "place"), PAIRS)
def test_an_activation_function_without_a_synapse_behind(
    net: Any, tmp_path: Path, name: str, place: str
) -> None:
    made = net(seed=5)
    x = made.conv(made.input(["N", 4, 4, 4]), (4, 4, 3, 3))
    near_source(saved(made, tmp_path, PLACES[place](made, x, name)), made.feeds(batch=8))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_function_of_the_input(net: Any, tmp_path: Path, name: str) -> None:
    made = net(seed=5)
    x = function(made, made.input(["N", 4, 4, 4]), name)
    near_source(saved(made, tmp_path, made.conv(x, (4, 4, 3, 3))), made.feeds(batch=8))


def test_two_inputs_meet(net: Any, tmp_path: Path) -> None:
    made = net(seed=5)
    x, y = made.input(["N", 4, 4, 4]), made.input(["N", 4, 4, 4], "y")
    total = made.op("Add", [made.conv(x, (4, 4, 3, 3)), y])
    path = saved(made, tmp_path, made.op("MatMul", [total, made.op("Transpose", [y], perm=[0, 1, 3, 2])]))
    near_source(path, made.feeds(batch=8))


# --- what is refused, and why ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Build, str]] = {
    "cubes": (lambda net, x: net.op("LpPool", [x], kernel_shape=[2, 2], p=3), "LpPool.*its p is not 1 or 2"),
    "the batch": (lambda net, x: net.op("ReduceMax", [x], axes=[0, 1]), "ReduceMax"),
    "a mean of the batch": (lambda net, x: net.op("ReduceMean", [x], axes=[0]), "batch"),
    "joined to the batch": (
        lambda net, x: net.op("Concat", [x, net.const(np.ones((1, 4, 6, 6)))], axis=0),
        "along the batch",
    ),
    "a region": (
        lambda net, x: net.op(
            "Resize",
            [x, net.const([0, 0, 0, 0, 1, 1, 1, 1]), net.const([1, 1, 2, 2])],
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        "cuts a region out",
    ),
}


@pytest.mark.parametrize(("build", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusals_name_the_operator_and_the_reason(
    net: Any, tmp_path: Path, build: Build, reason: str
) -> None:
    made = net(seed=3)
    x = made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))
    path = saved(made, tmp_path, build(made, x), [None] * 4)
    data = tmp_path / "x.npz"
    np.savez(data, **made.feeds(batch=4))
    with pytest.raises(UnsupportedError) as caught:
        convert(path, ConvertOptions(calibrate=str(data)))
    told = " ".join([str(caught.value), *(problem.message for problem in caught.value.problems)])
    assert re.search(reason, told), told


# --- what classifiers do to their logits -------------------------------------------------------------------


def classifier(net: Any) -> str:
    x = net.op("Relu", [net.conv(net.input(["N", 3, 4, 4]), (4, 3, 3, 3))])
    return str(net.matmul(net.op("Flatten", [x]), (64, 5)))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "LpNormalization", "Sigmoid", "Tanh"])
def test_probabilities_stay_behind_the_readout(net: Any, tmp_path: Path, op: str) -> None:
    made = net(seed=3)
    logits = classifier(made)
    attrs = {} if op in ("Sigmoid", "Tanh") else {"axis": 1}
    path = Path(made.output(logits, made.op(op, [logits], **attrs)).save(tmp_path))
    data = tmp_path / "x.npz"
    np.savez(data, **made.feeds(batch=8))
    report = near_source(path, made.feeds(batch=8))
    assert len(report.distances) == 2
    model = convert(path, ConvertOptions(8, 8, calibrate=str(data))).model
    kept = [row for row in audit(model).host if row.allowed]
    assert [(row.op, row.note) for row in kept] == [(op, "in float, behind the readout")]


def test_the_place_of_the_largest_stays_behind_the_readout(net: Any, tmp_path: Path) -> None:
    made = net(seed=3)
    place = made.op("ArgMax", [classifier(made)], axis=1, keepdims=0)
    made.outputs.append(helper.make_tensor_value_info(place, onnx.TensorProto.INT64, ["N"]))
    onnx.save(made.proto(), tmp_path / "net.onnx")
    feeds = made.feeds(batch=8)
    np.savez(tmp_path / "net.npz", **feeds)
    options = ConvertOptions(8, 8, calibrate=str(tmp_path / "net.npz"))
    conversion = convert(tmp_path / "net.onnx", options)
    report = verify(tmp_path / "net.onnx", conversion.model, feeds, runtimes=RUNTIMES)
    assert report.identical and audit(conversion.model).clean
