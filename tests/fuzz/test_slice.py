"""A slice of the fuzzing: mutations of sound and hostile files raise nothing but typed errors, and soon."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.targets import SEEDS, TARGETS, mutated

ROOT = Path(__file__).resolve().parents[2]
#: Mutations of each target in the default tests, and in the slow ones.
EXECUTIONS = {"admission": 1500, "recipe": 1500, "listing": 1500, "words": 1500, "arrays": 1000}


def mutate(name: str, executions: int, seed: int) -> None:
    generator = random.Random(seed)
    pool = SEEDS[name]
    for turn in range(executions):
        data = mutated(generator.choice(pool), generator, pool)
        begin = time.process_time()
        try:
            TARGETS[name](data)
        except BaseException as error:
            raise AssertionError(f"mutation {turn} of seed {seed}: {data[:2000]!r}") from error
        assert time.process_time() - begin < 10, f"mutation {turn} of seed {seed} takes too long"


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    assert len(SEEDS[name]) > 3
    for content in SEEDS[name]:
        TARGETS[name](content)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    mutate(name, EXECUTIONS[name], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutations(name: str) -> None:
    mutate(name, 20_000, 1)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install 'snnc[fuzz]'")
@pytest.mark.parametrize("name", TARGETS)
def test_guided_by_coverage(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "-runs=4000", str(tmp_path / "corpus")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
