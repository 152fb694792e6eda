"""The measured cost of a spiking network: rows per node, totals, energy figures, JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from snnc import strict
from snnc.cost.constants import PRICES, price
from snnc.cost.layer import Kind, LayerCost
from snnc.errors import InputError

__all__ = ["CostReport", "Energy"]

_SCHEMA = 1


@dataclass(frozen=True)
class Energy:
    """Energy of one image, unit: pJ. Arithmetic only: no memory traffic, no routing.

    Attributes:
        spikes: Papers' convention without the float first layer: 0.9 pJ per SOP.
        with_host: The same plus 4.6 pJ per multiplication on the host (first layer, readout).
        integer: Integer datapath: int32 adds for SOPs, comparisons and additions, int8 MACs on the host.
        dense_float: The same network without spikes in float32: 4.6 pJ per MAC.
        dense_int8: The same network without spikes in int8: 0.3 pJ per MAC.
    """

    spikes: float
    with_host: float
    integer: float
    dense_float: float
    dense_int8: float


@dataclass(frozen=True)
class CostReport:
    """What a spiking network did on some images.

    Attributes:
        data: What was measured on, in words: ``"256 test images of sample.npz"``, ``"synthetic"``.
        images: Number of images.
        layers: One row per node that costs something, in the order of the graph; counts over all images.
        latency: Time-steps from the first spike to the last membrane where every neuron waits for its whole
            window: the sum of T along the longest path (semantics 1.6). Pipelined, one image a window leaves.
    """

    data: str
    images: int
    layers: tuple[LayerCost, ...]
    latency: int = 0

    def of_kind(self, *kinds: Kind) -> tuple[LayerCost, ...]:
        """Return the rows of some kinds, in the order of the graph."""
        return tuple(layer for layer in self.layers if layer.kind in kinds)

    @property
    def neuron_layers(self) -> tuple[LayerCost, ...]:
        """Rows of ExpG-IF layers; the input encoder is not among them."""
        return self.of_kind("neuron")

    @property
    def synaptic_layers(self) -> tuple[LayerCost, ...]:
        """Rows of layers that spikes charge."""
        return self.of_kind("synapse")

    @property
    def neurons(self) -> float:
        """Neurons of the network."""
        return self._per_image(sum(layer.neurons for layer in self.neuron_layers))

    @property
    def spikes(self) -> float:
        """Spikes per image."""
        return self._per_image(sum(layer.spikes for layer in self.neuron_layers))

    @property
    def spikes_per_neuron(self) -> float:
        """Mean spikes of a neuron per image."""
        neurons = sum(layer.neurons for layer in self.neuron_layers)
        return sum(layer.spikes for layer in self.neuron_layers) / neurons if neurons else 0.0

    @property
    def most_spikes(self) -> int:
        """Most spikes of any neuron for any image."""
        return max((layer.most_spikes for layer in self.neuron_layers), default=0)

    @property
    def firing_rate(self) -> float:
        """Spikes / (T * neurons), over all neurons."""
        chances = sum(layer.timesteps * layer.neurons for layer in self.neuron_layers)
        return sum(layer.spikes for layer in self.neuron_layers) / chances if chances else 0.0

    @property
    def sops(self) -> float:
        """Synaptic operations per image."""
        return self._per_image(sum(layer.sops for layer in self.layers))

    @property
    def sops_zero_skipping(self) -> float:
        """Synaptic operations per image where spikes that meet a held zero are skipped."""
        return self._per_image(sum(layer.sops_zero_skipping for layer in self.layers))

    @property
    def sop_bound(self) -> float:
        """Most synaptic operations per image that any input could cause: sum of G * MACs."""
        return self._per_image(sum(layer.sop_bound for layer in self.layers))

    @property
    def comparisons(self) -> float:
        """Comparisons per image."""
        return self._per_image(sum(layer.comparisons for layer in self.layers))

    @property
    def additions(self) -> float:
        """Additions outside of synapses, per image; the papers' convention does not bill them."""
        return self._per_image(sum(layer.additions for layer in self.layers))

    @property
    def host_macs(self) -> float:
        """Multiplications on the host per image."""
        return self._per_image(sum(layer.macs for layer in self.of_kind("host")))

    @property
    def dense_macs(self) -> float:
        """Multiplications per image of the same network without spikes, padding included."""
        return self._per_image(sum(layer.macs for layer in self.layers))

    @property
    def energy(self) -> Energy:
        """Energy figures of one image."""
        return Energy(
            spikes=price("ac") * self.sops,
            with_host=price("ac") * self.sops + price("mac") * self.host_macs,
            integer=sum(layer.integer_energy for layer in self.layers) / self.images,
            dense_float=price("mac") * self.dense_macs,
            dense_int8=price("int8_mac") * self.dense_macs,
        )

    def _repr_html_(self) -> str:
        """Tables for a notebook: the layers, and the figures of the network."""
        from snnc.cost.text import COLUMNS, summary_rows, table_rows
        from snnc.shown import html_table

        layers = html_table([heading for heading, _ in COLUMNS], table_rows(self), "Of one image")
        return layers + html_table(("", ""), summary_rows(self))

    def _per_image(self, count: int) -> float:
        return count / self.images

    def totals(self) -> dict[str, float]:
        """Return the figures of the network, per image, by name; energies in pJ."""
        names = (
            "neurons",
            "spikes",
            "spikes_per_neuron",
            "most_spikes",
            "firing_rate",
            "sops",
            "sops_zero_skipping",
            "sop_bound",
            "comparisons",
            "additions",
            "host_macs",
            "dense_macs",
        )
        energy = {f"energy_{name}_pj": value for name, value in self.energy.__dict__.items()}
        return {**{name: getattr(self, name) for name in names}, **energy}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values: counts over all images, totals per image, prices."""
        return {
            "schema_version": _SCHEMA,
            "data": self.data,
            "images": self.images,
            "latency_timesteps": self.latency,
            "layers": [layer.to_dict() for layer in self.layers],
            "per_image": self.totals(),
            "prices": {name: {"picojoules": p.picojoules, "source": p.source} for name, p in PRICES.items()},
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text, the same bytes for the same report."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=True) + "\n"

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> CostReport:
        """Rebuild a report from `to_dict`; totals are computed anew.

        Raises:
            InputError: SNN345, not a cost report, or of another version.
        """
        if not isinstance(content, dict) or content.get("schema_version") != _SCHEMA:
            raise InputError("SNN345", f"is not a cost report of schema version {_SCHEMA}")
        try:
            data, images, rows = str(content["data"]), int(content["images"]), list(content["layers"])
            steps = int(content["latency_timesteps"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("SNN345", f"is not a complete cost report: {error}") from None
        return cls(data, images, tuple(LayerCost.from_dict(row) for row in rows), steps)

    @classmethod
    def from_json(cls, text: str) -> CostReport:
        """Rebuild a report from `to_json`.

        Raises:
            InputError: SNN345, not a cost report, or of another version.
        """
        try:
            content = strict.loads(text)
        except ValueError as error:
            raise InputError("SNN345", f"is not JSON: {error}") from None
        return cls.from_dict(content)
