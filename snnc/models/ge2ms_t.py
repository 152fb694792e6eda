"""Ge2mS-T: a spiking transformer of four stages with grouped attention (arXiv 2604.08894)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from torch import Tensor, nn

from snnc.coding import Partition
from snnc.errors import UsageError
from snnc.nn.activations import Activation, Layers, expg_activation
from snnc.nn.attention import GroupedAttention, ScoreScale
from snnc.nn.blocks import SFFN, ConvSFFN, EventMerge, SConv, downsampling, head, stem

__all__ = ["SIZES", "Architecture", "Ge2mST", "ge2mst"]


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class Architecture:
    """What a Ge2mS-T is made of; the defaults of `ge2mst` match the paper's numbers of parameters.

    The paper leaves much open. Its three numbers of parameters fit many configurations, so that these
    defaults *match the parameter counts*, no more (semantics note 4.4).

    Attributes:
        widths: Channels of the stem and of stages 1 to 4.
        depths: Blocks of stages 1 to 4 (the paper's table has lost them; equal depths with widths 3 : 4 : 5
            fit its parameters).
        classes: Number of logits.
        channels: Channels of the input image.
        timesteps: T of every code.
        groups: G of every code. Open; the paper's operations exceed one spike per neuron, so G > 1.
        partition: Time-steps into groups: ``"interleaved"`` (inferred; 1.2 dB better) or ``"contiguous"``.
        attention_timesteps: T of the attention matrix; ``None``: as everywhere.
        attention_groups: G of the attention matrix; ``None``: as everywhere.
        signed: Signed codes of q, k, v and of the attention's result (inferred).
        heads: Heads of stages 2, 3, 4 (open; no parameter depends on them).
        chunks: m of stages 2, 3, 4: groups along each side of the map. Open; 4, 2, 1 give 49 tokens a group
            at 224 x 224 in every stage, which is what the paper says of its operations.
        dilated_heads: Heads of stages 2 and 3 with dilated groups, the others have windows; ``None``: half.
        convolution_branch: Depthwise convolution of v beside attention, in stages 2 and 3.
        last_branch: The same in stage 4 (the parameters fit with it).
        branch_norm: BatchNorm behind that convolution.
        score_scale: ``"dimension"`` or ``"tokens"``, see `snnc.nn.GroupedAttention`.
        feed_forward_ratio: Hidden channels of SFFN and Conv-SFFN, divided by the width.
        convolution_ratio: The same of SConv.
        depthwise_kernel: Side of Conv-SFFN's depthwise convolution.
        depthwise_norm: BatchNorm behind it.
        stem_kernel: Side of the first convolution.
        stem_stride: Its stride.
        strides: Strides of the down-sampling in front of stages 1 to 4.
        events: Frames and polarities of event-camera input, merged by an external convolution into
            ``channels`` maps of spikes; ``None``: images.
        weight_bits: Width of integer weights in training; ``None``: float, made integers when converted.
    """

    widths: tuple[int, int, int, int, int] = (48, 48, 96, 192, 240)
    depths: tuple[int, int, int, int] = (1, 2, 6, 2)
    classes: int = 1000
    channels: int = 3
    timesteps: int = 4
    groups: int = 2
    partition: Partition = "interleaved"
    attention_timesteps: int | None = None
    attention_groups: int | None = None
    signed: bool = True
    heads: tuple[int, int, int] = (4, 8, 8)
    chunks: tuple[int, int, int] = (4, 2, 1)
    dilated_heads: tuple[int, int] | None = None
    convolution_branch: bool = True
    last_branch: bool = True
    branch_norm: bool = True
    score_scale: ScoreScale = "dimension"
    feed_forward_ratio: float = 4
    convolution_ratio: float = 2
    depthwise_kernel: int = 3
    depthwise_norm: bool = False
    stem_kernel: int = 7
    stem_stride: int = 2
    strides: tuple[int, int, int, int] = (2, 2, 2, 2)
    events: tuple[int, int] | None = None
    weight_bits: int | None = None

    def __post_init__(self) -> None:
        for name, length, least in (
            ("widths", 5, 1), ("depths", 4, 0), ("heads", 3, 1), ("chunks", 3, 1), ("strides", 4, 1),
            ("dilated_heads", 2, 0), ("events", 2, 1),
        ):  # fmt: skip
            values = getattr(self, name)
            if values is None and name in ("dilated_heads", "events"):
                continue
            is_row = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == length
            if not is_row or not all(_is_whole(value, least) for value in values):
                raise UsageError(
                    "SNN217", f"{name} must be {length} whole numbers from {least} on, not {values!r}"
                )
        for name in ("classes", "channels", "stem_stride", "stem_kernel", "depthwise_kernel"):
            value = getattr(self, name)
            if not _is_whole(value, 1) or (name.endswith("kernel") and value % 2 == 0):
                kind = "an odd" if name.endswith("kernel") else "a positive"
                raise UsageError("SNN217", f"{name} must be {kind} whole number, not {value!r}")
        for name in ("feed_forward_ratio", "convolution_ratio"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 1 <= value * min(self.widths[1:]) < math.inf:
                raise UsageError("SNN217", f"{name} must leave a channel, not {value!r}")
        if self.score_scale not in get_args(ScoreScale):
            names = " or ".join(get_args(ScoreScale))
            raise UsageError("SNN217", f"score_scale must be {names}, not {self.score_scale!r}")
        for name in ("convolution_branch", "last_branch", "branch_norm", "depthwise_norm"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError("SNN217", f"{name} must be True or False, not {getattr(self, name)!r}")

    @property
    def reduction(self) -> int:
        """Input sizes that are multiples of this divide everywhere without a remainder."""
        total, result = self.stem_stride * self.strides[0], 1
        for stride, chunks in zip(self.strides[1:], self.chunks, strict=True):
            total *= stride
            result = max(result, total * chunks)
        return result


#: The paper's networks: 5.35, 9.36 and 14.48 million parameters.
SIZES: dict[str, Architecture] = {
    "small": Architecture(),
    "base": Architecture(widths=(64, 64, 128, 256, 320)),
    "large": Architecture(widths=(80, 80, 160, 320, 400)),
}


class Block(nn.Module):
    """One block: attention or a convolution pair, then a feed-forward pair, each added to the stream.

    Args:
        mixer: Mixes tokens: attention or SConv.
        feed_forward: Feed-forward pair.
    """

    def __init__(self, mixer: nn.Module, feed_forward: nn.Module) -> None:
        super().__init__()
        self.mixer, self.feed_forward = mixer, feed_forward

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, C, H, W)`` to the stream."""
        x = x + self.mixer(x)
        stream: Tensor = x + self.feed_forward(x)
        return stream


class Ge2mST(nn.Module):
    """The network of an `Architecture`.

    Args:
        architecture: What it is made of.
        activation: Makes neurons in place of ExpG: `snnc.nn.float_activation` gives the float control.

    Raises:
        UsageError: SNN201 and following for T, G or partition, SNN210 for ``weight_bits``, SNN217 for heads
            that do not divide.
    """

    def __init__(self, architecture: Architecture, *, activation: Activation | None = None) -> None:
        super().__init__()
        self.architecture = a = architecture
        layers = Layers(a.weight_bits)
        neuron = activation or expg_activation(a.timesteps, a.groups, a.partition)
        matrix = activation or expg_activation(
            a.attention_timesteps or a.timesteps, a.attention_groups or a.groups, a.partition
        )
        self.merge = (
            EventMerge(*a.events, a.channels, neuron, layers=layers)
            if a.events is not None
            else nn.Identity()
        )
        self.stem = stem(a.channels, a.widths[0], kernel=a.stem_kernel, stride=a.stem_stride, layers=layers)
        stages: list[nn.Module] = []
        for number, (width, depth) in enumerate(zip(a.widths[1:], a.depths, strict=True)):
            down = downsampling(a.widths[number], width, neuron, stride=a.strides[number], layers=layers)
            blocks = [self._block(number, width, neuron, matrix, layers) for _ in range(depth)]
            stages.append(nn.Sequential(down, *blocks))
        self.stages = nn.Sequential(*stages)
        self.head = head(a.widths[-1], a.classes, neuron, layers=layers)

    def _block(
        self, number: int, width: int, neuron: Activation, matrix: Activation, layers: Layers
    ) -> Block:
        a = self.architecture
        if number == 0:
            mixer: nn.Module = SConv(width, neuron, ratio=a.convolution_ratio, layers=layers)
        else:
            last = number == 3
            mixer = GroupedAttention(
                width,
                neuron,
                heads=a.heads[number - 1],
                chunks=a.chunks[number - 1],
                dilated_heads=None if last or a.dilated_heads is None else a.dilated_heads[number - 1],
                convolution_branch=a.last_branch if last else a.convolution_branch,
                branch_norm=a.branch_norm,
                signed=a.signed,
                score_scale=a.score_scale,
                attention_activation=matrix,
                layers=layers,
            )
        if number in (0, 3):
            pair: nn.Module = SFFN(width, neuron, ratio=a.feed_forward_ratio, layers=layers)
        else:
            pair = ConvSFFN(
                width,
                neuron,
                ratio=a.feed_forward_ratio,
                kernel=a.depthwise_kernel,
                depthwise_norm=a.depthwise_norm,
                layers=layers,
            )
        return Block(mixer, pair)

    def forward(self, x: Tensor) -> Tensor:
        """Classify.

        Args:
            x: Images ``(N, channels, H, W)``, or event frames ``(N, frames, polarities, H, W)``. Every map
                with attention must divide into its groups: H and W that are multiples of
                ``architecture.reduction`` do.

        Returns:
            Logits, float32 ``(N, classes)``.

        Raises:
            UsageError: SNN216 if a map does not divide; SNN217 for other event frames than promised.
        """
        logits: Tensor = self.head(self.stages(self.stem(self.merge(x))))
        return logits


def ge2mst(size: str = "small", *, activation: Activation | None = None, **choices: Any) -> Ge2mST:
    """Return a Ge2mS-T.

    Args:
        size: ``"small"``, ``"base"`` or ``"large"``: 5.35, 9.36, 14.48 million parameters with 1,000 classes.
        activation: Makes neurons in place of ExpG: `snnc.nn.float_activation` gives the float control.
        **choices: Fields of `Architecture` that differ: ``classes=10``, ``groups=4``, ``events=(8, 2)``...

    Raises:
        UsageError: SNN217 for a size or a choice that does not exist; what `Ge2mST` raises.

    Source:
        Ge2mS-T (arXiv 2604.08894), tables of the architecture; semantics notes 4.1 to 4.4.

    Example:
        >>> network = ge2mst("small", classes=10, timesteps=4, groups=4)
    """
    if size not in SIZES:
        raise UsageError("SNN217", f"there is no Ge2mS-T {size!r}", hint=f"sizes: {', '.join(SIZES)}")
    names = [field.name for field in fields(Architecture)]
    if unknown := sorted(set(choices) - set(names)):
        raise UsageError(
            "SNN217", f"Ge2mS-T has no choice {', '.join(unknown)}", hint=f"choices: {', '.join(names)}"
        )
    return Ge2mST(replace(SIZES[size], **choices), activation=activation)
