"""What a user may choose of a conversion, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from snnc.coding import CodeBook, Partition
from snnc.errors import UsageError
from snnc.passes.quantise.reconstruct import Reconstruction
from snnc.passes.quantise.steps import ObserverName
from snnc.settings import SETTINGS, LayerRule, check

__all__ = ["ConvertOptions"]


@dataclass(frozen=True)
class ConvertOptions:
    """What the user may choose.

    Attributes:
        timesteps: T of every activation code; None keeps what the model's own quantisers imply.
        groups: G of every activation code; None: as many as time-steps for uniform quantisers.
        partition: ``interleaved`` or ``contiguous``.
        weights: ``int2`` … ``int16``, or ``wide``.
        layers: Rules for single layers, such as ``'/blocks.0/*:timesteps=6,groups=3'``; later rules win. See
            `LayerRule`.
        calibrate: Calibration data as given by the user; a model with quantisers of its own needs none.
        seed: Seed of everything random.
        auto: A target for `snnc.auto.choose`, which turns it into ``layers``; `convert` itself refuses it.
        labels: Classes of the calibration data, for ``auto``.
        observer: How the steps of codes are chosen: ``mse``, ``percentile`` or ``entropy``.
        reconstruct: What calibration data mend of integer weights: ``none``, ``biases`` or ``weights``.
        encode_input: Whether the input becomes spikes, so that the first layer need not run on the host.
        attention: ``global``; ``grouped``: half of the heads attend in dilated groups, half in windows;
            ``adjacent``: patches attend to neighbours; ``burst``: binary queries and bursts, no softmax.
        stride: Distance of neighbours in a dilated group.
        window: Side of a window; None: the side of the grid divided by ``stride`` if grouped, 3 if adjacent,
            all tokens if burst.
        grid: Height and width of the grid of tokens whose map the network does not show: ``4x6``.
        bursts: Most spikes of a key, of burst attention.
        allow_host: Operators and nodes that stay in float on the host, declared and billed.
        sizes: Numbers of open sizes of the inputs, ``NAME=NUMBER``; what is not named is taken from the
            calibration data.

    Each field has a row in `snnc.settings.SETTINGS`, from which flags and recipe keys are made.
    """

    timesteps: int | None = None
    groups: int | None = None
    partition: Partition = "interleaved"
    weights: str = "int8"
    layers: tuple[str, ...] = ()
    calibrate: str | None = None
    seed: int = 0
    auto: str | None = None
    labels: str | None = None
    encode_input: bool = False
    attention: Literal["global", "grouped", "adjacent", "burst"] = "global"
    stride: int = 2
    window: int | None = None
    grid: str | None = None
    bursts: int = 3
    allow_host: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    observer: ObserverName = "mse"
    reconstruct: Reconstruction = "none"

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            if setting.many and (isinstance(value, str) or not isinstance(value, Sequence)):
                raise UsageError("SNN271", f"{setting.key} is {value!r}, expected a list")
            if setting.many:
                object.__setattr__(self, setting.name, tuple(value))
            for item in value if setting.many else [value]:
                if item is not None and setting.name not in ("timesteps", "groups", "partition"):
                    check(setting, item)
        for text in self.layers:
            LayerRule.parse(text)
        if self.partition not in ("interleaved", "contiguous"):
            raise UsageError(
                "SNN203", f"{self.partition!r} is no partition", hint="interleaved or contiguous"
            )
        timesteps = self.timesteps if self.timesteps is not None else 16
        groups = self.groups if self.groups is not None else 1
        CodeBook(timesteps, groups, self.partition)
