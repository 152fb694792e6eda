"""What ``--auto`` is asked for: a largest loss, or a budget of spikes or energy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from snnc.errors import UsageError

__all__ = ["Target", "parse_target"]

_FORM = re.compile(r"\s*(loss|spikes|energy)\s*=\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµμ%]*)\s*")
_PICOJOULES = {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "µJ": 1e6, "μJ": 1e6, "mJ": 1e9}


@dataclass(frozen=True)
class Target:
    """What the choice of codes has to reach.

    Attributes:
        kind: ``loss`` (points of accuracy or agreement), ``spikes`` (mean of a neuron) or ``energy``.
        value: Points; spikes; picojoules of an image, or a factor.
        relative: The energy is a factor of that at the default settings.
        text: What the user wrote.
    """

    kind: Literal["loss", "spikes", "energy"]
    value: float
    relative: bool
    text: str

    def reached(self, loss: float, spikes: float, energy: float) -> str:
        """Write figures in the form of a target of this kind."""
        if self.kind == "loss":
            return f"loss={loss:.4g}"
        return f"spikes={spikes:.4g}" if self.kind == "spikes" else f"energy={energy / 1e6:.4g}uJ"


def parse_target(text: str) -> Target:
    """Read a target such as ``loss=0.5``, ``spikes=0.8``, ``energy=2uJ`` or ``energy=0.5x``.

    Raises:
        UsageError: SNN280, the text is no target.
    """
    found = _FORM.fullmatch(text)
    units = {"loss": ("", "%"), "spikes": ("",), "energy": (*_PICOJOULES, "x")}
    if found is None or found[3] not in units[found[1]]:
        raise UsageError(
            "SNN280",
            f"{text!r} is no target",
            hint="loss=0.5 (points), spikes=0.8 (per neuron), energy=2uJ (per sample) or energy=0.5x",
        )
    value = float(found[2])
    if not math.isfinite(value) or (value == 0 and found[1] != "loss"):
        raise UsageError("SNN280", f"{text!r} leaves no budget")
    kind = found[1]
    assert kind in ("loss", "spikes", "energy")
    return Target(kind, value * _PICOJOULES.get(found[3], 1.0), found[3] == "x", text)  # type: ignore[arg-type]
