"""Rules for layers: text and recipe say the same, and wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import UsageError
from snnc.settings import ROLES, LayerRule, chosen, format_recipe, read_recipe

RULES = st.builds(
    lambda match, role, timesteps, groups, partition, weights: LayerRule.make(
        {
            key: value
            for key, value in {
                "match": match,
                "role": role,
                "timesteps": timesteps,
                "groups": groups,
                "partition": partition,
                "weights": weights,
            }.items()
            if value is not None
        }
    ),
    st.text(min_size=1),
    st.none() | st.sampled_from(sorted(ROLES)),
    st.integers(1, 16),
    st.none() | st.integers(1, 16),
    st.none() | st.sampled_from(["interleaved", "contiguous"]),
    st.none() | st.sampled_from(["int2", "int16", "wide"]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=3))
def test_flag_and_recipe_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, rules: list[LayerRule]
) -> None:
    texts = tuple(str(rule) for rule in rules)
    assert [LayerRule.parse(text) for text in texts] == rules
    path = tmp_path_factory.getbasetemp() / "rules.toml"
    path.write_text(format_recipe({"seed": 1, "layers": texts}, path.parent), encoding="utf-8")
    assert read_recipe(path) == {"seed": 1, "layers": texts}


def test_the_last_rule_that_applies_wins_setting_by_setting() -> None:
    rules = [
        LayerRule.parse(text)
        for text in ("*:timesteps=8,groups=4", "b.*:groups=2", "*:role=last,weights=int4", "c:groups=1")
    ]
    assert chosen(rules, {"a"}, {"hidden"}) == {"timesteps": 8, "groups": 4}
    assert chosen(rules, {"a", "b.c"}, {"last"}) == {"timesteps": 8, "groups": 2, "weights": "int4"}


def test_a_name_means_itself_even_if_it_looks_like_a_pattern() -> None:
    rule = LayerRule.parse("block[0]/x:0:groups=2")
    assert rule.match == "block[0]/x:0"
    assert rule.applies({"block[0]/x:0"}, set())
    assert rule.applies({"block0/x:0"}, set())
    assert not rule.applies({"block1/x:0"}, set())


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("conv1", "SNN274", "PATTERN:KEY=VALUE"),
        ("conv1:groups", "SNN274", "PATTERN:KEY=VALUE"),
        (":groups=2", "SNN274", "PATTERN:KEY=VALUE"),
        ("a:groups=2,groups=3", "SNN274", "PATTERN:KEY=VALUE"),
        ("a:gropus=2", "SNN270", "did you mean groups"),
        ("a:seed=2", "SNN270", "unknown key"),
        ("a:groups=two", "SNN271", "expected a whole number"),
        ("a:groups=17", "SNN272", "expected 1 to 16"),
        ("a:weights=int99", "SNN272", "int99"),
        ("a:role=atention,groups=1", "SNN272", "did you mean attention"),
        ("a:role=last", "SNN273", "chooses nothing"),
    ],
)
def test_wrong_texts(text: str, code: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        LayerRule.parse(text)
    assert caught.value.code == code
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[[layers]]\ngroups = 2", 1, "match or layers.role must say"),
        (
            '[[layers]]\nmatch = "a"\ngroups = 1\n\n[[layers]]\nmatch = "b"\ngruops = 2',
            7,
            "did you mean groups",
        ),
        ('[[layers]]\nmatch = "a"\ngroups = 2\n[[layers]]\nmatch = 3\ngroups = 2', 5, "layers.match"),
        ('[[layers]]\nmatch = "a"\ngroups = nan', 3, "layers.groups"),
        ('seed = 3\nlayers = [{ match = "a", grops = 2 }]', 2, "did you mean groups"),
        ('seed = 3\nlayers = ["a:groups=2"]', 2, "[[layers]]"),
        ('[layers]\nmatch = "a"', 1, "[[layers]]"),
    ],
)
def test_wrong_recipes_name_the_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_recipe(tmp_path / "r.toml")
    assert f"r.toml:{line}'" in str(caught.value)
    assert message in str(caught.value)
