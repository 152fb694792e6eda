"""Turning every way a command can end into an exit code and at most one block on stderr."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Sequence

import click

from snnc.cli.output import write_error
from snnc.errors import (
    EnvironmentFailure,
    InputError,
    InternalError,
    SnncError,
    Terminated,
    UsageError,
    Where,
)
from snnc.failures import unexpected, with_report

__all__ = ["guarded"]

#: The signals that asked this process to end.
_SIGNALS: list[int] = []


def guarded(run: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; errors are printed, never raised.

    Args:
        run: The command.
        arguments: The command line, for the crash report and the flags that shape error output.

    Returns:
        0 done; 1 a bug in snnc; 2 usage; 3 input refused; 4 unsupported; 5 verification failed;
        6 environment; 130 and 143 after SIGINT and SIGTERM.
    """
    flags = set(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    try:
        failure = _outcome(run, arguments, debug="--debug" in flags)
        if _SIGNALS:
            # A library that was interrupted while it loads reports that it is broken.
            return 128 + _SIGNALS[0]
        if isinstance(failure, int):
            return failure
        write_error(failure, command=command, as_json="--json" in flags)
        return failure.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Terminated:
        return 143
    except SnncError as error:
        # The streams themselves failed: there is no place left to say so.
        return error.exit_code


def _outcome(run: Callable[[], object], arguments: Sequence[str], *, debug: bool) -> int | SnncError:
    try:
        code = run()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        raise
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context is not None else "snnc"
        return UsageError("SNN200", " ".join(error.format_message().split()), hint=f"see '{path} --help'")
    except InternalError as error:
        if debug:
            traceback.print_exc()
        return with_report(error, arguments)
    except SnncError as error:
        if debug:
            traceback.print_exc()
        return error
    except MemoryError:
        if debug:
            traceback.print_exc()
        return EnvironmentFailure("SNN606", "out of memory", hint="use fewer samples, or a larger machine")
    except OSError as error:
        if debug:
            traceback.print_exc()
        if error.errno == errno.ENAMETOOLONG:
            return InputError("SNN301", "its name is too long", where=Where(file=str(error.filename)))
        place = f"{error.filename}: " if error.filename else ""
        return EnvironmentFailure("SNN600", f"{place}{error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever is left is our bug
        if debug:
            traceback.print_exc()
        return unexpected(error, arguments)


def install_signal_handlers() -> None:
    """Let signals unwind the stack, so that temporary files are removed, and remember which one came."""
    import signal

    def end(number: int, frame: object) -> None:
        # A second signal must not be caught up in slow clean-up code.
        signal.signal(number, signal.SIG_DFL)
        _SIGNALS.append(number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    if hasattr(sys.stdout, "reconfigure"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")
