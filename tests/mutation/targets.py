"""What is changed, and the tests that ought to see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Files that mistakes are made in, and tests; of these, each mistake meets those that run its line."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "coding": Target(
        ("snnc/coding/*.py",),
        (
            "tests/coding",
            "tests/ops/test_ops.py",
            "tests/passes/fold",
            "tests/passes/spike",
            "tests/nn/test_expg.py",
        ),
    ),
    "fold": Target(
        ("passes/fold/*.py",),
        ("tests/passes/fold", "tests/passes/spike", "tests/coding", "tests/e2e/test_canaries.py"),
    ),
    "verifier": Target(
        ("snnc/verify/*.py",),
        (
            "tests/pipeline",
            "tests/passes/spike",
            "tests/e2e/test_silent_failures.py",
            "tests/e2e/test_allow_host.py",
        ),
    ),
    "admission": Target(
        ("snnc/ir/admission.py", "snnc/ir/contents.py", "snnc/ir/external.py", "snnc/ir/wire.py"),
        (
            "tests/ir",
            "tests/hostile/test_rows.py",
            "tests/hostile/test_checks.py",
            "tests/fuzz/test_slice.py",
            "tests/cli/test_external_data.py",
        ),
    ),
}
