"""``snnc emit``, ``sim``, ``asm`` and ``disasm``: bundles that other tools can read."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from snnc.arrays import read_arrays
from snnc.emit.golden import read_safetensors
from snnc.isa.arch import Arch
from snnc.isa.codec import decode_all
from snnc.isa.routes import check_routes
from snnc.isa.table import FORMS

FILES = {
    "MANIFEST.json",
    "arch.json",
    "constants_45nm.json",
    "cost/ERT.yaml",
    "cost/action_counts.yaml",
    "golden/in.safetensors",
    "golden/out.safetensors",
    "golden/trace.csv",
    "golden/trace.vcd",
    "host.snn.onnx",
    "mem/core0_imem.hex",
    "mem/dram.bin",
    "mem/dram.hex",
    "memmap.csv",
    "model.bin",
    "model.elf",
    "model.lst",
    "model.s",
    "program.json",
    "report.json",
    "routing.json",
    "rtl/fire/count.hex",
    "rtl/fire/parameters.txt",
    "rtl/fire/place.hex",
    "rtl/fire/potential.hex",
    "rtl/fire/table.hex",
    "rtl/fire/threshold.hex",
    "rtl/row/code.hex",
    "rtl/row/parameters.txt",
    "rtl/row/sum.hex",
    "rtl/row/weight.hex",
    "weights.safetensors",
}


@pytest.fixture
def bundle(home, snnc):
    done = snnc("emit", "net.snn.onnx", "-o", "bundle", "--data", "x.npz")
    assert done.exit_code == 0, done.output
    return home / "bundle"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_bundle_is_complete_and_its_hashes_are_right(bundle):
    files = files_of(bundle)
    assert set(files) == FILES
    listed = json.loads(files["MANIFEST.json"])["sha256"]
    assert listed == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if name != "MANIFEST.json"
    }


def test_two_processes_write_the_same_bytes(bundle, home):
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-m", "snnc", "emit", "net.snn.onnx", "-o", "again", "--data", "x.npz"]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=home)
    assert files_of(home / "again") == files_of(bundle)


def test_the_simulator_gives_the_golden_bits_in_every_order(bundle, snnc):
    for options in ([], ["--order", "serial"], ["--interleaving", "5"]):
        done = snnc("sim", "bundle", *options, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["golden"] is True


def test_a_changed_golden_output_is_exit_5(bundle, snnc):
    path = bundle / "golden" / "out.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = snnc("sim", "bundle")
    assert done.exit_code == 5 and "SNN540" in done.stderr


def test_the_simulator_runs_any_number_of_samples(bundle, snnc, reference):
    done = snnc("sim", "bundle", "--input", "x.npz", "--output", "y.npz")
    assert done.exit_code == 0, done.output
    expected = reference(read_arrays("x.npz")["image"])
    np.testing.assert_array_equal(read_arrays("y.npz")["logits"], expected)
    assert "on the host, in numpy: encoder, readout" in done.stderr


def test_text_and_words_say_the_same(bundle, snnc):
    assert snnc("asm", "bundle/model.s", "-o", "model.bin").exit_code == 0
    assert Path("model.bin").read_bytes() == (bundle / "model.bin").read_bytes()
    assert snnc("disasm", "model.bin", "-o", "back.s").exit_code == 0
    assert Path("back.s").read_bytes() == (bundle / "model.s").read_bytes()
    assert snnc("disasm", "bundle").stdout == (bundle / "model.s").read_text()


def test_elf_and_memory_images_hold_the_same_bytes(bundle):
    with (bundle / "model.elf").open("rb") as stream:
        elf = ELFFile(stream)
        sections = {section.name: section.data() for section in elf.iter_sections()}
        (entry,) = elf.get_section_by_name(".note.expg").iter_notes()
    assert entry["n_name"] == "ExpG" and entry["n_desc"] in ("1.2", b"1.2", "312e32")
    assert sections[".text.core0"] == (bundle / "model.bin").read_bytes()
    assert sections[".dram.params"] == (bundle / "mem" / "dram.bin").read_bytes()
    for name, section in (("core0_imem", ".text.core0"), ("dram", ".dram.params")):
        words = (bundle / "mem" / f"{name}.hex").read_text().split()
        assert b"".join(bytes.fromhex(word)[::-1] for word in words) == sections[section]


def test_weights_can_be_read_by_name(bundle):
    weights = read_safetensors(bundle / "weights.safetensors")
    assert weights["first.weights"].reshape(3, 4).tolist() == [[1, -2, 3, 4], [-5, 6, 7, -8], [9, 1, -1, 2]]


def test_the_listing_ties_every_line_to_a_node(bundle):
    lines = (bundle / "model.lst").read_text().splitlines()
    rows = [line for line in lines if line[:1] in "0123456789abcdef" and ":" in line[:8]]
    words = [int(row.split(": ")[1].split()[0], 16) for row in rows]
    assert b"".join(word.to_bytes(16, "little") for word in words) == (bundle / "model.bin").read_bytes()
    nodes = {row.split(" ; ")[1].split(" > ")[0] for row in rows}
    assert nodes == {"first", "neuron", "second", "(program)"}
    assert "no silicon" in lines[0]


def test_totals_are_the_sums_of_the_lines(bundle):
    report = json.loads((bundle / "report.json").read_text())
    lines = (bundle / "model.lst").read_text().splitlines()
    costs = [line.rsplit(" cyc ", 1)[1].split() for line in lines if " cyc " in line]
    assert sum(int(cost[2]) for cost in costs) == report["sops"] > 0
    papers, datapath, full = (sum(float(cost[4].split("/")[place]) for cost in costs) for place in range(3))
    cycles = [sum(int(cost[0].split("/")[place]) for cost in costs) for place in range(3)]
    assert f"; sum of the lines: cycles {'/'.join(map(str, cycles))}, SOPs {report['sops']}" in lines
    assert papers == pytest.approx(report["picojoules"]["papers"], abs=0.05 * len(costs))
    assert datapath == pytest.approx(report["picojoules"]["datapath"], abs=0.05 * len(costs))
    assert full == pytest.approx(report["picojoules"]["full"], abs=0.05 * len(costs))
    trace = list(csv.DictReader(io.StringIO((bundle / "golden" / "trace.csv").read_text())))
    assert sum(int(row["sops"]) for row in trace) == report["sops"]
    assert max(int(row["end"]) for row in trace) == report["cycles"]["counted"] <= report["cycles"]["worst"]
    assert len(trace) == report["instructions"] == len(list(decode_all((bundle / "model.bin").read_bytes())))
    done = report["sops"] + report["additions"] + report["comparisons"]
    assert report["picojoules"]["datapath"] == pytest.approx(0.1 * done)
    assert report["picojoules"]["papers"] == pytest.approx(0.9 * report["sops"])


def test_tables_for_accelergy_add_up_to_the_same_energy(bundle):
    """Two columns of numbers under the same names; their products are the full energy."""

    def column(name: str, key: str) -> list[float]:
        lines = (bundle / "cost" / name).read_text().splitlines()
        return [float(line.split(":")[1]) for line in lines if line.strip().startswith(f"{key}:")]

    energies, counts = column("ERT.yaml", "energy"), column("action_counts.yaml", "counts")
    assert len(energies) == len(counts) == 8
    # Accelergy 0.4 finds no price for an action whose count has an empty list of arguments.
    assert "arguments" not in (bundle / "cost" / "action_counts.yaml").read_text()
    total = sum(energy * count for energy, count in zip(energies, counts, strict=True))
    report = json.loads((bundle / "report.json").read_text())
    assert total == pytest.approx(report["picojoules"]["full"], rel=1e-4)


def test_synaptic_operations_are_spikes_times_fan_out(home, snnc, bundle):
    """The first sample of x.npz: encoder codes times 4 columns, hidden codes times 2."""
    image = read_arrays("x.npz")["image"][:1]
    codes = np.searchsorted([0.25, 0.5, 0.75], image, side="right")
    weights = np.array([[1, -2, 3, 4], [-5, 6, 7, -8], [9, 1, -1, 2]])
    hidden = np.searchsorted([1, 5, 9], codes @ weights, side="right")
    ones = np.array([0, 1, 1, 2])
    report = json.loads((bundle / "report.json").read_text())
    prices = (bundle / "constants_45nm.json").read_bytes()
    assert report["constants_sha256"] == hashlib.sha256(prices).hexdigest()
    assert report["sops"] == 4 * ones[codes].sum() + 2 * ones[hidden].sum()


def test_documents_follow_their_schemas(home, snnc, validate):
    validate(snnc("emit", "net.snn.onnx", "-o", "bundle", "--json").stdout, "emit")
    validate(snnc("sim", "bundle", "--json").stdout, "sim")
    validate(snnc("disasm", "bundle", "-o", "x.s", "--json").stdout, "disasm")
    validate(snnc("asm", "x.s", "-o", "x.bin", "--json").stdout, "asm")


def test_the_words_of_a_bundle_are_audited(bundle, snnc, validate, monkeypatch):
    done = snnc("audit", "bundle", "--json")
    assert done.exit_code == 0, done.output
    found = validate(done.stdout, "audit")
    report = json.loads((bundle / "report.json").read_text())
    words = {"by_instruction": report["by_instruction"], "multiplying": 0, "findings": []}
    assert found["words"] == words
    assert [row["node"] for row in found["nodes"] if row["kind"] == "host"] == ["encoder", "readout"]
    smuggled = {**FORMS, "FIRE": replace(FORMS["FIRE"], multiplies=True)}
    monkeypatch.setattr("snnc.emit.audit.FORMS", smuggled)
    done = snnc("audit", "bundle")
    assert done.exit_code == 5 and "SNN520" in done.stderr and "neuron" in done.stderr


def test_a_listing_that_was_changed_by_hand_is_proved_and_executed(bundle, snnc, validate):
    """Each token of the listing is left out in turn: the audit finds every one."""
    lines = (bundle / "model.s").read_text().splitlines()
    places = [index for index, line in enumerate(lines) if re.search(r" [?!][LCNS]+", line)]
    assert len(places) > 5
    for index in places:
        fewer = re.sub(
            r" ([?!])[LCNS]([LCNS]*)", lambda m: f" {m[1]}{m[2]}" * bool(m[2]), lines[index], count=1
        )
        Path("changed.s").write_text("\n".join([*lines[:index], fewer, *lines[index + 1 :]]))
        assert snnc("asm", "changed.s", "-o", "changed.bin", "--force").exit_code == 0
        done = snnc("audit", "bundle", "--words", "changed.bin", "--json")
        assert done.exit_code == 5 and "SNN541" in done.stderr, lines[index]
        assert validate(done.stdout, "audit")["words"]["findings"]
        if index == places[0]:
            done = snnc("sim", "bundle", "--words", "changed.bin")
            assert done.exit_code == 3 and "SNN368" in done.stderr
    same = snnc("sim", "bundle", "--words", bundle / "model.bin")
    assert same.exit_code == 0 and "the same bits" in same.stdout
    assert snnc("audit", "net.snn.onnx", "--words", "changed.bin").exit_code == 2
    Path("changed.bin").write_bytes((bundle / "model.bin").read_bytes()[16:])
    done = snnc("sim", "bundle", "--words", "changed.bin")
    assert done.exit_code == 3 and "SNN369" in done.stderr and "changed.bin" in done.stderr


def test_a_bundle_can_be_looked_into(bundle, home, snnc, validate):
    found = validate(snnc("inspect", "bundle", "--json").stdout, "inspect")
    assert found["bundle"]["sops"] > 0 and found["dialect"] == "spike" and found["nodes"] == 5
    assert "on the host" in snnc("inspect", "bundle").stdout
    (bundle / "report.json").write_text("{}")
    done = snnc("inspect", "bundle")
    assert done.exit_code == 3 and "SNN369" in done.stderr
    for command in ("inspect", "audit", "sim"):
        done = snnc(command, home)
        assert done.exit_code == 3 and "MANIFEST.json" in done.stderr


def test_run_executes_bundles(bundle, snnc, reference):
    done = snnc("run", "bundle", "--input", "x.npz", "--output", "y.npz", "--runtime", "expg1")
    assert done.exit_code == 0, done.output
    expected = reference(read_arrays("x.npz")["image"])
    np.testing.assert_array_equal(read_arrays("y.npz")["logits"], expected)
    assert snnc("run", "bundle", "--input", "x.npz").exit_code == 2


def test_bundles_for_several_cores(home, snnc, validate):
    done = snnc("emit", "net.snn.onnx", "-o", "pair", "--cores", "2", "--data", "x.npz", "--json")
    assert done.exit_code == 0, done.output
    found = validate(done.stdout, "emit")
    assert len(found["cores"]) == 2 and found["cores"][0]["messages"] + found["cores"][1]["messages"] > 0
    for options in ([], ["--order", "serial", "--interleaving", "5"]):
        assert json.loads(snnc("sim", "pair", *options, "--json").stdout)["golden"] is True
    with Path("pair/model.elf").open("rb") as stream:
        elf = ELFFile(stream)
        texts = [elf.get_section_by_name(f".text.core{core}").data() for core in (0, 1)]
    assert b"".join(texts) == Path("pair/model.bin").read_bytes()
    for core, text in enumerate(texts):
        words = Path(f"pair/mem/core{core}_imem.hex").read_text().split()
        assert b"".join(bytes.fromhex(word)[::-1] for word in words) == text
        lines = list(csv.DictReader(io.StringIO(Path("pair/golden/trace.csv").read_text())))
        own = sorted(int(row["pc"]) for row in lines if int(row["core"]) == core)
        assert own == list(range(len(text) // 16))
    table = json.loads(Path("pair/routing.json").read_text())
    assert check_routes(Path("pair/model.bin").read_bytes(), table) == [] and table["messages"]
    assert snnc("asm", "pair/model.s", "-o", "model.bin").exit_code == 0
    assert Path("model.bin").read_bytes() == Path("pair/model.bin").read_bytes()
    words = len(Path("model.bin").read_bytes()) // 16
    assert f"{words} instructions" in snnc("disasm", "pair", "-o", "pair.s").stdout
    energies, counts = (
        [
            float(line.split(":")[1])
            for line in Path("pair/cost", name).read_text().splitlines()
            if line.strip().startswith(key) and line.strip() != key
        ]
        for name, key in (("ERT.yaml", "energy:"), ("action_counts.yaml", "counts:"))
    )
    total = sum(energy * count for energy, count in zip(energies, counts[-len(energies) :], strict=True))
    assert len(energies) == 18 and total == pytest.approx(found["picojoules"]["full"], rel=1e-4)
    assert snnc("audit", "pair").exit_code == 0
    assert snnc("emit", "net.snn.onnx", "-o", "b", "--cores", "300").exit_code == 2
    assert snnc("emit", "net.snn.onnx", "-o", "b", "--cores", "0").exit_code == 2


def test_the_number_of_cores_may_stand_in_the_sizes(home, snnc):
    Path("arch.json").write_text('{"cores": 3, "hop_cycles": 9}')
    done = snnc("emit", "net.snn.onnx", "-o", "three", "--arch", "arch.json", "--json")
    assert done.exit_code == 0 and len(json.loads(done.stdout)["cores"]) == 3
    done = snnc("emit", "net.snn.onnx", "-o", "two", "--arch", "arch.json", "--cores", "2", "--json")
    assert done.exit_code == 0 and len(json.loads(done.stdout)["cores"]) == 2
    Path("arch.json").write_text('{"cores": 257}')
    assert snnc("emit", "net.snn.onnx", "-o", "b", "--arch", "arch.json").exit_code == 3


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_verilog_reads_the_memory_images(bundle):
    words = {name: (bundle / "mem" / f"{name}.hex").read_text().split() for name in ("core0_imem", "dram")}
    Path("read.v").write_text(
        "module read;"
        + "".join(f"reg [127:0] {name} [0:{len(found) - 1}];" for name, found in words.items())
        + "integer i; initial begin"
        + "".join(
            f' $readmemh("bundle/mem/{name}.hex", {name}); for (i = 0; i < {len(found)}; i = i + 1)'
            f' $display("%h", {name}[i]);'
            for name, found in words.items()
        )
        + " end endmodule\n"
    )
    subprocess.run(["iverilog", "-o", "read", "read.v"], check=True, capture_output=True)
    said = subprocess.run(["vvp", "read"], check=True, capture_output=True, text=True).stdout.split()
    assert said == [word for found in words.values() for word in found]


def bytes_of_hex(text: str) -> bytes:
    """Data of Intel HEX; the address of each record goes on where the last one ended."""
    found = b""
    for line in text.split():
        record = bytes.fromhex(line.removeprefix(":"))
        assert sum(record) % 256 == 0
        if record[3] == 0:
            assert int.from_bytes(record[1:3]) == len(found) % 65536
            found += record[4 : 4 + record[0]]
    return found


@pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils are not installed")
def test_readelf_reads_the_program(bundle):
    def said(option: str) -> str:
        command = ["readelf", option, str(bundle / "model.elf")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={"LC_ALL": "C"})
        assert not done.stderr
        return done.stdout

    for section, part in ((".text.core0", "model.bin"), (".dram.params", "mem/dram.bin")):
        for form in ("binary", "ihex"):
            command = ["objcopy", "-I", "elf64-little", "-O", form, f"--only-section={section}"]
            subprocess.run([*command, str(bundle / "model.elf"), form], check=True)
        assert Path("binary").read_bytes() == (bundle / part).read_bytes()
        assert bytes_of_hex(Path("ihex").read_text()) == (bundle / part).read_bytes()
    assert ".text.core0" in said("-SW") and "ExpG" in said("-nW") and "ELF64" in said("-hW")


def test_an_image_of_a_batch_costs_less(bundle):
    report = json.loads((bundle / "report.json").read_text())
    batch = report["picojoules_per_image_of_batch"]
    assert batch["1"] == pytest.approx(report["picojoules"]["full"])
    assert batch["1"] > batch["8"] > batch["64"] > report["picojoules"]["datapath"]


def test_sizes_of_the_machine_come_from_a_file(home, snnc):
    Path("arch.json").write_text('{"name": "small", "smem": 64, "lanes": 2}')
    done = snnc("emit", "net.snn.onnx", "-o", "small", "--arch", "arch.json", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["memory_bytes"]["SMEM"]["capacity"] == 64
    assert json.loads(Path("small/arch.json").read_text()) == {
        **Arch().__dict__,
        "name": "small",
        "smem": 64,
        "lanes": 2,
    }


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"smen": 4}', '{"smem": 0}', '{"smem": true}', '{"smem": 1e3}', '{"name": 4}']
)
def test_bad_sizes_are_refused(home, snnc, text):
    Path("arch.json").write_text(text)
    done = snnc("emit", "net.snn.onnx", "-o", "b", "--arch", "arch.json")
    assert done.exit_code == 3 and "SNN364" in done.stderr and not Path("b").exists()


def test_what_does_not_fit_leaves_nothing_behind(home, snnc):
    Path("arch.json").write_text('{"wmem": 1}')
    before = sorted(home.iterdir())
    done = snnc("emit", "net.snn.onnx", "-o", "b", "--arch", "arch.json")
    assert done.exit_code == 4 and "SNN480" in done.stderr
    for part in ("'first'", "WMEM", "has 1", "--arch"):
        assert part in done.stderr
    assert sorted(home.iterdir()) == before


def test_dram_that_is_too_small_is_told_with_what_fills_it(home, snnc):
    Path("arch.json").write_text('{"dram": 20}')
    done = snnc("emit", "net.snn.onnx", "-o", "b", "--arch", "arch.json")
    assert done.exit_code == 4 and "SNN481" in done.stderr and not Path("b").exists()
    for part in ("node '", "tensor '", "bytes of DRAM", "there are 20", "--arch"):
        assert part in done.stderr


def test_memories_cost_the_host_only_what_a_program_reaches(home, snnc):
    Path("arch.json").write_text(json.dumps(dict.fromkeys(("wmem", "smem", "amem", "tmem"), 1 << 36)))
    assert snnc("emit", "net.snn.onnx", "-o", "b", "--arch", "arch.json").exit_code == 0
    assert snnc("sim", "b").exit_code == 0


def test_a_bundle_is_replaced_only_by_force_and_nothing_else_ever(bundle, home, snnc):
    assert snnc("emit", "net.snn.onnx", "-o", "bundle").exit_code == 2
    assert snnc("emit", "net.snn.onnx", "-o", "bundle", "--force").exit_code == 0
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("x")
    done = snnc("emit", "net.snn.onnx", "-o", "mine", "--force")
    assert done.exit_code == 2 and "SNN286" in done.stderr
    assert (home / "mine" / "thesis.txt").read_text() == "x"
    assert snnc("emit", "net.snn.onnx", "-o", "no/such/place").exit_code == 6


@pytest.mark.parametrize("name", ["program.json", "model.bin", "mem/dram.bin", "MANIFEST.json"])
def test_damaged_bundles_are_refused(bundle, snnc, name):
    (bundle / name).write_bytes(b"{}")
    done = snnc("sim", "bundle")
    assert done.exit_code == 3 and "SNN369" in done.stderr


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("program.json", lambda r: r["inputs"][0].__setitem__(0, "elsewhere")),
        ("program.json", lambda r: r["inputs"][0][1].__setitem__(2, "x")),
        ("program.json", lambda r: r["outputs"][0][1].__setitem__(0, "SMEM")),
        ("program.json", lambda r: r["outputs"][0][1].__setitem__(3, [1, 1])),
        ("program.json", lambda r: r["line_of"].pop()),
        ("program.json", lambda r: r["line_of"].__setitem__(0, -1)),
        ("program.json", lambda r: r["host"].__setitem__(0, [1])),
        ("program.json", lambda r: r["sites"].append([0, 1])),
        ("program.json", lambda r: r["taps"][0].__setitem__(0, 1 << 40)),
        ("program.json", lambda r: r["arch"].__setitem__("smem", 1 << 90)),
        ("program.json", lambda r: r["regions"][0].__setitem__(4, 0.5)),
        ("report.json", lambda r: r["cycles"].clear()),
        ("report.json", lambda r: r.__setitem__("picojoules", 3)),
        ("routing.json", lambda r: r.__setitem__("cores", "one")),
    ],
)
def test_records_that_are_wrong_are_refused_whatever_vouches_for_them(bundle, snnc, name, change):
    record = json.loads((bundle / name).read_text())
    change(record)
    (bundle / name).write_text(json.dumps(record))
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    (bundle / "MANIFEST.json").write_text(json.dumps(manifest))
    command = {"program.json": "sim", "report.json": "inspect", "routing.json": "audit"}[name]
    done = snnc(command, "bundle")
    assert done.exit_code == (5 if command == "audit" else 3), done.output
    assert re.search("SNN364|SNN369|SNN541", done.stderr)


def test_what_is_no_bundle_or_no_program_is_refused(home, snnc):
    assert snnc("sim", "nothing").exit_code == 3
    Path("bad.bin").write_bytes(bytes(15))
    assert snnc("disasm", "bad.bin").exit_code == 3
    Path("bad.s").write_text("C  HALT code=0\n")
    assert snnc("asm", "bad.s", "-o", "x.bin").exit_code == 3
    assert snnc("emit", "ann.onnx", "-o", "b").exit_code == 3
