"""Every native operator with adversarial values: native, stock onnxruntime and numpy give the same bits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snnc.ops import OPS
from snnc.runtimes import ort
from snnc.runtimes.onnxruntime_runtime import open_session
from tests.runtimes.native_rows import CASES, Case, batched, fed, message, reference

NATIVE = Path(__file__).resolve().parents[2] / "runtimes" / "native"


def test_the_table_has_every_operator() -> None:
    """Those of the registry that run after conversion, and those of the library, fused ones too."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(NATIVE.glob("ops_*.cpp")))
    defined = set(re.findall(r'list->push_back\(\{"(\w+)"', text))
    assert defined == set(CASES)
    assert {op.name for op in OPS.values() if op.dialect in {"spike", "host"}} == {
        name for name in CASES if not name.startswith("Native")
    }


needs_library = pytest.mark.skipif(ort.native_library() is None, reason=str(ort.native_problem()))


def compare(case: Case, kind: str, threads: int = 1, expected: npt.NDArray[Any] | None = None) -> None:
    """Run a case, native or stock at one level of optimisation, and require the bits of numpy."""
    executor, level = kind.split()
    native = executor == "native"
    expected = np.asarray(reference(case)) if expected is None else expected
    session = open_session(message(case, native=native), level, threads, native=native)
    (found,) = session.run(None, case.feeds())
    where = (case.label, kind, threads, sorted(case.constants))
    assert found.dtype == expected.dtype, where
    # Some of onnxruntime's own reductions keep an axis of nothing.
    assert found.shape == expected.shape or (not native and found.size == expected.size == 0), where
    assert found.tobytes() == expected.tobytes(), where


@needs_library
@pytest.mark.parametrize("op", CASES)
def test_same_bits(op: str) -> None:
    for index, case in enumerate(CASES[op]):
        runs = [(case, "native all"), (fed(case), "native none")]
        if op in OPS:
            runs.append((case, "stock none" if index % 2 else "stock all"))
        for one, kind in runs:
            compare(one, kind)


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
def test_same_bits_at_every_level_with_threads_and_batches(op: str) -> None:
    kinds = [f"native {level}" for level in ("none", "basic", "extended", "all")]
    kinds += [f"stock {level}" for level in ("none", "basic", "extended", "all")] if op in OPS else []
    for case in CASES[op]:
        if case.inputs[0].ndim == 0:
            continue
        for times in (1, 5):
            more = batched(case, times)
            expected = np.asarray(reference(more))
            for kind in kinds:
                for threads in (1, 2):
                    compare(more, kind, threads, expected)


def unaligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same numbers in memory that begins one byte behind a multiple of their size."""
    buffer = np.zeros(array.nbytes + array.itemsize + 1, np.uint8)
    start = -buffer.ctypes.data % array.itemsize + 1
    view = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@needs_library
@pytest.mark.parametrize("op", CASES)
def test_unaligned_inputs(op: str) -> None:
    """onnxruntime hands the memory of its callers on as it is."""
    case = CASES[op][0]
    session = open_session(message(case, native=True), "all", 1, native=True)
    feeds = {name: unaligned(array) for name, array in case.feeds().items()}
    assert any(array.itemsize == 1 or not array.flags.aligned for array in feeds.values())
    (found,) = session.run(None, feeds)
    assert found.tobytes() == np.asarray(reference(case)).tobytes()


@needs_library
@pytest.mark.parametrize("op", ["SpikeMatMul", "SpikeMatMulHeld", "HostMatMul"])
def test_a_stack_of_nothing_may_be_of_any_height(op: str) -> None:
    plain = CASES[op][0]
    a, b = (array.astype(plain.inputs[0].dtype) for array in (np.zeros((1, 0, 3)), np.ones((3, 4))))
    case = replace(plain, inputs=(np.broadcast_to(a, (2**40, 0, 3)), b), constants=frozenset({1}))
    session = open_session(message(case, native=True), "all", 1, native=True)
    (found,) = session.run(None, case.feeds())
    assert found.shape == (2**40, 0, 4)


@needs_library
@pytest.mark.parametrize("op", ["MembraneSum", "SpikeSum", "MembraneMax", "NormGain", "NormPotential"])
def test_a_reduction_of_nothing_may_be_of_any_extent(op: str) -> None:
    plain = CASES[op][0]
    nothing = np.broadcast_to(np.zeros((1, 0, 24), plain.inputs[0].dtype), (2**40, 0, 24))
    case = replace(plain, inputs=(nothing, *plain.inputs[1:]))
    session = open_session(message(case, native=True), "all", 1, native=True)
    (found,) = session.run(None, case.feeds())
    assert found.shape[:2] == (2**40, 0)


@needs_library
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("op", ["SpikeConv", "HostConv", "SpikeSumPool", "MembraneSumPool"])
def test_windows_that_see_padding_alone(op: str, dtype: type[np.generic]) -> None:
    plain = CASES[op][0]
    attrs = {**plain.attrs, "pads": [2, 0, 2, 0]}
    if op in {"HostConv", "MembraneSumPool"}:
        dtype = np.int32
    case = replace(plain, inputs=(np.zeros((2, 4, 0, 6), dtype), *plain.inputs[1:]), attrs=attrs)
    session = open_session(message(case, native=True), "all", 1, native=True)
    (found,) = session.run(None, case.feeds())
    assert found.size > 0
    assert not found.any()
