"""Whether the campaign sees wrong passes: for each planted fault, the first network that is judged wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.campaign.judge import Verdict, judge
from tests.faults import FAULTS, plant

#: A crash is seen as well as a wrong result; a refusal of what else is converted may be none.
SEEN = ("wrong", "crash")


@dataclass(frozen=True)
class Hunt:
    """How a planted fault was found.

    Attributes:
        fault: Its name.
        planted: Networks in which it was possible, up to the one that showed it.
        drawn: All networks that were converted with the wrong pass up to there.
        verdict: Of that one; None if no network shows it.
    """

    fault: str
    planted: int
    drawn: int
    verdict: Verdict | None

    def to_json(self) -> dict[str, Any]:
        found = self.verdict.to_json() if self.verdict else {}
        kept = {name: found[name] for name in ("family", "seed", "kind", "text") if name in found}
        name = FAULTS[self.fault][0].name
        return {"fault": self.fault, "pass": name, "planted": self.planted, "drawn": self.drawn, **kept}


def hunt(fault: str, networks: Iterable[tuple[str, int]]) -> Hunt:
    """Judge networks, by family and seed, with a fault in a pass, as the campaign judges them without."""
    kind, change, _, _ = FAULTS[fault]
    planted = drawn = 0
    for drawn, (family, seed) in enumerate(networks, 1):
        with pytest.MonkeyPatch.context() as patch:
            guilty = plant(patch, kind, change)
            verdict = judge(family, seed)
        planted += bool(guilty)
        if guilty and verdict.kind in SEEN:
            return Hunt(fault, planted, drawn, verdict)
    return Hunt(fault, planted, drawn, None)
