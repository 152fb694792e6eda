"""Forks one process for each command line that it is sent, everything imported.

Requests are JSON lines: ``{"run": [...], "folder": ..., "errors": ...}`` answers the process id, and
``{"wait": id}`` its exit status, negative for a signal.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

_MODULES = ("snnc.cli.convert", "snnc.compile", "snnc.cost.audit", "snnc.data", "numpy.random")


def _run(request: dict[str, object]) -> None:
    os.chdir(str(request["folder"]))
    stream = os.open(str(request["errors"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.argv = ["snnc", *map(str, request["run"])]  # type: ignore[call-overload]
    from snnc.cli import main

    main()


def _serve() -> None:
    # Without onnxruntime: a process that has loaded it cannot be forked.
    for name in _MODULES:
        import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        process = os.fork()
        if not process:
            _run(request)
        print(process, flush=True)


if __name__ == "__main__":
    _serve()
