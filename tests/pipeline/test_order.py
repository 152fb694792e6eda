"""The proof of order: what is missing, why, and what to do."""

from __future__ import annotations

import pytest

from snnc.errors import InternalError, UsageError
from snnc.pipeline import PassResult, check_order

KNOWN = {"a", "b", "c"}


@pytest.fixture
def step(toys):
    return lambda name, **contract: toys.function_pass(name, lambda model: PassResult(), **contract)


def test_states_are_the_invariants_between_passes(step):
    steps = [
        step("one", requires={"a"}, establishes={"b"}),
        step("two", requires={"b"}, establishes={"c"}, invalidates={"a", "b"}),
    ]
    assert check_order(steps, {"a"}, known=KNOWN) == ({"a"}, {"a", "b"}, {"c"})


def test_later_pass_establishes_it(step):
    steps = [step("use", requires={"b"}), step("give", establishes={"b"})]
    with pytest.raises(UsageError) as caught:
        check_order(steps, known=KNOWN)
    assert caught.value.code == "SNN220"
    assert caught.value.hint == "move 'give' before 'use'"
    assert "needs 'b', which nothing before it establishes" in str(caught.value)


def test_pass_between_takes_it_away(step):
    steps = [step("give", establishes={"b"}), step("take", invalidates={"b"}), step("use", requires={"b"})]
    with pytest.raises(UsageError) as caught:
        check_order(steps, known=KNOWN)
    assert "which 'take' takes away" in str(caught.value)
    assert caught.value.hint == "run 'give' again before 'use'"


def test_nobody_establishes_it(step):
    with pytest.raises(UsageError) as caught:
        check_order([step("use", requires={"c"})], known=KNOWN)
    assert caught.value.hint == "put a pass that establishes 'c' before 'use'"


def test_all_findings_are_collected(step):
    steps = [step("one", requires={"a", "b"}), step("two", requires={"c"})]
    with pytest.raises(UsageError) as caught:
        check_order(steps, known=KNOWN)
    assert [problem.where.pass_name for problem in caught.value.problems] == ["one", "one", "two"]


@pytest.mark.parametrize(
    ("contract", "text"),
    [
        ({"requires": {"nonsense"}}, "unknown invariant 'nonsense'"),
        ({"establishes": {"a"}, "invalidates": {"a"}}, "both establishes and invalidates 'a'"),
        ({"semantics": "roughly"}, "unknown semantics 'roughly'"),
    ],
)
def test_contradictory_pass_is_our_bug(step, contract, text):
    with pytest.raises(InternalError) as caught:
        check_order([step("bad", **contract)], known=KNOWN)
    assert caught.value.code == "SNN103"
    assert text in str(caught.value)
