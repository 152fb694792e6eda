"""Mutation testing: small mistakes, one at a time, and whether the tests see them.

python -m tests.mutation coding --out FOLDER [--sample 100] [--shard 1/2]    runs, and goes on where it was
python -m tests.mutation coding --out FOLDER --summary                       what was killed and what survived

A process that has imported the libraries, but not snnc, forks one process for each mutant; the changed module
is compiled in memory, no file is touched.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import json
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What is changed, and the tests that ought to see it.
TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "coding": (("snnc/coding/*.py",), ("tests/coding",)),
    "fold": (("passes/fold/*.py",), ("tests/passes/fold", "tests/coding/test_step.py")),
    "verifier": (
        ("snnc/verify/*.py",),
        ("tests/pipeline/test_invariants.py", "tests/pipeline/test_catalog.py"),
    ),
    "admission": (
        ("snnc/ir/admission.py", "snnc/ir/contents.py", "snnc/ir/external.py", "snnc/ir/wire.py"),
        ("tests/hostile/test_rows.py", "tests/ir", "tests/fuzz/test_slice.py"),
    ),
}
#: Libraries are imported before pytest could rewrite them.
_QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
#: Seconds of a test run with a mutant; one that never ends is noticed.
LIMIT = 150
_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
}  # fmt: skip


def sites(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield places and kinds of mistakes, in the order of the file; annotations and decorators aside."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        kinds = list(_kinds(node))
        yield from ((node, kind) for kind in kinds)
        skipped: set[int] = set()
        for name in ("annotation", "returns", "decorator_list"):
            held = getattr(node, name, None)
            skipped |= {id(each) for each in (held if isinstance(held, list) else [held]) if each is not None}
        children = [child for child in ast.iter_child_nodes(node) if id(child) not in skipped]
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            continue
        # What an error says is not what is tested.
        if isinstance(node, ast.Raise):
            continue
        stack += reversed(children)


def _kinds(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
        yield "compare"
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if not any(_text(side) for side in (node.left, node.right)):
            yield "arithmetic"
    elif isinstance(node, ast.BoolOp):
        yield "and or"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not"
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "one more"
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "truth"
    elif isinstance(node, ast.If | ast.IfExp):
        yield "never"
    elif isinstance(node, ast.Raise):
        yield "no error"
    elif isinstance(node, ast.Return) and node.value is not None and not _none(node.value):
        yield "nothing"
    elif isinstance(node, ast.Continue):
        yield "break"


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def mutated(text: str, index: int) -> tuple[ast.Module, str]:
    """Return the tree with one mistake, and what it is."""
    tree = ast.parse(text)
    node, kind = list(sites(tree))[index]
    before = ast.unparse(node).splitlines()[0]
    line = getattr(node, "lineno", 0)
    replacement: ast.AST = node
    if isinstance(node, ast.Compare):
        node.ops[0] = _COMPARE[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp):
        node.op = _ARITHMETIC[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        replacement = node.operand
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1  # type: ignore[operator]
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.Constant(False)
    elif isinstance(node, ast.Raise):
        replacement = ast.Pass()
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    else:
        replacement = ast.Break()
    if replacement is not node:
        tree = _Swap(node, replacement).visit(tree)
    ast.fix_missing_locations(tree)
    return tree, f"{line}: {kind}: {before}"


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self._new if node is self._old else self.generic_visit(node)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module from a tree instead of its file."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        package = self._path.name == "__init__.py"
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(self._path), is_package=package)
        if package:
            spec.submodule_search_locations = [str(self._path.parent)]
        return spec

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(self._path)
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "snnc" else ("snnc", *parts)
    return ".".join(parts).removesuffix(".__init__")


def attempt(path: Path, index: int | None, tests: tuple[str, ...]) -> dict[str, Any]:
    """Run the tests with one mistake, in a forked process; without an index, with none."""
    tree, what = (
        (ast.parse(path.read_text()), "nothing") if index is None else mutated(path.read_text(), index)
    )
    begin = time.monotonic()
    process = os.fork()
    if not process:
        import pytest

        if index is not None:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
        sys.meta_path.insert(0, Finder(module_of(path), path, tree))
        status = 1
        try:
            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *_QUIET, *tests]))
        except BaseException:  # noqa: BLE001 - a broken module is seen, whatever it raises
            traceback.print_exc()
        finally:
            os._exit(status)
    outcome = "survived"
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            outcome = "survived" if status == 0 else "killed"
            break
        if time.monotonic() - begin > LIMIT:
            os.kill(process, 9)
            os.waitpid(process, 0)
            outcome = "endless"
            break
        time.sleep(0.02)
    return {"file": str(path.relative_to(ROOT)), "site": index, "what": what, "outcome": outcome}


def planned(target: str, sample: int | None) -> list[tuple[Path, int]]:
    patterns, _ = TARGETS[target]
    found = [
        (path, index)
        for pattern in patterns
        for path in sorted(ROOT.glob(pattern))
        for index in range(len(list(sites(ast.parse(path.read_text())))))
    ]
    random.Random(0).shuffle(found)
    return found if sample is None else found[:sample]


def lines(folder: Path, target: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob(f"{target}-*.jsonl"))
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]


def summary(folder: Path, target: str, all_sites: int) -> str:
    entries = lines(folder, target)
    counts = Counter(entry["outcome"] for entry in entries)
    seen = counts["killed"] + counts["endless"]
    share = seen / len(entries) if entries else 0.0
    rows = [f"{target}: {seen} of {len(entries)} mistakes seen ({share:.1%}), of {all_sites} possible"]
    rows += sorted(
        f"  {entry['file']}:{entry['what']}" for entry in entries if entry["outcome"] == "survived"
    )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutation")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--summary", action="store_true")
    chosen = parser.parse_args()
    if chosen.summary:
        print(summary(chosen.out, chosen.target, len(planned(chosen.target, None))))
        return
    os.chdir(ROOT)
    chosen.out.mkdir(parents=True, exist_ok=True)
    # Heavy, never changed, and safe to fork with; onnxruntime is not.
    for name in (
        "pytest",
        "hypothesis",
        "numpy",
        "onnx",
        "onnx_ir",
        "mpmath",
        "networkx",
        "click",
        "click.testing",
    ):
        importlib.import_module(name)
    part, parts = map(int, chosen.shard.split("/"))
    done = {(entry["file"], entry["site"]) for entry in lines(chosen.out, chosen.target)}
    # Tests that fail as it is would see everything.
    healthy = attempt(planned(chosen.target, 1)[0][0], None, TARGETS[chosen.target][1])
    if healthy["outcome"] != "survived":
        sys.exit("the tests fail without a mistake")
    with (chosen.out / f"{chosen.target}-{part}-of-{parts}.jsonl").open("a") as stream:
        for path, index in planned(chosen.target, chosen.sample)[part - 1 :: parts]:
            if (str(path.relative_to(ROOT)), index) not in done:
                found = attempt(path, index, TARGETS[chosen.target][1])
                stream.write(json.dumps(found) + "\n")
                stream.flush()


if __name__ == "__main__":
    main()
