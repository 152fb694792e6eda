"""Running passes: order proved first, every claim of a pass checked after it ran."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from snnc.errors import InternalError, Problem, Where
from snnc.ir import Model
from snnc.pipeline.contract import NoMatch, Pass, PassResult, Probe, Rewrite, Semantics, options_of
from snnc.pipeline.digest import GraphDigest, node_count
from snnc.pipeline.garbage import give_back, seldom_collected
from snnc.pipeline.numeric import TensorCost, compare_bits, measure_cost
from snnc.pipeline.order import check_order
from snnc.verify import INVARIANTS, Invariant

__all__ = ["Instrument", "PassRecord", "PipelineResult", "VerifyLevel", "run_pipeline"]

VerifyLevel = Literal["off", "cheap", "all"]

#: Seconds from which on a pass has made enough to leave gaps in memory that are worth looking for.
_LONG = 0.2


@dataclass(frozen=True)
class PassRecord:
    """What one pass did, as the manager saw it.

    Attributes:
        name: Name of the pass.
        semantics: ``exact`` or ``approximate``.
        options: Its options, JSON-able.
        changed: Whether the graph changed (by digest, not by claim).
        rewrites: What it rewrote.
        not_matched: What it left alone, and why.
        notes: What was approximated, and other remarks.
        nodes_before: Nodes of the main graph before.
        nodes_after: Nodes of the main graph after.
        holds: Invariants that hold after it, sorted.
        digest: Digest of the graph after it.
        cost: Measured cost per tensor, if the pass is approximate and a probe was given.
        probed: Whether numbers were compared before and after.
        seconds: Run time of the pass alone, in seconds.
    """

    name: str
    semantics: Semantics
    options: Mapping[str, Any]
    changed: bool
    rewrites: tuple[Rewrite, ...]
    not_matched: tuple[NoMatch, ...]
    notes: tuple[str, ...]
    nodes_before: int
    nodes_after: int
    holds: tuple[str, ...]
    digest: str
    cost: tuple[TensorCost, ...] = ()
    probed: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return everything but the run time, which differs from run to run, as JSON-able values."""
        return {
            "name": self.name,
            "semantics": self.semantics,
            "options": dict(self.options),
            "changed": self.changed,
            "rewrites": [
                {"rule": entry.rule, "removed": [*entry.removed], "added": [*entry.added], "note": entry.note}
                for entry in self.rewrites
            ],
            "not_matched": [{"node": entry.node, "reason": entry.reason} for entry in self.not_matched],
            "notes": [*self.notes],
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "holds": [*self.holds],
            "digest": self.digest,
            "probed": self.probed,
            "cost": [
                {
                    "tensor": entry.tensor,
                    # JSON has no infinity; null says "no error at all" (or no signal).
                    "sqnr_db": entry.sqnr_db if math.isfinite(entry.sqnr_db) else None,
                    "max_abs": entry.max_abs,
                    "agreement": entry.agreement,
                }
                for entry in self.cost
            ],
        }


@dataclass(frozen=True)
class PipelineResult:
    """The outcome of a pipeline.

    Attributes:
        model: The rewritten model (the object that was passed in).
        records: One record a pass, in order.
        holds: Invariants that hold at the end.
    """

    model: Model
    records: tuple[PassRecord, ...]
    holds: frozenset[str]


class Instrument:
    """Watches a pipeline; subclasses override what they need. An instrument never changes the model.

    An exception raised by an instrument ends the run: a dump that cannot be written is an error.
    """

    def begin(self, model: Model, steps: Sequence[Pass]) -> None:
        """Called once, after the order was proved and before the first pass."""

    def before(self, index: int, step: Pass, model: Model) -> None:
        """Called before pass ``index`` (0-based)."""

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Called after pass ``index`` ran and all its checks succeeded."""

    def fail(self, index: int, step: Pass, model: Model, error: BaseException) -> None:
        """Called if pass ``index`` or one of its checks failed; ``model`` is the broken state."""

    def end(self, records: Sequence[PassRecord], model: Model) -> None:
        """Called once, after the last pass."""


@seldom_collected()
def run_pipeline(
    model: Model,
    steps: Sequence[Pass],
    *,
    given: Collection[str] = (),
    instruments: Sequence[Instrument] = (),
    verify: VerifyLevel = "cheap",
    probe: Probe | None = None,
    invariants: Mapping[str, Invariant] = INVARIANTS,
    clock: Callable[[], float] = time.perf_counter,
) -> PipelineResult:
    """Run passes over a model, in place, and check what they claim.

    Before the first pass the order is proved and the ``given`` invariants are checked. After each pass:
    the digest of the graph must agree with the rewrites reported; every invariant that should hold, and that
    was not checked on this very graph before, is checked, with all findings collected; with a ``probe``, an
    exact pass must not have changed a bit and an approximate one gets its cost measured.

    Args:
        model: The model; rewritten in place.
        steps: The passes, in order.
        given: Invariants that hold at the start.
        instruments: Observers: timing, progress, dumps.
        verify: ``off`` checks no invariants, ``cheap`` those that are linear in the graph, ``all`` every
            one; ``all`` also hashes every weight after every pass.
        probe: Runs the model on fixed inputs.
        invariants: The invariants by name; tests pass their own.
        clock: Source of seconds.

    Returns:
        The model and one record a pass.

    Raises:
        UsageError: SNN220, if the order is wrong.
        InternalError: SNN101, if a pass's report and the graph disagree; SNN102, if an invariant is broken;
            SNN103, SNN104.
        MismatchError: SNN501, if an exact pass changed a value.
    """
    states = check_order(steps, given, known=invariants)
    _verify(model, states[0], invariants, verify, pass_name=None)
    digest = GraphDigest(remember=verify != "all")
    before = digest(model)
    results = probe(model) if probe is not None and steps else None
    for instrument in instruments:
        instrument.begin(model, steps)
    records: list[PassRecord] = []
    for index, step in enumerate(steps):
        for instrument in instruments:
            instrument.before(index, step, model)
        nodes_before = node_count(model)
        try:
            start = clock()
            report = step.run(model)
            seconds = clock() - start
            after = digest(model)
            if seconds > _LONG:
                give_back()
            _check_report(step, report, changed=after != before)
            # What held of a graph that has not changed still holds.
            due = states[index + 1] if after != before else states[index + 1] - states[index]
            _verify(model, due, invariants, verify, pass_name=step.name)
            cost: tuple[TensorCost, ...] = ()
            # An unchanged graph gives unchanged numbers: no need to run it again.
            if probe is not None and results is not None and after != before:
                results, cost = _probe(model, step, probe, results)
        except BaseException as error:
            for instrument in instruments:
                instrument.fail(index, step, model, error)
            raise
        record = PassRecord(
            name=step.name,
            semantics=step.semantics,
            options=options_of(step),
            changed=after != before,
            rewrites=tuple(report.rewrites),
            not_matched=tuple(report.not_matched),
            notes=tuple(report.notes),
            nodes_before=nodes_before,
            nodes_after=node_count(model),
            holds=tuple(sorted(states[index + 1])),
            digest=after,
            cost=cost,
            probed=probe is not None,
            seconds=seconds,
        )
        records.append(record)
        before = after
        for instrument in instruments:
            instrument.after(index, record, model)
    for instrument in instruments:
        instrument.end(records, model)
    return PipelineResult(model, tuple(records), states[-1])


def _check_report(step: Pass, report: PassResult, *, changed: bool) -> None:
    where = Where(pass_name=step.name)
    if not isinstance(report, PassResult):
        raise InternalError("SNN101", f"returned {type(report).__name__}, not a PassResult", where=where)
    if changed and not report.rewrites:
        raise InternalError("SNN101", "changed the graph but reported no rewrite", where=where)
    if report.rewrites and not changed:
        raise InternalError(
            "SNN101",
            f"reported {len(report.rewrites)} rewrites ({report.rewrites[0].rule!r}) but changed nothing",
            where=where,
        )


def _verify(
    model: Model,
    names: Collection[str],
    invariants: Mapping[str, Invariant],
    level: VerifyLevel,
    *,
    pass_name: str | None,
) -> None:
    if level == "off":
        return
    problems: list[Problem] = []
    for name in sorted(names):
        invariant = invariants[name]
        if invariant.cheap or level == "all":
            problems += [
                Problem(f"breaks {name!r}: {problem.message}", problem.where)
                for problem in invariant.check(model)
            ]
    if problems:
        raise InternalError(
            "SNN102",
            "the model breaks what should hold at the start"
            if pass_name is None
            else "left the model in a state that breaks what should hold after it",
            where=Where(pass_name=pass_name),
            problems=list(dict.fromkeys(problems)),
        )


def _probe(
    model: Model, step: Pass, probe: Probe, before: Mapping[str, NDArray[Any]]
) -> tuple[Mapping[str, NDArray[Any]], tuple[TensorCost, ...]]:
    after = probe(model)
    if step.semantics == "approximate":
        return after, measure_cost(before, after)
    outputs = [value.name for value in model.graph.outputs if value.name]
    compare_bits(before, after, pass_name=step.name, outputs=outputs)
    return after, ()
