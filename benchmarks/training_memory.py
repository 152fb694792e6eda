"""Memory that training takes at T = 2, 4, 8, 16: ExpG against backpropagation through time in SpikingJelly.

    python benchmarks/training_memory.py --spikingjelly .venv-spikingjelly/bin/python
    python benchmarks/training_memory.py --spikingjelly .venv-spikingjelly/bin/python --device cuda

Both train the small network of examples/04_ge2mst on one batch of random 32x32 images. snnc makes one forward
pass of a quantised network, whatever T. With SpikingJelly each neuron is a LIFNode over T steps (step_mode
"m", torch backend), everything else is the same. Each measurement has a process of its own. With ``--device
cuda`` the peak is that of torch's allocator on the device, and the time the mean of eight later steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TIMESTEPS = (2, 4, 8, 16)


def measure(tool: str, timesteps: int, batch: int, device: str = "cpu") -> dict[str, Any]:
    """Train two steps and return peak memory (above that before training), what is kept, and the time."""
    import torch
    from torch import nn

    sys.path.insert(0, str(HERE.parent / "examples" / "04_ge2mst"))
    from model import SMALL

    from snnc.models import Architecture, Ge2mST

    torch.set_num_threads(1)
    torch.manual_seed(0)
    choices = {**SMALL, "classes": 10, "timesteps": timesteps, "groups": max(1, timesteps // 2)}
    reset = None
    if tool == "spikingjelly":
        from spikingjelly.activation_based import functional, neuron, surrogate

        from snnc.nn.neurons import Unrolled

        class Node(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), step_mode="m")

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.node(x.reshape(timesteps, -1, *x.shape[1:])).reshape(x.shape)

        body = Ge2mST(Architecture(**choices), activation=lambda signed: Node())
        network: nn.Module = Unrolled(body, timesteps)
        reset = functional.reset_net
    else:
        network = Ge2mST(Architecture(**choices))
    network.train().to(device)
    optimiser = torch.optim.AdamW(network.parameters())
    images, labels = torch.rand(batch, 3, 32, 32).to(device), (torch.arange(batch) % 10).to(device)
    # Kept for the backward pass, each storage once: the same on every machine.
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> None:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = nn.functional.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if reset is not None:
            reset(network)

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        if on_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps

    on_gpu = device != "cpu"
    before = torch.cuda.memory_allocated() if on_gpu else _memory("VmRSS")
    duration = seconds(2)
    peak = (torch.cuda.max_memory_allocated() if on_gpu else _memory("VmHWM")) - before
    if on_gpu:  # the first steps choose algorithms
        duration = seconds(8)
    own = {part.untyped_storage().data_ptr() for part in network.parameters()}
    return {
        "tool": tool,
        "timesteps": timesteps,
        "seconds_per_step": duration,
        "kept_bytes": sum(size for place, size in kept.items() if place not in own),
        "peak_bytes": peak,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
    }


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not say how much memory a process takes")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the Markdown table of the measurements."""
    lines = [
        "| T | snnc: kept, MB | peak, MB | s per step | SpikingJelly: kept, MB | peak, MB | s per step |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = {(row["tool"], row["timesteps"]): row for row in rows}
    for timesteps in TIMESTEPS:
        cells = [str(timesteps)]
        for tool in ("snnc", "spikingjelly"):
            row = found.get((tool, timesteps))
            cells += (
                ["", "", ""]
                if row is None
                else [
                    f"{row['kept_bytes'] / 1e6:.0f}",
                    f"{row['peak_bytes'] / 1e6:.0f}",
                    f"{row['seconds_per_step']:.{2 if row['device'] == 'cpu' else 3}f}",
                ]
            )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spikingjelly", help="python of its environment; see benchmarks/setup_spikingjelly.sh"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--one", nargs=2, metavar=("TOOL", "T"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.batch, options.device)))
        return 0
    rows = []
    for tool in ("snnc", "spikingjelly") if options.spikingjelly else ("snnc",):
        for timesteps in TIMESTEPS:
            words = [str(Path(__file__)), "--one", tool, str(timesteps), "--batch", str(options.batch)]
            words += ["--device", options.device]
            code = f"import sys, runpy; sys.argv = {words!r}; "
            if tool == "spikingjelly":
                # Its packages behind our own: one torch for both.
                code += f"sys.path.append({_packages(options.spikingjelly)!r}); "
            code += f"runpy.run_path({str(Path(__file__))!r}, run_name='__main__')"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    from report import processor, write_section

    on_gpu = options.device != "cpu"
    where = f"on one {rows[0]['device']}, float32" if on_gpu else "one thread"
    peak = "memory that torch has allocated on the device" if on_gpu else "resident memory"
    text = (
        f"One step on {options.batch} images of 32x32, the network of examples/04_ge2mst, {where}. Kept: "
        "bytes of the tensors that the forward pass keeps for the backward pass, without parameters. Peak: "
        f'{peak} above that before the first step. SpikingJelly: LIFNode, step_mode "m", torch '
        f"backend, backpropagation through all T steps. {'' if on_gpu else f'{processor()}; '}"
        f"`python benchmarks/training_memory.py --spikingjelly PYTHON{' --device cuda' if on_gpu else ''}`."
    )
    title = "Training memory against T, on a GPU" if on_gpu else "Training memory against T"
    write_section(HERE / "RESULTS.md", title, [*table(rows), "", text])
    name = "training_memory_cuda.json" if on_gpu else "training_memory.json"
    (HERE / name).write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _packages(python: str) -> str:
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
