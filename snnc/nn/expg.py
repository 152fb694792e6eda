"""The ExpG quantiser as a torch module, for quantisation-aware training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snnc.coding import CodeBook, Partition, optimal_step
from snnc.errors import UsageError
from snnc.nn.functional import expg, quantise
from snnc.nn.symbolic import one_node
from snnc.ops import DOMAIN

__all__ = ["ExpG", "FixedExpG"]


class ExpG(nn.Module):
    """The ExpG quantiser with a trained threshold.

    In training it is ``(1 - alpha) clip(u) + alpha ExpG(clip(u))`` with straight-through gradients. In
    evaluation it is the deployed function ``step * code``, whatever alpha: code k is reached when
    ``u >= p_k * step`` in float32, the comparison that every later stage of snnc makes.

    The threshold theta is the value of the largest code, ``theta = step * M``. Its parameter is the
    logarithm, so that it stays positive and an optimiser's step is relative to its size. The first training
    batch sets it to the best step for a (half-)normal signal of the batch's root mean square, unless
    ``initial_threshold`` is given or a checkpoint was loaded.

    Args:
        timesteps: T, 1 to 16.
        groups: G, 1 to T; a neuron spikes at most G times.
        partition: ``"interleaved"`` or ``"contiguous"``.
        signed: Odd-symmetric codes with spikes in {-1, 0, 1}.
        channels: Number of thresholds, one per channel; ``None``: one for the tensor.
        channel_axis: Axis of the channels in the input.
        initial_threshold: Theta to start from, positive.
        gradient_scale: Scale theta's gradient by ``1/sqrt(N K)`` as LSQ does.

    Attributes:
        book: The `CodeBook`.
        alpha: Mixing coefficient in [0, 1]; 1 unless a `Schedule` sets it. Not part of the state dict.

    Raises:
        UsageError: SNN201 and following for T, G or partition out of range, SNN210 for ``channels`` or
            ``initial_threshold`` not positive.

    Source:
        Ge2mS-T (arXiv 2604.08894), mixed activation; semantics notes 1.3 to 1.5.
    """

    alpha: float
    initialised: Tensor

    def __init__(
        self,
        timesteps: int,
        groups: int,
        *,
        partition: Partition = "interleaved",
        signed: bool = False,
        channels: int | None = None,
        channel_axis: int = 1,
        initial_threshold: float | None = None,
        gradient_scale: bool = False,
    ) -> None:
        super().__init__()
        self.book = CodeBook(timesteps, groups, partition, signed)
        if channels is not None and channels < 1:
            raise UsageError("SNN210", f"channels must be positive or None, not {channels}")
        if initial_threshold is not None and not 0.0 < initial_threshold < float("inf"):
            raise UsageError("SNN210", f"initial_threshold must be positive, not {initial_threshold}")
        self.channels, self.channel_axis, self.gradient_scale = channels, channel_axis, gradient_scale
        start = torch.full((channels,) if channels else (), initial_threshold or 1.0)
        self.log_theta = nn.Parameter(start.log())
        self.alpha = 1.0
        self.register_buffer("initialised", torch.tensor(initial_threshold is not None))
        self._ready = False  # spares the test of a buffer, and with it a graph break under torch.compile

    @property
    def theta(self) -> Tensor:
        """Value of the largest code: float32, shape ``()`` or ``(channels,)``, positive."""
        return self.log_theta.exp()

    @property
    def step(self) -> Tensor:
        """Value of code 1: float32, shape ``()`` or ``(channels,)``, positive."""
        return self.theta / self.book.magnitude

    def _broadcast(self, values: Tensor, rank: int) -> Tensor:
        """Give ``()`` or ``(channels,)`` the shape that broadcasts against an input of ``rank``."""
        if self.channels is None:
            return values
        axis = self.channel_axis % rank
        return values.reshape((-1,) + (1,) * (rank - 1 - axis))

    def _check(self, u: Tensor) -> None:
        if self.channels is None:
            return
        if not -u.ndim <= self.channel_axis < u.ndim or u.shape[self.channel_axis] != self.channels:
            raise UsageError(
                "SNN210",
                f"ExpG with channels={self.channels} on axis {self.channel_axis} got shape {tuple(u.shape)}",
            )

    @torch.no_grad()
    def initialise(self, u: Tensor) -> None:
        """Set theta from one batch: best step for a (half-)normal signal with the batch's root mean square.

        An unsigned quantiser looks at the positive values only, a signed one at all.

        Args:
            u: Input of the quantiser, float.
        """
        self._check(u)
        values = u.detach().float()
        rows = values.reshape(1, -1)
        if self.channels is not None:
            rows = values.movedim(self.channel_axis, 0).reshape(self.channels, -1)
        counted = torch.ones_like(rows) if self.book.signed else (rows > 0).float()
        deviation = ((rows.square() * counted).sum(1) / counted.sum(1).clamp_min(1)).sqrt()
        # A dead channel gives no scale of its own.
        deviation = torch.where(deviation > 0, deviation, deviation.max())
        if not bool((deviation > 0).all()):
            return
        theta = deviation * (optimal_step(self.book) * self.book.magnitude)
        self.log_theta.copy_(theta.log().reshape(self.log_theta.shape))
        self.initialised.fill_(True)

    def forward(self, u: Tensor) -> Tensor:
        """Quantise.

        Args:
            u: Float tensor; the channel axis, if any, has ``channels`` entries.

        Returns:
            Tensor of the same shape and dtype.

        Raises:
            UsageError: SNN210 if the channel axis does not fit.
        """
        self._check(u)
        if not self.training:
            if torch.onnx.is_in_onnx_export():
                # For torch.onnx.export called on the network itself: one node, as snnc.export writes it.
                return self.fixed(u.ndim).forward(u)
            return quantise(u, self._broadcast(self.step, u.ndim), self.book)
        if not self._ready:
            if not bool(self.initialised):
                self.initialise(u)
            self._ready = bool(self.initialised)
        theta = self._broadcast(self.theta, u.ndim)
        return expg(u, theta, self.alpha, self.book, gradient_scale=self.gradient_scale)

    def fixed(self, rank: int) -> FixedExpG:
        """Return the deployed function with its step as a constant, for inputs of ``rank`` axes."""
        return FixedExpG(self._broadcast(self.step.detach(), rank).clone(), self.book)

    def extra_repr(self) -> str:
        """Describe the code for ``print(module)``."""
        book = self.book
        sign = "signed" if book.signed else "unsigned"
        return f"T={book.timesteps}, G={book.groups}, {book.partition}, {sign}, channels={self.channels}"


class FixedExpG(nn.Module):
    """The deployed quantiser: ``step * code`` with a constant step, one node in an exported graph.

    Args:
        step: float32, positive, shape ``()`` or broadcastable along one axis of the input.
        book: Its codes.
    """

    step: Tensor

    def __init__(self, step: Tensor, book: CodeBook) -> None:
        super().__init__()
        self.book = book
        self.register_buffer("step", step)

    def forward(self, u: Tensor) -> Tensor:
        """Quantise ``u``, float32 of any shape that ``step`` broadcasts to."""
        if torch.onnx.is_in_onnx_export():
            # One node of the domain ai.snnc; its meaning comes from the function that the exporter attaches.
            return one_node(f"{DOMAIN}::Quantise", (u, self.step), self._attributes())
        return quantise(u, self.step, self.book)

    def _attributes(self) -> dict[str, Any]:
        points = self.book.break_points("away")
        return {
            **self.book.to_attributes(),
            "ties": "away",
            "codes": self.book.codes.tolist(),
            "twice_midpoints": [point.twice_midpoint for point in points],
            "closed": [int(point.closed) for point in points],
        }
