"""Progress and timing."""

from __future__ import annotations

import io

import pytest

from snnc.pipeline import Before, Progress, Timing, run_pipeline


def run(toys, stream, live, steps=None):
    ticks = iter(range(1000))
    steps = steps or [toys.RemoveIdentity(), toys.ScaleWeights()]
    timing = Timing()
    instruments = [Progress(stream, live=live), timing]
    run_pipeline(
        toys.make(), steps, given={"sorted"}, instruments=instruments, clock=lambda: float(next(ticks))
    )
    return timing


def test_off_terminal_one_line_a_pass(toys):
    stream = io.StringIO()
    timing = run(toys, stream, live=False)
    assert stream.getvalue().splitlines() == [
        "[1/2] remove-identity: 1 rewrite, 4 -> 3 nodes, 1.00 s",
        "[2/2] scale-weights: no change, 3 nodes, 1.00 s",
    ]
    assert timing.seconds == [("remove-identity", 1.0), ("scale-weights", 1.0)]
    assert timing.total() == 2.0


def test_on_a_terminal_the_pass_shows_before_it_ends(toys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = io.StringIO()
    run(toys, stream, live=True)
    text = stream.getvalue()
    assert text.startswith("[1/2] remove-identity ...\r[1/2] remove-identity: 1 re")
    assert "\x1b" not in text
    assert all(len(part) < 30 for line in text.splitlines() for part in line.split("\r"))


def test_failure_is_shown(toys):
    stream = io.StringIO()
    bad = toys.function_pass("bad", lambda model: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run(toys, stream, live=False, steps=[bad])
    assert stream.getvalue() == "[1/1] bad: FAILED at 4 nodes\n"


def test_the_model_before_the_failing_pass_is_kept(toys):
    def fail(model):
        model.graph.node(0).name = "damaged"
        raise ZeroDivisionError

    before, bad = Before(), toys.function_pass("bad", fail)
    with pytest.raises(ZeroDivisionError):
        steps = [toys.RemoveIdentity(), toys.ScaleWeights(), bad]
        run_pipeline(toys.make(), steps, given={"sorted"}, instruments=[before])
    assert before.failed is bad
    assert [node.name for node in before.model.graph] == ["twice", "product", "bias"]
