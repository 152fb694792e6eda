"""Tests run in forked processes, each with one mistake in memory; no file is touched."""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.machinery
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol
from _pytest.warnings import catch_warnings_for_item

ROOT = Path(__file__).resolve().parents[2]
#: Address space that a mistake may take beyond what is in use, in bytes.
MEMORY = 6 << 30
_NOT_DONE = 99
_ENDLESS = (signal.SIGPROF, signal.SIGXCPU, signal.SIGKILL)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module from a tree instead of its file."""

    def __init__(self, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = module_of(path), path, tree

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
    """Return the name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "snnc" else ("snnc", *parts)
    return ".".join(parts).removesuffix(".__init__")


def forked(work: Callable[[], bool | None], seconds: float, *, quiet: bool = True) -> str | None:
    """Do something in a forked process.

    Args:
        work: Whether everything passed, None if it could not be done. Whatever it raises counts as no.
        seconds: Processor time it may take; eight times that by the clock.
        quiet: Throw away what it prints.

    Returns:
        ``survived``, ``killed`` or ``endless``; None if it could not be done.
    """
    sys.stdout.flush()
    process = os.fork()
    if not process:
        status = 1
        try:
            if quiet:
                sink = os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, 1)
                os.dup2(sink, 2)
            _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 1)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)
            status = {True: 0, False: 1, None: _NOT_DONE}[work()]
        except BaseException:  # noqa: BLE001 - a mistake is seen, whatever it raises
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    begin = time.monotonic()
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _ENDLESS:
                return "endless"
            found = os.waitstatus_to_exitcode(status)
            return None if found == _NOT_DONE else "killed" if found else "survived"
        if time.monotonic() - begin > 30 + 8 * seconds:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return "endless"
        time.sleep(0.005)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


# --- in a process that has collected the tests -------------------------------------------------------------


def passes(items: Sequence[pytest.Item], limits: Sequence[float]) -> bool:
    """Run collected tests until one fails; more processor time than its limit ends the process."""
    for number, (item, limit) in enumerate(zip(items, limits, strict=True)):
        signal.setitimer(signal.ITIMER_PROF, limit)
        following = items[number + 1] if number + 1 < len(items) else None
        if _fails(item, following):
            return False
    return True


def _fails(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Run a test as pytest does: a warning is an error where the project says so."""
    with catch_warnings_for_item(config=item.config, ihook=item.ihook, when="runtest", item=item):
        return any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))


def lines_of(
    files: Sequence[Path], items: Sequence[pytest.Item], seconds: float
) -> dict[str, dict[str, Any]]:
    """Run tests with a tracer, the first ones at least, until the time is over.

    Returns:
        By test: ``seconds`` of processor time, and ``lines`` of each file that it ran.

    Raises:
        RuntimeError: A test fails.
    """
    # Folders of the package are links; coverage knows a file by its real name.
    tracer = coverage.Coverage(data_file=None, config_file=False, include=[str(path) for path in files])
    tests: dict[str, dict[str, Any]] = {}
    end = time.process_time() + seconds
    caches = _caches()
    tracer.start()
    for number, item in enumerate(items):
        last = time.process_time() > end
        following = items[number + 1] if number + 1 < len(items) and not last else None
        begin = time.process_time()
        for cache in caches:
            cache.cache_clear()
        tracer.switch_context(item.nodeid)
        if _fails(item, following):
            raise RuntimeError(f"{item.nodeid} fails without a mistake")
        tests[item.nodeid] = {"seconds": round(time.process_time() - begin, 4), "lines": {}}
        if last:
            break
    tracer.stop()
    data = tracer.get_data()
    for path in files:
        for line, names in data.contexts_by_lineno(str(path)).items():
            for name in filter(None, names):
                tests[name]["lines"].setdefault(str(path.relative_to(ROOT)), []).append(line)
    return tests


def _caches() -> list[Any]:
    return [
        each
        for each in gc.get_objects()
        if hasattr(type(each), "cache_clear") and str(each.__module__).startswith("snnc.")
    ]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


class Functions:
    """The functions of imported modules, whose code can be exchanged in place."""

    def __init__(self, files: Sequence[Path]) -> None:
        names = {str(getattr(sys.modules.get(module_of(path)), "__file__", path)): path for path in files}
        self._files = {path: name for name, path in names.items()}
        self._alive: dict[Path, list[FunctionType]] = {path: [] for path in files}
        self._caches = _caches()
        for each in gc.get_objects():
            if isinstance(each, FunctionType) and each.__code__.co_filename in names:
                self._alive[names[each.__code__.co_filename]].append(each)

    def exchange(self, path: Path, tree: ast.Module) -> bool:
        """Give a module's functions their code from a tree; False if that cannot be done in place."""
        new: dict[tuple[str, int], CodeType] = {}
        several = set()
        for code in _codes(compile(tree, self._files[path], "exec")):
            key = (code.co_qualname, code.co_firstlineno)
            if new.setdefault(key, code) != code:
                several.add(key)
        changed = 0
        for function in self._alive[path]:
            key = (function.__code__.co_qualname, function.__code__.co_firstlineno)
            code = new.get(key)
            # Two lambdas of one line; of comprehensions there may be any number, they are no functions yet.
            if key in several:
                return False
            if code is None or code == function.__code__:
                continue
            if len(code.co_freevars) != len(function.__code__.co_freevars):
                return False
            function.__code__ = code
            changed += 1
        # What was computed without the mistake, when the tests were collected.
        for cache in self._caches:
            cache.cache_clear()
        return changed > 0
