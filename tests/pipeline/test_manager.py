"""The manager believes nothing: each test breaks one promise of a pass and sees it caught."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest

from snnc import ir
from snnc.errors import InternalError, MismatchError, UsageError
from snnc.pipeline import Instrument, PassResult, Rewrite, run_pipeline
from snnc.pipeline.garbage import seldom_collected


def test_records_tell_what_happened(toys, model):
    steps = [toys.RemoveIdentity(), toys.ScaleWeights(factor=2.0), toys.ScaleWeights()]
    result = run_pipeline(model, steps, given={"sorted"}, verify="all", probe=toys.probe)
    first, second, third = result.records
    assert (first.changed, first.nodes_before, first.nodes_after) == (True, 4, 3)
    assert first.rewrites == (Rewrite("drop the identity", ("same",)),)
    assert [entry.node for entry in first.not_matched] == ["twice", "product", "bias"]
    assert first.holds == ("no-identity", "sorted")
    assert second.options == {"factor": 2.0, "kinds": [2]}
    assert second.notes == ("w times 2.0",)
    assert not third.changed
    assert third.digest == second.digest
    assert result.holds == {"sorted", "no-identity"}
    assert result.model is model


def test_order_is_proved_before_anything_runs(toys, model):
    ran = []
    first = toys.function_pass("first", lambda model: ran.append(1) or PassResult())
    with pytest.raises(UsageError, match="workable order"):
        run_pipeline(model, [first, toys.ScaleWeights()])
    assert ran == []


def test_silent_change_is_caught(toys, model):
    def run(model: ir.Model) -> PassResult:
        model.graph.node(0).name = "renamed"
        return PassResult()

    with pytest.raises(InternalError, match="changed the graph but reported no rewrite") as caught:
        run_pipeline(model, [toys.function_pass("quiet", run)])
    assert caught.value.code == "SNN101"
    assert caught.value.where.pass_name == "quiet"


def test_boast_without_change_is_caught(toys, model):
    boast = toys.function_pass("boast", lambda model: PassResult([Rewrite("did much")]))
    with pytest.raises(InternalError, match="reported 1 rewrites"):
        run_pipeline(model, [boast])


def test_wrong_return_type_is_caught(toys, model):
    with pytest.raises(InternalError, match="returned bool"):
        run_pipeline(model, [toys.function_pass("old-style", lambda model: True)])


def test_write_into_an_array_is_caught_at_level_all(toys):
    array = np.ones((3, 2), np.float32)

    def run(model: ir.Model) -> PassResult:
        array[0, 0] = 5.0
        return PassResult()

    def fresh() -> ir.Model:
        array[:] = 1.0
        model = toys.make()
        model.graph.initializers["w"].const_value = ir.tensor(array, name="w")
        return model

    with pytest.raises(InternalError, match="changed the graph but reported no rewrite"):
        run_pipeline(fresh(), [toys.function_pass("in-place", run)], verify="all")


@pytest.mark.parametrize("level", ["cheap", "all"])
def test_broken_invariant_is_caught_with_all_findings(toys, model, level):
    invariants = {**toys.INVARIANTS, "never": toys.never("never")}
    bad = toys.function_pass("bad", lambda model: PassResult(), establishes={"never"})
    with pytest.raises(InternalError) as caught:
        run_pipeline(model, [bad], invariants=invariants, verify=level)
    assert caught.value.code == "SNN102"
    assert [problem.message for problem in caught.value.problems] == [
        "breaks 'never': is broken",
        "breaks 'never': twice",
    ]


@pytest.mark.parametrize(
    ("level", "found"), [("off", []), ("cheap", ["never"]), ("all", ["costly", "never"])]
)
def test_the_level_says_which_invariants_are_checked(toys, model, level, found):
    costly = dataclasses.replace(toys.never("costly"), cheap=False)
    invariants = {**toys.INVARIANTS, "never": toys.never("never"), "costly": costly}
    bad = toys.function_pass("bad", lambda model: PassResult(), establishes={"never", "costly"})
    messages: list[str] = []
    try:
        run_pipeline(model, [bad], invariants=invariants, verify=level)
    except InternalError as error:
        messages = [problem.message for problem in error.problems]
    assert messages == [f"breaks {name!r}: {what}" for name in found for what in ("is broken", "twice")]


def test_without_a_garbage_collector_none_is_started(toys, model):
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        step = toys.function_pass("look", lambda model: seen.append(gc.get_threshold()[0]) or PassResult())
        seen: list[int] = []
        run_pipeline(model, [step])
        with seldom_collected():
            assert gc.get_threshold()[0] == 0
        gc.set_threshold(700, 10, 10)
        with seldom_collected():
            assert gc.get_threshold()[0] > 700
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.set_threshold(*before)
    assert seen == [0]


def test_unsorted_graph_is_caught(toys, model):
    def run(model: ir.Model) -> PassResult:
        nodes = list(model.graph)
        model.graph.remove(nodes[0])
        model.graph.append(nodes[0])
        return PassResult([Rewrite("move the first node to the end")])

    with pytest.raises(InternalError, match="runs before 'twice'"):
        run_pipeline(model, [toys.function_pass("shuffle", run)], given={"sorted"})


def test_given_invariants_are_checked(toys, model):
    with pytest.raises(InternalError, match="what should hold at the start"):
        run_pipeline(model, [], given={"no-identity"})


def test_canary_exact_pass_that_changes_one_bit(toys, model):
    """The comparison of an exact pass must fail for the smallest possible change of one result."""

    def run(model: ir.Model) -> PassResult:
        value = model.graph.initializers["b"]
        bias = np.array(ir.constant(value))
        bias[1] = np.nextafter(bias[1], np.float32(0))
        value.const_value = ir.tensor(bias, name="b")
        return PassResult([Rewrite("nudge")])

    # Inputs that cancel the product leave the bias alone in the result, where one bit survives.
    def probe(model: ir.Model) -> dict[str, np.ndarray]:
        return {"y": np.array([[1.0, float(ir.constant(model.graph.initializers["b"])[1])]], np.float32)}

    with pytest.raises(MismatchError, match="changed a value") as caught:
        run_pipeline(model, [toys.function_pass("liar", run)], probe=probe)
    assert caught.value.code == "SNN501"
    assert (caught.value.where.pass_name, caught.value.where.tensor) == ("liar", "y")
    assert "[0, 1]" in caught.value.message
    # The same change, declared approximate, is measured instead.
    approximate = toys.function_pass("honest", run, semantics="approximate")
    record = run_pipeline(toys.make(), [approximate], probe=probe).records[0]
    assert record.cost[0].tensor == "y"
    assert record.cost[0].max_abs == pytest.approx(2.0**-25)


def test_lying_exact_pass_is_caught_on_a_real_execution(toys, model):
    class Liar(toys.ScaleWeights):
        semantics = "exact"
        requires = frozenset()

    with pytest.raises(MismatchError):
        run_pipeline(model, [Liar(factor=1.0001)], probe=toys.probe)


def test_approximate_cost_is_measured(toys, model):
    steps = [toys.RemoveIdentity(), toys.ScaleWeights(factor=1.5)]
    record = run_pipeline(model, steps, given={"sorted"}, probe=toys.probe).records[1]
    (cost,) = record.cost
    assert cost.tensor == "y"
    assert 5.0 < cost.sqnr_db < 7.0
    assert record.probed


def test_probe_that_forgets_an_output_is_our_bug(toys, model):
    with pytest.raises(InternalError, match="no result for the outputs"):
        run_pipeline(
            model,
            [toys.RemoveIdentity()],
            given={"sorted"},
            probe=lambda model: {"t": np.zeros(3, np.float32)},
        )


def test_instruments_see_every_event_and_failures(toys, model):
    events: list[tuple[str, object]] = []

    class Recorder(Instrument):
        def begin(self, model, steps):
            events.append(("begin", len(steps)))

        def before(self, index, step, model):
            events.append(("before", index))

        def after(self, index, record, model):
            events.append(("after", record.name))

        def fail(self, index, step, model, error):
            events.append(("fail", type(error).__name__))

        def end(self, records, model):
            events.append(("end", len(records)))

    bad = toys.function_pass("bad", lambda model: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run_pipeline(model, [toys.RemoveIdentity(), bad], given={"sorted"}, instruments=[Recorder()])
    assert events == [
        ("begin", 2),
        ("before", 0),
        ("after", "remove-identity"),
        ("before", 1),
        ("fail", "ZeroDivisionError"),
    ]
    events.clear()
    run_pipeline(toys.make(), [toys.RemoveIdentity()], given={"sorted"}, instruments=[Recorder()])
    assert events[-1] == ("end", 1)


def test_failing_instrument_ends_the_run(toys, model):
    class Full(Instrument):
        def after(self, index, record, model):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_pipeline(model, [toys.RemoveIdentity()], given={"sorted"}, instruments=[Full()])
