"""What became of the mistakes: kept line by line, counted, and set beside the explanations."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mistakes import Mistake
from tests.mutation.processes import ROOT

#: Why a mistake that no test sees is none, by file and key.
EXPLAINED = Path(__file__).with_name("explained.toml")
_OPEN = ("survived", "deferred")
Planned = Sequence[tuple[Path, Mistake]]


def _of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Outcomes:
    """What became of the mistakes in a target's files as they are; those of other versions do not count."""

    def __init__(self, folder: Path, target: str, part: int = 1, parts: int = 1) -> None:
        self._own = folder / f"{target}-{part}-of-{parts}.jsonl"
        self._folder, self._target = folder, target
        self._explained = explanations()
        self.read()

    def read(self) -> None:
        """Read what all processes have written."""
        self._entries: dict[tuple[str, str, int], dict[str, Any]] = {}
        for path in sorted(self._folder.glob(f"{self._target}-*-of-*.jsonl")):
            for line in path.read_text().splitlines():
                # The last line of a run that was stopped may be cut off.
                if line.endswith("}"):
                    self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        key = (entry["file"], entry["of"], entry["number"])
        before = self._entries.get(key)
        if before is None or before["outcome"] in _OPEN:
            self._entries[key] = entry

    def add(self, path: Path, mistake: Mistake, outcome: str, tests: int) -> None:
        """Write down one outcome at once."""
        entry = {
            "file": str(path.relative_to(ROOT)),
            "of": _of(path),
            "number": mistake.number,
            "line": mistake.first,
            "key": mistake.key,
            "outcome": outcome,
            "tests": tests,
        }
        self._take(entry)
        with self._own.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")

    def of(self, path: Path, mistake: Mistake) -> dict[str, Any] | None:
        """Return what became of one, if it was tried."""
        return self._entries.get((str(path.relative_to(ROOT)), _of(path), mistake.number))

    def final(self, path: Path, mistake: Mistake, *, again: bool) -> bool:
        """Return whether it need not be tried; with ``again``, survivors without an explanation are."""
        entry = self.of(path, mistake)
        if entry is None:
            return False
        explained = mistake.key in self._explained.get(str(path.relative_to(ROOT)), {})
        return entry["outcome"] != "deferred" and not (
            again and entry["outcome"] == "survived" and not explained
        )

    def imported(self, path: Path, mistake: Mistake) -> bool:
        """Return whether a mistake is tried by importing its module: it does not run in a test alone."""
        entry = self.of(path, mistake)
        return not mistake.function or (entry is not None and entry["outcome"] == "deferred")


def explanations() -> dict[str, dict[str, str]]:
    """Return the explanations by file and key."""
    return tomllib.loads(EXPLAINED.read_text()) if EXPLAINED.exists() else {}


def _counted(folder: Path, target: str, planned: Planned) -> dict[str, Any]:
    outcomes, known = Outcomes(folder, target), explanations()
    tried = [
        (path, each, entry)
        for path, each in planned
        if (entry := outcomes.of(path, each)) and entry["outcome"] != "deferred"
    ]
    survivors = []
    for path, each, entry in sorted(tried, key=lambda found: (str(found[0]), found[1].number)):
        if entry["outcome"] == "survived":
            name = str(path.relative_to(ROOT))
            reason = known.get(name, {}).get(each.key)
            survivors.append({"file": name, "line": each.first, "mistake": each.key, "why": reason})
    seen, explained = len(tried) - len(survivors), sum(each["why"] is not None for each in survivors)
    return {
        "files": {
            name: _of(ROOT / name) for name in sorted({str(path.relative_to(ROOT)) for path, _ in planned})
        },
        "possible": len(planned),
        "tried": len(tried),
        "seen": seen,
        "share": round(seen / len(tried), 4) if tried else None,
        "share_without_explained": round(seen / (len(tried) - explained), 4) if seen else None,
        "endless": sum(entry["outcome"] == "endless" for _, _, entry in tried),
        "explained": explained,
        "survivors": survivors,
    }


def summary(folder: Path, every: Mapping[str, Planned]) -> str:
    """Return the counts and what was not seen, as text."""
    rows = []
    for target, planned in every.items():
        counted = _counted(folder, target, planned)
        rows.append(
            f"{target}: {counted['seen']} of {counted['tried']} mistakes seen ({counted['share'] or 0:.1%}),"
            f" of {counted['possible']} possible; of {len(counted['survivors'])} others"
            f" {counted['explained']} explained"
        )
        for each in counted["survivors"]:
            rows.append(f"  {each['file']}:{each['line']}: {each['mistake']}")
            rows += [f"      {each['why']}"] if each["why"] else []
    return "\n".join(rows)


def record(folder: Path, every: Mapping[str, Planned], path: Path) -> None:
    """Write counts, survivors with their explanations, and digests of the files they hold for, as JSON."""
    found = {target: _counted(folder, target, planned) for target, planned in every.items()}
    path.write_text(json.dumps(found, indent=1) + "\n")
