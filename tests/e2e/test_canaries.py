"""Canaries: a pass or a runtime is broken on purpose, and ``verify`` must say so and name the first tensor.

A comparison that cannot fail proves nothing. Each canary makes one mistake that a compiler could make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.compile import convert
from snnc.debug.verify import VerifyReport, verify
from snnc.ir import clone
from snnc.ops import synapse
from snnc.passes.quantise import align_membranes, integer_weights
from snnc.passes.spike import builder, products, rules
from snnc.runtimes import NumpyPacked

SIGNED = CodeBook(4, 4, signed=True)
PACKED = {"numpy": NumpyPacked}


@pytest.fixture(scope="module")
def source(net: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A network with an encoder, a first layer on the host, a residual sum and exact ties; and its data.

    In graph order it has the codes ``first``, ``host``, ``second`` and ``third`` and the output ``logits``.
    """
    made = net()
    x, z = made.input(["N", 4, 4, 4]), made.input(["N", 2, 4, 4], name="z")
    first = made.quantise(x, 0.25, SIGNED, name="first")
    host = made.quantise(made.conv(z, (4, 2, 3, 3)), 0.125, SIGNED, name="host")
    weights = made.grid(4, 4, 3, 3)
    inputs = [first, made.const(weights), made.const(np.array([5, -9, 300, -77]) * 2.0**-11)]
    conv = made.op("Conv", inputs, pads=[1, 1, 1, 1])
    second = made.quantise(conv, 0.125, SIGNED, name="second")
    branch = made.conv(made.op("Transpose", [second], perm=[0, 1, 3, 2]), (4, 4, 1, 1))
    total = made.op("Add", [made.op("Add", [branch, host]), first])
    third = made.quantise(total, 0.125, SIGNED, name="third")
    product = made.matmul(made.op("Flatten", [third]), (64, 3))
    made.output(made.op("Add", [product, made.const([0.3, -0.2, 0.1])], name="logits"))
    feeds = made.feeds(batch=48)
    return made.save(tmp_path_factory.mktemp("canary")), feeds


def judge(source: tuple[Path, dict[str, Any]], model: Any, **options: Any) -> VerifyReport:
    path, feeds = source
    return verify(path, model, feeds, **{"runtimes": PACKED, **options})


def test_the_healthy_compiler_passes(source: tuple[Path, dict[str, Any]]) -> None:
    report = judge(source, convert(source[0]).model, runtimes=None)
    assert report.identical
    names = list(report.agreements[0].tensors)
    assert names == ["first", "host", "second", "third", "logits"]


# --- mistakes of the encoding pass: the oracle does not make them ---


def changed_table(change: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Break the folding of thresholds behind its back."""
    fold = rules.fold

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(rules, "fold", lambda *arguments: change(fold(*arguments)))

    return apply


def changed_input(change: Callable[..., tuple[Any, ...]]) -> Callable[[pytest.MonkeyPatch], None]:
    """Break what the folding of thresholds is told."""
    fold = rules.fold

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(rules, "fold", lambda *arguments: fold(*change(*arguments)))

    return apply


def changed_weights(change: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    narrow = products._narrow

    def apply(patch: pytest.MonkeyPatch) -> None:
        def broken(integers: Any) -> Any:
            wide = integers.astype(np.int64)
            return narrow(change(wide) if wide.shape == (4, 4, 3, 3) else wide)

        patch.setattr(products, "_narrow", broken)

    return apply


def higher(table: Any) -> Any:
    thresholds = table.thresholds.astype(np.int64) + 1
    return replace(table, thresholds=np.minimum(thresholds, 2**31 - 1).astype(np.int32))


def one_weight(integers: Any) -> Any:
    integers[2, 1, 0, 0] += 3
    return integers


def wrong_rounding(patch: pytest.MonkeyPatch) -> None:
    power_of_two = rules.power_of_two
    patch.setattr(rules, "power_of_two", lambda ratio: (power_of_two(ratio) or 0) + 1)


def no_mirror(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        builder.SpikeBuilder,
        "upright",
        lambda self, value, kind, name, node: (value, replace(kind, step=abs(kind.step))),
    )


def next_scale(patch: pytest.MonkeyPatch) -> None:
    float32 = builder._float32
    patch.setattr(builder, "_float32", lambda *a: np.nextafter(float32(*a), np.float32(np.inf)))


ENCODING = {
    "thresholds one too high": (changed_table(higher), "host"),
    "rows of other channels": (
        changed_table(lambda t: replace(t, rows=np.roll(t.rows, 1, axis=1) if t.rows.ndim == 4 else t.rows)),
        "host",
    ),
    "ties flipped": (
        changed_input(lambda m, b, s, t: (m, b, s, {"away": "up", "up": "away"}[t])),
        "second",
    ),
    "bias dropped": (changed_input(lambda m, b, s, t: (replace(m, bias=0 * m.bias), b, s, t)), "host"),
    "step scaled": (changed_input(lambda m, b, s, t: (m, b, s * Fraction(1001, 1000), t)), "host"),
    "one weight changed": (changed_weights(one_weight), "second"),
    "kernel transposed": (changed_weights(lambda w: w.swapaxes(2, 3)), "second"),
    "output channels in another order": (changed_weights(lambda w: w[::-1]), "second"),
    "rounding shift wrong": (wrong_rounding, "host"),
    "scale of the readout one bit off": (next_scale, "logits"),
}


@pytest.mark.parametrize("name", list(ENCODING))
def test_a_broken_encoding_is_found(
    source: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it, tensor = ENCODING[name]
    with monkeypatch.context() as patch:
        break_it(patch)
        model = convert(source[0]).model
    report = judge(source, model)
    error = report.first_mismatch()
    assert not report.identical and error is not None
    assert error.code == "SNN510" and error.where.tensor == tensor
    for before, comparison in report.agreements[0].tensors.items():
        if before == tensor:
            break
        assert comparison.mismatches == 0


def test_a_mirror_that_is_missing_is_found(net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = net()
    x = made.quantise(made.input(["N", 6]), 0.25, SIGNED)
    turned = made.op("Neg", [made.matmul(x, (6, 4))])
    made.output(made.quantise(turned, 0.25, SIGNED, name="turned"))
    path = made.save(tmp_path)
    with monkeypatch.context() as patch:
        no_mirror(patch)
        model = convert(path).model
    error = verify(path, model, made.feeds(), runtimes=PACKED).first_mismatch()
    assert error is not None and error.where.tensor == "turned_integers"


# --- mistakes of the approximating passes ---


def finer_grid(patch: pytest.MonkeyPatch) -> None:
    grid = integer_weights.integer_grid

    def broken(*arguments: Any, **options: Any) -> Any:
        integers, step = grid(*arguments, **options)
        return integers, step * (1 if options["powers_of_two"] else 1.25)

    patch.setattr(integer_weights, "integer_grid", broken)


def wrong_ratio(patch: pytest.MonkeyPatch) -> None:
    common = align_membranes._common_step

    def broken(*arguments: Any) -> Any:
        step, (left, right) = common(*arguments)
        return step, (left, 2 * right)

    patch.setattr(align_membranes, "_common_step", broken)


FRONT = {
    "weights on another grid": (finer_grid, "host"),
    "ratio of two steps wrong": (wrong_ratio, "third"),
}


@pytest.mark.parametrize("name", list(FRONT))
def test_a_file_of_a_broken_front_end_is_found(
    source: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantised network is made anew from the source, so a file made otherwise is found."""
    break_it, tensor = FRONT[name]
    with monkeypatch.context() as patch:
        break_it(patch)
        model = convert(source[0]).model
    error = judge(source, model).first_mismatch()
    assert error is not None and error.where.tensor == tensor


@pytest.mark.parametrize("name", list(FRONT))
def test_a_broken_front_end_shows_in_the_distance(
    source: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken while converting and while verifying, both agree with each other, not with the source."""
    before = judge(source, convert(source[0]).model)
    healthy = before.distances[0].decibel
    FRONT[name][0](monkeypatch)
    report = judge(source, convert(source[0]).model)
    broken = report.distances[0].decibel
    assert report.identical and healthy is not None and broken is not None
    assert broken < healthy - 6
    # The first tensor that is further from the source's than it was is the guilty one.
    guilty = next(
        name for name, entry in report.tensors.items() if entry.noise > 2 * before.tensors[name].noise
    )
    assert guilty == FRONT[name][1]


# --- mistakes of the runtimes: only the broken one is named ---


def failing(report: VerifyReport) -> set[str]:
    return {agreement.runtime for agreement in report.agreements if not agreement.identical}


def short(source: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    path, feeds = source
    return path, {name: array[:6] for name, array in feeds.items()}


def test_a_membrane_that_forgets_to_double_is_found(
    source: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def charge(train: Any, deliver: Callable[[Any], Any]) -> Any:
        return sum(deliver(spikes) for spikes in train.patterns)

    model = convert(source[0]).model
    monkeypatch.setattr(synapse, "charge", charge)
    report = judge(short(source), model, runtimes=None)
    assert failing(report) == {"numpy-timestep"}
    error = report.first_mismatch()
    assert error is not None and error.where.tensor == "second"


def test_a_convolution_that_rounds_is_found(
    source: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if sums had six bits less."""
    conv = synapse._conv
    model = convert(source[0]).model
    monkeypatch.setattr(synapse, "_conv", lambda *a: conv(*a) // 64 * 64)
    assert failing(judge(short(source), model, runtimes=None)) == {"numpy", "numpy-timestep"}


def test_a_function_body_that_is_wrong_is_found(source: tuple[Path, dict[str, Any]]) -> None:
    model = clone(convert(source[0]).model)
    (readout,) = [function for function in model.functions.values() if function.name == "Readout"]
    (add,) = [node for node in readout if node.op_type == "Add"]
    add.op_type = "Sub"
    report = judge(short(source), model, runtimes=None)
    assert failing(report) == {f"onnxruntime ({level})" for level in ("none", "basic", "extended", "all")}
    error = report.first_mismatch()
    assert error is not None and error.where.tensor == "logits"
