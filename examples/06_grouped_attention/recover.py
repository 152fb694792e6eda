"""What attention in groups costs a trained transformer, and how fine-tuning recovers it.

    python examples/06_grouped_attention/recover.py --out runs

Trains a small vision transformer with global attention on the digits of scikit-learn (8 x 8 pixels in
patches of 2 x 2), converts it as it is and with ``--attention grouped``, then goes on training with
`snnc.nn.grouped_softmax_attention` in the place of global attention and converts that. The figures go to
``recover.json`` and into benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import snnc
from snnc.compile import ConvertOptions, convert
from snnc.nn import grouped_softmax_attention
from snnc.runtimes import OnnxRuntime
from snnc.train import Arrays, FitOptions, accuracy, fit

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from report import processor, write_section  # noqa: E402


class Block(nn.Module):
    """Attention and a feed-forward pair behind LayerNorms; ``stride`` 0 is global attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.stride = heads, 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.pair = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``(N, tokens, width)`` to the stream."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.stride:
            mixed = grouped_softmax_attention(q, k, v, stride=self.stride)
        else:
            mixed = torch.matmul((torch.matmul(q, k.transpose(2, 3)) * q.shape[3] ** -0.5).softmax(-1), v)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        stream: Tensor = x + self.pair(self.norm2(x))
        return stream


class Transformer(nn.Module):
    """Patches of 2 x 2 of 8 x 8 pixels, mean over tokens."""

    def __init__(self, width: int = 32, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``(N, 1, 8, 8)``."""
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits


def digits() -> tuple[Arrays, Arrays]:
    """Return 1,437 training and 360 test images, split at random with a fixed seed."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped,import-not-found,unused-ignore]

    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    images = (held.images[order, None] / 16).astype(np.float32)
    labels = held.target[order].astype(np.int64)
    options: dict[str, Any] = {"shift": 0, "mirror": False}
    return Arrays(images[360:], labels[360:], **options), Arrays(images[:360], labels[:360], **options)


def converted(network: nn.Module, path: Path, train: Arrays, test: Arrays, **options: Any) -> dict[str, Any]:
    """Export, convert and evaluate on the test set."""
    snnc.export(network.eval(), torch.zeros(1, 1, 8, 8), path, exporter="torchscript")
    calibration = train.images[:128].numpy()
    conversion = convert(path, ConvertOptions(**options), calibration=calibration)
    (logits,) = OnnxRuntime(conversion.model, "all").run({"x": test.images.numpy()}).values()
    notes = [note for record in conversion.records for note in record.notes if "attention" in record.name]
    return {
        "spiking": round(100 * float((logits.argmax(1) == test.labels.numpy()).mean()), 2),
        "notes": notes,
    }


def main() -> int:
    """Train, group, recover, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--fine-tune", type=int, default=15, help="epochs in groups")
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, test = digits()
    network, rows = Transformer(), []

    def record(name: str, path: str, minutes: float, **choices: Any) -> None:
        row = {"name": name, "float": round(accuracy(network, test), 2), "cpu_minutes": round(minutes, 2)}
        rows.append(row | converted(network, options.out / path, train, test, **choices))
        print(rows[-1], flush=True)

    def spend(epochs: int, rate: float) -> float:
        start = time.process_time()
        fit(network, train, FitOptions(epochs=epochs, batch=64, rate=rate, statistics=0), quiet=True)
        return (time.process_time() - start) / 60

    record("global attention", "digits_global.onnx", spend(options.epochs, 2e-3))
    chosen = {"attention": "grouped", "stride": options.stride}
    record(f"`--attention grouped --stride {options.stride}`", "digits_global.onnx", 0, **chosen)
    rows[-1]["float"] = None
    for block in network.blocks:
        assert isinstance(block, Block)
        block.stride = options.stride
    rows[-1]["float"] = round(accuracy(network, test), 2)
    record("the same, fine-tuned in groups", "digits_grouped.onnx", spend(options.fine_tune, 1e-3))
    (options.out / "recover.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = ["| network | CPU minutes of training | accuracy, float | spiking |", "| --- | --- | --- | --- |"]
    for row in rows:
        minutes = f"{row['cpu_minutes']}" if row["cpu_minutes"] else ""
        lines.append(f"| {row['name']} | {minutes} | {row['float']} % | {row['spiking']} % |")
    left = next((note for row in rows for note in row["notes"] if "pairs are left" in note), "")
    said = f"Transformer of 2 blocks, 16 tokens, 360 test images of scikit-learn's digits. {left}. "
    lines += ["", f"{said}{processor()}; `python examples/06_grouped_attention/recover.py`."]
    write_section(ROOT / "benchmarks" / "RESULTS.md", "Attention in groups, recovered by fine-tuning", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
