"""Mutation testing: small mistakes, one at a time, and whether the tests see them.

python -m tests.mutation coding [--sample 200] [--shard 1/2] [--seconds 60]    runs, and goes on where it was
python -m tests.mutation coding --again                         survivors without an explanation, once more
python -m tests.mutation --summary                              what was seen, what was not, and why not
python -m tests.mutation --record benchmarks/mutation.json      the same, written down

Once, each test runs with a tracer, and its lines and seconds are kept. A mistake is then met by the tests
that run its line, the quickest first, until one fails. That happens in processes forked from one that has
collected the tests: code is exchanged in the functions it belongs to. What runs with the import only is tried
with the module imported from the changed tree.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib
import json
import os
import random
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.mutation.mistakes import Mistake, mistaken, mistakes
from tests.mutation.processes import ROOT, Finder, Functions, forked, lines_of, passes
from tests.mutation.results import Outcomes, record, summary
from tests.mutation.targets import TARGETS

#: Libraries that are imported once; onnxruntime and torch are not safe to fork with once they have run.
_HEAVY = (
    "numpy",
    "onnx",
    "onnx_ir",
    "mpmath",
    "networkx",
    "click.testing",
    "google.protobuf",
    "onnx.reference",
)
#: That a test fails is all that counts: no explanation of how is made.
_OPTIONS = ("-q", "-p", "no:cacheprovider", "--assert=plain", "--tb=native")
Map = dict[str, Any]


def planned(target: str, sample: int | None) -> list[tuple[Path, Mistake]]:
    """Return the mistakes of a target, or some of them, drawn with a fixed seed."""
    found = [
        (path, each)
        for pattern in TARGETS[target].files
        for path in sorted(ROOT.glob(pattern))
        for each in mistakes(path.read_text())
    ]
    random.Random(0).shuffle(found)
    return found if sample is None else found[:sample]


def digests(target: str) -> dict[str, str]:
    """Return what a map of lines depends on: by name each file of tests, and under "" all that they share."""
    held: dict[str, Any] = {"": hashlib.sha256()}
    for pattern in (*TARGETS[target].files, "tests/conftest.py", *TARGETS[target].tests):
        for path in sorted(ROOT.glob(pattern)):
            for each in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                name = str(each.relative_to(ROOT)) if each.name.startswith("test_") else ""
                held.setdefault(name, hashlib.sha256()).update(each.read_bytes())
    return {name: found.hexdigest() for name, found in held.items()}


def chosen(tests: Map, path: Path, mistake: Mistake | None) -> list[str]:
    """Return the tests that run the line of a mistake, or any line of its file; the quickest first."""
    name = str(path.relative_to(ROOT))
    rows = set(range(mistake.first, mistake.last + 1)) if mistake else None
    found = [
        (entry["seconds"], test)
        for test, entry in tests.items()
        if name in entry["lines"] and (rows is None or not rows.isdisjoint(entry["lines"][name]))
    ]
    return [test for _, test in sorted(found)]


def readers(tests: Map, path: Path) -> list[str]:
    """Return all tests, those that run a line of a file first: what it holds as data is read without one."""
    first = chosen(tests, path, None)
    others = set(tests).difference(first)
    return first + sorted(others, key=lambda test: (tests[test]["seconds"], test))


class Session:
    """A pytest plugin: instead of running the collected tests, it runs mistakes."""

    def __init__(
        self, target: str, folder: Path, work: list[tuple[Path, Mistake]], outcomes: Outcomes, seconds: float
    ) -> None:
        self._target, self._folder, self._work, self._outcomes = target, folder, work, outcomes
        self._seconds = seconds

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # Made once, before any fork: all processes put their folders there.
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        files = sorted({path for pattern in TARGETS[self._target].files for path in ROOT.glob(pattern)})
        items = {item.nodeid: item for item in session.items}
        known = self._folder / f"{self._target}-map.json"
        # In parts, so that a run that is stopped goes on; each in a process that may end with threads.
        while waiting := self._waiting(known, session.items):
            if used() > self._seconds:
                return True
            if forked(lambda: self._map(known, files, waiting), 3600, quiet=False) != "survived":
                raise RuntimeError("the tests fail without a mistake")
        tests: Map = json.loads(known.read_text())["tests"]
        functions = Functions(files)
        # What is collected in a forked process would be copied first.
        gc.collect()
        gc.freeze()
        for path, mistake in self._work:
            if self._outcomes.imported(path, mistake):
                continue
            if used() > self._seconds:
                break
            names = chosen(tests, path, mistake)
            if not names:
                self._outcomes.add(path, mistake, "deferred", 0)
                continue
            if self._outcomes.of(path, mistake):
                # A cache may have hidden that a test needs the line: survivors meet all that run their file.
                names = chosen(tests, path, None)
            tree = mistaken(path.read_text(), mistake.number)

            def work(path: Path = path, tree: ast.Module = tree, names: list[str] = names) -> bool | None:
                if not functions.exchange(path, tree):
                    return None
                return passes(
                    [items[name] for name in names], [2 + 5 * tests[name]["seconds"] for name in names]
                )

            outcome = forked(work, 30 + 5 * sum(tests[name]["seconds"] for name in names))
            self._outcomes.add(path, mistake, outcome or "deferred", len(names))
        return True

    def _waiting(self, known: Path, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        tests = mapped(known, self._target)
        return [item for item in items if item.nodeid not in tests]

    def _map(self, known: Path, files: Sequence[Path], items: Sequence[pytest.Item]) -> bool:
        tests = mapped(known, self._target) | lines_of(files, items, 4)
        changing = known.with_suffix(".new")
        changing.write_text(json.dumps({"of": digests(self._target), "tests": tests}))
        changing.replace(known)
        return True


def used() -> float:
    """Return the seconds of processor time that this process and those that it waited for have taken."""
    return sum(os.times()[:4])


def mapped(known: Path, target: str) -> Map:
    """Return what is known of the lines of tests, if it is of the files as they are."""
    if not known.exists():
        return {}
    held, now = json.loads(known.read_text()), digests(target)
    if held["of"][""] != now[""]:
        return {}
    names = {test: test.partition("::")[0] for test in held["tests"]}
    return {
        test: held["tests"][test] for test, name in names.items() if held["of"].get(name) == now.get(name)
    }


def imported(path: Path, mistake: Mistake, tests: Sequence[str], seconds: float) -> str:
    """Run tests in a process that imports the changed module and everything that uses it."""

    def work() -> bool:
        sys.meta_path.insert(0, Finder(path, mistaken(path.read_text(), mistake.number)))
        return pytest.main(["-x", *_OPTIONS, *tests]) == pytest.ExitCode.OK

    return forked(work, seconds)


def run(
    target: str, folder: Path, work: list[tuple[Path, Mistake]], outcomes: Outcomes, seconds: float
) -> None:
    """Try mistakes, for so many seconds of processor time."""
    # Always: it keeps the map of tests as they are, which those that are imported are chosen by.
    within = Session(target, folder, work, outcomes, seconds)
    options = [*_OPTIONS, *TARGETS[target].tests]
    if forked(lambda: not pytest.main(options, plugins=[within]), 36000, quiet=False) != "survived":
        sys.exit("the tests of this target cannot be collected, or fail without a mistake")
    for name in _HEAVY:
        importlib.import_module(name)
    tests = mapped(folder / f"{target}-map.json", target)
    outcomes.read()
    for path, mistake in work:
        if outcomes.imported(path, mistake) and used() < seconds:
            names = chosen(tests, path, None) if mistake.function else readers(tests, path)
            limit = 60 + 5 * sum(tests[name]["seconds"] for name in names)
            outcome = imported(path, mistake, names, limit) if names else "survived"
            outcomes.add(path, mistake, str(outcome), len(names))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutation")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args()
    targets = asked.target or list(TARGETS)
    if asked.summary or asked.record:
        every = {target: planned(target, None) for target in targets}
        if asked.record:
            record(asked.out, every, asked.record)
        print(summary(asked.out, every))
        return
    os.chdir(ROOT)
    asked.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("default")
    # Fixed examples, and none spent on making a failure smaller.
    hypothesis.settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    hypothesis.settings.load_profile("mutation")
    part, parts = map(int, asked.shard.split("/"))
    for target in targets:
        outcomes = Outcomes(asked.out, target, part, parts)
        work = [
            (path, each)
            for path, each in planned(target, asked.sample)[part - 1 :: parts]
            if not outcomes.final(path, each, again=asked.again)
        ]
        if work and used() < asked.seconds:
            run(target, asked.out, work, outcomes, asked.seconds)


if __name__ == "__main__":
    main()
