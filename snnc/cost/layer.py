"""The cost of one node, in whole numbers counted over a number of images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from snnc.cost.constants import price
from snnc.errors import InputError

__all__ = ["Kind", "LayerCost"]

Kind = Literal["neuron", "encoder", "synapse", "host", "other"]


@dataclass(frozen=True)
class LayerCost:
    """What one node did for all images together. Counts are exact integers, so sums do not depend on order.

    Attributes:
        name: Name of the node, as in the user's file where it has one there.
        op: Operator of the spike dialect.
        kind: ``neuron`` (ExpG-IF), ``encoder`` (input coded by the host), ``synapse`` (fed by spikes),
            ``host`` (multiplies on the host), or ``other`` (membrane arithmetic, pooling).
        timesteps: T of the code that a neuron emits; 0 elsewhere.
        groups: G of that code; 0 elsewhere.
        limit: Most spikes per window that the code allows a neuron, or that can arrive on one wire of a
            synaptic layer (several neurons share a wire behind average pooling).
        levels: Codes a neuron can emit; 0 elsewhere.
        signed: Whether emitted spikes have a sign.
        neurons: Neurons that were evaluated (one image evaluates each neuron once).
        spikes: Spikes they emitted, or, for synapses, spikes they received.
        histogram: Neurons that emitted 0, 1, 2... spikes; its length is ``limit + 1``. Empty elsewhere.
        comparisons: Comparisons with thresholds, or of pooled values.
        sops: Synaptic operations: spikes times fan-out, padding left out.
        sops_zero_skipping: The same without those that meet a held zero; equal to ``sops`` where the other
            operand is a weight.
        macs: Multiplications of the same layer done densely, by convention padding included.
        exact_macs: The same without padding.
        additions: Additions outside of synapses (residual joins, average pooling, charging).
        mac_planes: 8-bit by 8-bit products that one host multiplication consists of; 0 elsewhere.
    """

    name: str
    op: str
    kind: Kind
    timesteps: int = 0
    groups: int = 0
    limit: int = 0
    levels: int = 0
    signed: bool = False
    neurons: int = 0
    spikes: int = 0
    histogram: tuple[int, ...] = ()
    comparisons: int = 0
    sops: int = 0
    sops_zero_skipping: int = 0
    macs: int = 0
    exact_macs: int = 0
    additions: int = 0
    mac_planes: int = 0

    def __add__(self, other: LayerCost) -> LayerCost:
        """Return the cost of both: the same node on more images."""
        summed: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        summed["histogram"] = tuple(a + b for a, b in zip(self.histogram, other.histogram, strict=True))
        return LayerCost(**{**self.to_dict(), **summed})

    @property
    def spikes_per_neuron(self) -> float:
        """Mean number of spikes of a neuron in one window; 0 where there are no neurons."""
        return self.spikes / self.neurons if self.neurons else 0.0

    @property
    def firing_rate(self) -> float:
        """Share of neurons and time-steps with a spike: spikes / (T * neurons)."""
        return self.spikes / (self.timesteps * self.neurons) if self.neurons else 0.0

    @property
    def most_spikes(self) -> int:
        """Most spikes that any neuron emitted in any window."""
        return max((count for count, neurons in enumerate(self.histogram) if neurons), default=0)

    @property
    def sop_bound(self) -> int:
        """Most synaptic operations possible: limit * multiplications without padding."""
        return self.limit * self.exact_macs if self.kind == "synapse" else 0

    @property
    def energy(self) -> float:
        """Energy in the papers' convention, unit: pJ: float32 MAC on the host, float32 AC per SOP."""
        host = self.macs if self.kind == "host" else 0
        return price("ac") * self.sops + price("mac") * host

    @property
    def integer_energy(self) -> float:
        """Energy on an integer datapath, unit: pJ.

        Each SOP, comparison and addition is an int32 add; a host multiplication is ``mac_planes`` int8 MACs.
        Shifts are free.
        """
        host = self.macs * self.mac_planes if self.kind == "host" else 0
        return price("int32_add") * (self.sops + self.comparisons + self.additions) + price("int8_mac") * host

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return {**asdict(self), "histogram": list(self.histogram)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> LayerCost:
        """Rebuild a row from `to_dict`.

        Raises:
            InputError: SNN345, fields are missing or unknown.
        """
        wanted = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or set(content) != wanted:
            raise InputError("SNN345", "is not a row of a cost report written by this version of snnc")
        return cls(**{**content, "histogram": tuple(content["histogram"])})


_COUNTS = (
    "neurons",
    "spikes",
    "comparisons",
    "sops",
    "sops_zero_skipping",
    "macs",
    "exact_macs",
    "additions",
)
