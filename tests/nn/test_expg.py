import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snnc.coding import CodeBook, optimal_step
from snnc.errors import UsageError
from snnc.nn import ExpG
from snnc.nn.functional import expg, quantise

BOOKS = [
    CodeBook(4, groups, partition, signed)
    for groups in (1, 2, 4)
    for partition in ("interleaved", "contiguous")
    for signed in (False, True)
] + [CodeBook(8, 2), CodeBook(1, 1), CodeBook(8, 8, signed=True)]


def reference(u: Tensor, theta: Tensor, alpha: float, book: CodeBook) -> Tensor:
    """Semantics 1.4 for autograd, in float64: a sum of shifted Heavisides, straight through for u."""
    step = theta / book.magnitude
    clipped = torch.clamp(u, min=torch.zeros(()) if not book.signed else -theta, max=theta)
    codes = torch.full_like(clipped, float(book.codes[0]))
    jumps = np.diff(book.codes)
    for jump, point in zip(jumps, book.break_points("away"), strict=True):
        codes = codes + float(jump) * torch.heaviside(
            clipped / step - point.twice_midpoint / 2, torch.tensor(float(point.closed), dtype=u.dtype)
        )
    rounding = (codes - clipped / step).detach()
    return clipped + alpha * rounding * step


def gradients(function, u: Tensor, theta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, theta = u.clone().requires_grad_(), theta.clone().requires_grad_()
    value = function(u, theta)
    (value * weight).sum().backward()
    assert u.grad is not None and theta.grad is not None
    return value.detach(), u.grad, theta.grad


@pytest.mark.parametrize("book", BOOKS, ids=str)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("channels", [None, 3])
def test_value_and_gradients_equal_those_of_the_reference(book, alpha, channels):
    generator = torch.Generator().manual_seed(7)
    u = 1.5 * torch.randn(4, 3, 5, 6, generator=generator)
    weight = torch.randn(u.shape, generator=generator)
    theta = torch.tensor(1.7) if channels is None else torch.tensor([0.4, 1.7, 2.6]).reshape(3, 1, 1)
    got = gradients(lambda a, b: expg(a, b, alpha, book), u, theta, weight)
    want = gradients(lambda a, b: reference(a, b, alpha, book), u.double(), theta.double(), weight.double())
    for mine, its in zip(got, want, strict=True):
        torch.testing.assert_close(mine.double(), its, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("signed", [False, True])
def test_gradients_outside_the_clip(signed):
    u = torch.tensor([-3.0, -2.0, 2.0, 3.0])
    _, to_u, to_theta = gradients(
        lambda a, b: expg(a, b, 1.0, CodeBook(4, 2, signed=signed)),
        u,
        torch.tensor(2.0),
        torch.tensor([8.0, 4.0, 2.0, 1.0]),
    )
    assert to_u.tolist() == [0.0] * 4
    assert to_theta.item() == (-9.0 if signed else 3.0)


def test_gradients_do_not_depend_on_the_memory_layout():
    generator = torch.Generator().manual_seed(1)
    u, weight = (torch.randn(2, 4, 6, 5, generator=generator) for _ in range(2))
    book, theta = CodeBook(4, 2, signed=True), torch.tensor(1.3)
    want = gradients(lambda a, b: expg(a, b, 0.5, book), u, theta, weight)
    views = {
        "channels last": lambda a: a.contiguous(memory_format=torch.channels_last),
        "strided": lambda a: torch.stack([a, a], -1)[..., 0],
        "transposed": lambda a: a.transpose(1, 3).contiguous().transpose(1, 3),
    }
    for name, view in views.items():
        got = gradients(lambda a, b, view=view: expg(view(a), b, 0.5, book), u, theta, weight)
        for mine, its in zip(got, want, strict=True):
            torch.testing.assert_close(mine, its, msg=name)


def test_lsq_scale_divides_the_gradient_of_theta():
    u, weight, theta = torch.linspace(-1, 3, 50), torch.ones(50), torch.tensor(2.0)
    book = CodeBook(4, 2)
    plain = gradients(lambda a, b: expg(a, b, 1.0, book), u, theta, weight)[2]
    scaled = gradients(lambda a, b: expg(a, b, 1.0, book, gradient_scale=True), u, theta, weight)[2]
    torch.testing.assert_close(scaled, plain / math.sqrt(50 * 8))


@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_deployed_codes_are_the_nearest_ones_with_ties_away_from_zero(book):
    step = 0.25  # a power of two: u / step is exact, so ties are ties
    points = book.twice_midpoints.astype(np.float32) * np.float32(step / 2)
    around = [points, np.nextafter(points, np.float32(-99)), np.nextafter(points, np.float32(99))]
    u = np.concatenate([*around, np.linspace(-20, 20, 999, dtype=np.float32), np.zeros(1, np.float32)])
    got = quantise(torch.from_numpy(u), torch.tensor(step), book).numpy()
    assert np.array_equal(got, book.nearest(u.astype(np.float64) / step, "away") * np.float32(step))


def test_deployed_comparison_is_with_the_float32_product():
    book, generator = CodeBook(4, 4), np.random.default_rng(0)
    for step in generator.uniform(0.01, 3.0, 50).astype(np.float32):
        points = book.twice_midpoints.astype(np.float32) / 2 * step
        below = np.nextafter(points, np.float32(0))
        got = quantise(torch.from_numpy(np.stack([below, points])), torch.tensor(step), book).numpy()
        assert np.array_equal(got, np.stack([book.codes[:-1], book.codes[1:]]).astype(np.float32) * step)


@pytest.mark.parametrize(("timesteps", "groups"), [(4, 2), (8, 8)])
def test_per_channel_equals_per_tensor_on_each_channel(timesteps, groups):
    generator = torch.Generator().manual_seed(3)
    u = torch.randn(2, 5, 4, generator=generator)
    module = ExpG(timesteps, groups, signed=True, channels=4, channel_axis=-1).train()
    module(u)
    assert bool(module.initialised)
    module.eval()
    whole = module(u)
    for channel in range(4):
        alone = quantise(u[..., channel], module.step[channel], module.book)
        assert torch.equal(whole[..., channel], alone)


def test_training_at_alpha_one_is_the_deployed_function():
    u = torch.randn(20_000, generator=torch.Generator().manual_seed(5))
    for groups in (1, 2, 3, 4):
        module = ExpG(4, groups, initial_threshold=2.0)
        trained = module.train()(u)
        deployed = module.eval()(u)
        # They round differently at a break point, and nowhere else.
        assert (trained != deployed).float().mean() <= 1e-3
        torch.testing.assert_close(trained.mean(), deployed.mean(), rtol=1e-3, atol=1e-3)


def test_training_at_alpha_zero_is_the_clip():
    u = torch.linspace(-3, 3, 101)
    module = ExpG(4, 2, initial_threshold=2.0).train()
    module.alpha = 0.0
    torch.testing.assert_close(module(u), u.clamp(0, 2.0))


@pytest.mark.parametrize("signed", [False, True])
def test_first_batch_sets_theta_for_a_normal_signal(signed):
    u = 3.0 * torch.randn(40_000, generator=torch.Generator().manual_seed(2))
    module = ExpG(4, 2, signed=signed).train()
    module(u)
    assert float(module.step.detach()) == pytest.approx(optimal_step(module.book, 3.0), rel=0.02)
    theta = module.theta.detach().clone()
    module(10 * u)
    assert torch.equal(module.theta, theta)


def test_a_checkpoint_keeps_its_theta():
    first = ExpG(4, 2).train()
    first(torch.randn(100))
    second = ExpG(4, 2)
    second.load_state_dict(first.state_dict())
    second.train()(100 * torch.randn(100))
    assert torch.equal(first.theta, second.theta)


def test_theta_learns_the_best_step_for_its_signal():
    generator = torch.Generator().manual_seed(0)
    module = ExpG(4, 4, initial_threshold=1.0, signed=True).train()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(300):
        u = torch.randn(2_000, generator=generator)
        loss = (module(u) - u).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(module.step.detach()) == pytest.approx(optimal_step(module.book), rel=0.1)


@pytest.mark.parametrize(
    "options", [{"channels": 0}, {"initial_threshold": 0.0}, {"initial_threshold": math.inf}]
)
def test_bad_options_are_usage_errors(options):
    with pytest.raises(UsageError, match="SNN210"):
        ExpG(4, 2, **options)


def test_wrong_number_of_channels_is_a_usage_error():
    with pytest.raises(UsageError, match="channels=3"):
        ExpG(4, 2, channels=3)(torch.zeros(2, 4, 5))


@pytest.mark.parametrize("book", [(4, 2, "interleaved", False), (8, 4, "contiguous", True)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_search_for_codes_finds_what_comparing_finds(monkeypatch, book, per_channel):
    """Devices other than the processor search, whatever the number of codes."""
    codes = CodeBook(*book)
    steps = torch.rand(3, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.01
    step = steps.reshape(1, 3, 1) if per_channel else steps[0]
    midpoints = torch.from_numpy((codes.codes[1:] + codes.codes[:-1]) / 2).float()
    ties = (midpoints.reshape(-1, 1, 1) * step).expand(-1, 3, 2)
    u = torch.cat([torch.randn(50, 3, 2), ties, ties.nextafter(torch.tensor(-torch.inf))])
    compared = quantise(u, step, codes)
    monkeypatch.setattr("snnc.nn.functional._FEW", 0)
    assert torch.equal(quantise(u, step, codes), compared)
