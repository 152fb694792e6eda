"""The command line; the only package that imports click."""

from __future__ import annotations

import gc
import sys
import warnings
from typing import NoReturn

__all__ = ["main"]


def _plain(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Show a warning of a library as the command's own: not with the line of source that it comes from."""
    return f"warning: {message}\n"


def main() -> NoReturn:
    """Entry point of the ``snnc`` command."""
    warnings.formatwarning = _plain
    # Graphs are many small objects that live long; looking through them after every 700 new ones costs more
    # time than all that is freed is worth.
    gc.set_threshold(20_000, 20, 20)
    try:
        from snnc.cli.guard import install_signal_handlers
        from snnc.errors import Terminated

        try:
            install_signal_handlers()
            from snnc.cli.group import cli

            cli.main()
        except Terminated:
            sys.exit(143)
    except KeyboardInterrupt:
        # Before or after the part that is guarded: while Python loads, or while it ends.
        sys.exit(130)
