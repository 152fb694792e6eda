import pytest
import torch
from torch import nn

from snnc.errors import UsageError
from snnc.nn import ExpG, Schedule, reestimate_batch_norm, set_progress


def test_alpha_rises_linearly_to_one_at_rho():
    module = nn.Sequential(ExpG(4, 2), nn.ReLU(), ExpG(4, 4))
    schedule = Schedule(module, 10, rho=0.8)
    assert [schedule.alpha(epoch) for epoch in (0, 2, 4, 8, 9.5)] == [0.0, 0.25, 0.5, 1.0, 1.0]
    schedule.set(6)
    assert [part.alpha for part in module if isinstance(part, ExpG)] == [0.75, 0.75]


def test_bad_arguments_are_usage_errors():
    with pytest.raises(UsageError, match="alpha"):
        set_progress(nn.Identity(), 1.5)
    with pytest.raises(UsageError, match="rho"):
        Schedule(nn.Identity(), 10, rho=0.0)
    with pytest.raises(UsageError, match="epochs"):
        Schedule(nn.Identity(), -1)


def test_reestimation_measures_the_deployed_network():
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(64, 3, generator=generator) for _ in range(4)]
    norm = nn.BatchNorm1d(3, momentum=0.1)
    module = nn.Sequential(ExpG(4, 1, initial_threshold=1.0), norm).train()
    set_progress(module, 0.2)
    reestimate_batch_norm(module, batches)
    quantised = torch.stack([module[0].eval()(batch) for batch in batches])
    torch.testing.assert_close(norm.running_mean, quantised.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, quantised.var(1).mean(0))
    assert norm.momentum == 0.1
    assert module.training and norm.training
    assert module[0].alpha == 1.0


def test_reestimation_without_batches_is_a_usage_error():
    with pytest.raises(UsageError, match="no batch"):
        reestimate_batch_norm(nn.BatchNorm1d(3), [])
