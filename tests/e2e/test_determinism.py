"""The same network gives the same bytes, whatever the process, its hash seed, or earlier conversions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snnc.coding import CodeBook
from snnc.compile import ConvertOptions, convert
from snnc.ir import load, to_bytes

CODE = """
import hashlib, sys
from snnc.compile import ConvertOptions, convert
from snnc.ir import to_bytes
conversion = convert(sys.argv[1], ConvertOptions(timesteps=4, groups=2, weights="int6"))
for model in (conversion.model, conversion.quantised):
    print(hashlib.sha256(to_bytes(model)).hexdigest())
print(*[note for record in conversion.records for note in record.notes], sep="\\n")
"""


@pytest.fixture(scope="module")
def path(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with many names, shared constants, joins and several outputs."""
    made = net()
    x = made.conv(made.input(["N", 3, 6, 6]), (4, 3, 3, 3))
    for block in range(3):
        code = made.quantise(x, 0.2 + 0.1 * block, CodeBook(4, 4, signed=block == 1))
        left, right = (made.conv(code, (4, 4, 3, 3)) for _ in range(2))
        x = made.op("Add", [made.op("Sub", [left, right]), x])
    pooled = made.op("GlobalAveragePool", [made.quantise(x, 0.3)])
    made.output(made.matmul(made.op("Flatten", [pooled]), (4, 3)), code)
    return Path(made.save(tmp_path_factory.mktemp("net")))


def test_two_processes_write_the_same_bytes(path: Path) -> None:
    results = []
    for seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed[0]}
        run = subprocess.run(
            [sys.executable, "-c", CODE, str(path)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        results.append(run.stdout)
    assert results[0] == results[1] and len(results[0].splitlines()) > 5


def test_a_conversion_leaves_no_trace_in_the_next(path: Path) -> None:
    options = ConvertOptions(timesteps=3, groups=1)
    first = to_bytes(convert(path, options).model)
    convert(path, ConvertOptions(weights="wide"))
    assert to_bytes(convert(path, options).model) == first


def test_a_model_that_is_converted_is_not_changed(path: Path) -> None:
    model = load(path)
    before = hashlib.sha256(to_bytes(model)).hexdigest()
    one = to_bytes(convert(model).model)
    assert hashlib.sha256(to_bytes(model)).hexdigest() == before
    assert to_bytes(convert(model).model) == one
