"""Pipelines as text, both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.errors import InternalError, UsageError
from snnc.pipeline import PassResult, format_pipeline, options_of, parse_pipeline


class Base:
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Any] = "exact"

    def run(self, model: Any) -> PassResult:
        return PassResult()


@dataclass(frozen=True)
class Tune(Base):
    name: ClassVar[str] = "tune-steps"
    tolerance: float = 0.5
    axes: tuple[int, ...] = ()
    mode: Literal["slow", "fast"] = "fast"
    keep_names: bool = True
    label: str = "a,b"
    limit: int | None = None


@dataclass(frozen=True)
class Need(Base):
    name: ClassVar[str] = "need-data"
    data: Any
    count: int = 3


@dataclass(frozen=True)
class Plain(Base):
    name: ClassVar[str] = "plain"


@dataclass(frozen=True)
class Select(Base):
    name: ClassVar[str] = "select-nodes"
    kinds: frozenset[str] = field(default_factory=lambda: frozenset({"Conv"}))
    span: tuple[int, str] = (1, "all")


PASSES = (Tune, Need, Plain, Select)


@given(
    st.builds(
        Tune,
        tolerance=st.floats(allow_nan=False, allow_infinity=False),
        axes=st.lists(st.integers()).map(tuple),
        mode=st.sampled_from(["slow", "fast"]),
        keep_names=st.booleans(),
        label=st.text(),
        limit=st.none() | st.integers(),
    )
)
def test_text_round_trip(step):
    assert parse_pipeline(format_pipeline([Plain(), step, step]), PASSES) == (Plain(), step, step)


def test_defaults_are_not_written():
    assert (
        format_pipeline([Tune(), Tune(axes=(1, 2), mode="slow")])
        == "tune-steps,tune-steps{axes=[1,2],mode='slow'}"
    )


def test_bare_words_hyphens_and_blanks():
    text = " plain , tune-steps{ mode = slow , keep-names=false, tolerance=1, limit=none }"
    expected = Tune(mode="slow", keep_names=False, tolerance=1.0, limit=None)
    assert parse_pipeline(text, PASSES) == (Plain(), expected)
    assert parse_pipeline("", PASSES) == ()


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        ("plian", "SNN221", "there is no pass 'plian'", "did you mean 'plain'?"),
        ("zzz", "SNN221", "there is no pass 'zzz'", "see 'snnc passes'"),
        ("plain,,plain", "SNN222", "an empty place", None),
        ("plain{", "SNN222", "'}' is missing", None),
        ("plain]", "SNN222", "unexpected ']'", None),
        ("tune-steps{limit=1}x", "SNN222", "the brace of 'tune-steps' is not closed", None),
        ("tune-steps{tolerance}", "SNN222", "lacks '=value'", None),
        ("tune-steps{tolerence=1}", "SNN223", "no option 'tolerence'", "did you mean 'tolerance'?"),
        ("tune-steps{limit=1,limit=2}", "SNN223", "given twice", None),
        ("tune-steps{tolerance=much}", "SNN223", "expected float", None),
        ("tune-steps{axes=[1,x]}", "SNN223", "'axes'", None),
        ("tune-steps{limit=true}", "SNN223", "'limit'", None),
        ("select-nodes{span=[1,2,3]}", "SNN223", "option 'span' is [1, 2, 3], expected tuple", None),
        ("tune-steps{mode=slwo}", "SNN223", "one of slow, fast", "did you mean 'slow'?"),
        ("need-data{count=1}", "SNN223", "needs the options ['data']", None),
    ],
)
def test_refusals(text, code, message, hint):
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text, PASSES)
    assert caught.value.code == code
    assert message in str(caught.value)
    if hint is not None:
        assert caught.value.hint == hint


def test_two_passes_of_one_name_are_our_bug():
    class Other(Plain):
        pass

    with pytest.raises(InternalError, match="both 'plain'"):
        parse_pipeline("plain", (Plain, Other))


def test_sets_are_written_in_order_and_made_defaults_are_not_written():
    assert format_pipeline([Select()]) == "select-nodes"
    step = Select(kinds=frozenset({"MatMul", "Gemm"}), span=(2, "b"))
    assert format_pipeline([step]) == "select-nodes{kinds=['Gemm','MatMul'],span=[2,'b']}"
    assert parse_pipeline(format_pipeline([step]), PASSES) == (step,)


def test_options_are_described_without_addresses():
    data = {"b": frozenset({2, 1}), 3: [Select(), object]}
    assert options_of(Need(data=data)) == {
        "data": {"b": [1, 2], "3": [{"kinds": ["Conv"], "span": [1, "all"]}, "<type>"]},
        "count": 3,
    }
    assert options_of(Base()) == {}


def test_arrays_have_no_text_but_a_description():
    step = Need(data=np.zeros((2, 3), np.float32))
    assert options_of(step) == {"data": "float32[2, 3]", "count": 3}
    with pytest.raises(UsageError, match="no text form"):
        format_pipeline([step])
