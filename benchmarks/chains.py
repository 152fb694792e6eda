"""Long chains: processor time and peak memory of conversions, by the number of nodes.

    python benchmarks/chains.py [--nodes 2000 20000] [--kinds activations residual quantised]

Each chain is converted in a process of its own. Writes `benchmarks/chains.json`, where other kinds stay; ends
with status 1 where a node of the longest chain takes more than twice as long as one of the shortest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


def one(kind: str, nodes: int) -> dict[str, float]:
    """Convert one chain in this process."""
    import onnx_ir

    from snnc.compile import ConvertOptions, convert
    from tests.e2e.test_long_chains import chain

    options = ConvertOptions(calibrate=None if kind == "quantised" else "random:4")
    each = {"activations": 3, "residual": 4, "quantised": 6}[kind]
    convert(onnx_ir.from_proto(chain(kind, 2)), options)
    model = onnx_ir.from_proto(chain(kind, nodes // each))
    begin, wall = time.process_time(), time.monotonic()
    convert(model, options)
    return {
        "nodes": len(model.graph),
        "seconds": round(time.process_time() - begin, 2),
        "wall_seconds": round(time.monotonic() - wall, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def main() -> None:
    """Run all; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--kinds", nargs="+", default=["activations", "residual", "quantised"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one(chosen.one[0], int(chosen.one[1]))))
        return
    file = HERE / "chains.json"
    held = json.loads(file.read_text()) if file.is_file() else []
    rows, worse = [row for row in held if row["kind"] not in chosen.kinds], False
    for kind in chosen.kinds:
        times = []
        for nodes in chosen.nodes:
            command = [sys.executable, __file__, "--one", kind, str(nodes)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append({"kind": kind, **row})
            times.append(row["seconds"] / row["nodes"])
            print(kind, row, f"{1000 * times[-1]:.2f} ms a node", flush=True)
        worse |= times[-1] > 2 * times[0]
    file.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(int(worse))


if __name__ == "__main__":
    main()
