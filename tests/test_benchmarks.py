"""What benchmarks decide by themselves, without the other side at hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The comparison of speed with SpikingJelly."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("spikingjelly_speed")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its tables."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("spikingjelly_speed_tables")


class Recipe:
    """Agreement by the number of steps, and what was asked."""

    def __init__(self, decibel: Any) -> None:
        self.asked: list[int] = []
        self._decibel = decibel

    def __call__(self, steps: int) -> float:
        self.asked.append(steps)
        return float(self._decibel(steps))


@pytest.mark.parametrize("wanted", [1, 2, 3, 5, 31, 32, 33, 100, 255, 256])
def test_the_least_number_of_steps_is_found(speed: Any, wanted: int) -> None:
    recipe = Recipe(math.log2)
    assert speed.least(recipe, math.log2(wanted), 256) == wanted
    assert len(recipe.asked) <= 17


@pytest.mark.parametrize("largest", [1, 6, 31])
def test_nothing_beyond_the_largest_is_tried(speed: Any, largest: int) -> None:
    recipe = Recipe(lambda steps: steps)
    assert speed.least(recipe, largest + 0.5, largest) is None
    assert max(recipe.asked) == largest
    assert speed.least(recipe, largest, largest) == largest


def test_an_answer_that_is_no_number_ends_the_search(speed: Any) -> None:
    recipe = Recipe(lambda steps: math.nan)
    assert speed.least(recipe, 3.0, 256) is None
    assert recipe.asked == [1]


def test_a_recipe_that_stands_still_is_given_up_unless_asked_to_go_on(speed: Any) -> None:
    still = Recipe(lambda steps: min(steps, 8) + steps / 1000)
    assert speed.least(still, 20.0, 256) is None
    assert max(still.asked) == speed.SLOWING
    assert speed.least(still, 20.0, 256, patient=True) is None
    assert max(still.asked) == 256
    # 3 dB a doubling suffice for 24 at 256, if only just.
    growing = Recipe(lambda steps: 3 * math.log2(steps))
    assert speed.least(growing, 24.0, 256) == 256
    assert speed.least(growing, 24.1, 256) is None


def test_agreement(speed: Any) -> None:
    reference = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)
    assert speed.agreement(reference, reference) == (math.inf, 100.0)
    other = reference + np.array([[0.5, -0.5], [0.0, 0.0]], np.float32)
    decibel, same = speed.agreement(other, reference)
    assert decibel == pytest.approx(20.0)
    assert same == 50.0
    assert math.isnan(speed.agreement(np.full_like(reference, np.nan), reference)[0])


def test_a_maximum_goes_before_the_relu_that_only_it_reads(speed: Any) -> None:
    def node(op: str, inputs: list[str], output: str) -> dict[str, Any]:
        return {"op": op, "inputs": inputs, "output": output}

    conv, relu, pool = node("Conv", [""], "a"), node("Relu", ["a"], "b"), node("MaxPool", ["b"], "c")
    end = node("Flatten", ["c"], "d")
    assert speed.pool_first([conv, relu, pool, end]) == [
        conv,
        node("MaxPool", ["a"], "b"),
        node("Relu", ["b"], "c"),
        end,
    ]
    twice = [conv, relu, pool, node("Add", ["b", "b"], "d")]
    assert speed.pool_first(twice) == twice
    average = [conv, relu, node("AveragePool", ["b"], "c"), end]
    assert speed.pool_first(average) == average


def entry(recipe: str, reached: list[int | None], **tried: float | None) -> dict[str, Any]:
    rows = {name[1:]: {"decibel": value, "same": 50.0, "start": 0} for name, value in tried.items()}
    return {"recipe": recipe, "reached": reached, "tried": rows}


SLOW = entry("slow", [5, None], T4=9.0, T5=10.5, T256=19.0)
QUICK = entry("quick", [3, None], T2=9.5, T3=10.0, T256=18.0)
REFUSED = {"recipe": "refused", "reached": [None, None], "refused": "ValueError: a | b"}
MUTE = entry("mute", [None, None], T1=None)


def test_the_fewest_steps_win_and_without_them_the_best_agreement(tables: Any) -> None:
    assert tables.winners([REFUSED, MUTE, SLOW, QUICK], 2) == [("quick", 3, True), ("slow", 256, False)]
    assert tables.winners([REFUSED, MUTE], 2) == []


def test_the_section_says_what_was_found(tables: Any) -> None:
    result = {
        "images": 8,
        "largest": 256,
        "rounds": 5,
        "snnc": [
            {"timesteps": 4, "groups": 2, "decibel": 10.0, "same": 25.0},
            {"timesteps": 8, "groups": 4, "decibel": 20.0, "same": 75.0},
        ],
        "recipes": [REFUSED, MUTE, SLOW, QUICK],
        "equivalent": [
            {"recipe": "equal", "reached": [1], "tried": {}},
            {**REFUSED, "reached": [None]},
            entry("other", [None], T1=-11.0),
        ],
        "ms": [
            {"runs": "onnxruntime", "steps": 0, "ms": 30.0},
            {"runs": "snnc", "steps": 4, "ms": 10.0},
            {"runs": "snnc", "steps": 8, "ms": 20.0},
            {"runs": "float", "steps": 1, "ms": 40.0},
            {"runs": "quick", "steps": 3, "ms": 150.0},
            {"runs": "slow", "steps": 256, "ms": 9000.0},
            {"runs": "equal", "steps": 1, "ms": 50.0},
        ],
        "machine": "a machine",
        "versions": {"snnc": "1"},
    }
    none = {**result, "recipes": [REFUSED, MUTE], "equivalent": []}
    lines = tables.section({"net": result, "other": none})
    assert "| net | T = 4, G = 2 | 10.0 | 25 % | 10.0 | quick | 3 | 10.0 | 50 % | 150.0 | 15.0 |" in lines
    assert (
        "| net | T = 8, G = 4 | 20.0 | 75 % | 20.0 | slow | 256 | 19.0 | 50 % | 9,000.0 | > 450.0 |" in lines
    )
    assert "| other | T = 8, G = 4 | 20.0 | 75 % | 20.0 | none answers |  |  |  |  |  |" in lines
    assert "| net | refused | refused: `ValueError: a \\| b` |" in lines
    assert "| net | mute | 1: no number |" in lines
    assert "| net | quick | 2: 9.5, 3: 10.0, 256: 18.0 |" in lines
    assert "| net | equal, T = 1 | 50.0 |" in lines
    assert "| net | float, onnxruntime | 30.0 |" in lines
    assert "| net | other | 1: -11.0 |" in lines
    assert any(line.endswith("--networks net other --largest 256 --images 8 --rounds 5`") for line in lines)
