"""A million executions, in pieces that are counted: python -m tests.fuzz.many --out FOLDER [--summary]

Each piece is a run of libFuzzer on the corpus that the ones before it left in FOLDER, with a seed of its own,
and one line of ``FOLDER/counts.jsonl``; a campaign that was stopped goes on where it was. It ends with
status 1 at the first finding, which libFuzzer leaves in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

#: Executions of each target.
PLAN = {"listing": 300_000, "recipe": 300_000, "admission": 400_000}
#: Executions of one process: what they leak is given back.
PIECE = 20_000


def counts(folder: Path) -> list[dict[str, Any]]:
    """Lines of all pieces so far."""
    path = folder / "counts.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def piece(folder: Path, target: str, seed: int) -> dict[str, Any]:
    """Run one piece; what it found is its last lines, nothing if it ended as it should."""
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    options = [f"-runs={PIECE}", f"-seed={seed + 1}", f"-artifact_prefix={folder}/{target}-"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, *options, str(corpus)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    ended = re.search(r"Done (\d+) runs", done.stderr)
    covered = re.findall(r"ft: (\d+)", done.stderr)
    return {
        "target": target,
        "seed": seed + 1,
        "executions": int(ended[1]) if ended else 0,
        "features": int(covered[-1]) if covered else 0,
        "corpus": len(list(corpus.iterdir())),
        "seconds": round(time.monotonic() - begin),
        "found": "" if done.returncode == 0 else (done.stdout + done.stderr)[-4000:],
    }


def summary(folder: Path) -> dict[str, Any]:
    """Executions, the last corpus and findings of each target."""
    entries = counts(folder)
    executions: Counter[str] = Counter()
    for entry in entries:
        executions[entry["target"]] += entry["executions"]
    return {
        "executions": sum(executions.values()),
        "targets": {
            target: {
                "executions": executions[target],
                "planned": PLAN[target],
                "features": max((e["features"] for e in entries if e["target"] == target), default=0),
                "findings": sum(bool(e["found"]) for e in entries if e["target"] == target),
            }
            for target in PLAN
        },
    }


def main() -> None:
    """Run what is left of the plan."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.many", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--summary", action="store_true")
    chosen = parser.parse_args()
    if chosen.summary:
        sys.stdout.write(json.dumps(summary(chosen.out), indent=1) + "\n")
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    while True:
        done = summary(chosen.out)["targets"]
        left = {target: done[target]["executions"] / PLAN[target] for target in PLAN}
        target = min(left, key=lambda name: left[name])
        if left[target] >= 1:
            return
        found = piece(chosen.out, target, sum(entry["target"] == target for entry in counts(chosen.out)))
        with (chosen.out / "counts.jsonl").open("a") as stream:
            stream.write(json.dumps(found) + "\n")
        if found["found"]:
            sys.exit(f"{target}: {found['found']}")


if __name__ == "__main__":
    main()
