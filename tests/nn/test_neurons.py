"""Stateful neurons against literal loops: resets, signs, state that begins anew."""

import pytest
import torch

from snnc.errors import UsageError
from snnc.nn import LIF, BurstNeuron, Unrolled, lif_activation


def stepwise(x, steps):
    return x.reshape(steps, -1)


@pytest.mark.parametrize("soft", [False, True])
def test_lif_is_the_literal_loop(soft):
    x = torch.randn(4 * 5, 3, generator=torch.Generator().manual_seed(0)) * 3
    found = LIF(4, tau=2.0, threshold=0.75, soft_reset=soft)(x).reshape(4, -1)
    v = [0.0] * 15
    for step in range(4):
        for place in range(15):
            v[place] += (float(x.reshape(4, -1)[step, place]) - v[place]) / 2
            spike = v[place] >= 0.75
            assert float(found[step, place]) == spike
            if spike:
                v[place] = v[place] - 0.75 if soft else 0.0


def test_if_neuron_keeps_its_charge():
    neuron = LIF(4, integrate_only=True, soft_reset=True)
    spikes = neuron(torch.full((4, 1), 0.5))
    assert spikes.flatten().tolist() == [0, 1, 0, 1]


def test_inhibitory_spikes_are_reset():
    """The sketch subtracts excitatory spikes only: after -30 it fires for ever."""
    neuron = BurstNeuron(5, signed=True, threshold=1.0)
    current = torch.tensor([-2.5, 0, 0, 0, 0])[:, None]
    assert neuron(current).flatten().tolist() == [-1, -1, 0, 0, 0]
    positive = BurstNeuron(5, signed=True, threshold=1.0)(-current)
    assert positive.flatten().tolist() == [1, 1, 0, 0, 0]


def test_bursts_fire_what_the_potential_holds_up_to_the_most():
    neuron = BurstNeuron(3, bursts=3, threshold=0.5)
    assert neuron(torch.tensor([[2.2], [0.0], [-9.0]])).flatten().tolist() == [3, 1, 0]
    ties = BurstNeuron(bursts=3, threshold=0.5, signed=True)
    u = torch.tensor([0.49, 0.5, 0.99, 1.0, 1.5, 7.0])
    assert ties(u).tolist() == [0, 1, 1, 2, 3, 3] and ties(-u).tolist() == [0, -1, -1, -2, -3, -3]


@pytest.mark.parametrize("neuron", [LIF(2), BurstNeuron(2, bursts=2, signed=True)])
def test_no_state_outlives_a_call(neuron):
    """The sketch keeps its potential: a second image sees the first one's, another batch size fails."""
    x = torch.randn(6, 4)
    first = neuron(x)
    neuron(torch.randn(20, 4))
    assert torch.equal(neuron(x), first)


def test_one_step_without_leak_is_not_silent():
    """The sketch's tau = 20 with a single step fires only from 20 thresholds on."""
    x = torch.linspace(0, 2, 100)[:, None]
    assert BurstNeuron()(x).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "neuron", [LIF(2), LIF(2, soft_reset=True), BurstNeuron(2), BurstNeuron(2, bursts=3, signed=True)]
)
def test_gradients_pass(neuron):
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (neuron(x) * torch.randn(8, 5)).sum().backward()
    assert (x.grad != 0).all()


def test_unrolled_network_averages_over_time():
    network = Unrolled(torch.nn.Sequential(torch.nn.Flatten(), lif_activation(4, tau=1.0)(False)), 4)
    assert network(torch.tensor([[[2.0, 0.1]], [[0.5, 1.0]]])).tolist() == [[1, 0], [0, 1]]


def test_values_out_of_range_are_refused():
    for wrong in ({"tau": 0.5}, {"threshold": 0.0}):
        with pytest.raises(UsageError, match="SNN217"):
            LIF(2, **wrong)
    for wrong in ({"bursts": 0}, {"decay": 2.0}, {"timesteps": 0}):
        with pytest.raises(UsageError, match="SNN217"):
            BurstNeuron(**wrong)
    with pytest.raises(UsageError, match="SNN217"):
        LIF(3)(torch.zeros(4, 1))
