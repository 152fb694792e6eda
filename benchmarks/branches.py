"""Coverage of the core by package, from the data that ``make coverage`` left: lines and branches, one figure.

    python benchmarks/branches.py --record benchmarks/coverage.json

``--tests`` says which tests ran, where it was not all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).resolve().parents[1]
COUNTS = ("statements", "covered_statements", "branches", "covered_branches")


def package_of(file: str) -> str:
    """The package that a file of the core belongs to: two folders, or one for what lies in no other."""
    parts = file.split("/")[:-1][:2]
    return "/".join(parts)


def counted() -> dict[str, Counter[str]]:
    """Statements and branches by package, and of all packages together."""
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        measured.json_report(outfile=str(report))
        files: dict[str, Any] = json.loads(report.read_text())["files"]
    counts: dict[str, Counter[str]] = {}
    for name, entry in sorted(files.items()):
        found = entry["summary"]
        numbers = (
            found["num_statements"], found["covered_lines"], found["num_branches"], found["covered_branches"]
        )  # fmt: skip
        for package in (package_of(name), "core"):
            counts.setdefault(package, Counter()).update(dict(zip(COUNTS, numbers, strict=True)))
    return counts


def row(count: Counter[str]) -> dict[str, float]:
    """Counts of one package with coverage.py's figure, in percent, and that of the branches alone."""
    whole, run = (
        count["statements"] + count["branches"],
        count["covered_statements"] + count["covered_branches"],
    )
    alone = 100 * count["covered_branches"] / count["branches"] if count["branches"] else 100.0
    return {
        **{name: count[name] for name in COUNTS},
        "percent": round(100 * run / whole, 2) if whole else 100.0,
        "branches_percent": round(alone, 2),
    }


def main() -> None:
    """Print the table, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, help="JSON file to write")
    parser.add_argument("--tests", default="all that are not marked slow")
    given = parser.parse_args()
    rows = {package: row(count) for package, count in counted().items()}
    for package, numbers in rows.items():
        print(f"{package:20} {numbers['percent']:6.2f} %, branches {numbers['branches_percent']:6.2f} %")
    if given.record is not None:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        record = {
            "command": "make coverage && python benchmarks/branches.py --record benchmarks/coverage.json",
            "commit": commit,
            "tests": given.tests,
            "packages": rows,
        }
        given.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
