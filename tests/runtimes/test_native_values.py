"""Every native operator with adversarial values: native, stock onnxruntime and numpy give the same bits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from snnc.ops import OPS
from snnc.runtimes import ort
from snnc.runtimes.onnxruntime_runtime import open_session
from tests.runtimes.native_rows import CASES, fed, message, reference

NATIVE = Path(__file__).resolve().parents[2] / "runtimes" / "native"


def test_the_table_has_every_operator() -> None:
    """Those of the registry that run after conversion, and those of the library, fused ones too."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(NATIVE.glob("ops_*.cpp")))
    defined = set(re.findall(r'list->push_back\(\{"(\w+)"', text))
    assert defined == set(CASES)
    assert {op.name for op in OPS.values() if op.dialect in {"spike", "host"}} == {
        name for name in CASES if not name.startswith("Native")
    }


@pytest.mark.skipif(ort.native_library() is None, reason=str(ort.native_problem()))
@pytest.mark.parametrize("op", CASES)
def test_same_bits(op: str) -> None:
    for index, case in enumerate(CASES[op]):
        expected = np.asarray(reference(case))
        runs = [(case, "native all"), (fed(case), "native none")]
        if op in OPS:
            runs.append((case, "stock none" if index % 2 else "stock all"))
        for one, kind in runs:
            executor, level = kind.split()
            native = executor == "native"
            session = open_session(message(one, native=native), level, 1, native=native)
            (found,) = session.run(None, one.feeds())
            where = (case.label, kind, sorted(one.constants))
            assert found.dtype == expected.dtype, where
            # Some of onnxruntime's own reductions keep an axis of nothing.
            assert found.shape == expected.shape or (not native and found.size == expected.size == 0), where
            assert found.tobytes() == expected.tobytes(), where
