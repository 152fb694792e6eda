"""Malformed nodes of every native operator end in an error of onnxruntime, never in a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.runtimes import ort
from tests.runtimes.malformed import malformed, run
from tests.runtimes.native_rows import CASES

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason=str(ort.native_problem()))

ROOT = Path(__file__).resolve().parents[2]
STEP = 41
"""One of so many cases is in the slice."""


#: What the kernels do not read, or only compare with 0, or have as a number of 64 bits.
FREE = {"timesteps", "groups", "partition", "signed", "smallest", "largest", "epsilon"}
FREE |= {"keepdims", "centred", "ceil_mode", "transposed", "host", "stores", "has_other", "unchanged"}


def outcomes(first: int, step: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Run cases in processes that may die; return verdicts, and what a process died of."""
    done: list[dict[str, Any]] = []
    died: list[str] = []
    while True:
        command = [sys.executable, "-m", "tests.runtimes.malformed", str(first), str(step)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        done += [line for line in lines if "verdict" in line]
        if process.returncode == 0:
            return done, died
        assert lines, process.stderr[-2000:]
        died.append(f"{lines[-1]}: status {process.returncode}: {process.stderr[-500:]}")
        first = lines[-1]["case"] + step


def judge(first: int, step: int) -> None:
    done, died = outcomes(first, step)
    assert died == []
    assert [line for line in done if line["verdict"].startswith("DIFFERS")] == []
    assert len(done) == len(range(first, sum(1 for _ in malformed()), step))
    kinds = Counter(line["verdict"].split()[0].rstrip(":,") for line in done)
    assert kinds["refused"] > len(done) // 3


def test_every_operator_has_many_cases() -> None:
    numbers = Counter(case.op for case in malformed())
    assert set(numbers) == set(CASES)
    assert min(numbers.values()) > 60


@pytest.mark.parametrize("op", CASES)
def test_a_number_beyond_32_bits_is_not_taken_for_another(op: str) -> None:
    case = CASES[op][0]
    assert isinstance(run(case, True), np.ndarray)
    for name, value in case.attrs.items():
        if name in FREE:
            continue
        for far in (2**32, -(2**32)):
            changed = [*value[:-1], value[-1] + far] if isinstance(value, list) else value + far
            found = run(replace(case, attrs={**case.attrs, name: changed}), True)
            assert isinstance(found, str), (name, changed, found)
            assert found.startswith("refused"), (name, changed, found)


@pytest.mark.parametrize("op", [op for op in CASES if "codes" in CASES[op][0].attrs])
def test_codes_that_their_type_lacks_are_refused(op: str) -> None:
    case = CASES[op][0]
    for far in (-32769, 32768, 2**31):
        found = run(replace(case, attrs={**case.attrs, "codes": [*case.attrs["codes"][:-1], far]}), True)
        assert isinstance(found, str), found
        assert "codes" in found


def test_slice() -> None:
    judge(0, STEP)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, STEP, 4))
def test_all(first: int) -> None:
    for start in range(first, min(first + 4, STEP)):
        judge(start, STEP)
