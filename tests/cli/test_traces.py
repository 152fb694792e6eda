"""Traces of a run: a table, and waves that readers of VCD open, GTKWave's among them."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from vcd.reader import TokenKind, tokenize

from snnc.cli.group import cli
from snnc.ir import save
from snnc.isa.codec import decode_all
from snnc.isa.program import follow
from tests.cli.conftest import spiking_model

Waves = dict[str, list[tuple[int, int]]]


def waves_of(content: bytes) -> Waves:
    """Return time and value of the changes of every variable, by its full name."""
    scopes: list[str] = []
    names: dict[str, str] = {}
    found: Waves = {}
    time = 0
    for token in tokenize(io.BytesIO(content)):
        if token.kind is TokenKind.SCOPE:
            scopes.append(token.scope.ident)
        elif token.kind is TokenKind.UPSCOPE:
            scopes.pop()
        elif token.kind is TokenKind.VAR:
            names[token.var.id_code] = ".".join([*scopes, token.var.reference])
            found[names[token.var.id_code]] = []
        elif token.kind is TokenKind.CHANGE_VECTOR:
            found[names[token.vector_change.id_code]].append((time, int(token.vector_change.value)))
        elif token.kind is TokenKind.CHANGE_SCALAR:
            found[names[token.scalar_change.id_code]].append((time, int(token.scalar_change.value)))
        elif token.kind is TokenKind.CHANGE_TIME:
            assert token.time_change >= time
            time = token.time_change
    return found


def in_time(changes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the last value at each time, changes alone."""
    kept: list[tuple[int, int]] = []
    for time, value in dict(changes).items():
        if not kept or kept[-1][1] != value:
            kept.append((time, value))
    return kept


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """A bundle for two cores."""
    folder = tmp_path_factory.mktemp("waves")
    save(spiking_model(), folder / "net.snn.onnx")
    done = CliRunner().invoke(cli, ["emit", f"{folder}/net.snn.onnx", "-o", f"{folder}/pair", "--cores", "2"])
    assert done.exit_code == 0, done.output
    return folder / "pair"


def test_traces(pair, snnc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in ("csv", "vcd"):
        done = snnc("sim", str(pair), "--trace", f"trace.{suffix}")
        assert done.exit_code == 0, done.output
        assert Path(f"trace.{suffix}").read_bytes() == (pair / "golden" / f"trace.{suffix}").read_bytes()
    wave = Path("trace.vcd").read_text()
    assert "$enddefinitions" in wave and "$date" not in wave
    assert snnc("sim", str(pair), "--trace", "trace.txt").exit_code == 2


def test_waves_are_read_by_a_reader_of_vcd(pair):
    """Counters end where the table's sums are, and tokens that are given are taken."""
    waves = waves_of((pair / "golden" / "trace.vcd").read_bytes())
    trace = list(csv.DictReader(io.StringIO((pair / "golden" / "trace.csv").read_text())))
    assert max(time for changes in waves.values() for time, _ in changes) == max(
        int(row["end"]) for row in trace
    )
    steps = list(follow(decode_all((pair / "model.bin").read_bytes())))
    for core in (0, 1):
        assert waves[f"core{core}.sops"][-1][1] == sum(
            int(row["sops"]) for row in trace if row["core"] == str(core)
        )
        for line in [name for name in waves if name.startswith(f"core{core}.tokens")]:
            giver, taker = line[-3], line[-1]
            values = [value for _, value in waves[line]]
            ups = sum(b > a for a, b in pairwise(values))
            assert values[-1] == 0 and min(values) == 0
            assert ups == sum(
                taker in step.instruction.push
                for step in steps
                if step.core == core and step.instruction.queue == giver
            )
    assert {
        f"core{core}.{queue}.{name}" for core in (0, 1) for queue in "LCNS" for name in ("pc", "busy")
    } <= set(waves)


@pytest.mark.skipif(shutil.which("vcd2fst") is None, reason="GTKWave (vcd2fst, fst2vcd) is not installed")
def test_gtkwave_reads_the_waves(pair, tmp_path):
    """GTKWave's own readers take every variable and every value into its format, and give them back."""
    source = pair / "golden" / "trace.vcd"
    subprocess.run(["vcd2fst", source, tmp_path / "x.fst"], check=True, capture_output=True)
    back = subprocess.run(["fst2vcd", tmp_path / "x.fst"], check=True, capture_output=True).stdout
    wanted, found = waves_of(source.read_bytes()), waves_of(back)
    assert wanted.keys() == found.keys()
    for name, changes in wanted.items():
        assert in_time(found[name]) == in_time(changes), name
