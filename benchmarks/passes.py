"""How the passes of a conversion grow with the network, calibration left out.

    python benchmarks/passes.py --networks deit_tiny_patch16_224 deit_small_patch16_224 vit_base_patch16_224 \
        vit_large_patch16_224 --folder out/scale

Networks as benchmarks/scale.py makes and keeps them (random weights, timm). Each is converted in a process of
its own with one calibration image. Processor seconds and the peak of resident memory are taken pass by pass;
`insert-quantisers`, which runs the calibration data, is reported by itself. Memory of the file that is mapped
is left out. Writes a section of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report import processor, write_section  # noqa: E402
from scale import _EXPORT, run  # noqa: E402

from snnc.pipeline.manager import Instrument  # noqa: E402

NETWORKS = (
    "deit_tiny_patch16_224",
    "deit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_large_patch16_224",
)
CALIBRATION = "insert-quantisers"
#: Seconds between two looks at the memory.
_MOMENT = 0.004
_NOTES = """
Passes, s: of all threads. From DeiT-T to ViT-L the weights grow 53 times, the time 4 times and the
memory 3 times. Weights, thresholds and ranges of 256 KB or more lie in unnamed temporary files that are
mapped; 0.5 GB is reached since (1,195 MB before, 1,411 before ranges had 32 bits and gaps were given
back to the system).

ViT-L needs 9.7 s by the clock and 10.9 processor seconds (10.2 and 11.3 while every position had ranges
of its own, 0.9 GB of them). A profile of four of its blocks: of the 0.92 s that their
weights take, grids 0.27, types and exact numbers 0.24, fidelity 0.15, writing 0.11. The digest of the
file takes 0.7 s (estimate), and tables of Gelu 45 ms for 4,096 rows. Tried for the time: products of
weights and steps in cache-sized pieces on all cores in place of whole float64 copies (kept); sums of
weights kept from pass to pass (kept); largest weights in their own type where all have one factor, no
clipping where none can be due, and integers converted before they are multiplied: 7.7 to 4.3 ns a
weight alone (kept); what weights lose in float32 where that is safe: 4.0 to 1.6 ns (kept); rounding in
float32 with doubtful cases done again: 1.6 to 2.5 against 1.5 to 2.4 ns (not kept); largest weights
found in float32: 1.9 to 2.2 against 2.2 to 3.0 ns (not kept). Pieces of a half to an eighth: 5.0 to 8.3
ns.
""".strip().splitlines()


def _memory(field: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


class Sampler(threading.Thread):
    """Watches the memory of this process that no file backs, which the kernel keeps no peak of.

    Attributes:
        peak: The most since it was set, bytes.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.start()

    def run(self) -> None:
        """Look every few milliseconds."""
        page = os.sysconf("SC_PAGESIZE")
        with Path("/proc/self/statm").open("rb", buffering=0) as stream:
            while True:
                stream.seek(0)
                fields = stream.read().split()
                self.peak = max(self.peak, (int(fields[1]) - int(fields[2])) * page)
                time.sleep(_MOMENT)


class Meter(Instrument):
    """Seconds of each pass, of processors and by the clock; memory, with mapped files and without."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int, int, float]] = []
        self._start = self._clock = 0.0
        self._sampler = Sampler()

    def before(self, index: int, step: Any, model: Any) -> None:
        """Forget the peak so far."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._sampler.peak = _memory("RssAnon")
        self._start, self._clock = time.process_time(), time.perf_counter()

    def after(self, index: int, record: Any, model: Any) -> None:
        """Note what the pass took."""
        seconds, clock = time.process_time() - self._start, time.perf_counter() - self._clock
        peak = max(self._sampler.peak, _memory("RssAnon"))
        self.rows.append((record.name, seconds, peak, _memory("VmHWM"), clock))


def judge(source: Path) -> dict[str, Any]:
    """Convert one network; for a process of its own."""
    from snnc.compile import ConvertOptions, convert
    from snnc.ir import load

    model = load(source)
    nodes = sum(1 for _ in model.graph.all_nodes())
    weights = sum(
        value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None
    )
    del model
    data = source.parent / "one.npz"
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    np.savez(data, x=image)
    base, whole, meter = _memory("RssAnon"), _memory("VmRSS"), Meter()
    convert(source, ConvertOptions(calibrate=str(data)), instruments=[meter])
    passes = [row for row in meter.rows if row[0] != CALIBRATION]
    slowest = sorted(passes, key=lambda row: -row[1])[:3]
    return {
        "nodes": nodes,
        "weights": weights,
        "seconds": round(sum(row[1] for row in passes), 2),
        "clock": round(sum(row[4] for row in passes), 2),
        "calibration_seconds": round(sum(row[1] for row in meter.rows if row[0] == CALIBRATION), 2),
        "peak_mb": round((max(row[2] for row in passes) - base) / 2**20),
        "resident_mb": round((max(row[3] for row in passes) - whole) / 2**20),
        "slowest": [f"{row[0]} {row[1]:.2f}" for row in slowest],
    }


def section(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Write the section of RESULTS.md."""
    lines = [
        "Processor seconds of all passes but the one that runs the calibration data, and the peak of their",
        "memory beside mapped files and the imports; T = 8, G = 4, one image. *Resident*: the peak with the",
        "pages of mapped files that are in memory, MB, which the system may take back. *Rate*: seconds for a",
        "million weights.",
        "",
        (
            "| network | nodes | weights, 10^6 | passes, s | by the clock | rate | peak, MB | resident "
            "| slowest passes, s |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        millions = row["weights"] / 1e6
        lines.append(
            f"| {name} | {row['nodes']:,} | {millions:.1f} | {row['seconds']} "
            f"| {row['clock']} | {row['seconds'] / millions:.3f} | {row['peak_mb']:,} "
            f"| {row['resident_mb']:,} | {', '.join(row['slowest'])} |"
        )
    command = shlex.join(["python", "benchmarks/passes.py", *sys.argv[1:]])
    return [*lines, "", *_NOTES, "", f"- machine: {processor()}", f"- command: `{command}`"]


def main() -> int:
    """Judge all networks, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="names in timm")
    parser.add_argument("--folder", type=Path, default=Path("out/scale"), help="where networks are kept")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.one:
        print(json.dumps(judge(options.one)))
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in options.networks:
        made = [options.folder / f"{name}.{kind}.onnx" for kind in ("torchscript", "dynamo")]
        source = next((path for path in made if path.exists()), None)
        if source is None:
            source = made["large" in name]  # beyond 2 GB only the newer exporter writes
            run(_EXPORT, name, source, source.suffixes[-2][1:])
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(source)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        rows[name] = json.loads(done.stdout)
        print(name, json.dumps(rows[name]), flush=True)
    write_section(HERE / "RESULTS.md", "Growth of the passes", section(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
