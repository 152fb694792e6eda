"""Training on a CUDA device: the same promises as on the processor. Skipped where there is no such device."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra of snnc")

from torch import nn  # noqa: E402

from snnc.coding import CodeBook  # noqa: E402
from snnc.compile import convert  # noqa: E402
from snnc.debug.verify import verify  # noqa: E402
from snnc.frontends.torch_export import export  # noqa: E402
from snnc.models import ge2mst  # noqa: E402
from snnc.nn import (  # noqa: E402
    LIF,
    AdaptiveLIF,
    AdaptiveTransformer,
    BSViT,
    BurstNeuron,
    ExpG,
    LatencyEncoder,
    QuantConv2d,
    QuantLinear,
    QuantWeight,
    adjacency,
    dilated_groups,
    float_activation,
    from_dilated_groups,
    from_temporal_groups,
    from_window_groups,
    from_windows,
    grouped_softmax_attention,
    reestimate_batch_norm,
    temporal_groups,
    window_groups,
    windows,
)
from snnc.nn.functional import expg, quantise  # noqa: E402
from snnc.train import Arrays, FitOptions, accuracy, fit, processes  # noqa: E402
from snnc.train.__main__ import main  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "widths": (16, 16, 24, 48, 64),
    "depths": (1, 1, 1, 1),
    "heads": (2, 4, 4),
    "chunks": (2, 2, 1),
    "stem_kernel": 3,
    "strides": (2, 1, 1, 2),
}
NETWORK = """
from torch import nn
from snnc.nn import expg_activation

def build(classes, activation=expg_activation(4, 2)):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), activation(False),
        nn.Dropout(0.1), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(32, classes),
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes that differ in which part of the image is bright; five in another file."""
    random = np.random.default_rng(0)
    for name, classes in (("train", 3), ("five", 5)):
        labels = np.arange(120) % classes
        images = random.integers(0, 90, (120, 1, 16, 16), dtype=np.uint8)
        for k in range(classes):
            images[labels == k, :, 3 * k : 3 * k + 3] += 150
        np.savez(tmp_path / f"{name}.npz", x=images, y=labels)
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


def words(folder: Path, out: str, *more: object, small: bool = False, data: str = "train") -> list[str]:
    model = ["--model", f"{folder / 'net.py'}:build"]
    if small:
        model = ["--model", "ge2mst-small"]
        for name, value in {**SMALL, "stem_stride": 1}.items():
            model += ["--set", f"{name}={value}"]
    fixed = ["--train", folder / f"{data}.npz", *model, "--out", folder / out, "--device", "cuda"]
    usual = ["--epochs", 12, "--batch", 24, "--rate", 0.01, "--exporter", "torchscript", "--quiet"]
    return [str(word) for word in (*fixed, *usual, *more)]


def state(path: Path) -> dict[str, torch.Tensor]:
    held = torch.load(path, map_location="cpu", weights_only=True)
    return held["network"]


def same(one: Path, two: Path) -> bool:
    a, b = state(one), state(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("small", [False, True], ids=["plain", "ge2mst"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_trains_converts_and_loses_nothing(folder, precision, small):
    more = ("--precision", precision, "--test", folder / "train.npz")
    assert main(words(folder, "a", *more, small=small)) == 0
    result = json.loads((folder / "a" / "result.json").read_text())
    assert result["finished"] and result["accuracy"] > 80
    source = folder / "a" / "network.onnx"
    images = np.load(folder / "train.npz")["x"][:8].astype(np.float32) / 255
    report = verify(source, convert(source).model, {"x" if small else "input": images})
    assert all(agreement.mismatches == 0 for agreement in report.agreements) and report.agreements


@pytest.mark.parametrize("small", [False, True], ids=["plain", "ge2mst"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_seed_gives_the_same_bits_and_so_does_a_resumed_run(folder, precision, small):
    more = ("--precision", precision, "--no-export", "--epochs", 4)
    for name in ("one", "two"):
        assert main(words(folder, name, *more, small=small)) == 0
    assert main(words(folder, "parts", *more, "--stop-after", 7, small=small)) == 0
    assert main(words(folder, "parts", *more, small=small)) == 0
    assert same(folder / "one" / "network.pt", folder / "two" / "network.pt")
    assert same(folder / "one" / "network.pt", folder / "parts" / "network.pt")
    assert main(words(folder, "other", *more, "--seed", 1, small=small)) == 0
    assert not same(folder / "one" / "network.pt", folder / "other" / "network.pt")


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_the_other_device(folder, first, second, precision):
    more = ("--precision", precision, "--test", folder / "train.npz")
    assert main(words(folder, "a", *more, "--device", first, "--stop-after", 20)) == 0
    assert main(words(folder, "a", *more, "--device", second)) == 0
    assert json.loads((folder / "a" / "result.json").read_text())["accuracy"] > 80


def test_distillation_and_another_number_of_classes(folder):
    assert main(words(folder, "float", "--float", "--no-export")) == 0
    more = ("--teacher", folder / "float" / "network.pt", "--distil-weight", 0.9)
    assert main(words(folder, "a", *more, "--test", folder / "train.npz", "--precision", "bfloat16")) == 0
    assert json.loads((folder / "a" / "result.json").read_text())["accuracy"] > 80
    more = ("--init", folder / "a" / "network.pt", "--test", folder / "five.npz", "--epochs", 30)
    assert main(words(folder, "b", *more, data="five")) == 0
    assert json.loads((folder / "b" / "result.json").read_text())["accuracy"] > 60
    assert state(folder / "b" / "network.pt")["6.weight"].shape == (5, 32)


def run(*command: object, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    words = [str(word) for word in command]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=280, env=environment)


def torchrun(processes: int) -> list[object]:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes]
    return [*start, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "snnc.train"]


def test_torchrun_with_a_process_for_each_device(folder):
    count = torch.cuda.device_count()
    done = run(*torchrun(count), *words(folder, "a", "--test", folder / "train.npz"))
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "a" / "result.json").read_text())["processes"] == count
    if count == 1:  # no other than that of a plain run
        assert main(words(folder, "b", "--no-export")) == 0
        assert same(folder / "a" / "network.pt", folder / "b" / "network.pt")


def test_more_processes_than_devices_are_one_error(folder):
    count = torch.cuda.device_count() + 1
    done = run(*torchrun(count), *words(folder, "a", "--batch", 12 * count))
    assert done.returncode, done.stdout
    assert done.stderr.count("error: SNN218") == 1, done.stderr


def test_messages_through_nccl(monkeypatch, tmp_path):
    """A group of one stands for several: all kinds of tensors that travel can travel."""
    device = torch.device("cuda", 0)
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        network = ge2mst("small", classes=3, **SMALL).to(device)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        for part in network.parameters():
            part.grad = torch.full_like(part, 2)
        monkeypatch.setattr(processes, "world", lambda: 2)
        processes.same_tensors(network)
        processes.same_buffers(network)
        processes.average_gradients(network.parameters())
        assert processes.mean_of((3.0, 5.0), device) == [1.5, 2.5]
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert all(bool((part.grad == 1).all()) for part in network.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_batch_norm_is_re_estimated_as_on_the_processor():
    torch.manual_seed(0)
    network = ge2mst("small", classes=3, **SMALL)
    images = torch.rand(16, 3, 32, 32)
    network.train()(images)  # thresholds
    torch.backends.cudnn.allow_tf32 = False
    found = {}
    for device in ("cpu", "cuda"):
        network.to(device)
        reestimate_batch_norm(network, [images.to(device)])
        found[device] = {name: value.cpu() for name, value in network.named_buffers()}
    names = [name for name in found["cpu"] if name.startswith("stem") and "running" in name]
    assert names
    for name in names:  # in front of all neurons
        torch.testing.assert_close(found["cuda"][name], found["cpu"][name], rtol=1e-5, atol=1e-6)


def test_float32_is_float32():
    """Not TF32, torch's default for convolutions, of which 13 bits are lost: files are float32."""
    seen = []

    class Watch(nn.Linear):
        def forward(self, x):
            seen.append(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
            return super().forward(x)

    before, torch.backends.cudnn.allow_tf32 = torch.are_deterministic_algorithms_enabled(), True
    network = nn.Sequential(nn.Flatten(), Watch(16, 2), nn.BatchNorm1d(2))
    data = Arrays(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.arange(8) % 2, shift=0)
    fit(network, data, FitOptions(epochs=1, batch=4, device="cuda"), quiet=True)
    accuracy(network, data, device="cuda")
    assert seen and not any(seen)
    assert torch.backends.cudnn.allow_tf32 and torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_network_on_the_device_gives_the_file_of_one_on_the_processor(tmp_path, exporter):
    torch.manual_seed(0)
    network = ge2mst("small", classes=3, weight_bits=8, **SMALL)
    images = torch.rand(4, 3, 32, 32)
    network.train()(images)
    network.eval()
    export(network, images, tmp_path / "cpu.onnx", exporter=exporter)
    network.cuda()
    for name, example in (("mixed", images), ("cuda", images.cuda())):
        export(network, example, tmp_path / f"{name}.onnx", exporter=exporter)
        assert (tmp_path / f"{name}.onnx").read_bytes() == (tmp_path / "cpu.onnx").read_bytes()
    assert next(network.parameters()).is_cuda


def on_grid(*shape: int, seed: int = 0, scale: float = 2.0**-6) -> torch.Tensor:
    """Numbers whose sums and products by few bits are exact in float32, in whatever order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-160, 161, shape, generator=generator) * scale


BOOKS = [
    (4, 2, "interleaved", False),
    (4, 4, "interleaved", True),
    (8, 4, "contiguous", False),
    (16, 8, "interleaved", True),
    (16, 16, "interleaved", False),
    (1, 1, "interleaved", False),
]


@pytest.mark.parametrize("book", BOOKS, ids=str)
@pytest.mark.parametrize("channels", [False, True])
def test_codes_are_those_of_the_processor_bit_for_bit(book, channels):
    codes = CodeBook(*book)
    step = torch.rand(5, generator=torch.Generator().manual_seed(1)) * 0.1 + 0.01
    step = step.reshape(1, 5, 1, 1) if channels else step[0]
    midpoints = torch.from_numpy((codes.codes[1:] + codes.codes[:-1]) / 2).float()
    ties = (midpoints.reshape(-1, 1, 1, 1, 1) * step).expand(-1, 3, 5, 4, 4).reshape(-1, 5, 4, 4)
    u = torch.cat([torch.randn(64, 5, 4, 4), ties, ties.nextafter(torch.tensor(torch.inf))])
    wanted = quantise(u, step, codes)
    assert torch.equal(quantise(u.cuda(), step.cuda(), codes).cpu(), wanted)
    theta = step * codes.magnitude
    for alpha in (0.0, 0.5, 1.0):
        gradients = {}
        for device in ("cpu", "cuda"):
            a, b = (part.detach().to(device).requires_grad_() for part in (u, theta))
            value = expg(a, b, alpha, codes)
            value.backward(on_grid(*u.shape, seed=2).to(device))
            gradients[device] = [value.detach().cpu(), a.grad.cpu(), b.grad.cpu()]
        for one, two in zip(gradients["cpu"], gradients["cuda"], strict=True):
            torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [None, 5])
@pytest.mark.parametrize("signed", [False, True])
def test_lower_precision_has_gradients(dtype, channels, signed):
    neuron = ExpG(4, 2, signed=signed, channels=channels).cuda().train()
    neuron.alpha = 0.5
    u = torch.randn(8, 5, 4, 4, device="cuda", dtype=dtype, requires_grad=True)
    neuron(u).sum().backward()
    assert u.grad.dtype == dtype and bool(torch.isfinite(neuron.log_theta.grad).all())


NEURONS = {
    "lif": lambda: LIF(4),
    "lif soft": lambda: LIF(4, soft_reset=True, tau=3.0, threshold=0.3),
    "if": lambda: LIF(4, integrate_only=True),
    "burst": lambda: BurstNeuron(4, bursts=3, threshold=0.3),
    "burst signed": lambda: BurstNeuron(4, bursts=2, signed=True, decay=0.5),
    "adaptive": lambda: AdaptiveLIF(6, 4),
    "latency": lambda: LatencyEncoder(4),
    "grid conv": lambda: QuantConv2d(6, 4, 3, padding=1, bias=False),
    "grid linear": lambda: QuantLinear(5, 4),
}


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_fire_as_on_the_processor(name):
    torch.manual_seed(0)
    module, x = NEURONS[name](), on_grid(8, 6, 5, 5)
    for training in (False, True):
        module.train(training)
        wanted = copy.deepcopy(module)(x).detach()
        found = copy.deepcopy(module).cuda()(x.cuda()).detach().cpu()
        if "grid" in name:
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(found, wanted)


def test_a_potential_at_its_threshold_fires():
    """torch multiplies by the reciprocal of a number on this device, which may round below 1."""
    for threshold in (1.7, 2.9, 3.4, 3.7, 3.9):
        v = torch.full((1, 4), threshold).cuda()
        assert bool((BurstNeuron(threshold=threshold)(v) == 1).all())
        assert bool((LIF(1, threshold=threshold, integrate_only=True)(v) == 1).all())


def test_checkpoints_hold_tensors_of_the_processor(folder):
    assert main(words(folder, "a", "--stop-after", 3)) == 0
    held = torch.load(folder / "a" / "checkpoint.pt", weights_only=True)  # without map_location
    places = {part.device.type for part in held["network"].values()}
    places |= {part.device.type for each in held["optimiser"]["state"].values() for part in each.values()}
    assert places == {"cpu"}


def test_integer_weights_and_groups_are_those_of_the_processor():
    weight, x = torch.randn(7, 5, 3, 3), torch.randn(2, 6, 8, 8)
    pairs = zip(QuantWeight().integers(weight), QuantWeight().integers(weight.cuda()), strict=True)
    assert all(torch.equal(one, two.cpu()) for one, two in pairs)
    for cut, join in (
        (lambda a: dilated_groups(a, 2), lambda a: from_dilated_groups(a, 2, 8, 8)),
        (lambda a: window_groups(a, 2), lambda a: from_window_groups(a, 2, 8, 8)),
        (lambda a: windows(a, 4, shift=2), lambda a: from_windows(a, 4, 8, 8, shift=2)),
    ):
        assert torch.equal(cut(x.cuda()).cpu(), cut(x)) and torch.equal(join(cut(x.cuda())).cpu(), x)
    frames = torch.randn(2, 4, 3, 4, 4)
    assert torch.equal(from_temporal_groups(temporal_groups(frames.cuda(), 2), 2).cpu(), frames)
    q, k, v = torch.randn(3, 2, 4, 16, 8)
    found = grouped_softmax_attention(q.cuda(), k.cuda(), v.cuda()).cpu()
    torch.testing.assert_close(found, grouped_softmax_attention(q, k, v), rtol=1e-3, atol=1e-3)
    assert adjacency(3, 3, 3).sum() == 49


NETWORKS = {
    "ge2mst": (lambda: ge2mst("small", classes=10, **SMALL), (3, 32, 32)),
    "ge2mst, integer weights": (lambda: ge2mst("small", classes=10, weight_bits=8, **SMALL), (3, 32, 32)),
    "ge2mst, float": (
        lambda: ge2mst("small", classes=10, activation=float_activation, **SMALL),
        (3, 32, 32),
    ),
    "ge2mst, events": (lambda: ge2mst("small", classes=10, events=(4, 2), **SMALL), (4, 2, 32, 32)),
    "bsvit": (BSViT, (1, 28, 28)),
    "adaptive": (AdaptiveTransformer, (1, 28, 28)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_the_processor_but_for_rounding(name, record_property):
    """Sums are added in another order: a code at a threshold may differ by one place, few do."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    make, shape = NETWORKS[name]
    network, images = make(), torch.rand(16, *shape)
    network.train()(images)
    network.eval()
    kinds = (ExpG, BurstNeuron, AdaptiveLIF)
    found: dict[str, list[torch.Tensor]] = {"cpu": [], "cuda": []}
    logits = {}
    for device, outputs in found.items():
        network.to(device)
        hooks = [
            part.register_forward_hook(lambda m, i, o, outputs=outputs: outputs.append(o.cpu()))
            for part in network.modules()
            if isinstance(part, kinds)
        ]
        with torch.no_grad():
            logits[device] = network(images.to(device)).cpu()
        for hook in hooks:
            hook.remove()
    total = sum(part.numel() for part in found["cpu"])
    other = sum(
        int(((one - two).abs() > 1e-3 * one.abs()).sum())
        for one, two in zip(found["cpu"], found["cuda"], strict=True)
    )
    agree = float((logits["cpu"].argmax(1) == logits["cuda"].argmax(1)).float().mean())
    print(f"{name}: {other} of {total} codes differ, classes agree {100 * agree:.0f} %")
    assert other <= 0.01 * total and agree >= 0.9


def test_memory_of_training_does_not_grow_with_time_steps():
    peaks = {}
    for timesteps in (2, 4, 8, 16):
        torch.manual_seed(0)
        network = ge2mst("small", classes=10, **SMALL, timesteps=timesteps, groups=timesteps // 2).cuda()
        optimiser = torch.optim.AdamW(network.parameters())
        images, labels = torch.rand(32, 3, 32, 32).cuda(), (torch.arange(32) % 10).cuda()
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            loss = nn.functional.cross_entropy(network.train()(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        peaks[timesteps] = torch.cuda.max_memory_allocated()
        del network, optimiser, loss
    print({key: f"{value / 1e6:.1f} MB" for key, value in peaks.items()})
    assert max(peaks.values()) <= 1.05 * min(peaks.values())


def test_training_compiles_nothing(folder):
    """What torch brings for the device is enough: neither a compiler nor Triton has to be there."""
    code = (
        "import sys; sys.modules['triton'] = None; from snnc.train.__main__ import main; "
        "status = main(sys.argv[1:]); print('torch._inductor.compile_fx' in sys.modules); sys.exit(status)"
    )
    done = run(sys.executable, "-c", code, *words(folder, "a", "--no-export", "--epochs", 1))
    assert done.returncode == 0 and done.stdout.strip() == "False", done.stdout + done.stderr


def test_too_little_memory_is_one_error(folder):
    code = (
        "import sys, torch; torch.cuda.set_per_process_memory_fraction(1e-3); "
        "from snnc.train.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run(sys.executable, "-c", code, *words(folder, "a", "--batch", 120, small=True))
    assert done.returncode == 6 and "error: SNN606" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
