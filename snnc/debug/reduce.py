"""Shrinking a model that fails a check to a small one that still fails it.

First the earliest tensor is looked for that still fails as the only output, then the latest cut behind which
it still fails; then nodes are taken out, many at once and at last one by one, until none can go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.compile import ConvertOptions, convert
from snnc.debug.compare import Limits, compare
from snnc.debug.script import Script
from snnc.debug.states import state_of
from snnc.debug.steps import runnable
from snnc.errors import InputError, SnncError
from snnc.ir import Model, clone
from snnc.ir.cut import Known, bypass, cut_out
from snnc.ir.taps import tensor_names
from snnc.runtimes import OnnxRuntime

__all__ = ["Check", "Reduction", "compares", "converts", "fails_script", "observe", "reduce_model"]

Array = npt.NDArray[Any]
#: How a model fails, or None if it does not; a part must fail in the same way as the whole.
Check = Callable[[Model, Mapping[str, Array]], str | None]
Cuts = Literal["inputs", "constants"]


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduced model.

    Attributes:
        model: The model.
        data: Samples for its inputs, as the whole model computed them.
        failure: How it fails.
        nodes_before: Nodes of the whole model.
        nodes_after: Nodes that are left.
        checks: How often the check was run.
    """

    model: Model
    data: dict[str, Array]
    failure: str
    nodes_before: int
    nodes_after: int
    checks: int


def fails_script(script: Script) -> Check:
    """Return the check that a command does not end with 0; a part has to end with the same status."""

    def check(model: Model, data: Mapping[str, Array]) -> str | None:
        status = script.status(model)
        return None if status == 0 else f"exit status {status}"

    return check


def converts(options: ConvertOptions, *, calibrate: bool) -> Check:
    """Return the check that a model cannot be converted; a part has to fail with the same code.

    Args:
        options: Options of the conversion, ``calibrate`` aside.
        calibrate: Whether the samples calibrate it.
    """

    def check(model: Model, data: Mapping[str, Array]) -> str | None:
        try:
            convert(model, options, calibration=dict(data) if calibrate else None)
        except SnncError as error:
            return f"{error.code}{f' in {error.where.pass_name}' if error.where.pass_name else ''}"
        except Exception as error:  # noqa: BLE001 - a pass that crashes is what is looked for
            return type(error).__name__
        return None

    return check


def compares(options: ConvertOptions, limits: Limits, *, calibrate: bool) -> Check:
    """Return the check that a model is converted to one that differs from it.

    It differs if its outputs are further off than the limits allow, or if it has not the bits of the
    quantised network.

    Args:
        options: Options of the conversion, ``calibrate`` aside.
        limits: How far outputs may be off.
        calibrate: Whether the samples calibrate it.
    """

    def check(model: Model, data: Mapping[str, Array]) -> str | None:
        try:
            made = convert(model, options, calibration=dict(data) if calibrate else None)
            after = state_of(made.model, "converted")
            if not compare(state_of(made.quantised, "quantised", settled=True), after, data).passed:
                return "other bits"
            return None if compare(state_of(model, "source"), after, data, limits).passed else "too far off"
        except Exception:  # noqa: BLE001 - it fails in another way
            return None

    return check


def observe(model: Model, data: Mapping[str, Array], *, one: bool = False) -> dict[str, Known]:
    """Run a model and return what is known of all its tensors and inputs.

    Args:
        model: The model.
        data: Samples by input name.
        one: Keep a single sample.

    Raises:
        UnsupportedError: SNN423, SNN424, onnxruntime cannot run it.
    """
    copy = runnable(model)
    runtime = OnnxRuntime(copy, optimisation="none", threads=1)
    names = tensor_names(copy)
    free = all(spec.shape[0] is None for spec in runtime.inputs)
    count = 1 if one else sample_count(data)
    values = {name: array[:count] for name, array in data.items()}
    values |= runtime.run({name: array[:count] for name, array in data.items()}, names)
    known = {name: Known(array, array.shape) for name, array in values.items()}
    if not free or one:
        return known
    # Sizes that change with the number of samples get a name; the others are what they are.
    other = {name: np.concatenate([array[:1]] * (count + 1)) for name, array in data.items()}
    others = {**other, **runtime.run(other, names)}
    for name, entry in known.items():
        pairs = zip(entry.values.shape, others[name].shape, strict=True)
        sizes: list[int | str] = [a if a == b else "N" if a == count else f"N_{a // count}" for a, b in pairs]
        known[name] = Known(entry.values, tuple(sizes))
    return known


def reduce_model(
    model: Model,
    known: Mapping[str, Known],
    check: Check,
    *,
    cuts: Cuts = "inputs",
    most: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Reduction:
    """Shrink a model that fails a check.

    Args:
        model: The whole model; not changed.
        known: What is known of its tensors; see `observe`.
        check: How a model fails.
        cuts: What a tensor becomes whose maker is taken out.
        most: Checks to run at most.
        progress: Called with the number of nodes left and of checks run.

    Raises:
        InputError: SNN355, the whole model does not fail.
    """
    search = _Search(known, check, cuts == "constants", most, progress)
    whole = clone(model)
    failure = check(whole, search.data(whole))
    if failure is None:
        raise InputError(
            "SNN355",
            "the model does not fail the check, so there is nothing to reduce",
            hint="run the check on the model by hand",
        )
    search.failure = failure
    current = _behind(search, _before(search, whole))
    while True:
        smaller = _thinned(search, current)
        if len(smaller.graph) >= len(current.graph):
            break
        current = smaller
    return Reduction(
        current, search.data(current), failure, len(model.graph), len(current.graph), search.checks
    )


class _Search:
    """Runs checks, and counts them."""

    def __init__(
        self,
        known: Mapping[str, Known],
        check: Check,
        constants: bool,
        most: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.known, self.constants, self.failure, self.checks = known, constants, "", 0
        self._check, self._most, self._progress = check, most, progress

    def data(self, model: Model) -> dict[str, Array]:
        names = [v.name or "" for v in model.graph.inputs if not v.is_initializer()]
        return {name: np.asarray(self.known[name].values) for name in names if name in self.known}

    def fails(self, model: Model | None) -> bool:
        """Whether a part fails as the whole does; where checks are used up it does not."""
        if model is None or self.checks >= self._most:
            return False
        self.checks += 1
        try:
            failed = self._check(clone(model), self.data(model)) == self.failure
        except SnncError as error:
            if error.exit_code in (2, 6):
                raise
            return False
        if failed and self._progress is not None:
            self._progress(len(model.graph), self.checks)
        return failed

    def cut(self, model: Model, keep: Sequence[int] | range, outputs: Sequence[str]) -> Model | None:
        return cut_out(model, keep, outputs, self.known, constants=self.constants)


def _before(search: _Search, model: Model) -> Model:
    """Find the earliest tensor that still fails as the only output, by halving."""
    every = range(len(model.graph))
    for value in model.graph.outputs:
        part = search.cut(model, every, [value.name or ""])
        if part is not None and len(part.graph) < len(model.graph) and search.fails(part):
            model = part
            break
    names = [name for name in tensor_names(model) if name in search.known]
    best = model
    low, high = -1, len(names) - 1
    while high - low > 1:
        middle = (low + high) // 2
        part = search.cut(model, range(len(model.graph)), [names[middle]])
        if part is not None and search.fails(part):
            best, high = part, middle
        else:
            low = middle
    return best


def _behind(search: _Search, model: Model) -> Model:
    """Find the latest place in graph order behind which the rest still fails, by halving."""
    outputs = [value.name or "" for value in model.graph.outputs]
    best = model
    low, high = 0, len(model.graph)
    while high - low > 1:
        middle = (low + high) // 2
        part = search.cut(model, range(middle, len(model.graph)), outputs)
        if part is not None and search.fails(part):
            best, low = part, middle
        else:
            high = middle
    return best


def _thinned(search: _Search, model: Model) -> Model:
    """Take nodes out, half of them at once, then fewer, at last one by one (delta debugging)."""
    size = max(1, len(model.graph) // 2)
    while True:
        place = 0
        while place < len(model.graph):
            smaller = _without(search, model, range(place, min(place + size, len(model.graph))))
            if smaller is None:
                place += size
            else:
                model = smaller
        if size == 1:
            return model
        size = max(1, size // 2)


def _without(search: _Search, model: Model, gone: range) -> Model | None:
    """Return a model that still fails without some nodes: their outputs are cut, or bypassed."""
    if len(gone) == len(model.graph):
        return None
    outputs = [value.name or "" for value in model.graph.outputs]
    keep = [place for place in range(len(model.graph)) if place not in gone]
    tries: list[Callable[[], Model | None]] = [lambda: search.cut(model, keep, outputs)]
    if len(gone) == 1:
        tries.append(lambda: bypass(model, gone[0], search.known))
        last = list(model.graph)[gone[0]]
        if any(value.is_graph_output() for value in last.outputs):
            # The last node goes, and what it reads becomes the output.
            reads = [value.name for value in last.inputs if value is not None and value.name]
            tries.append(lambda: search.cut(model, keep, [*reads, *outputs]))
    for attempt in tries:
        part = attempt()
        if part is not None and len(part.graph) < len(model.graph) and search.fails(part):
            return part
    return None
