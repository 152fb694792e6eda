"""Programs of ExpG-1: size, cycles, energy, speed of the simulator, and equality with numpy and onnxruntime.

    python benchmarks/expg1.py
    python benchmarks/expg1.py NAME=MODEL.snn.onnx[,DATA.npz][@CORES] ...

Without arguments the networks of `examples/models` that have samples there are converted and measured, on one
core and on four. Each model is compiled, proved, simulated on one sample (random without data) in both orders
of time-steps and one random interleaving of the queues, and every tensor is compared with the numpy runtime,
the outputs with onnxruntime too. Writes `benchmarks/expg1.json` and a section of `benchmarks/RESULTS.md`;
ends with status 1 if anything differs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

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
#: Shipped networks with samples, by the names of their rows: on one core, on four.
SHIPPED = {
    "fashion_cnn_t4g2": ("residual CNN, T4 G2", "residual CNN, 4 cores"),
    "fashion_transformer_t4g2": ("transformer, T4 G2", "transformer, 4 cores"),
    "fashion_ge2mst_t4g2": ("Ge2mS-T, 32 x 32, T4 G2", "Ge2mS-T, 32 x 32, 4 cores"),
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
    }


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
        "- command: `python benchmarks/expg1.py` for residual CNN, transformer and Ge2mS-T of 32 x 32,",
        "  which are shipped; `python benchmarks/expg1.py NAME=MODEL.snn.onnx[,DATA.npz][@CORES] ...` for",
        "  others: from `snnc convert examples/models/vit_mnist_d64x6.onnx --timesteps 8 --groups 4",
        "  --calibrate MNIST` (ViT), `benchmarks/scale.py` (DeiT-Tiny), `benchmarks/ge2mst.py --full-size`",
        "  (Ge2mS-T of 224 x 224), `snnc convert examples/models/mnist_bsvit.onnx` (BSViT)",
    ]


def wanted(arguments: list[str]) -> Iterator[tuple[str, Model, Data, int]]:
    """Iterate over name, model, data and cores of what is to be measured."""
    for argument in arguments:
        name, _, rest = argument.partition("=")
        rest, _, cores = rest.partition("@")
        path, _, data = rest.partition(",")
        yield name, load_spiking(path), data or None, int(cores or 1)
    if not arguments:
        images = np.load(MODELS / "fashion_sample.npz")["x"]
        for file, names in SHIPPED.items():
            model = convert(MODELS / f"{file}.onnx", ConvertOptions()).model
            border = 2 if "ge2mst" in file else 0  # of zeros: it takes 32 x 32
            samples = {"x": np.pad(images, ((0, 0), (0, 0), (border, border), (border, border)))}
            for name, cores in zip(names, (1, 4), strict=True):
                yield name, model, samples, cores


def main() -> int:
    """Measure the models of the command line; earlier results of other names are kept."""
    kept = HERE / "expg1.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name, model, data, cores in wanted(sys.argv[1:]):
        results[name] = measure(model, data, cores)
        print(name, results[name]["unequal"], results[name]["seconds"], flush=True)
    kept.write_text(json.dumps(results, indent=2) + "\n")
    write_section(HERE / "RESULTS.md", "Instructions of ExpG-1", lines(results))
    return int(any(item["unequal"] for item in results.values()))


if __name__ == "__main__":
    sys.exit(main())
