"""Related architectures, each held against the error of the sketch that it corrects (semantics note 5.2)."""

import pytest
import torch
from torch import nn

from snnc.errors import UsageError
from snnc.nn import (
    AdaptiveLIF,
    BSViT,
    DualChannelAttention,
    GroupedChannelAttention,
    LatencyEncoder,
    SpikeAttention,
    adjacency,
    expg_activation,
    from_temporal_groups,
    from_windows,
    temporal_groups,
    windows,
)

# --- BSViT ---


def test_the_mask_covers_the_class_token():
    """The sketch's mask is HW x HW for HW + 1 tokens: it cannot run with a class token."""
    mask = adjacency(3, 4, 3, class_token=True)
    assert mask.shape == (13, 13) and mask[0].all() and mask[:, 0].all()
    for i in range(12):
        for j in range(12):
            near = max(abs(i // 4 - j // 4), abs(i % 4 - j % 4)) <= 1
            assert bool(mask[1 + i, 1 + j]) is near
    assert adjacency(3, 4, 3).shape == (12, 12)
    with pytest.raises(UsageError, match="SNN217"):
        adjacency(3, 4, 2)


def test_attention_is_additions_of_masked_whole_numbers():
    torch.manual_seed(0)
    block = DualChannelAttention(8, 2, (3, 3), bursts=3).train()
    seen = {}
    for name in ("q", "k", "v", "out"):
        getattr(block, name).register_forward_hook(
            lambda m, x, y, name=name: seen.__setitem__(name, (x[0], y))
        )
    block((torch.rand(4, 10, 8) > 0.5).float())
    assert set(seen["q"][1].unique().tolist()) == {0, 1}
    assert set(seen["k"][1].unique().tolist()) <= {0, 1, 2, 3} and seen["k"][1].max() > 1
    assert set(seen["v"][1].unique().tolist()) == {-1, 0, 1}  # the sketch's sign(v) has no 0
    q, k = (seen[name][1].reshape(4, 10, 2, 4).transpose(1, 2) for name in ("q", "k"))
    scores = (q @ k.transpose(2, 3)) * adjacency(3, 3, 3, class_token=True)
    wanted = (scores @ seen["v"][1]).transpose(1, 2).reshape(4, 10, 8)
    torch.testing.assert_close(seen["out"][0], wanted * block.gain)


def test_every_projection_gets_a_gradient():
    """``.int()`` and ``>=`` without a surrogate leave q, k and v of the sketch untrained."""
    torch.manual_seed(0)
    network = BSViT(8, width=8, depth=1, heads=2)
    network(torch.rand(16, 1, 8, 8)).logsumexp(1).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_two_calls_and_another_batch_size_agree():
    network = BSViT(8, width=8, depth=1, heads=2).eval()
    x = torch.rand(5, 1, 8, 8)
    first = network(x)
    assert network(x[:2]).shape == (2, 10)
    assert torch.equal(network(x), first)
    torch.testing.assert_close(network(x[:1]), first[:1])


def test_distant_patches_are_not_seen():
    torch.manual_seed(1)
    block = DualChannelAttention(8, 1, (5, 5), class_token=False, threshold=0.02).eval()
    x = torch.rand(1, 25, 8, requires_grad=True)
    block(x)[0, 0].sum().backward()
    seen = x.grad[0].abs().sum(1) > 0
    assert torch.equal(seen.nonzero().flatten(), torch.tensor([0, 1, 5, 6]))


# --- adaptive thresholds ---


def test_attention_reaches_across_tokens():
    """The sketch lacks a transposition: token 0 depends on no other token."""
    torch.manual_seed(0)
    attention = SpikeAttention(8, 2, 2).eval()
    x = torch.rand(1, 2, 6, 8, requires_grad=True)
    attention(x)[:, :, 0].sum().backward()
    assert (x.grad.abs().sum((0, 1, 3)) > 0).all()


def test_thresholds_bring_rates_into_the_band():
    """The sketch's threshold is fixed. Here inputs of very different sizes all end between 5 and 15 %."""
    generator = torch.Generator().manual_seed(0)
    neuron = AdaptiveLIF(3, 4, speed=0.2).train()
    sizes = torch.tensor([0.1, 1.0, 20.0])
    for _ in range(300):
        neuron(torch.randn(4 * 64, 3, generator=generator).abs() * sizes)
    neuron.eval()
    before = neuron.theta.clone()
    rates = neuron(torch.randn(4 * 2000, 3, generator=generator).abs() * sizes).mean(0)
    assert ((rates > 0.045) & (rates < 0.16)).all()
    assert torch.equal(neuron.theta, before)  # evaluation changes nothing


def test_a_spike_takes_exactly_one_threshold():
    """The sketch leaves +0.5 behind; its decay is the exponential of a Python number, a TypeError."""
    neuron = AdaptiveLIF(1, 3, threshold=0.5, tau=1e9).eval()
    assert neuron(torch.tensor([[0.5], [0.0], [0.49]])).flatten().tolist() == [1, 0, 0]
    assert AdaptiveLIF(1, 2, tau=2.0).decay == pytest.approx(0.60653, abs=1e-5)


def test_brighter_is_earlier():
    spikes = LatencyEncoder(5)(torch.tensor([[1.0, 0.76, 0.5, 0.0, 3.0, 0.04]])).reshape(5, 6)
    assert spikes.sum(0).tolist() == [1, 1, 1, 0, 1, 0]
    assert spikes[:, :3].argmax(0).tolist() == [0, 1, 2] and spikes[:, 4].argmax() == 0


# --- groups along several dimensions ---


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_temporal_groups_have_a_true_inverse(groups):
    """``view`` of a permuted tensor fails in the sketch, and ``reshape`` mixes steps with channels."""
    x = torch.arange(2 * 6 * 4 * 3 * 5.0).reshape(2, 6, 4, 3, 5)
    folded = temporal_groups(x, groups)
    assert folded.shape == (2, 6 // groups, 4 * groups, 3, 5)
    for step in range(6):
        for channel in range(4):
            place = channel * groups + step % groups
            assert torch.equal(folded[:, step // groups, place], x[:, step, channel])
    assert torch.equal(from_temporal_groups(folded, groups), x)
    with pytest.raises(UsageError, match="SNN217"):
        temporal_groups(x, 4)


@pytest.mark.filterwarnings("ignore")  # torch warns of its tracer, and of what it cannot see
def test_a_traced_file_takes_any_batch():
    """The tracer would write the batch it has seen into the shapes."""

    def there_and_back(x):
        return from_temporal_groups(temporal_groups(x, 2).flatten(0, 1).unflatten(0, (-1, 3)), 2)

    traced = torch.jit.trace(there_and_back, torch.rand(2, 6, 4, 3, 5))
    x = torch.rand(7, 6, 4, 3, 5)
    assert torch.equal(traced(x), x)


@pytest.mark.parametrize("shift", [0, 1])
def test_windows_have_a_true_inverse(shift):
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    cut = windows(x, 2, shift=shift)
    assert cut.shape == (2, 6, 3, 4)
    rolled = torch.roll(x, (-shift, -shift), (2, 3))
    assert torch.equal(cut[:, 4], rolled[:, :, 2:4, 2:4].flatten(2))
    assert torch.equal(from_windows(cut, 2, 4, 6, shift=shift), x)
    with pytest.raises(UsageError, match="SNN216"):
        windows(x, 3)


def test_channel_attention_takes_the_folded_channels():
    """The sketch norms C channels where there are C times G, and passes five dimensions where four are."""
    torch.manual_seed(0)
    clip = torch.randn(2, 4, 3, 5, 5)
    folded = temporal_groups(clip, 2)
    attention = GroupedChannelAttention(6, 3, expg_activation(4, 2))
    out = attention(folded.flatten(0, 1))
    assert out.shape == (4, 6, 5, 5)
    restored = from_temporal_groups(out.unflatten(0, (2, 2)), 2)
    assert restored.shape == clip.shape
    restored.square().sum().backward()
    assert all(p.grad is not None for p in attention.parameters())


def test_channel_groups_do_not_mix():
    torch.manual_seed(0)
    attention = GroupedChannelAttention(4, 2, lambda signed: nn.Identity()).eval()
    for place in range(4):  # only the products mix channels
        attention.layers[place] = nn.Identity()
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    attention(x)[0, 0].sum().backward()
    assert (x.grad[0, :2] != 0).all() and (x.grad[0, 2:] == 0).all()
