"""Malformed nodes of every native operator end in an error of onnxruntime, never in a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from snnc.runtimes import ort
from tests.runtimes.malformed import malformed
from tests.runtimes.native_rows import CASES

pytestmark = pytest.mark.skipif(ort.native_library() is None, reason=str(ort.native_problem()))

ROOT = Path(__file__).resolve().parents[2]
STEP = 41
"""One of so many cases is in the slice."""


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


def test_slice() -> None:
    judge(0, STEP)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, STEP, 4))
def test_all(first: int) -> None:
    for start in range(first, min(first + 4, STEP)):
        judge(start, STEP)
