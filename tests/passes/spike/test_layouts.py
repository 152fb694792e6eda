"""Spikes and membranes move as the floats of the source do; what lies on them moves with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.errors import UnsupportedError

SIGNED = CodeBook(4, 4, signed=True)
CHANNELS = np.array([0.25, 0.5, 0.125, 0.375], np.float32).reshape(1, 4, 1, 1)
INT_MAX = np.iinfo(np.int64).max


@pytest.fixture
def values(net: Any) -> Any:
    """Values of shape (N, 4, 4, 6) that differ by channel: ``values.all`` holds codes and membranes."""
    made = net()
    x = made.quantise(made.input(["N", 4, 4, 6]), CHANNELS, SIGNED, name="code_in")
    membrane = made.conv(made.quantise(x, 0.25, SIGNED), (4, 4, 3, 3), weights=made.grid(4, 4, 3, 3))
    turned = made.op("Mul", [membrane, made.const(np.reshape([1.0, -1.0, 0.5, 2.0], (4, 1, 1)))])
    made.all = {"spikes": x, "membrane": turned}
    return made


def finish(made: Any, value: str, step: float = 0.3) -> Any:
    return made.output(made.quantise(value, step, SIGNED, name="y"))


def bounds(made: Any, *lists: list[int]) -> list[str]:
    return [made.const(numbers, np.int64) for numbers in lists]


LAYOUTS: dict[str, Any] = {
    "reshape": lambda m, x: m.op("Reshape", [x, m.const([-1, 2, 8, 6], np.int64)]),
    "reshape with zeros": lambda m, x: m.op("Reshape", [x, m.const([0, 4, 24], np.int64)]),
    "flatten": lambda m, x: m.op("Flatten", [x]),
    "transpose": lambda m, x: m.op("Transpose", [x], perm=[0, 2, 3, 1]),
    "slice": lambda m, x: m.op("Slice", [x, *bounds(m, [1, 0], [4, INT_MAX], [1, 3], [1, 2])]),
    "slice backwards": lambda m, x: m.op("Slice", [x, *bounds(m, [-1], [-INT_MAX], [1], [-1])]),
    "slice from the end": lambda m, x: m.op("Slice", [x, *bounds(m, [-3], [-1], [2])]),
    "gather": lambda m, x: m.op("Gather", [x, m.const([3, 0, 0, -1], np.int64)], axis=1),
    "gather one": lambda m, x: m.op("Gather", [x, m.const(2, np.int64)], axis=1),
    "gather a table": lambda m, x: m.op("Gather", [x, m.const([[3, 0], [1, 2]], np.int64)], axis=1),
    "unsqueeze": lambda m, x: m.op("Unsqueeze", [x, m.const([2], np.int64)]),
    "squeeze": lambda m, x: m.op(
        "Squeeze", [m.op("Slice", [x, *bounds(m, [1], [2], [1])]), m.const([1], np.int64)]
    ),
    "expand": lambda m, x: m.op(
        "Expand", [m.op("Unsqueeze", [x, m.const([1], np.int64)]), m.const([1, 3, 1, 1, 1], np.int64)]
    ),
    "depth to space": lambda m, x: m.op("DepthToSpace", [x], blocksize=2),
    "depth to space, columns": lambda m, x: m.op("DepthToSpace", [x], blocksize=2, mode="CRD"),
    "space to depth": lambda m, x: m.op("SpaceToDepth", [x], blocksize=2),
    "identity": lambda m, x: m.op("Identity", [x]),
    "dropout": lambda m, x: m.op("Dropout", [x]),
}


@pytest.mark.parametrize("what", ["spikes", "membrane"])
def test_layouts(values: Any, agree: Any, what: str) -> None:
    for layout in LAYOUTS.values():
        finish(values, layout(values, values.all[what]))
    result = agree(values, source=True)
    # Only operators of opset 17 that every runtime has for integers.
    assert not {"Split", "DepthToSpace", "SpaceToDepth", "Flatten", "Squeeze", "Dropout"} & set(result.ops)


@pytest.mark.parametrize("what", ["spikes", "membrane"])
def test_split(values: Any, agree: Any, what: str) -> None:
    x = values.all[what]
    for part in values.op("Split", [x, values.const([1, 2, 1], np.int64)], outputs=3, axis=1):
        finish(values, part)
    for part in values.op("Split", [x], outputs=2, axis=-1):
        finish(values, part)
    agree(values, source=True)


def test_split_with_parts_that_nothing_reads(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 5, 8]), 0.25, (4, 2))
    parts = made.op("Split", [x, made.const([3, 3, 2], np.int64)], outputs=3, axis=-1)
    made.output(made.quantise(made.matmul(parts[2], (2, 4)), 0.25, (4, 2)))
    agree(made)


@pytest.mark.parametrize("what", ["spikes", "membrane"])
def test_layouts_of_older_opsets(net: Any, agree: Any, what: str) -> None:
    """Axes, bounds and sizes that are attributes; what has size one and is not named stays."""
    made = net(opset=9)
    x = made.quantise(made.input(["N", 4, 1, 6]), CHANNELS, SIGNED, name="code_in")
    if what == "membrane":
        x = made.conv(made.quantise(x, 0.25, SIGNED), (4, 4, 1, 3), weights=made.grid(4, 4, 1, 3))
    finish(made, made.op("Squeeze", [x], axes=[2]))
    finish(made, made.op("Unsqueeze", [x], axes=[1, 3]))
    for part in made.op("Split", [x], outputs=2, axis=1, split=[1, 3]):
        finish(made, made.op("Unsqueeze", [made.op("Squeeze", [part], axes=[2])], axes=[1]))
    finish(made, made.op("Slice", [x], axes=[1, 3], starts=[1, -2], ends=[3, 100]))
    finish(made, made.op("ReduceSum", [x], axes=[3], keepdims=0))
    if what == "spikes":
        finish(made, made.op("Pad", [x], pads=[0, 0, 1, 0, 0, 1, 0, 2]))
    # One sample: nothing may take the batch for an axis of size one to drop.
    agree(made, made.feeds(batch=1), source=True)
    agree(made, made.feeds(batch=3))


@pytest.mark.parametrize("what", ["spikes", "membrane"])
def test_batch_behind_another_axis(values: Any, agree: Any, what: str) -> None:
    x = values.op("Transpose", [values.all[what]], perm=[1, 0, 2, 3])
    agree(finish(values, x), source=True)


def test_batch_merged_with_another_axis(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 5, 8]), 0.25, SIGNED)
    rows = made.op("Reshape", [x, made.const([-1, 8], np.int64)])
    m = made.op("Add", [made.matmul(rows, (8, 3), weights=made.grid(8, 3)), made.const([0.1, 0.2, 0.3])])
    agree(finish(made, made.op("Reshape", [m, made.const([-1, 5, 3], np.int64)])), source=True)


def test_what_differs_by_position_cannot_be_merged_with_the_batch(net: Any, agree: Any) -> None:
    """Right, or refused by name: never a crash, and never right for one sample only."""
    made = net()
    x = made.quantise(made.input(["N", 5, 8]), 0.25, SIGNED)
    m = made.matmul(x, (8, 3), weights=made.grid(8, 3))
    m = made.op("Add", [m, made.const(np.linspace(-1, 1, 5).reshape(5, 1))])
    finish(made, made.op("Reshape", [m, made.const([-1, 3], np.int64)]))
    with pytest.raises(UnsupportedError, match="batch"):
        agree(made)


def test_concat_of_codes_and_of_membranes(values: Any, agree: Any) -> None:
    x, m = values.all["spikes"], values.all["membrane"]
    other = values.quantise(m, 0.2, SIGNED)
    short = values.quantise(m, 0.2, (2, 2))
    for parts in ([x, other], [x, m], [m, m, x], [x, short]):
        for axis in (1, -1):
            finish(values, values.op("Concat", parts, axis=axis))
    result = agree(values, source=True)
    types = {str(node.outputs[0].dtype) for node in result.conversion.model.graph if node.op_type == "Concat"}
    assert types == {"INT8", "INT32"}


def test_concat_in_front_of_a_synapse(net: Any, agree: Any) -> None:
    """Codes of one book and two steps: the weights take the steps up, channel by channel."""
    made = net()
    a = made.quantise(made.input(["N", 3, 4, 4]), 0.3, (4, 2))
    b = made.quantise(made.input(["N", 2, 4, 4], name="z"), 0.7, (4, 2))
    result = agree(finish(made, made.conv(made.op("Concat", [a, b], axis=1), (4, 5, 3, 3))))
    assert result.ops.count("SpikeConv") == 1


def test_concat_along_the_batch_is_refused(values: Any, agree: Any) -> None:
    x = values.all["spikes"]
    with pytest.raises(UnsupportedError, match="batch"):
        agree(finish(values, values.op("Concat", [x, x], axis=0)))


def test_padding(values: Any, agree: Any) -> None:
    x = values.all["spikes"]
    zero = values.const(0.0)
    finish(values, values.op("Pad", [x, *bounds(values, [0, 0, 1, 2, 0, 0, 0, 1]), zero]))
    agree(values, source=True)
    # ONNX's reference evaluation does not crop.
    finish(values, values.op("Pad", [x, *bounds(values, [0, 0, -1, 0, 0, 0, 1, -2]), zero]))
    assert agree(values, float64=False).codes["y1"].shape[2:] == (4, 4)


def test_padding_with_axes(net: Any, agree: Any) -> None:
    made = net(opset=18)
    x = made.quantise(made.input(["N", 4, 4, 6]), 0.25, SIGNED)
    for inputs in ([[1, 2], None, [3]], [[1, 1, 0, 2], 0.0, [2, -1]]):
        widths, fill, axes = inputs
        names = [x, made.const(widths, np.int64), "" if fill is None else made.const(fill)]
        finish(made, made.op("Pad", [*names, made.const(axes, np.int64)]))
    agree(made, source=True)


@pytest.mark.parametrize("step", [0.25, CHANNELS], ids=["one step", "a step per channel"])
def test_padding_of_channels(net: Any, agree: Any, step: Any) -> None:
    """A shortcut that has fewer channels than its block is padded with silent ones."""
    made = net()
    x = made.quantise(made.input(["N", 4, 4, 4]), step, SIGNED)
    wide = made.op("Pad", [x, made.const([0, 1, 0, 0, 0, 3, 0, 0], np.int64)])
    made.output(made.quantise(wide, 0.25, SIGNED, name="y"))
    try:
        result = agree(made, source=True)
    except UnsupportedError as error:
        assert np.size(step) > 1 and "step" in str(error)
    else:
        assert result.codes["y"].shape[1] == 8


def test_padding_of_steps_per_channel_in_front_of_a_synapse(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 4, 4, 4]), CHANNELS, SIGNED)
    wide = made.op("Pad", [x, made.const([0, 1, 1, 0, 0, 2, 0, 1], np.int64)])
    agree(finish(made, made.conv(wide, (3, 7, 3, 3))))


@pytest.mark.parametrize(
    "change", [{"value": 1.0}, {"mode": "reflect"}, {"mode": "edge"}], ids=["one", "reflect", "edge"]
)
def test_padding_with_something_else_than_zeros(values: Any, agree: Any, change: dict[str, Any]) -> None:
    x = values.all["spikes"]
    inputs = [x, *bounds(values, [0, 0, 1, 1, 0, 0, 1, 1])]
    if "value" in change:
        inputs.append(values.const(change["value"]))
        change = {}
    agree(finish(values, values.op("Pad", inputs, **change)))


def test_padding_where_zero_is_no_code_is_refused(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input(["N", 2, 4]), 0.25, CodeBook.uniform(1, 3))
    with pytest.raises(UnsupportedError, match="no admitted code"):
        agree(finish(made, made.op("Pad", [x, made.const([0, 0, 1, 0, 0, 1], np.int64)])))


# --- what happens to the graph's own names, inputs and outputs ---


def test_names_types_and_order_are_kept(net: Any, agree: Any) -> None:
    made = net()
    first = made.input(["N", 3, 4], name="left")
    second = made.input(["N", 3, 4], name="right")
    a, b = (made.quantise(value, 0.25, SIGNED, name=f"code_{value}") for value in (first, second))
    total = made.op("Add", [a, b], name="total")
    made.output(total, a, made.matmul(b, (4, 2)))
    result = agree(made)
    graph = result.conversion.model.graph
    assert [value.name for value in graph.inputs] == ["left", "right"]
    assert [value.name for value in graph.outputs] == ["total", "code_left", "matmul"]
    assert all(str(value.dtype) == "FLOAT" for value in graph.outputs)
    assert set(result.codes) == {"code_left", "code_right"}
    assert result.outputs["code_left"].dtype == np.float32


def test_an_output_that_is_also_read(net: Any, agree: Any) -> None:
    made = net()
    a = made.quantise(made.input(["N", 6]), 0.25, SIGNED, name="a")
    m = made.matmul(a, (6, 4))
    c = made.quantise(m, 0.25, SIGNED, name="c")
    made.output(c, m, made.matmul(c, (4, 2)))
    result = agree(made)
    assert list(result.outputs) == ["c", "matmul", "matmul1"]


def test_fixed_batch(net: Any, agree: Any) -> None:
    made = net()
    x = made.quantise(made.input([2, 3, 4, 4]), 0.25, (4, 2))
    flat = made.op("Reshape", [made.conv(x, (4, 3, 3, 3)), made.const([2, -1], np.int64)])
    feeds = {"x": made.random.standard_normal((5, 3, 4, 4)).astype(np.float32)[:2]}
    result = agree(made.output(made.matmul(made.quantise(flat, 0.2), (64, 3))), feeds)
    assert list(result.conversion.model.graph.inputs[0].shape) == [2, 3, 4, 4]


def test_float_preprocessing_stays_on_the_host(net: Any, agree: Any) -> None:
    made = net()
    x = made.input(["N", 4, 4, 3])
    x = made.op("Transpose", [x], perm=[0, 3, 1, 2])
    x = made.op(
        "Div", [made.op("Sub", [x, made.const(np.reshape([0.4, 0.5, 0.6], (3, 1, 1)))]), made.const(0.3)]
    )
    x = made.op("Clip", [x, made.const(-2.0), made.const(2.0)])
    x = made.op("Pad", [x, made.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64), made.const(0.5)])
    fixed = made.quantise(made.conv(x, (4, 3, 3, 3)), 0.2)
    coded = made.quantise(made.op("Relu", [x]), 0.2, (4, 2))
    result = agree(made.output(fixed, coded))
    assert {"Transpose", "Sub", "Div", "Clip", "Pad"} <= set(result.ops)


@pytest.mark.parametrize("opset", [10, 13, 21])
def test_float_preprocessing_of_other_opsets(net: Any, agree: Any, opset: int) -> None:
    """The emitted file says which opset its host operators belong to; they must be of that one."""
    made = net(opset=opset)
    x = made.input(["N", 3, 4, 4])
    if opset < 11:
        x = made.op("Clip", [x], min=-1.0, max=1.0)
        x = made.op("Pad", [x], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5)
    elif opset < 18:
        x = made.op("Clip", [x, made.const(-1.0)])
        x = made.op("Pad", [x, made.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)])
    else:
        x = made.op("Clip", [x, "", made.const(1.0)])
        x = made.op("Pad", [x, made.const([1, 1], np.int64), made.const(0.5), made.const([2], np.int64)])
    try:
        agree(made.output(made.quantise(x, 0.2, SIGNED)), source=True)
    except UnsupportedError as error:
        assert error.where.node in {"clip", "pad"} or error.problems
