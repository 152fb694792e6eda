"""The command line; the only package that imports click."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of the ``snnc`` command."""
    try:
        from snnc.cli.group import cli
        from snnc.cli.guard import install_signal_handlers

        install_signal_handlers()
        cli.main()
    except KeyboardInterrupt:
        # Before or after the part that is guarded: while Python loads, or while it ends.
        sys.exit(130)
