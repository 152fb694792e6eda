"""QuantizeLinear -> [Clip] -> DequantizeLinear on activations."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.ir import attributes, constant
from snnc.ops import function_for, get_op
from snnc.passes.recognise import RecogniseQuantisers

HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1, "ai.snnc" : 1]>\n'


def quantised(parse, body, weights, opset=17, shape="N, 6", outputs="float[N, 6] y"):
    """A model with the function of Quantise attached."""
    model = parse(
        HEADER.format(opset=opset) + f"g (float[{shape}] x) => ({outputs}) <{weights}> {{ {body} }}"
    )
    function = function_for(get_op("Quantise"), opset)
    model.functions[function.identifier()] = function
    return model


def book_of(node):
    return CodeBook.from_attributes(attributes(node))


@pytest.mark.parametrize(
    ("kind", "zero", "domain", "opset", "smallest", "largest"),
    [
        ("uint8", 0, "", 17, 0, 255),
        ("uint8", 131, "", 17, -131, 124),
        ("int8", 0, "", 17, -128, 127),
        ("int8", -128, "", 17, 0, 255),
        ("uint8", 7, "com.microsoft.", 17, -7, 248),
        ("int16", 5, "com.microsoft.", 17, -32773, 32762),
        ("uint16", 0, "", 21, 0, 65535),
        ("int4", 0, "", 21, -8, 7),
        ("uint4", 2, "", 21, -2, 13),
    ],
)
def test_types(parse, check, ops, kind, zero, domain, opset, smallest, largest):
    model = quantised(
        parse,
        f"q = {domain}QuantizeLinear(x, s, z) y = {domain}DequantizeLinear(q, s, z)",
        f"float s = {{0.04}}, {kind} z = {{{zero}}}",
        opset,
    )
    spread = 3.0 if "16" not in kind else 900.0
    check(RecogniseQuantisers(), model, spread=spread)
    assert ops(model) == ["Quantise"]
    node = model.graph[0]
    assert book_of(node) == CodeBook.uniform(smallest, largest)
    assert attributes(node)["ties"] == "even"
    assert constant(node.inputs[1]) == np.float32(0.04)
    assert node.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("clip", "bounds"),
    [
        ("c = Clip(q, lo, hi)", (0, 15)),
        ("c = Min(q, hi)", (0, 15)),
        ("a = Clip(q, two, hi) c = Max(a, hi)", None),
    ],
)
def test_clip_carries_the_bit_width(parse, check, ops, clip, bounds):
    model = quantised(
        parse,
        f"q = QuantizeLinear(x, s, z) {clip} y = DequantizeLinear(c, s, z)",
        "float s = {0.2}, uint8 z = {0}, uint8 lo = {0}, uint8 hi = {15}, uint8 two = {2}",
    )
    if bounds is None:
        result = RecogniseQuantisers().run(model)
        assert result.not_matched[0].reason == "quantize-dequantize: it has a single level"
        return
    check(RecogniseQuantisers(), model, spread=3.0)
    assert ops(model) == ["Quantise"]
    assert book_of(model.graph[0]) == CodeBook.uniform(*bounds)


def test_defaults_without_zero_point(parse, check):
    model = quantised(parse, "q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", "float s = {0.1}")
    check(RecogniseQuantisers(), model, spread=3.0)
    assert book_of(model.graph[0]) == CodeBook.uniform(0, 255)


def test_channel_scales(parse, check):
    model = quantised(
        parse,
        "q = QuantizeLinear<axis = 1>(x, s, z) y = DequantizeLinear<axis = 1>(q, s, z)",
        "float[2] s = {0.1, 0.3}, int8[2] z = {4, 4}",
        shape="N, 2, 3",
        outputs="float[N, 2, 3] y",
    )
    check(RecogniseQuantisers(), model, spread=9.0)
    assert constant(model.graph[0].inputs[1]).shape == (1, 2, 1)


def test_one_producer_several_readers(parse, check, ops):
    model = quantised(
        parse,
        "q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) b = DequantizeLinear(q, s, z) "
        "c = Abs(a) d = Neg(b) y = Add(c, d)",
        "float s = {0.1}, uint8 z = {100}",
    )
    result = check(RecogniseQuantisers(), model, spread=9.0)
    assert sorted(ops(model)) == ["Abs", "Add", "Neg", "Quantise"]
    assert [entry.rule for entry in result.rewrites][1] == "quantize-dequantize, a second reader"


def test_two_readers_that_are_outputs(parse, check, ops):
    model = quantised(
        parse,
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) w = DequantizeLinear(q, s, z)",
        "float s = {0.1}, uint8 z = {100}",
        outputs="float[N, 6] y, float[N, 6] w",
    )
    check(RecogniseQuantisers(), model, spread=9.0)
    assert ops(model) == ["Quantise", "Quantise"]


def test_scales_and_zero_points_that_differ(parse, check, ops):
    """The result is back_scale * (q - back_zero): a factor and an offset in front of the quantiser."""
    model = quantised(
        parse,
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, t, v)",
        "float s = {0.125}, uint8 z = {100}, float t = {0.25}, uint8 v = {98}",
    )
    check(RecogniseQuantisers(), model, spread=9.0)
    assert ops(model) == ["Mul", "Add", "Quantise"]
    assert book_of(model.graph[2]) == CodeBook.uniform(-98, 157)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = DequantizeLinear(i, s, z)", "its integers do not come from QuantizeLinear"),
        ("q = QuantizeLinear(x, t, z) y = DequantizeLinear(q, s, z)", "its scale is not constant"),
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, n, z)", "its scale is not positive"),
        (
            "q = QuantizeLinear<axis = 1>(x, s, w) y = DequantizeLinear<axis = 1>(q, s, w)",
            "its zero points differ between channels",
        ),
        (
            "q = QuantizeLinear(x, s, z) r = Clip(q, d, h) y = DequantizeLinear(r, s, z)",
            "the bounds of its Clip are not constant",
        ),
    ],
)
def test_reasons(parse, body, reason):
    model = parse(
        f"""g (float[N, 2] x, uint8[N, 2] i, float t, uint8 d) => (float[N, 2] y)
        <float s = {{0.1}}, float n = {{-0.1}}, uint8 z = {{3}}, uint8 h = {{200}}, uint8[2] w = {{1, 2}}>
        {{ {body} }}"""
    )
    result = RecogniseQuantisers().run(model)
    assert not result.rewrites
    assert [entry.reason for entry in result.not_matched] == [f"quantize-dequantize: {reason}"]


@pytest.mark.parametrize(
    ("body", "weights", "opset", "reason"),
    [
        ("q = QuantizeLinear(x, s, z) c = Max(q, row) y = DequantizeLinear(c, s, z)", ("uint8 z = {3}, "
         "uint8[6] row = {1, 2, 3, 4, 5, 6}"), 17, "the bounds of its Clip differ between elements"),
        ("q = QuantizeLinear(k, s, z) d = DequantizeLinear(q, s, z) y = Add(x, d)", ("uint8 z = {3}, "
         "float[6] k = {1, 2, 3, 4, 5, 6}"), 17, "its input is a constant"),
        ("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", "float8e4m3fn z = {0}", 19,
         "its type FLOAT8E4M3FN is not an integer of at most 32 bits"),
        ("u = my.own.Thing(x) q = QuantizeLinear(u, s, z) y = DequantizeLinear(q, s, z)", "uint8 z = {3}", 17,
         "the rank of its input is unknown"),
        ("q = com.microsoft.QuantizeLinear(x, s, z) y = com.microsoft.DequantizeLinear(q, s, z)",
         "int32 z = {3}", 17, "need more than 16 time-steps"),
    ],
)  # fmt: skip
def test_more_reasons(parse, ops, body, weights, opset, reason):
    header = HEADER.format(opset=opset).replace('"ai.snnc"', '"my.own" : 1, "ai.snnc"')
    model = parse(
        f"{header}g (float[N, 6] x) => (float[N, 6] y) <float s = {{0.04}}, {weights}> {{ {body} }}"
    )
    before = ops(model)
    result = RecogniseQuantisers().run(model)
    (entry,) = result.not_matched
    assert entry.reason.startswith("quantize-dequantize: ") and entry.reason.endswith(reason)
    assert ops(model) == before


@pytest.mark.parametrize(("back", "noted"), [(3, False), (2, True), (1, False)])
def test_zero_points_an_odd_number_apart_are_noted(parse, check, back, noted):
    model = quantised(
        parse,
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, o)",
        f"float s = {{0.0625}}, uint8 z = {{3}}, uint8 o = {{{back}}}",
    )
    result = check(RecogniseQuantisers(), model)
    assert any("its zero points differ by an odd number" in note for note in result.notes) == noted


def test_two_steps_of_one_value_are_two_quantisers(parse, check, ops):
    model = quantised(
        parse,
        "q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) r = QuantizeLinear(x, t, z) "
        "b = DequantizeLinear(r, t, z) v = QuantizeLinear(x, s, z) c = DequantizeLinear(v, s, z) "
        "d = Add(a, b) y = Add(d, c)",
        "float s = {0.0625}, float t = {0.125}, int8 z = {0}",
    )
    check(RecogniseQuantisers(), model)
    assert ops(model) == ["Quantise", "Quantise", "Add", "Add"]
