import pytest
import torch
from torch import nn

from snnc.errors import UsageError
from snnc.nn import QuantConv2d, QuantLinear, QuantWeight


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_lie_on_the_grid_of_their_channel(bits):
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0.0
    grid = QuantWeight(bits)
    integers, scale = grid.integers(weight)
    largest = 2 ** (bits - 1) - 1
    assert integers.dtype == torch.int8
    assert integers.abs().amax((1, 2, 3)).tolist() == [largest, largest, 0, largest, largest, largest]
    shaped = scale.reshape(-1, 1, 1, 1)
    assert torch.equal(grid(weight), integers.float() * shaped)
    assert ((grid(weight) - weight).abs() <= shaped * 0.5001).all()


def test_gradient_passes_straight_through():
    weight = torch.randn(4, 7, requires_grad=True)
    factor = torch.randn(4, 7)
    (QuantWeight()(weight) * factor).sum().backward()
    assert torch.equal(weight.grad, factor)


def test_modules_use_the_grid_and_freeze_to_it():
    torch.manual_seed(0)
    convolution = QuantConv2d(3, 4, 3, padding=1, stride=2, weight_bits=4)
    linear = QuantLinear(5, 6, bias=False)
    for module, x, plain in (
        (convolution, torch.randn(2, 3, 8, 8), nn.Conv2d(3, 4, 3, padding=1, stride=2)),
        (linear, torch.randn(2, 5), nn.Linear(5, 6, bias=False)),
    ):
        with torch.no_grad():
            plain.weight.copy_(module.grid(module.weight))
            if plain.bias is not None:
                plain.bias.copy_(module.bias)
            before = module(x)
            assert torch.equal(before, plain(x))
            module.freeze()
            module.weight.zero_()
            assert torch.equal(module(x), before)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range_are_a_usage_error(bits):
    with pytest.raises(UsageError, match="bits"):
        QuantWeight(bits)
