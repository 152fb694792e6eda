"""Train a small vision transformer on CIFAR-10 in float and export it with torch.onnx.

    python examples/03_vit_cifar10/train.py --out runs

``snnc convert runs/vit_cifar10.onnx --calibrate ...`` then makes it spiking: see README.md of this folder. An
interrupted run goes on from ``--checkpoint``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cifar10 import cifar10, normalised
from data import DataError, augment
from model import VisionTransformer
from training import record

NAME = "vit_cifar10"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder for downloads, or a .npz of JPEG images")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--device", default="cpu", help="where to train: cpu, cuda ...; evaluation is on the CPU"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--limit", type=int, help="use only so many training images")
    parser.add_argument("--bfloat16", action="store_true", help="train in bfloat16; evaluation is float32")
    parser.add_argument("--checkpoint", type=Path, help="written after every epoch, read if it exists")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder for .pt, .onnx and RESULTS.json"
    )
    return parser.parse_args()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch: int = 250) -> float:
    """Return top-1 accuracy in percent, in float32."""
    network.eval()
    right = 0
    for start in range(0, len(images), batch):
        logits = network(normalised(images[start : start + batch]))
        right += int((logits.argmax(1) == labels[start : start + batch]).sum())
    return 100.0 * right / len(images)


def fit(network: nn.Module, images: Tensor, labels: Tensor, options: argparse.Namespace) -> None:
    """Train in place: AdamW, linear warm-up, cosine decay, shifts and mirrors, label smoothing.

    Args:
        network: Network.
        images: uint8 ``(N, 3, 32, 32)``.
        labels: int64 ``(N,)``.
        options: The command line.
    """
    generator = torch.Generator().manual_seed(options.seed)
    device = torch.device(options.device)
    network.to(device)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.99))
    steps = len(images) // options.batch
    total, first = options.epochs * steps, 0
    warm = max(1, min(500, total // 10))
    if options.checkpoint and options.checkpoint.is_file():
        state = torch.load(options.checkpoint, weights_only=True, map_location="cpu")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        first = state["epochs"]
    for epoch in range(first, options.epochs):
        network.train()
        start, running = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            done = epoch * steps + step
            factor = min(1.0, (done + 1) / warm) * 0.5 * (1 + math.cos(math.pi * done / total))
            for group in optimiser.param_groups:
                group["lr"] = options.rate * factor
            chosen = order[step * options.batch : (step + 1) * options.batch]
            inputs = normalised(augment(images[chosen], generator, shift=4)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bfloat16):
                logits = network(inputs)
            loss = nn.functional.cross_entropy(logits.float(), labels[chosen].to(device), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            running += float(loss.detach())
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{options.epochs} loss {running / steps:.4f} {seconds:.0f} s", flush=True)
        if options.checkpoint:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            state |= {"generator": generator.get_state(), "epochs": epoch + 1}
            temporary = options.checkpoint.with_suffix(".tmp")
            torch.save(state, temporary)
            temporary.replace(options.checkpoint)
    network.cpu()


def export(network: nn.Module, path: Path) -> None:
    """Write the network with torch.onnx, any batch size."""
    torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 3, 32, 32),),
        path,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def command(options: argparse.Namespace) -> str:
    """Return the command line that repeats the run, without the paths of this machine."""
    words = ["python", "examples/03_vit_cifar10/train.py", "--epochs", options.epochs]
    words += ["--batch", options.batch, "--rate", options.rate, "--seed", options.seed]
    words += ["--threads", options.threads]
    words += ["--device", options.device] if options.device != "cpu" else []
    words += ["--limit", options.limit] if options.limit else []
    words += ["--bfloat16"] if options.bfloat16 else []
    return " ".join(map(str, [*words, "--out", "runs"]))


def main() -> int:
    """Train, evaluate, export and record; return the exit status."""
    options = arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    try:
        images, labels = cifar10(options.data, "train", options.limit)
        test_images, test_labels = cifar10(options.data, "test")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    network = VisionTransformer()
    fit(network, images, labels, options)
    result = {
        "accuracy": round(accuracy(network, test_images, test_labels), 2),
        "command": command(options),
        "epochs": options.epochs,
        "images": "JPEG" if options.data and options.data.suffix == ".npz" else "original",
        "parameters": sum(part.numel() for part in network.parameters()),
        "seed": options.seed,
        "test_images": len(test_images),
        "torch": torch.__version__,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), options.out / f"{NAME}.pt")
    export(network, options.out / f"{NAME}.onnx")
    record(options.out, NAME, result)
    print(f"{NAME}: {result['accuracy']} % of {len(test_images)} test images; {options.out / NAME}.onnx")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
