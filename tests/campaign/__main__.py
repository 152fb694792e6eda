"""The differential campaign: thousands of drawn networks through all passes and runtimes.

python -m tests.campaign --out FOLDER [--shard 1/4] [--only FAMILY]... [--share 0.1]    draws and compares
python -m tests.campaign --out FOLDER --share 0.1 --first 10000                    networks of other seeds
python -m tests.campaign --out FOLDER --first 5 --every 12                              a twelfth of all
python -m tests.campaign --out FOLDER --mutants [--shard 1/4] [--first 0] [--every 1]   metamorphic relations
python -m tests.campaign --faults [--json FILE]                       whether it sees faults planted in passes
python -m tests.campaign --out FOLDER --summary [--json FILE]                        what came of it

Each network is one line of a file in FOLDER; a run that was stopped goes on where it was. A line names
family and seed, which give the same network again: ``python -m tests.campaign --again 'dialects' 17``, and
the commit that it ran on.
What ran is in ``benchmarks/logs/campaign``: a copy of that folder as FOLDER goes on behind it, and
``--summary --log`` packs one.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import random
import subprocess
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.campaign.faults import hunt
from tests.campaign.judge import FAMILIES, judge
from tests.campaign.mutants import MUTANTS, relations
from tests.faults import FAULTS

#: Networks of each family: 10,000 of what networks hold, 2,000 of anything.
PLAN = {
    "float tokens": 2500,
    "float images": 2500,
    "dialects": 3000,
    "coded tokens": 1000,
    "coded images": 1000,
    "soup": 2000,
}
#: Networks that a planted fault may go unseen in, of the mixture that the campaign draws.
HUNTED = 240
#: Networks that every relation is tried on.
MUTATED = 500


def planned(
    share: float, only: Sequence[str] | None, first: int = 0, every: int = 1
) -> list[tuple[str, int]]:
    """Families and every n-th seed from the first on, mixed: any part of a campaign says something of all."""
    entries = [
        (family, seed)
        for family, count in PLAN.items()
        if not only or family in only
        for seed in range(first, first + round(count * share), every)
    ]
    # Not in turns: shards that take every second network would each see half of the families.
    random.Random(0).shuffle(entries)
    return entries


def lines(folder: Path, stem: str) -> Iterator[dict[str, Any]]:
    """Verdicts of all shards, packed or not."""
    for path in sorted([*folder.glob(f"{stem}*.jsonl"), *folder.glob(f"{stem}*.jsonl.gz")]):
        data = path.read_bytes()
        for line in (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines():
            # The last line of a run that was killed may be half.
            if line.endswith("}"):
                yield json.loads(line)


def pack(folder: Path, target: Path) -> None:
    """Write the verdicts of all shards into one file for networks and one for relations, sorted."""
    target.mkdir(parents=True, exist_ok=True)
    for stem in ("drawn", "mutants"):
        found = sorted(lines(folder, stem), key=lambda entry: (entry["family"], entry.get("seed", 0)))
        text = "".join(json.dumps(entry) + "\n" for entry in found)
        if found:
            (target / f"{stem}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def commit() -> str:
    """What is checked out, with ``-dirty`` behind it if files differ; empty outside of a repository."""
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(asked, check=False, cwd=Path(__file__).parent, capture_output=True, text=True)
    return found.stdout.strip()


def run(folder: Path, stem: str, work: list[tuple[str, int]], shard: tuple[int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = {(entry["family"], entry.get("seed", 0)) for entry in lines(folder, stem)}
    part, parts = shard
    path = folder / f"{stem}-{part}-of-{parts}.jsonl"
    of = commit()
    with path.open("a") as stream:
        for family, seed in work[part - 1 :: parts]:
            if (family, seed) in done:
                continue
            if stem == "mutants":
                verdict = judge(family, seed, lambda seed, family=family: relations(family, seed))  # type: ignore[misc]
            else:
                verdict = judge(family, seed)
            stream.write(json.dumps({**verdict.to_json(), "commit": of}) + "\n")
            stream.flush()
            if verdict.kind in ("wrong", "crash"):
                print(f"{verdict.kind}: {family} {seed}: {verdict.text}", flush=True)


def faults() -> dict[str, Any]:
    """Look for each planted fault with the first networks of the campaign."""
    networks = planned(1.0, None)[:HUNTED]
    rows = []
    for name in FAULTS:
        found = hunt(name, networks)
        rows.append(found.to_json())
        print(f"{'found' if found.verdict else 'NOT FOUND'}: {name}, {found.drawn} networks", flush=True)
    seen = sum("kind" in row for row in rows)
    return {"commit": commit(), "faults": len(rows), "found": seen, "most_networks": HUNTED, "by": rows}


def summary(folder: Path) -> dict[str, Any]:
    """Counts of everything, by family."""
    rows: dict[str, Any] = {}
    for stem in ("drawn", "mutants"):
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        refusals: dict[str, Counter[str]] = defaultdict(Counter)
        found: list[dict[str, Any]] = []
        commits: Counter[str] = Counter()
        decibels: dict[str, list[float]] = defaultdict(list)
        bounds: dict[str, list[float]] = defaultdict(list)
        for entry in lines(folder, stem):
            family = entry["family"]
            counts[family]["networks"] += 1
            commits[entry.get("commit", "not noted")] += 1
            counts[family][entry["kind"]] += 1
            counts[family]["samples"] += entry.get("samples", 0)
            counts[family]["edges"] += entry.get("edges", 0)
            counts[family]["rounded"] += entry.get("rounded", 0)
            counts[family]["seconds"] += entry.get("seconds", 0)
            if entry["kind"] == "refused":
                refusals[family][entry["text"]] += 1
            if entry["kind"] in ("wrong", "crash"):
                found.append(entry)
            if entry.get("decibel") is not None:
                decibels[family].append(entry["decibel"])
            if entry.get("bound_of_error") is not None:
                bounds[family].append(entry["bound_of_error"])
        rows[stem] = {
            family: {
                **{key: round(value) for key, value in counts[family].items()},
                "refusals": dict(refusals[family].most_common()),
                **({"least_db": min(decibels[family])} if decibels[family] else {}),
                **({"bound_of_error": round(median(bounds[family]), 1)} if bounds[family] else {}),
            }
            for family in sorted(counts)
        }
        rows[f"{stem}_found"] = found
        rows[f"{stem}_commits"] = dict(sorted(commits.items()))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/campaign"))
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--only", choices=list(FAMILIES), action="append")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=0, help="seed that each family begins with")
    parser.add_argument("--every", type=int, default=1, help="take every n-th seed only")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="folder for the packed verdicts, with --summary")
    parser.add_argument("--again", nargs=2, metavar=("FAMILY", "SEED"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if chosen.again:
        family, seed = chosen.again[0], int(chosen.again[1])
        print(relations(family, seed) if chosen.mutants else FAMILIES[family](seed))
        return
    if chosen.summary:
        text = json.dumps(summary(chosen.out), indent=1)
        if chosen.json:
            chosen.json.write_text(text + "\n")
        if chosen.log:
            pack(chosen.out, chosen.log)
        sys.stdout.write(text + "\n")
        return
    if chosen.faults:
        found = faults()
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1) + "\n")
        sys.exit(found["found"] < found["faults"])
    # Graphs are many small objects; looking for circles among them after each few hundred takes a tenth.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    part, parts = map(int, chosen.shard.split("/"))
    if chosen.mutants:
        seeds = range(chosen.first, chosen.first + MUTATED // len(MUTANTS), chosen.every)
        work = [(family, seed) for seed in seeds for family in MUTANTS]
        run(chosen.out, "mutants", work, (part, parts))
    else:
        work = planned(chosen.share, chosen.only, chosen.first, chosen.every)
        run(chosen.out, "drawn", work, (part, parts))


if __name__ == "__main__":
    main()
