"""The training loop: resumed bit for bit, the schedule, BatchNorm, distillation, checkpoints."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from torch import nn  # noqa: E402

from snnc.errors import InputError, UsageError  # noqa: E402
from snnc.nn import ExpG, float_activation  # noqa: E402
from snnc.train import Arrays, FitOptions, accuracy, fit  # noqa: E402
from snnc.train.checkpoint import start_from, write  # noqa: E402
from snnc.train.device import repeatable  # noqa: E402


def network(classes=3, activation=None, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        float_activation(False) if activation else ExpG(4, 2),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def samples(count=48, seed=1):
    """Three classes that differ in which part of the image is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 90, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    for k, part in enumerate((slice(0, 2), slice(2, 4), slice(4, 6))):
        images[labels == k, :, part] += 150
    return Arrays(images, labels, shift=1)


def same(a, b):
    one, two = a.state_dict(), b.state_dict()
    return all(torch.equal(one[name], two[name]) for name in one)


OPTIONS = {"epochs": 3, "batch": 16, "rate": 0.02, "log_steps": 1}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_run_takes_the_very_steps_of_an_uninterrupted_one(tmp_path, precision):
    options = {**OPTIONS, "precision": precision}
    whole, parts = network(), network()
    assert fit(whole, samples(), FitOptions(**options), folder=tmp_path / "a", quiet=True)
    for stop in (2, 7):
        halted = FitOptions(**options, stop_after=stop)
        assert not fit(parts, samples(), halted, folder=tmp_path / "b", quiet=True)
        parts = network(seed=5)  # a new process: nothing is left but the checkpoint
    assert fit(parts, samples(), FitOptions(**options), folder=tmp_path / "b", quiet=True)
    assert same(whole, parts)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "ab"]
    one, two = ([json.loads(line) for line in each] for each in lines)
    steps = [line["step"] for line in two if "train/loss" in line]
    assert steps == list(range(1, 10))
    assert [line.get("train/loss") for line in one] == [line.get("train/loss") for line in two]


def test_seed_decides(tmp_path):
    runs = []
    for seed in (0, 0, 1):
        each = network()
        fit(each, samples(), FitOptions(**{**OPTIONS, "seed": seed}), quiet=True)
        runs.append(each)
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_alpha_rises_to_one_and_the_network_learns(tmp_path):
    net = network()
    options = FitOptions(epochs=15, batch=16, rate=0.05, log_steps=1)
    fit(net, samples(), options, folder=tmp_path, test=samples(seed=2), quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    alphas = [line["train/alpha"] for line in lines if "train/alpha" in line]
    assert alphas[0] == 0 and alphas == sorted(alphas) and alphas[int(0.8 * 45) :] == [1.0] * 9
    rates = [line["train/rate"] for line in lines if "train/rate" in line]
    assert max(rates) == pytest.approx(0.05, rel=0.02) and rates[-1] < 0.01 * max(rates)
    assert net[2].alpha == 1.0
    assert accuracy(net, samples(seed=2)) > 90
    assert sum("test/accuracy" in line for line in lines) == 15


def test_batch_norm_is_that_of_the_deployed_network():
    net, data = network(), samples()
    fit(net, data, FitOptions(**OPTIONS), quiet=True)
    inputs, _ = data.batch(torch.arange(48), None)
    with torch.no_grad():
        wanted = net[0](inputs).mean((0, 2, 3))
    torch.testing.assert_close(net[1].running_mean, wanted)


def test_runs_with_other_options_are_not_mixed(tmp_path):
    fit(network(), samples(), FitOptions(**OPTIONS, stop_after=2), folder=tmp_path, quiet=True)
    with pytest.raises(UsageError, match=r"SNN219.*rate was 0.02, is 0.01"):
        fit(network(), samples(), FitOptions(**{**OPTIONS, "rate": 0.01}), folder=tmp_path, quiet=True)
    with pytest.raises(UsageError, match=r"SNN219.*samples was 48, is 32"):
        fit(network(), samples(32), FitOptions(**OPTIONS), folder=tmp_path, quiet=True)
    with pytest.raises(InputError, match="SNN353"):
        fit(network(classes=4), samples(), FitOptions(**OPTIONS), folder=tmp_path, quiet=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(InputError, match="SNN353"):
        fit(network(), samples(), FitOptions(**OPTIONS), folder=tmp_path, quiet=True)


def test_another_number_of_classes_keeps_all_but_the_last_layer(tmp_path):
    old = network(activation=float_activation)
    write(tmp_path / "a.pt", {"network": old.state_dict()})
    new = network(classes=5, seed=3)
    assert start_from(new, tmp_path / "a.pt") == ("6.weight", "6.bias")
    assert torch.equal(new[0].weight, old[0].weight) and new[6].out_features == 5
    assert not bool(new[2].initialised)  # a float network holds no thresholds
    torch.save(old.state_dict(), tmp_path / "bare.pt")
    assert start_from(network(), tmp_path / "bare.pt") == ()
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(InputError, match=r"SNN353.*another architecture"):
        start_from(other, tmp_path / "a.pt")
    with pytest.raises(InputError, match="SNN301"):
        start_from(other, tmp_path / "none.pt")


def test_student_follows_its_teacher_against_the_labels():
    teacher = network(activation=float_activation)
    fit(teacher, samples(), FitOptions(epochs=15, batch=16, rate=0.05), quiet=True)
    data = samples()
    data.labels = (data.labels + 1) % 3  # all wrong
    student = network(seed=4)
    options = FitOptions(epochs=15, batch=16, rate=0.05, distil_weight=1.0)
    fit(student, data, options, teacher=teacher, quiet=True)
    assert accuracy(teacher, samples(seed=2)) > 90
    assert accuracy(student, samples(seed=2)) > 85


def test_options_out_of_range_and_data_that_do_not_fill_a_batch_are_refused():
    for wrong in ({"batch": 0}, {"rate": -1.0}, {"smoothing": 2.0}, {"epochs": -1}, {"precision": "int8"}):
        with pytest.raises(UsageError, match="SNN218"):
            FitOptions(**wrong)
    with pytest.raises(UsageError, match=r"SNN218.*48 samples"):
        fit(network(), samples(), FitOptions(batch=64), quiet=True)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_not_a_number_shows_in_the_gradient_of_a_threshold(alpha):
    """It has no code: the table of codes was read at a place that is none (IndexError)."""
    neuron = ExpG(4, 2, initial_threshold=1.0).train()
    neuron.alpha = alpha
    neuron(torch.tensor([[0.3, float("nan")]])).sum().backward()
    assert bool(neuron.log_theta.grad.isnan())


def test_no_checkpoint_of_a_diverged_network_is_written(tmp_path):
    class Trap(nn.Module):
        """A finite loss whose gradient is not: the square root of 0."""

        def forward(self, x):
            return x + (x.sum() * 0).sqrt()

    net = nn.Sequential(network(activation=float_activation), Trap())
    with pytest.raises(InputError, match=r"SNN354.*gradient is nan at step 1"):
        fit(net, samples(), FitOptions(**OPTIONS), folder=tmp_path, quiet=True)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_run_that_is_past_its_stop_takes_no_step(tmp_path):
    for stop in (4, 2):
        options = FitOptions(**OPTIONS, stop_after=stop)
        assert not fit(network(), samples(), options, folder=tmp_path, quiet=True)
    assert torch.load(tmp_path / "checkpoint.pt")["steps"] == 4


def test_a_half_written_line_of_figures_is_dropped(tmp_path):
    fit(network(), samples(), FitOptions(**OPTIONS, stop_after=2), folder=tmp_path, quiet=True)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/lo')
    assert fit(network(), samples(), FitOptions(**OPTIONS), folder=tmp_path, quiet=True)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if "train/rate" in line] == list(range(1, 10))


def test_restart_begins_the_figures_anew(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="metrics are read with the extra train",
    )
    fit(network(), samples(), FitOptions(**OPTIONS), folder=tmp_path, quiet=True)
    again = FitOptions(**OPTIONS, stop_after=4)
    fit(network(), samples(), again, folder=tmp_path, quiet=True, resume=False)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [each.step for each in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_loss_that_is_not_finite_ends_the_run():
    data = samples()
    net = network(activation=float_activation)
    with torch.no_grad():
        net[6].weight.fill_(float("inf"))
    with pytest.raises(InputError, match=r"SNN354.*step 1"):
        fit(net, data, FitOptions(**OPTIONS), quiet=True)


def test_settings_for_a_device_end_with_the_training():
    """They are torch's own, of the whole process."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32
    with repeatable(torch.device("cpu")):
        assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32) == before
    with pytest.raises(ZeroDivisionError), repeatable(torch.device("cuda")):  # no such device is needed
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.allow_tf32
        raise ZeroDivisionError
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32) == before
