"""What all commands share: flags, exit codes, error blocks, streams, signals."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from snnc.cli import guard
from snnc.cli.group import COMMANDS, cli
from snnc.cli.output import Output, Settings, printable
from snnc.errors import (
    EnvironmentFailure,
    InputError,
    InternalError,
    MismatchError,
    Problem,
    Terminated,
    UnsupportedError,
    UsageError,
    Where,
)
from snnc.explain import page

NAMES = [name for group in COMMANDS.values() for name in group]
FLAGS = ("--json", "--quiet", "--force", "--no-color", "--debug", "--allow-hardlinks")


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "snnc", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_no_arguments_show_the_help(snnc):
    result = snnc()
    assert result.exit_code == 0
    assert result.stdout.index("Examples:") < result.stdout.index("Convert and run:")
    assert all(f"  {name} " in result.stdout for name in NAMES)
    assert result.stdout == snnc("--help").stdout == snnc("-h").stdout


def test_version(snnc):
    import snnc as package

    assert snnc("--version").stdout == f"snnc, version {package.__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_examples(snnc, name):
    result = snnc(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"snnc {name}" in result.stdout.split("Examples:")[1]
    assert all(flag in result.stdout for flag in FLAGS)


def test_every_command_has_a_schema_of_its_document():
    import jsonschema

    folder = Path(guard.__file__).parent / "schemas"
    for name in (*NAMES, "error"):
        schema = json.loads((folder / f"{name}.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        assert {"schema_version", "command"} <= set(schema["properties"]), name
        if name != "error":
            assert schema["properties"]["command"] == {"const": name}
            assert schema["additionalProperties"] is False


def commands():
    context = click.Context(cli)
    return [cli.get_command(context, name) for name in NAMES]


def test_one_name_one_meaning():
    """The same option has the same type, default and help in every command."""
    meanings: dict[str, set[str]] = {}
    for command in commands():
        for option in command.params:
            if isinstance(option, click.Option):
                facts = (option.type.to_info_dict(), option.default, option.help, option.is_flag)
                for name in option.opts:
                    # --output says where things go: a file of some type, or a folder.
                    if name not in ("--output", "-o"):
                        meanings.setdefault(name, set()).add(repr(facts))
    assert {name for name, facts in meanings.items() if len(facts) > 1} == set()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["convrt"], "Did you mean convert?"),
        (["nothing-like-it"], "No such command 'nothing-like-it'."),
        (["run", "--ruintime", "ort"], "--runtime"),
        (["run"], "Missing argument 'OUT.snn.onnx|BUNDLE'"),
        (["run", "m.onnx", "--input", "x.npz", "--runtime", "cuda"], "'cuda' is not one of"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_usage_errors(snnc, validate, arguments, text):
    result = snnc(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: SNN200: ")
    assert text in result.stderr
    as_json = snnc(*arguments, "--json")
    assert validate(as_json.stdout, "error")["error"]["exit_code"] == 2


def raising(error):
    """A command line with one command that raises."""

    class Failing(type(cli)):
        def get_command(self, ctx, cmd_name):
            @click.command("fail", context_settings={"ignore_unknown_options": True})
            @click.argument("rest", nargs=-1)
            def fail(rest):
                raise error

            return fail

    return Failing("snnc")


WHERE = Where(file="m.onnx", node="conv", tensor="t", pass_name="fold")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("SNN203", "wrong", where=WHERE, hint="do this"), 2),
        (InputError("SNN301", "wrong", where=WHERE, hint="do this"), 3),
        (UnsupportedError("SNN401", "wrong", where=WHERE, hint="do this"), 4),
        (MismatchError("SNN501", "wrong", where=WHERE, hint="do this"), 5),
        (EnvironmentFailure("SNN601", "wrong", where=WHERE, hint="do this"), 6),
    ],
)
def test_snnc_errors_are_one_block_with_their_exit_code(error, code, validate):
    result = CliRunner().invoke(raising(error), ["fail", "--json"])
    assert result.exit_code == code
    assert result.stderr == (
        f"error: {error.code}: file 'm.onnx', pass 'fold', node 'conv', tensor 't': wrong\n  hint: do this\n"
    )
    content = validate(result.stdout, "error")
    assert content["command"] == "fail"
    assert content["error"] == {
        "code": error.code,
        "message": "wrong",
        "where": {"file": "m.onnx", "node": "conv", "tensor": "t", "pass": "fold"},
        "hint": "do this",
        "problems": [],
        "exit_code": code,
    }


def test_all_problems_are_listed():
    problems = [Problem("one", Where(node="a")), Problem("two", Where(node="b"))]
    result = CliRunner().invoke(raising(UnsupportedError("SNN401", "many", problems=problems)), ["fail"])
    lines = ["error: SNN401: many", "  - node 'a': one", "  - node 'b': two"]
    # Who raises an error without a hint gets the remedy of its page.
    assert result.stderr.splitlines() == [*lines, f"  hint: {page('SNN401').do}"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (Terminated(), 143, ""),
        (MemoryError(), 6, "error: SNN606: out of memory"),
        (PermissionError(13, "Permission denied", "secret"), 6, "error: SNN600: secret: Permission denied"),
        (OSError(28, "No space left on device"), 6, "error: SNN600: No space left on device"),
        (click.exceptions.Exit(4), 4, ""),
    ],
)
def test_other_endings(error, code, text):
    result = CliRunner().invoke(raising(error), ["fail"])
    assert result.exit_code == code
    assert result.stderr.startswith(text)
    assert bool(result.stderr) == bool(text)


@pytest.mark.parametrize(
    "error", [ValueError("what\nsecond line"), RecursionError("deep"), InternalError("SNN102", "broken")]
)
def test_our_bugs_leave_a_report_and_no_traceback(error, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(raising(error), ["fail", "--mode", "x"])
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "second line" not in result.stderr
    (report,) = tmp_path.glob("snnc-crash-*.txt")
    assert str(report) in result.stderr
    text = report.read_text()
    assert "arguments: ['fail', '--mode', 'x']" in text
    assert type(error).__name__ in text
    assert "Traceback" in text


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(raising(ValueError("what")), ["fail", "--debug"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_unwritable_report_is_said(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    result = CliRunner().invoke(raising(ValueError("what")), ["fail"])
    assert "run again with --debug" in result.stderr


@pytest.mark.parametrize("place", ["before", "after"])
def test_flags_may_stand_before_or_after_the_command(snnc, home, place):
    arguments = ["inspect", "ann.onnx"]
    both = ["--json", *arguments] if place == "before" else [*arguments, "--json"]
    assert json.loads(snnc(*both).stdout)["command"] == "inspect"


def test_names_cannot_drive_the_terminal():
    assert printable("a\x1b[31mred\x07\u202eevil\x9b\u2028") == "a\\x1b[31mred\\x07\\u202eevil\\x9b\\u2028"
    assert printable("naïve-层/Conv_1") == "naïve-层/Conv_1"
    error = InputError("SNN301", "no such file", where=Where(file="\x1b]0;pwned\x07"))
    assert "\x1b" not in CliRunner().invoke(raising(error), ["fail"]).stderr


def test_ascii_terminal_shows_escapes(home):
    (home / "bad-名.npy").write_bytes(b"")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    child = process("run", "名.onnx", "--input", "x.npz", env=environment)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 3
    assert "\\u540d.onnx" in errors


def test_no_escape_sequences_off_a_terminal(home):
    environment = {**os.environ, "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}
    child = process("inspect", "net.snn.onnx", "--data", "x.npz", env=environment)
    out, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert "\x1b" not in out + errors


def test_colours_need_a_willing_terminal(monkeypatch):
    for name in ("NO_COLOR", "CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert Output(Settings(), "x").colored()
    assert not Output(Settings(no_color=True), "x").colored()
    for name, value in (("NO_COLOR", ""), ("TERM", "dumb"), ("CI", "true")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert not Output(Settings(), "x").colored()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_keep_to_the_width(home, snnc, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    result = snnc("inspect", "net.snn.onnx", "--data", "x.npz")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= width


def test_sentences_keep_to_a_narrow_terminal(home, snnc, monkeypatch, tmp_path):
    """Commands and names are never broken; all else is wrapped."""
    bundle = str(tmp_path / "bundle")
    lines = {}
    monkeypatch.setenv("COLUMNS", "40")
    for arguments in (
        ("emit", "net.snn.onnx", "-o", bundle),
        ("convert", "ann.onnx", "-o", "own.snn.onnx", "--calibrate", "x.npz", "--quiet"),
        ("verify", "ann.onnx", "own.snn.onnx", "--data", "x.npz"),
        ("audit", "net.snn.onnx"),
        ("audit", bundle),
        ("sim", bundle),
        ("explain", "SNN441"),
        ("init", str(tmp_path / "demo")),
    ):
        result = snnc(*arguments)
        assert result.exit_code == 0, result.output
        lines[arguments[:2]] = [*result.stdout.splitlines(), *result.stderr.splitlines()]
    long = [line for found in lines.values() for line in found if len(line) > 40 and " " in line.strip()]
    assert all("snnc " in line or len(line.split()[-1]) > 20 for line in long), long
    assert any(line.startswith("bit-identical:") for line in lines["verify", "ann.onnx"])
    monkeypatch.delenv("COLUMNS")
    whole = snnc("audit", bundle).stdout
    assert "proved of the words: tokens, deadlock, races, memory, operands, overflow, messages" in whole


def test_reader_that_goes_away_is_quiet_and_keeps_the_exit_code(home):
    """``snnc inspect ... | head -1``: the rest of the output is dropped without a word."""
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "snnc", "inspect", "net.snn.onnx", "--data", "x.npz"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    os.close(read)
    _, errors = child.communicate(timeout=60)
    assert errors == ""
    assert child.returncode == 0


def test_closed_stdout_is_an_environment_error(home):
    child = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m snnc inspect net.snn.onnx >&-"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == 6
    assert child.stderr.startswith("error: SNN605: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_at_once_and_leave_nothing(home, number, code):
    program = (
        # A shell that runs the tests in the background lets its children ignore SIGINT.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, snnc.cli.group as m, snnc.cli as c\n"
        "from snnc.files import atomic_write\n"
        "import time, click\n"
        "def write(stream):\n"
        "    stream.write(b'half'); stream.flush()\n"
        "    open('go', 'w').close(); time.sleep(60)\n"
        "command = click.command('wait')(lambda: atomic_write('out.bin', write))\n"
        "m.Commands.get_command = lambda self, ctx, name: command\n"
        "sys.argv = ['snnc', 'wait']\n"
        "c.main()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 30
    while not (home / "go").exists():
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert len(list(home.glob(".out.bin.*"))) == 1
    start = time.monotonic()
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert time.monotonic() - start < 2
    assert child.returncode == code
    assert "Traceback" not in errors
    assert not list(home.glob("*out.bin*"))
    assert not list(home.glob(".out.bin*"))


def test_help_is_fast():
    """At most 0.3 s of processor time when idle; the best of several runs, for the machine may be busy."""
    best = min(_seconds("--help") for _ in range(5))
    assert best < 0.6


def _seconds(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = process(*arguments)
    child.communicate(timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
