"""Programs of ExpG-1: size, cycles, energy, speed of the simulator, and equality with numpy and onnxruntime.

    python benchmarks/expg1.py
    python benchmarks/expg1.py --all --mnist FOLDER
    python benchmarks/expg1.py --networks deit_tiny ge2mst_small_224 --cores 1 4
    python benchmarks/expg1.py NAME=MODEL.snn.onnx[,DATA.npz][@CORES] ...

Without arguments the networks of `examples/models` that have samples there are converted and measured, on
one core and on four; with `--all` every row of the table: networks on MNIST need its t10k images, DeiT-Tiny
needs timm (`pip install timm`), Ge2mS-T needs torch. Each model is compiled, proved, simulated on one sample
(random without data) in both orders of time-steps and one random interleaving of the queues, and every tensor
is compared with the numpy runtime, the outputs with onnxruntime too. Writes `benchmarks/expg1.json` and a
section of `benchmarks/RESULTS.md`; ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]

from report import processor, write_section  # noqa: E402

from snnc.compile import ConvertOptions, convert, load_spiking  # noqa: E402
from snnc.data import load_samples  # noqa: E402
from snnc.emit.compiled import compile_program  # noqa: E402
from snnc.emit.profile import profile  # noqa: E402
from snnc.emit.report import report  # noqa: E402
from snnc.ir import Model  # noqa: E402
from snnc.isa.arch import Arch  # noqa: E402
from snnc.runtimes import create  # noqa: E402
from snnc.runtimes.common import one_sample  # noqa: E402
from snnc.runtimes.expg1.machine import Order  # noqa: E402

#: pJ per synaptic operation of whole chips, as collected in table 3 of the SENECA paper (PMC10326429).
CHIPS = {
    "Tianjic": 1.54,
    "TrueNorth": 2.5,
    "SENECA": 2.8,
    "ReckOn": 5.3,
    "SpiNNaker 2": 10,
    "ODIN": 12.7,
    "NeuronFlow": 20,
    "Loihi": 23.6,
    "µBrain": 26,
    "SpiNNaker": 45,
}


#: Order of time-steps, and the seed of an interleaving of the queues.
ORDERS: tuple[tuple[Order, int | None], ...] = (("parallel", None), ("serial", None), ("parallel", 7))


#: Samples, a file of them, or nothing for random ones.
Data = dict[str, Any] | str | None
MODELS = HERE.parent / "examples" / "models"
_MNIST = "t10k-images-idx3-ubyte.gz"


def _shipped(file: str, border: int = 0) -> Callable[[argparse.Namespace], tuple[Model, Data]]:
    def make(options: argparse.Namespace) -> tuple[Model, Data]:
        images = np.load(MODELS / "fashion_sample.npz")["x"]
        frame = ((0, 0), (0, 0), (border, border), (border, border))
        return convert(MODELS / file, ConvertOptions()).model, {"x": np.pad(images, frame)}

    return make


def _mnist(options: argparse.Namespace) -> np.ndarray:
    """MNIST's test images, 0 to 1."""
    if options.mnist is None:
        raise SystemExit(f"name the folder that holds {_MNIST}: --mnist FOLDER")
    from data import read_idx

    return (read_idx(options.mnist / _MNIST)[:, None] / 255).astype(np.float32)


def _vit(options: argparse.Namespace) -> tuple[Model, Data]:
    """Calibrated on the last 256 images; the first is the sample."""
    images = ((_mnist(options) - 0.1307) / 0.3081).astype(np.float32)
    np.savez(options.folder / "mnist.npz", x=images[-256:])
    chosen = ConvertOptions(timesteps=8, groups=4, calibrate=str(options.folder / "mnist.npz"))
    return convert(MODELS / "vit_mnist_d64x6.onnx", chosen).model, {"x": images[:1]}


def _bsvit(options: argparse.Namespace) -> tuple[Model, Data]:
    return convert(MODELS / "mnist_bsvit.onnx", ConvertOptions()).model, {"x": _mnist(options)[:1]}


def _ge2mst(options: argparse.Namespace) -> tuple[Model, Data]:
    from ge2mst import full_size

    path = options.folder / "small_random.onnx"
    if not path.exists():
        full_size("small", options.folder)
    return convert(path, ConvertOptions()).model, str(path.with_suffix(".npz"))


def _deit(options: argparse.Namespace) -> tuple[Model, Data]:
    """Calibrated on 32 images of noise."""
    from scale import _EXPORT, run

    path, noise = options.folder / "deit_tiny.onnx", options.folder / "noise.npz"
    if not path.exists():
        run(_EXPORT, "deit_tiny_patch16_224", path, "torchscript")
    images = np.random.default_rng(0).standard_normal((32, 3, 224, 224)).astype(np.float32)
    np.savez(noise, x=images)
    return convert(path, ConvertOptions(calibrate=str(noise))).model, None


@dataclass(frozen=True)
class Network:
    """A network of the table.

    Attributes:
        title: What its row on one core is called.
        short: What its row on several cores begins with.
        make: Converts it and gives a sample, or None for a random one.
        shipped: Whether it comes with its sample.
    """

    title: str
    short: str
    make: Callable[[argparse.Namespace], tuple[Model, Data]]
    shipped: bool = False


NETWORKS: Mapping[str, Network] = {
    "cnn": Network("residual CNN, T4 G2", "residual CNN", _shipped("fashion_cnn_t4g2.onnx"), True),
    "transformer": Network(
        "transformer, T4 G2", "transformer", _shipped("fashion_transformer_t4g2.onnx"), True
    ),
    "vit_mnist": Network("ViT, MNIST, T8 G4", "ViT, MNIST", _vit),
    "ge2mst_small_224": Network(
        "Ge2mS-T small, 224 x 224, random weights", "Ge2mS-T small, 224 x 224", _ge2mst
    ),
    # Two rows of zeros on each side: it takes 32 x 32.
    "ge2mst_32": Network(
        "Ge2mS-T, 32 x 32, T4 G2", "Ge2mS-T, 32 x 32", _shipped("fashion_ge2mst_t4g2.onnx", 2), True
    ),
    "bsvit": Network("BSViT, 28 x 28", "BSViT, 28 x 28", _bsvit),
    "deit_tiny": Network("DeiT-Tiny, random weights, T8 G4", "DeiT-Tiny", _deit),
}


def measure(model: Model, data: Data, cores: int) -> dict[str, Any]:
    """Compile, prove, simulate and compare one model."""
    start = time.process_time()
    compiled = compile_program(model, Arch(cores=cores))
    seconds = {"compile": time.process_time() - start}
    runtime = compiled.runtime()
    samples = data if isinstance(data, dict) else load_samples(data or "random:1", runtime.inputs, seed=0)
    feeds = one_sample(samples, runtime.inputs)
    start = time.process_time()
    runtime.run(feeds)
    seconds["simulate"] = time.process_time() - start
    names = list(runtime.tensors)
    reference = create("numpy", model)
    wanted = reference.run(feeds, [name for name in names if name not in reference.outputs])
    other = create("ort", model).run(feeds)
    unequal = 0
    for order, seed in ORDERS:
        found = compiled.runtime(order=order, seed=seed).run(feeds, names)
        unequal += sum(
            int(np.count_nonzero(found[name].reshape(wanted[name].shape) != wanted[name]))
            for name in dict.fromkeys([*names, *reference.outputs])
        )
    unequal += sum(int(np.count_nonzero(other[name] != wanted[name])) for name in reference.outputs)
    return {
        **report(compiled, profile(compiled, feeds)),
        "data": data is not None,
        "seconds": seconds,
        "tensors": len(names),
        "elements": sum(found[name].size for name in names),
        "unequal": unequal,
        "commit": _commit(),
    }


def _commits(results: dict[str, dict[str, Any]]) -> str:
    """Return the commits that were measured, and of all but the most frequent one the rows."""
    rows: dict[str, list[str]] = {}
    for name, item in results.items():
        rows.setdefault(item.get("commit", "earlier"), []).append(name)
    first, *others = sorted(rows, key=lambda commit: -len(rows[commit]))
    return "; ".join([first, *(f"{commit}: {', '.join(rows[commit])}" for commit in others)])


def _commit() -> str:
    """Return the commit that was measured."""
    asked = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the section."""
    headings = (
        "network | sample | cores | instructions | million cycles: counted, worst | C busy: least, most "
        "| SOPs "
        "| µJ: papers, integer, full | pJ per SOP: without DRAM, full; in a batch of 64 | latency, steps "
        "| messages, kB | largest peak / bound: SMEM, AMEM, TMEM, DRAM | thresholds of a core, kB "
        "| tensors (elements) compared | unequal "
        "| seconds: compile and prove, simulate"
    )
    rows = [f"| {headings} |", "|" + " --- |" * (headings.count("|") + 1)]
    for name, item in results.items():
        energy, memory = item["picojoules"], item["memory_bytes"]
        cores = item["cores"]
        messages, sent = (sum(core[key] for core in cores) for key in ("messages", "bytes_sent"))
        ratios = [
            max(
                core["memory_bytes"][m]["peak"] / max(1, core["memory_bytes"][m]["lower_bound"])
                for core in cores
            )
            for m in ("SMEM", "AMEM", "TMEM")
        ]
        ratios.append(memory["DRAM"]["peak"] / max(1, memory["DRAM"]["lower_bound"]))
        gap = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        busy = [100 * core["utilisation"]["C"] for core in cores]
        batch = item["picojoules_per_image_of_batch"]["64"] / max(1, item["sops"])
        cells = [
            name,
            "real" if item["data"] else "random",
            str(len(cores)),
            f"{item['instructions']:,}",
            f"{item['cycles']['counted'] / 1e6:.3f}, {item['cycles']['worst'] / 1e6:.3f}",
            f"{min(busy):.0f}, {max(busy):.0f} %",
            f"{item['sops']:,}",
            ", ".join(f"{energy[key] / 1e6:.4g}" for key in ("papers", "datapath", "full")),
            ", ".join(f"{item['picojoules_per_sop'][key]:.1f}" for key in ("without_dram", "full"))
            + f"; {batch:.1f}",
            str(item["latency_time_steps"]),
            f"{messages:,}, {sent / 1000:,.0f}",
            gap,
            f"{memory['TMEM']['peak'] / 1000:.1f}",
            f"{item['tensors']} ({item['elements']:,})",
            str(item["unequal"]),
            f"{item['seconds']['compile']:.1f}, {item['seconds']['simulate']:.2f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    chips = ", ".join(f"{name} {value:g}" for name, value in CHIPS.items())
    return [
        *rows,
        "",
        "One sample, reference sizes; estimates for a reference architecture from published 45 nm figures,",
        "no silicon. Every tensor that the machine makes is compared with numpy in both orders of time-steps",
        "and under a random interleaving of all queues, the outputs with onnxruntime as well. All parameters",
        "come from DRAM once for the one image (more often where several cores use the same), which is most",
        "of the full energy; *in a batch of 64* is the estimate if they came once for 64 images. C busy: of",
        "the core that computes least and of the one that computes most. DRAM serves all cores at once.",
        "",
        f"Published chips, pJ per SOP (SENECA paper, PMC10326429, table 3): {chips}.",
        "",
        f"- machine: {processor()}; seconds are processor time",
        "- what the host computes (encoder, first convolution, readout) is in no figure of these tables",
        f"- commit: {_commits(results)}",
        f"- command: `python benchmarks/expg1.py --all --mnist FOLDER`, FOLDER with {_MNIST};",
        "  needs torch and timm. Without arguments: the networks shipped with samples, which need neither.",
        "  `NAME=MODEL.snn.onnx[,DATA.npz][@CORES]` measures any other",
    ]


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, Model, Data, int]]:
    """Iterate over name, model, data and cores of what is to be measured."""
    for argument in options.models:
        name, _, rest = argument.partition("=")
        rest, _, cores = rest.partition("@")
        path, _, data = rest.partition(",")
        yield name, load_spiking(path), data or None, int(cores or 1)
    chosen = list(NETWORKS) if options.all else options.networks
    if not chosen and not options.models:
        chosen = [name for name, network in NETWORKS.items() if network.shipped]
    for name in chosen:
        network = NETWORKS[name]
        model, data = network.make(options)
        for cores in options.cores:
            title = network.title if cores == 1 else f"{network.short}, {cores} cores"
            yield title, model, data, cores


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="NAME=MODEL.snn.onnx[,DATA.npz][@CORES]")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=[], metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every network of the table")
    parser.add_argument("--mnist", type=Path, help=f"folder with {_MNIST}")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 4])
    parser.add_argument(
        "--folder", type=Path, default=Path("out/expg1"), help="where exports go, and are kept"
    )
    return parser.parse_args()


def main() -> int:
    """Measure; earlier results of other names are kept."""
    options = arguments()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = HERE / "expg1.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name, model, data, cores in wanted(options):
        results[name] = measure(model, data, cores)
        print(name, results[name]["unequal"], results[name]["seconds"], flush=True)
        kept.write_text(json.dumps(results, indent=2) + "\n")
    write_section(HERE / "RESULTS.md", "Instructions of ExpG-1", lines(results))
    return int(any(item["unequal"] for item in results.values()))


if __name__ == "__main__":
    sys.exit(main())
