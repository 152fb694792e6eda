"""Rules give single layers other codes and weights: every mix runs bit for bit the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.cost import measure
from snnc.cost.audit import audit
from snnc.errors import UnsupportedError, UsageError
from snnc.ir import attributes
from snnc.passes import quantisers_of
from snnc.runtimes import NumpyPacked
from snnc.settings import LayerRule

DO_NOT_FIT = {"SNN438", "SNN441", "SNN445"}


def transformer(net: Any) -> Any:
    """A float network with everything in it: convolution, LayerNorm, softmax attention, GELU, two streams."""
    made = net(3)
    stream = made.op(
        "Relu", [made.conv(made.input(["N", 2, 4, 4]), (6, 2, 2, 2), strides=[2, 2], pads=[0] * 4)]
    )
    stream = made.op("Reshape", [stream, made.const([-1, 6, 4], np.int64)])
    stream = made.op("Transpose", [stream], perm=[0, 2, 1], name="tokens")
    scale, shift = made.const(made.random.uniform(0.5, 2, 6)), made.const(made.normal(6))
    normed = made.op("LayerNormalization", [stream, scale, shift], axis=-1, name="norm")
    q, k, v = (
        made.op("MatMul", [normed, made.const(made.normal(6, 6), name=f"{letter}.weight")], name=letter)
        for letter in "qkv"
    )
    keys = made.op("Transpose", [k], perm=[0, 2, 1])
    scores = made.op("Mul", [made.op("MatMul", [q, keys]), made.const(6**-0.5)], name="scores")
    mixed = made.op("MatMul", [made.op("Softmax", [scores], axis=-1, name="attention"), v], name="mixed")
    stream = made.op("Add", [stream, made.matmul(mixed, (6, 6))], name="stream")
    half = made.const(0.5)
    up = made.op("MatMul", [stream, made.const(made.normal(6, 8), name="up.weight")], name="up")
    error = made.op("Erf", [made.op("Mul", [up, made.const(2**-0.5)])])
    gelu = made.op("Mul", [made.op("Mul", [up, made.op("Add", [error, made.const(1.0)])]), half], name="gelu")
    stream = made.op("Add", [stream, made.matmul(gelu, (8, 6))])
    pooled = made.op("ReduceMean", [stream], axes=[1], keepdims=0)
    return made.output(made.op("MatMul", [pooled, made.const(made.normal(6, 3))], name="head"))


@st.composite
def rules(draw: st.DrawFn) -> list[str]:
    names = ["norm", "q", "k", "v", "attention", "mixed", "tokens", "stream", "gelu", "*"]
    texts = []
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=8, unique=True)):
        timesteps = draw(st.integers(1, 10))
        groups = draw(st.integers(1, timesteps))
        partition = draw(st.sampled_from(["interleaved", "contiguous"]))
        texts.append(f"{name}:timesteps={timesteps},groups={groups},partition={partition}")
    for name in draw(st.lists(st.sampled_from(["q", "up", "head", "conv"]), unique=True)):
        texts.append(f"{name}:weights={draw(st.sampled_from(['int2', 'int5', 'int12', 'wide']))}")
    return draw(st.permutations(texts))


def check(net: Any, agree: Any, texts: list[str], levels: tuple[str, ...]) -> None:
    made = transformer(net)
    options = {"calibrate": "random:8", "layers": tuple(texts)}
    try:
        agreed = agree(made, made.feeds(spread=2), levels=levels, float64=False, **options)
    except UnsupportedError as error:
        if error.code not in DO_NOT_FIT:
            raise
        return
    model = agreed.conversion.model
    assert audit(model).clean
    report = measure(model, made.feeds(), NumpyPacked(model).run)
    books = {
        node.metadata_props.get("snnc.source") or node.name: CodeBook.from_attributes(attributes(node))
        for node in model.graph
        if node.op_type in ("ExpGIF", "ExpGIFGain")
    }
    rows = {row.name: row for row in report.layers if row.kind == "neuron"}
    assert set(rows) == set(books)
    for name, row in rows.items():
        book = books[name]
        assert (row.timesteps, row.groups, row.levels) == (book.timesteps, book.groups, book.levels)
        assert row.spikes <= book.groups * row.neurons
    # What the rules say is what the neurons got: the last rule with the name of a code, or *, wins.
    for name in ("norm", "gelu", "tokens"):
        wanted = next(
            (LayerRule.parse(text) for text in reversed(texts) if text.startswith((f"{name}:", "*:"))), None
        )
        if wanted is not None and (found := _book(model, f"{name}_code")) is not None:
            chosen = dict(wanted.values)
            assert {key: getattr(found, key) for key in chosen} == chosen


def _book(model: Any, tensor: str) -> CodeBook | None:
    return quantisers_of(model).get(tensor)


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(texts=rules())
def test_any_mix(net: Any, agree: Any, texts: list[str]) -> None:
    check(net, agree, texts, ("none", "all"))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(texts=rules())
def test_any_mix_many(net: Any, agree: Any, texts: list[str]) -> None:
    check(net, agree, texts, ("none", "basic", "extended", "all"))


def test_rules_make_a_difference_only_where_they_apply(net: Any) -> None:
    model = transformer(net).model()
    plain = convert(model, ConvertOptions(calibrate="random:8"))
    mixed = convert(
        model, ConvertOptions(calibrate="random:8", layers=("*:role=norm,groups=2", "up:weights=int4"))
    )
    before, after = quantisers_of(plain.model), quantisers_of(mixed.model)
    assert {name for name in before if before[name] != after[name]} == {"norm_code"}
    assert (after["norm_code"].timesteps, after["norm_code"].groups) == (8, 2)
    notes = [note for record in mixed.records for note in record.notes]
    assert sum("4-bit weights" in note for note in notes) == 1


def test_codes_of_a_quantised_network_are_recoded_one_by_one(net: Any, agree: Any) -> None:
    made = net(1)
    value = made.input(["N", 3, 4, 4])
    for index in range(3):
        value = made.quantise(made.conv(value, (3, 3, 3, 3)), 0.25, (4, 4), name=f"code{index}")
    made.output(made.conv(value, (2, 3, 4, 4), pads=[0] * 4))
    found = quantisers_of(agree(made, layers=("code1:groups=2", "*:role=last,timesteps=6")).conversion.model)
    books = [found[f"code{index}"] for index in range(3)]
    assert [(book.timesteps, book.groups) for book in books] == [(4, 4), (4, 2), (6, 6)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("qq:groups=2", "did you mean"),
        ("nothing*:groups=2", "matches no code"),
        ("up.weigth:weights=int4", "did you mean up.weight"),
        ("attention:weights=int4", "matches no layer with float weights"),
        ("*:role=last,weights=int4,groups=9", "9 groups of 8 time-steps"),
    ],
)
def test_rules_that_mean_nothing_are_refused(net: Any, rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert(transformer(net).model(), ConvertOptions(calibrate="random:8", layers=(rule,)))


def test_all_rules_that_mean_nothing_are_listed(net: Any) -> None:
    rules = ("nose:groups=2", "q:groups=2", "toes:weights=int4")
    with pytest.raises(UsageError, match="2 rules for layers") as caught:
        convert(transformer(net).model(), ConvertOptions(calibrate="random:8", layers=rules))
    assert "'nose:groups=2'" in str(caught.value)
    assert "'toes:weights=int4'" in str(caught.value)
