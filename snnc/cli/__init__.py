"""The command line; the only package that imports click."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of the ``snnc`` command."""
    from snnc.cli.group import cli
    from snnc.cli.guard import install_signal_handlers

    install_signal_handlers()
    cli.main()
