"""Fused operators: the same numbers from onnxruntime's fused kernel and from the standard ops."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from snnc.errors import UnsupportedError
from snnc.ir import Model
from snnc.ir.rewrite import set_attribute
from snnc.passes.canonical.write_out_fused import FUSED_OPS, WriteOutFused
from snnc.passes.recognise.refuse_unsupported import RefuseUnsupported

Array = npt.NDArray[Any]
RNG = np.random.default_rng(7)
BATCH, TOKENS, HEADS, HEAD = 2, 5, 3, 4
HIDDEN = HEADS * HEAD
MICROSOFT = "com.microsoft"


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def mask(*shape: int) -> Array:
    """Zeros and ones, the first of each row a one."""
    ones = (RNG.random(shape) < 0.6).astype(np.int32)
    ones[..., 0] = 1
    return ones


X, Y, Z = (normal(BATCH, TOKENS, HIDDEN) for _ in range(3))
VECTOR = normal(HIDDEN)
ANGLES = normal(8, HEAD // 2)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
PLACES = np.array([[0, 1, 2, 3, 4], [2, 3, 4, 5, 7]])
QKV, BIAS = normal(HIDDEN, 3 * HIDDEN) / 3, normal(3 * HIDDEN) / 3
WIDE = normal(BATCH, HEADS, TOKENS, HEAD)
SCORES = normal(BATCH, HEADS, TOKENS, TOKENS)
IMAGE, KERNEL = normal(BATCH, 3, 6, 6), normal(4, 3, 3, 3)
MANY = {"num_heads": HEADS}
GROUPS = {"num_heads": 4, "kv_num_heads": 2}


class Fed(np.ndarray[Any, Any]):
    """An array that the network reads as an input; others are constants of the file."""


def fed(array: Array) -> Array:
    return array.view(Fed)


Case = tuple[str, Sequence[Array | None], Mapping[str, Any]]

#: Operator (``.`` for the standard domain), inputs, attributes, and the outputs that are read where that is
#: not the first alone.
CASES: dict[str, tuple[Any, ...]] = {
    "skip": ("SkipLayerNormalization", [fed(X), fed(Y), VECTOR, VECTOR], {"epsilon": 1e-3}),
    "skip without offset": ("SkipLayerNormalization", [fed(X), fed(Y), VECTOR], {}),
    "skip, bias, sum": ("SkipLayerNormalization", [fed(X), fed(Y), VECTOR, VECTOR, VECTOR], {}, (0, 3)),
    "skip of one sample": ("SkipLayerNormalization", [fed(X), fed(Y[:1]), VECTOR], {}),
    "skip rms": ("SkipSimplifiedLayerNormalization", [fed(X), fed(Y), VECTOR], {"epsilon": 1e-2}),
    "skip rms, bias, sum": ("SkipSimplifiedLayerNormalization", [fed(X), fed(Y), VECTOR, VECTOR], {}, (0, 3)),
    "rms": (".SimplifiedLayerNormalization", [fed(X), VECTOR], {"axis": 2}),
    "rms, negative axis": (".SimplifiedLayerNormalization", [fed(X), VECTOR], {"epsilon": 1e-2}),
    "embeddings": (
        "EmbedLayerNormalization",
        [fed(mask(BATCH, TOKENS)), None, normal(9, HIDDEN), normal(9, HIDDEN), None, VECTOR, VECTOR],
        {},
    ),
    "embeddings, segments, mask, places, sum": (
        "EmbedLayerNormalization",
        [
            fed(mask(BATCH, TOKENS)), fed(mask(BATCH, TOKENS)), normal(9, HIDDEN), normal(9, HIDDEN),
            normal(2, HIDDEN), VECTOR, VECTOR, fed(mask(BATCH, TOKENS)), fed(PLACES.astype(np.int32)),
        ],
        {"epsilon": 1e-5},
        (0, 1, 2),
    ),
    "conv": ("FusedConv", [fed(IMAGE), KERNEL, normal(4)], {"activation": "Relu", "pads": [1] * 4}),
    "conv and sum": (
        "FusedConv", [fed(IMAGE), KERNEL, normal(4), fed(normal(BATCH, 4, 4, 4))], {"activation": "Relu"},
    ),
    "conv, leaky": (
        "FusedConv", [fed(IMAGE), KERNEL], {"activation": "LeakyRelu", "activation_params": [0.2]},
    ),
    "conv, clip": (
        "FusedConv", [fed(IMAGE), KERNEL], {"activation": "Clip", "activation_params": [-1.0, 2.0]},
    ),
    "conv, hard sigmoid": (
        "FusedConv", [fed(IMAGE), KERNEL], {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]},
    ),
    "conv, tanh": ("FusedConv", [fed(IMAGE), KERNEL], {"activation": "Tanh", "strides": [2, 2]}),
    "gemm": (
        "FusedGemm", [fed(X[0]), normal(7, HIDDEN), normal(7)],
        {"activation": "LeakyRelu", "activation_alpha": 0.3, "transB": 1, "alpha": 0.5},
    ),
    "matmul": ("FusedMatMul", [fed(X), normal(HIDDEN, 3)], {"alpha": 0.25}),
    "matmul, both turned": ("FusedMatMul", [fed(SCORES), fed(WIDE)], {"transA": 1, "transB": 0}),
    "matmul, keys": ("FusedMatMul", [fed(WIDE), fed(WIDE)], {"transB": 1, "alpha": 0.5}),
    "matmul, moved batch": (
        "FusedMatMul", [fed(normal(TOKENS, BATCH, HEADS, 4)), fed(normal(BATCH, HEADS, 4, 2))],
        {"transBatchA": 1},
    ),
    "matmul, moved batch and turned": (
        "FusedMatMul", [fed(normal(TOKENS, BATCH, HEADS, 4)), fed(normal(6, BATCH, HEADS, 4))],
        {"transBatchA": 1, "transBatchB": 1, "transB": 1},
    ),
    "attention": ("Attention", [fed(X), QKV, BIAS], MANY),
    "attention, scaled": ("Attention", [fed(X), QKV, BIAS], {**MANY, "scale": 0.7}),
    "attention, wider values": (
        "Attention", [fed(X), normal(HIDDEN, 2 * HIDDEN + 6) / 3, normal(2 * HIDDEN + 6)],
        {**MANY, "qkv_hidden_sizes": [HIDDEN, HIDDEN, 6]},
    ),
    "attention, mask": ("Attention", [fed(X), QKV, BIAS, fed(mask(BATCH, TOKENS))], MANY),
    "attention, mask of pairs": ("Attention", [fed(X), QKV, BIAS, fed(mask(BATCH, TOKENS, TOKENS))], MANY),
    "attention, lengths": ("Attention", [fed(X), QKV, BIAS, fed(np.array([3, 5], np.int32))], MANY),
    "attention, causal": ("Attention", [fed(X), QKV, BIAS], {**MANY, "unidirectional": 1}),
    "attention, causal, mask, bias": (
        "Attention",
        [fed(X), QKV, BIAS, fed(mask(BATCH, TOKENS)), None, fed(SCORES)], {**MANY, "unidirectional": 1},
    ),
    "heads": ("MultiHeadAttention", [fed(X), fed(Y), fed(Z)], MANY),
    "heads, bias, mask": (
        "MultiHeadAttention", [fed(X), fed(Y), fed(Z), BIAS, fed(mask(BATCH, TOKENS))], MANY,
    ),
    "heads, other values, scaled": (
        "MultiHeadAttention", [fed(X), fed(Y[:, :4]), fed(normal(BATCH, 4, 6))], {**MANY, "scale": 0.4},
    ),
    "heads, causal, added": (
        "MultiHeadAttention", [fed(X), fed(Y), fed(Z), None, None, SCORES[:1, :1]],
        {**MANY, "unidirectional": 1},
    ),
    "heads in front": ("MultiHeadAttention", [fed(X), fed(WIDE), fed(WIDE)], MANY),
    "heads, keys are read": ("MultiHeadAttention", [fed(X), fed(Y), fed(Z)], MANY, (0, 1, 2)),
    "groups": (
        "GroupQueryAttention",
        [
            fed(normal(BATCH, TOKENS, 32)), fed(normal(BATCH, TOKENS, 16)), fed(normal(BATCH, TOKENS, 16)),
            None, None, np.full(BATCH, TOKENS - 1, np.int32), np.array(TOKENS, np.int32),
        ],
        GROUPS,
    ),
    "groups, rotary, keys are read": (
        "GroupQueryAttention",
        [
            fed(normal(BATCH, TOKENS, 64)), fed(normal(BATCH, TOKENS, 32)), fed(normal(BATCH, TOKENS, 32)),
            None, None, np.full(BATCH, TOKENS - 1, np.int32), np.array(TOKENS, np.int32),
            np.cos(normal(8, 8)), np.sin(normal(8, 8)),
        ],
        {**GROUPS, "do_rotary": 1},
        (0, 1, 2),
    ),
    "groups, packed, capped": (
        "GroupQueryAttention",
        [
            fed(normal(BATCH, TOKENS, 64)), None, None, None, None,
            np.full(BATCH, TOKENS - 1, np.int32), np.array(TOKENS, np.int32),
        ],
        {**GROUPS, "softcap": 2.0, "scale": 0.5},
    ),
    "groups, added": (
        "GroupQueryAttention",
        [
            fed(normal(BATCH, TOKENS, 32)), fed(normal(BATCH, TOKENS, 16)), fed(normal(BATCH, TOKENS, 16)),
            None, None, np.full(BATCH, TOKENS - 1, np.int32), np.array(TOKENS, np.int32),
            None, None, None, normal(1, 4, TOKENS, TOKENS),
        ],
        GROUPS,
    ),
    "rotary": ("RotaryEmbedding", [fed(X), fed(PLACES), COS, SIN], {}),
    "rotary, pairs": ("RotaryEmbedding", [fed(X), PLACES, COS, SIN], {"interleaved": 1}),
    "rotary, heads in front, offset": ("RotaryEmbedding", [fed(WIDE), np.array([2]), COS, SIN], {}),
    "rotary, in part": (
        "RotaryEmbedding", [fed(X), fed(PLACES), COS[:, :1], SIN[:, :1]], {**MANY, "rotary_embedding_dim": 2},
    ),
    "standard rotary": (".RotaryEmbedding", [fed(X), COS, SIN, fed(PLACES)], MANY),
    "standard rotary, pairs, no places": (
        ".RotaryEmbedding", [fed(WIDE), COS[PLACES], SIN[PLACES]], {"interleaved": 1},
    ),
    "standard rotary, angles of the input": (
        ".RotaryEmbedding", [fed(X), fed(COS[PLACES]), SIN[PLACES]], MANY,
    ),
    "standard rotary, in part": (
        ".RotaryEmbedding", [fed(WIDE), COS[:, :1], SIN[:, :1], PLACES], {"rotary_embedding_dim": 2},
    ),
    "standard": (".Attention", [fed(WIDE), fed(WIDE[:, :, :4]), fed(WIDE[:, :, 1:])], {}),
    "standard, capped, scaled": (".Attention", [fed(WIDE)] * 3, {"softcap": 1.5, "scale": 0.9}),
    "standard, three axes": (
        ".Attention", [fed(X), fed(Y), fed(Z)], {"q_num_heads": HEADS, "kv_num_heads": HEADS},
    ),
    "standard, groups, causal": (
        ".Attention", [fed(normal(BATCH, 6, TOKENS, 4)), fed(normal(BATCH, 2, TOKENS, 4)),
                       fed(normal(BATCH, 2, TOKENS, 3))], {"is_causal": 1},
    ),
    "standard, three axes, groups": (
        ".Attention", [fed(normal(BATCH, TOKENS, 24)), fed(normal(BATCH, TOKENS, 8)),
                       fed(normal(BATCH, TOKENS, 8))], {"q_num_heads": 6, "kv_num_heads": 2, "is_causal": 1},
    ),
    "standard, truth": (".Attention", [fed(WIDE)] * 3 + [fed(mask(BATCH, 1, TOKENS, TOKENS) > 0)], {}),
    "standard, truth of keys": (".Attention", [fed(WIDE)] * 3 + [mask(TOKENS, TOKENS) > 0], {"is_causal": 1}),
    "standard, summand": (".Attention", [fed(WIDE)] * 3 + [SCORES], {}),
    "standard, lengths": (
        ".Attention", [fed(WIDE)] * 3 + [None] * 3 + [fed(np.array([3, 5]))], {},
    ),
}  # fmt: skip


def single(
    kind: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any],
    read: Sequence[int] = (0,),
    opset: int | None = None,
) -> tuple[Model, dict[str, Array]]:
    """A model of one node, and what to feed it; the first axis of what is fed is open."""
    standard = kind.startswith(".")
    names, constants, entries, feeds = [], [], [], {}
    for place, array in enumerate(inputs):
        name = "" if array is None else f"x{place}"
        names.append(name)
        if isinstance(array, Fed):
            feeds[name] = np.asarray(array).view(np.ndarray)
            kind_of = helper.np_dtype_to_tensor_dtype(array.dtype)
            dims = ["N" if array.shape[0] == BATCH else array.shape[0], *array.shape[1:]]
            entries.append(helper.make_tensor_value_info(name, kind_of, dims))
        elif array is not None:
            constants.append(numpy_helper.from_array(np.asarray(array), name))
    # Onnxruntime wants to see this output even where nothing reads it.
    unread = "unread" if kind == "EmbedLayerNormalization" else ""
    count = max(1 if unread else 0, *read) + 1
    outputs = [f"y{place}" if place in read else unread for place in range(count)]
    domain = "" if standard else MICROSOFT
    node = helper.make_node(kind.lstrip("."), names, outputs, name="fused", domain=domain, **attrs)
    integers = {"y1": onnx.TensorProto.INT32} if kind == "EmbedLayerNormalization" else {}
    results = [
        helper.make_tensor_value_info(name, integers.get(name, onnx.TensorProto.FLOAT), None)
        for name in outputs if name not in ("", "unread")
    ]  # fmt: skip
    graph = helper.make_graph([node], "one", entries, results, constants)
    newest = 24 if len(inputs) > 6 else 23
    version = opset or (newest if kind in (".Attention", ".RotaryEmbedding") else 17)
    opsets = [helper.make_opsetid("", version), helper.make_opsetid(MICROSOFT, 1)]
    return ir.from_proto(helper.make_model(graph, ir_version=10, opset_imports=opsets)), feeds


def compare(evaluate: Any, model: Model, feeds: Mapping[str, Array]) -> None:
    expected = evaluate(model, feeds)
    result = WriteOutFused().run(model)
    assert result.rewrites and not result.not_matched, result.not_matched
    assert not [node for node in model.graph if node.domain]
    # What is written out has no shapes yet: results of it are not to be believed by onnxruntime.
    found = evaluate(model, feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-5, err_msg=name)
    assert not WriteOutFused().run(model).rewrites


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_same_numbers(evaluate: Any, case: Any) -> None:
    compare(evaluate, *single(*case))


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(
    "name",
    ["skip, bias, sum", "skip rms", "rms, negative axis", "embeddings, segments, mask, places, sum",
     "conv, clip", "attention, causal, mask, bias", "attention, lengths", "heads, causal, added",
     "rotary, in part"],
)  # fmt: skip
def test_in_models_of_older_opsets(evaluate: Any, name: str, opset: int) -> None:
    kind, inputs, attrs, *read = CASES[name]
    compare(evaluate, *single(kind, inputs, attrs, *read, opset=opset))


@pytest.mark.parametrize("name", ["conv, clip", "skip, bias, sum", "heads"])
def test_in_models_of_the_earliest_opsets(evaluate: Any, name: str) -> None:
    kind, inputs, attrs, *read = CASES[name]
    expected = evaluate(*single(kind, inputs, attrs, *read))
    model, feeds = single(kind, inputs, attrs, *read, opset=10)
    assert WriteOutFused().run(model).rewrites
    for output, array in evaluate(model, feeds).items():
        np.testing.assert_allclose(array, expected[output], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("opset", [9, 10])
def test_halves_are_taken_in_the_form_of_the_opset(ops: Any, opset: int) -> None:
    model, _ = single("BiasSplitGelu", [fed(X), VECTOR], {}, opset=opset)
    assert WriteOutFused().run(model).rewrites
    assert ops(model) == ["Add", "Slice", "Slice", "Gelu", "Mul"]
    first = model.graph[1]
    held = {name: list(attr.value) for name, attr in first.attributes.items()}
    assert held == ({"axes": [-1], "starts": [0], "ends": [HIDDEN // 2]} if opset == 9 else {})
    assert len(first.inputs) == (1 if opset == 9 else 4)


def test_root_mean_squares_of_opset_23_have_an_operator(evaluate: Any, ops: Any) -> None:
    kind, inputs, attrs = CASES["skip rms"]
    expected = evaluate(*single(kind, inputs, attrs))["y0"]
    model, feeds = single(kind, inputs, attrs, opset=23)
    assert WriteOutFused().run(model).rewrites
    assert ops(model) == ["Add", "RMSNormalization"]
    np.testing.assert_allclose(evaluate(model, feeds)["y0"], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("opset", [11, 13, 16])
def test_layer_normalisation_in_models_of_opsets_without_it(evaluate: Any, opset: int) -> None:
    model, feeds = single(
        ".LayerNormalization", [fed(X), VECTOR, VECTOR], {"axis": 2, "epsilon": 1e-3}, opset=opset
    )
    compare(evaluate, model, feeds)
    assert "LayerNormalization" not in [node.op_type for node in model.graph]


def test_layer_normalisation_of_the_standard_stays() -> None:
    model, _ = single(".LayerNormalization", [fed(X), VECTOR, VECTOR], {})
    assert not WriteOutFused().run(model).rewrites


@pytest.mark.parametrize("bias", [None, BIAS], ids=["plain", "bias"])
@pytest.mark.parametrize("count", [2, 3])
def test_packed_queries_keys_and_values(evaluate: Any, count: int, bias: Array | None) -> None:
    """Onnxruntime packs for other processors; on this one it computes the same of separate operands."""
    packed = normal(BATCH, TOKENS, HEADS, count, HEAD)
    flat = [packed[:, :, :, place].reshape(BATCH, TOKENS, HIDDEN) for place in range(count)]
    apart = [X, *flat] if count == 2 else flat
    expected = evaluate(*single("MultiHeadAttention", [*map(fed, apart), bias], MANY))["y0"]
    inputs = [fed(X), fed(packed), None] if count == 2 else [fed(packed), None, None]
    model, feeds = single("MultiHeadAttention", [*inputs, bias], MANY)
    assert WriteOutFused().run(model).rewrites
    np.testing.assert_allclose(evaluate(model, feeds)["y0"], expected, rtol=2e-5, atol=2e-5)


def test_attention_without_bias(evaluate: Any) -> None:
    """Onnxruntime's own kernel cannot do without one on this processor."""
    expected = evaluate(*single("Attention", [fed(X), QKV, 0 * BIAS], MANY))["y0"]
    model, feeds = single("Attention", [fed(X), QKV], MANY)
    assert WriteOutFused().run(model).rewrites
    np.testing.assert_allclose(evaluate(model, feeds)["y0"], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "inputs", "attrs", "meant"),
    [
        ("BiasAdd", [fed(X), VECTOR, fed(Y)], {}, X + VECTOR + Y),
        ("BiasDropout", [fed(X), VECTOR, fed(Y)], {}, X + VECTOR + Y),
        ("BiasSoftmax", [fed(WIDE), WIDE[:1, :1]], {"axis": 3, "is_inner_broadcast": 1}, None),
    ],
)
def test_ops_of_other_processors(
    evaluate: Any, kind: str, inputs: Any, attrs: dict[str, Any], meant: Array | None
) -> None:
    model, feeds = single(kind, inputs, attrs)
    assert WriteOutFused().run(model).rewrites
    if meant is None:
        powers = np.exp(WIDE + WIDE[:1, :1])
        meant = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(evaluate(model, feeds)["y0"], meant, rtol=2e-5, atol=2e-5)


def test_activation_functions_stay_for_their_own_pass(ops: Any) -> None:
    model, _ = single("BiasSplitGelu", [fed(X), VECTOR], {})
    assert WriteOutFused().run(model).rewrites
    assert ops(model) == ["Add", "Slice", "Slice", "Gelu", "Mul"]
    model, _ = single("GemmFastGelu", [fed(X), normal(HIDDEN, 4), normal(4)], {})
    assert WriteOutFused().run(model).rewrites
    assert ops(model) == ["MatMul", "FastGelu"]


PAST = fed(normal(BATCH, HEADS, 3, HEAD))
REFUSED: dict[str, tuple[Any, ...]] = {
    "cache of keys": ("export the model without one", "MultiHeadAttention",
                      [fed(X), fed(Y), fed(Z), None, None, None, PAST, PAST], MANY),
    "cache in attention": ("export the model without one", "Attention",
                           [fed(X), QKV, BIAS, None, fed(normal(2, BATCH, HEADS, 3, HEAD))], MANY),
    "cache in the standard": ("export the model without one", ".Attention",
                              [fed(WIDE)] * 3 + [None, PAST, PAST], {}),
    "rotary inside": ("its do_rotary is 1", "Attention", [fed(X), QKV, BIAS], {**MANY, "do_rotary": 1}),
    "weights of the input": ("its weight is not constant", "Attention", [fed(X), fed(QKV), BIAS], MANY),
    "mask of a beam": ("its mask has 4 axes", "Attention",
                       [fed(X), QKV, BIAS, fed(mask(BATCH, 1, 9, 9))], MANY),
    "starts and ends": ("more than the length of each sample", "Attention",
                        [fed(X), QKV, BIAS, fed(np.zeros(4, np.int32))], MANY),
    "statistics": ("its mean is read", "SkipLayerNormalization", [fed(X), fed(Y), VECTOR], {}, (0, 1)),
    "unknown function": ("its activation is Selu", "FusedConv", [fed(IMAGE), KERNEL], {"activation": "Selu"}),
    "window": ("its local_window_size is 2", "GroupQueryAttention",
               [fed(normal(BATCH, TOKENS, 32)), fed(normal(BATCH, TOKENS, 16)),
                fed(normal(BATCH, TOKENS, 16)), None, None, np.full(BATCH, 4, np.int32),
                np.array(5, np.int32)], {**GROUPS, "local_window_size": 2}),
    "scores": ("its qk_matmul_output is read", ".Attention", [fed(WIDE)] * 3, {}, (0, 3)),
    "packed tokens": ("convert_to_packing_mode", "PackedAttention",
                      [fed(X[0]), QKV, BIAS, fed(mask(BATCH, TOKENS)), fed(mask(3))], MANY),
    "inverse": ("no neuron inverts a matrix", "Inverse", [fed(SCORES)], {}),
    "search": ("convert the network that it runs", "GreedySearch", [fed(mask(BATCH, TOKENS))], {}),
    "heads of keys": ("2 heads of keys do not divide 3 of queries", ".Attention",
                      [fed(WIDE), fed(WIDE[:, :2]), fed(WIDE[:, :2])], {}),
    "no heads": ("it has no num_heads", "MultiHeadAttention", [fed(X), fed(Y), fed(Z)], {}),
    "projections": ("the sizes of its projections do not add up", "Attention", [fed(X), QKV, BIAS],
                    {**MANY, "qkv_hidden_sizes": [HIDDEN, HIDDEN, 6]}),
    "bias of heads": ("adds a bias to keys that are split into heads", "MultiHeadAttention",
                      [fed(X), fed(WIDE), fed(WIDE), BIAS], MANY),
    "keys alone": ("it has keys without values", "GroupQueryAttention",
                   [fed(normal(BATCH, TOKENS, 32)), fed(normal(BATCH, TOKENS, 16)), None, None, None,
                    np.full(BATCH, 4, np.int32), np.array(5, np.int32)], GROUPS),
    "axes": ("its operands have 4, 4, 3 axes", ".Attention", [fed(WIDE), fed(WIDE), fed(X)], {}),
    "short mask": ("its mask is shorter than its keys", ".Attention",
                   [fed(WIDE)] * 3 + [SCORES[..., :3]], {}),
    "lengths and order": ("it is causal with nonpad_kv_seqlen", ".Attention",
                          [fed(WIDE)] * 3 + [None] * 3 + [fed(np.array([3, 5]))], {"is_causal": 1}),
    "lengths and window": ("it has a window with nonpad_kv_seqlen", ".Attention",
                           [fed(WIDE)] * 3 + [None] * 3 + [fed(np.array([3, 5]))], {"left_window_size": 1}),
    "no window": ("its window of -2 is no number of places", ".Attention", [fed(WIDE)] * 3,
                  {"right_window_size": -2}),
    "part of a head": ("rotates a part of each head without num_heads", "RotaryEmbedding",
                       [fed(X), fed(PLACES), COS[:, :1], SIN[:, :1]], {"rotary_embedding_dim": 2}),
    "rotary of rows": ("its input has 2 axes", "RotaryEmbedding",
                       [fed(X[0]), fed(PLACES), COS[:, :1], SIN[:, :1]], {"rotary_embedding_dim": 2}),
    "open angles": ("a part of each head by angles that are not constant", ".RotaryEmbedding",
                    [fed(X), fed(COS[PLACES][..., :1]), fed(SIN[PLACES][..., :1])],
                    {**MANY, "rotary_embedding_dim": 2}),
    "training": ("it draws random numbers: export the model in eval mode", "BiasDropout",
                 [fed(X), VECTOR, fed(Y), np.array(0.5, np.float32), np.array(True)], {}),
    "two axes": ("it normalises several axes at once", "BiasSoftmax", [fed(WIDE), WIDE[:1, :1]], {"axis": 2}),
    "lengths of nothing": ("its mask_index is read, but it has no mask", "EmbedLayerNormalization",
                           [fed(mask(BATCH, TOKENS)), None, normal(9, HIDDEN), normal(9, HIDDEN), None,
                            VECTOR, VECTOR], {}, (0, 1)),
    "old": ("the model is of an opset before 9", "BiasAdd", [fed(X), VECTOR, fed(Y)], {}, (0,), 8),
    "places of old": ("the model is of an opset before 11", "Attention", [fed(X), QKV, BIAS],
                      {**MANY, "unidirectional": 1}, (0,), 10),
    "unknown": ("com.microsoft::Irfft is not known", "Irfft", [fed(X)], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refusals_name_the_part(case: Any) -> None:
    reason, *rest = case
    model, _ = single(*rest)
    before = [node.op_type for node in model.graph]
    WriteOutFused().run(model)
    assert [node.op_type for node in model.graph] == before
    with pytest.raises(UnsupportedError) as caught:
        RefuseUnsupported().run(model)
    (problem,) = caught.value.problems
    assert problem.where is not None and problem.where.node == "fused"
    assert re.search(reason, problem.message), problem.message


def test_the_user_may_keep_an_operator_of_the_standard_on_the_host() -> None:
    model, _ = single(".Attention", [fed(WIDE)] * 3, {})
    assert not WriteOutFused(("Attention",)).run(model).rewrites
    assert not RefuseUnsupported(("Attention",)).run(model).rewrites


def test_every_operator_of_the_table_has_a_case() -> None:
    tried = {case[0] for case in CASES.values()} | {".LayerNormalization"}
    tried |= {"BiasAdd", "BiasDropout", "BiasSoftmax", "BiasSplitGelu", "GemmFastGelu"}
    assert {f".{op}" if not domain else op for domain, op in FUSED_OPS} == tried


def test_the_documentation_names_every_operator() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "sources.md").read_text()
    for domain, op in FUSED_OPS:
        assert f"`{domain}{'::' if domain else ''}{op}`" in text, op


@pytest.mark.parametrize(
    ("attrs", "left", "right"),
    [
        ({"left_window_size": 1, "right_window_size": 2}, 1, 2),
        ({"left_window_size": 0}, 0, TOKENS),
        ({"right_window_size": 1, "is_causal": 1}, TOKENS, 0),
    ],
)
def test_windows_close_what_a_mask_closes(
    evaluate: Any, attrs: dict[str, Any], left: int, right: int
) -> None:
    places = np.arange(TOKENS)[None, :] - np.arange(TOKENS)[:, None]
    band = (places >= -left) & (places <= right)
    results = []
    # The checker of onnx, before 1.24, does not know windows: the attributes are set behind it.
    for mask_of, more in (([], attrs), ([band], {})):
        model, feeds = single(".Attention", [fed(WIDE)] * 3 + mask_of, {})
        for name, value in more.items():
            set_attribute(model.graph[0], name, value)
        assert WriteOutFused().run(model).rewrites
        results.append(evaluate(model, feeds))
    for name, array in results[0].items():
        np.testing.assert_allclose(array, results[1][name], rtol=2e-5, atol=2e-5)


def test_attributes_of_opsets_to_come() -> None:
    model, _ = single(".Attention", [fed(WIDE)] * 3, {})
    set_attribute(model.graph[0], "every_other_key", 1)
    result = WriteOutFused().run(model)
    assert not result.rewrites
    assert [entry.reason for entry in result.not_matched] == ["its every_other_key is unknown to snnc"]
