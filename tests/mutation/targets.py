"""What is changed, and the tests that ought to see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Files that mistakes are made in, and tests; of these, each mistake meets those that run its line."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "coding": Target(("snnc/coding/*.py",), ("tests/coding", "tests/ops/test_ops.py")),
    "fold": Target(("passes/fold/*.py",), ("tests/passes/fold",)),
    "verifier": Target(
        ("snnc/verify/*.py",),
        (
            "tests/pipeline/test_invariants.py",
            "tests/pipeline/test_dialects.py",
            "tests/pipeline/test_catalog.py",
            "tests/pipeline/test_manager.py",
        ),
    ),
    "admission": Target(
        ("snnc/ir/admission.py", "snnc/ir/contents.py", "snnc/ir/external.py", "snnc/ir/wire.py"),
        ("tests/ir", "tests/hostile/test_rows.py"),
    ),
}
