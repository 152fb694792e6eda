"""The command line; the only package that imports click."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of the ``snnc`` command."""
    try:
        from snnc.cli.guard import Terminated, install_signal_handlers

        try:
            install_signal_handlers()
            from snnc.cli.group import cli

            cli.main()
        except Terminated:
            sys.exit(143)
    except KeyboardInterrupt:
        # Before or after the part that is guarded: while Python loads, or while it ends.
        sys.exit(130)
