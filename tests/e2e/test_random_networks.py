"""Random networks: oracle, float64, both numpy runtimes and onnxruntime at four levels give the same bits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from snnc.errors import UnsupportedError
from tests.campaign.coded import images, sequences

#: Refused because worst-case codes would leave 32 bits (or 24, where pools need them).
DO_NOT_FIT = {"SNN438", "SNN441", "SNN445"}
LEVELS = ("none", "basic", "extended", "all")


def searching(examples: int) -> Any:
    """Settings: shrinking a network takes longer than reading it."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def check(data: st.DataObject, networks: Any, net: Any, agree: Any, near_tie: Any) -> None:
    made, partition = networks(lambda low, high: data.draw(st.integers(low, high)), net)
    weights = data.draw(st.sampled_from(["int8", "int4", "int16", "wide"]))
    feeds = made.feeds(batch=3, spread=data.draw(st.sampled_from([0.1, 1.0, 30.0])))
    try:
        # Readouts in float32 of large sums with a large bias lose more than single ones.
        agree(made, feeds, levels=LEVELS, weights=weights, partition=partition, tolerance=1e-4)
    except near_tie:
        reject()
    except UnsupportedError as error:
        if error.code not in DO_NOT_FIT:
            raise
        reject()


@searching(12)
@given(st.data())
def test_convolutional_networks(net: Any, agree: Any, near_tie: Any, data: st.DataObject) -> None:
    check(data, images, net, agree, near_tie)


@searching(8)
@given(st.data())
def test_attention_networks(net: Any, agree: Any, near_tie: Any, data: st.DataObject) -> None:
    check(data, sequences, net, agree, near_tie)


@pytest.mark.slow
@pytest.mark.parametrize("networks", [images, sequences], ids=["images", "sequences"])
@searching(300)
@given(data=st.data())
def test_many_networks(net: Any, agree: Any, near_tie: Any, networks: Any, data: st.DataObject) -> None:
    check(data, networks, net, agree, near_tie)
