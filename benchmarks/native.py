"""Speed in onnxruntime: native operators beside the float original and onnxruntime's own static int8.

    python benchmarks/native.py --networks deit_tiny_patch16_224 resnet18 ge2mst_small --settings 4,2 8,4

Random weights (timm, `pip install timm`; Ge2mS-T is snnc's own, in float), four random calibration images.
What is measured replaces the rows of the same network and setting on the same machine, others stay.
Processor time with one thread, wall time with two, spinning off; variants take turns, and figures are
medians of the ratios of each turn. All outputs of native, stock and numpy are compared: a difference ends
with status 1. Writes `benchmarks/native.json` and a section of `benchmarks/RESULTS.md`. `--check` compares
ratios on one small network of the repository with generous limits and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report import processor, write_section  # noqa: E402
from scale import _EXPORT, _QUANTIZE_STATIC, run  # noqa: E402

from snnc.compile import ConvertOptions, convert  # noqa: E402
from snnc.ir import load  # noqa: E402
from snnc.runtimes import NumpyPacked, NumpyTimestep, OnnxRuntime, ort  # noqa: E402

ROUNDS = 11
NOTES = """
### What limits them on the AMD machine

Zen 4 has AVX-512 with VNNI and no matrix registers.

Peaks, measured on one thread: products of bytes 225 GMAC/s and of 16 bits 113 in the kernels themselves (64
and 32 a cycle; 55 in float), reading memory 15 GB/s, the third-level cache 90, the second 110; a neuron
0.15 ns with even steps up to 64 cells, 0.28 up to 512, 0.41 up to 1,024, 0.9 with a table in memory; with
tables of bytes in registers (AVX-512 VBMI) 0.14 up to 512 cells, 0.19 where single precision must look out
for borders.

Reached: DeiT at T = 4, G = 2 (DeiT-Tiny 0.48 and 0.42, DeiT-S 0.36 and 0.34; int8 0.52 to 0.65), DeiT-S at
8, 4 against float (0.49 and 0.46), ResNet-18 (0.39 and 0.41 at 4, 2 and at 8, 4), Ge2mS-T at 4, 2 with
batch 1 (0.44); int8 for ResNet-18 and Ge2mS-T. Not reached: Ge2mS-T with batch 8 at 4, 2 (0.47) and at 8, 4
(0.50 and 0.53; goal 0.45), DeiT-Tiny at 8, 4 (0.63 and 0.61, goal 0.55; int8 0.78 with batch 1, goal 0.75)
and int8 for DeiT-S there (0.87 and 0.77). The float network is stronger competition than on the other
machine: 29 ms for DeiT-Tiny in place of 46.

Profiles (perf, batch 1, one thread). DeiT-Tiny at 8, 4, 17 to 18.5 ms: 27 % products of bytes, 13 % finding
and multiplying what signed codes have beyond a byte, 13 % 16-bit products of attention, 24 % neurons (GELU
13, even steps 6, scores 6), 5 % norms. Ge2mS-T at 8, 4, 17 to 18 ms: 35 % products of bytes, 11 % of 16
bits (the first layer, codes with a sign), 19 % neurons, 6 % padding, 4 % reading and writing windows of
attention, 3 % interleaving. Older ones, shares of all samples, a tenth to a fifth of which are Python
loading the file: DeiT-S at 8, 4, 43 to 49 ms: 38 % products of bytes, 13 % what codes have beyond a byte, 7
% attention, 17 % neurons, 4 % norms. ResNet-18 at 8, 4, 17 to 22 ms: 43 % products of bytes, 4 % the first
layer, 6 % neurons, 5 % padding and interleaving.

Rooflines (bytes between operators are estimates).
DeiT-Tiny: 1.07 GMAC in bytes 4.8 ms, a sixth of them again for what is left of signed codes 0.8, 0.18
GMAC of attention in 16 bits 1.6, 5.9 million neurons 3.0 (1.8 million with tables in memory 0.75 ns each,
the others 0.4 in registers), 5.7 MB of weights and 20 MB between operators 1.7: 12 ms of 28.5, so 0.42 at
best, and less at T = 4, G = 2, where codes are bytes. DeiT-S: four times the products for twice the
neurons, which is why it is nearer.
ResNet-18: 1.99 GMAC 8.8 ms, 14 % more for margins and for planes of 49 or 222 columns in panels
of 64, 0.12 GMAC of the first layer in two digits of 16 bits 2.1, neurons 0.9, 11 MB of weights and 29
MB between operators 2.7: 15.7 of 35, so 0.45 at best at T = 8, G = 4. Ge2mS-T: 1.29 GMAC 5.7 ms, first
layer 1.6, 8.8 million neurons 1.7, 69 MB 4.6 if none of it stayed in cache: 13.6 of 33 to 35, so 0.39 to
0.41 at best.

Designs tried here, with the times of whole networks at T = 8, G = 4, batch 1, one thread:
- Sums of a block in an array: gcc 12 stored all 24 vectors to memory in every step, because the loops
  over them were unrolled after arrays had been taken apart. Unrolled first: 107 to 225 GMAC/s; DeiT-S
  124 to 78 ms, ResNet-18 34 to 21, Ge2mS-T to 26.
- Signed codes of more than a byte, |x| <= 255: 16-bit products (113 GMAC/s); or bytes, and what is left
  of the few that exceed one (1 to 6 % of codes, 6 to 20 % of quadruples) in a sparse product of
  unsigned bytes: DeiT-S 76 to 66 ms.
- Tables of neurons in memory: 32,768 cells, 16,384 or 8,192 (kept): DeiT-S 65, 63 and 62 ms. Gathers of
  words (0.75 ns), or permutations of up to 32 registers and single precision where that is proved exact
  (0.16 to 0.41): Ge2mS-T 27 to 25 ms.

Designs for transformers, DeiT-Tiny (batch 1, one thread, least of 20 to 40 turns alone on the machine; 21.4
ms at T = 8, G = 4 and 16.4 at 4, 2 before):
- Tables of curved neurons: cells that note where in them their limit begins, in place of eight times as
  many that are open if they hold one. GELU falls from 18 to 11 % of the time, as the limits of single rows,
  0.5 MB a layer, are hardly read any more. 2,048 or 1,024 cells a class: no difference.
- The membrane arithmetic behind products and before norms done by them, queries, keys and values one copy
  each (180 nodes less), codes that are hardly negative moved into unsigned bytes: with the tables 20.2, and
  14.9 at 4, 2.
- Scores of a block of rows fired at once, their marks in registers; tables that mirror themselves read by
  half; keys packed by words: 18.0, and 14.0 at 4, 2. Four rows at a time where six are not left: 17.8.
- Tiles of 96 rows, in which six always fit: 18.2 to 19.9, as the sums leave the first cache (not kept).
- Codes of neurons with even steps found in tables of bytes in registers (VBMI), 64 potentials at a time, and
  single precision except beside a border: 17.8 to 17.4, batch 8 143 to 137; DeiT-S 45.9 to 44.9, ResNet-18
  13.7 to 13.4 (kept). 0.62 of the float network in those turns, and 0.76 of int8. Of the 13 % that GELU
  still takes, more than a third are reads of its table of cells, which is too large for registers.

What keeps DeiT-Tiny at T = 8, G = 4 from 0.55 (2 ms) and from 0.75 of int8 (0.2 ms), and DeiT-S from 0.75
of int8 (3 to 5 ms): codes up to 240 with a sign have nine bits. What they have beyond a byte takes 2.3 and
6 ms, and products of two such codes in attention 2 and 3.4 ms, twice what bytes take; a network of int8
has neither, and at 4, 2, where codes are bytes, all goals are met. Of the 2.3 ms the products are 1.4 and
finding what is left 0.9. GELU takes 1.2 ns in place of 0.75, as 36 KB of tables leave the first cache. Not
tried: columns in the order of their tables; queries, keys and values read where the product wrote them (0.4
ms); tables of bytes in registers (VBMI).

Designs for convolutions (batch 1, one thread, least of 20 to 40 turns on a busy machine):
- Slices of a code and digits of a weight, which the compiler splits so that float32 sums stay exact, joined
  to one product modulo 2^32: ResNet-18 at 8, 4 had three 3 x 3 convolutions twice for this, 18.4 to 15.5 ms
  (kept).

Designs for Ge2mS-T (batch 1, one thread, least of 24 to 60 turns with what was before, alone on the machine,
whose own speed varied between the pairs; at 4, 2 17.0 ms and at 8, 4 19.0 before; all kept):
- Planes of bytes for depthwise convolutions, margins written in one pass, panels of 64 columns interleaved
  at once: 16.2 and 18.4; batch 8 140 to 131 and 148 to 143.
- Attention in windows as one operator, read and written in place: 15.2 and 18.1; batch 8 133 to 116 and 152
  to 148.
- Neurons with even steps: limits so many that single precision is not exact for each potential ran in
  double. Now in single, and again in double where a result is nearer to a border than its roundings reach:
  with fewer allocations for windows 0.1 ms each, as finding the code in 512 words took the time. Tables of
  bytes in registers, 64 potentials at a time: 8, 4 18.5 to 17.7.
- Two neurons behind one convolution, without stored sums and slices of them: 15.5 to 15.2 and 17.7 to 17.2.
- Four elements of a window loaded before any is stored: 15.5 to 15.0 and 17.6 to 17.1.
- Inputs of 16 bits of 1 x 1 kernels read where they are, as those of bytes are: 8, 4 17.3 to 17.1, batch 8
  143 to 142.

What keeps Ge2mS-T from 0.45 at 8, 4 (2 to 3 ms): products of bytes are 5.7 ms at their peak; codes up to
240 with a sign go through products of 16 bits (about 1 ms, twice what bytes take), and neurons take 3.3 ms,
twice what they do alone (probably as they are the first to read the sums, in pieces of at most 64). With
batch 8 the float network takes 5 % less for each image, and this one no less.

Stock on this machine: DeiT-Tiny 4.6 at 4, 2 and 5.4 at 8, 4; DeiT-S 2.8 and 3.4; the goal of 1.3 is not
reached. Profile of DeiT-Tiny at 8, 4 (onnxruntime's own, busy machine, 207 ms): 117 ms the loops of the
binary search, 27 the float products, 11 64-bit divisions, 10 sums, 8 each casts and differences. One
neuron, 151,296 elements, one thread, ns an element: the search 16.9 with 255 thresholds and 9.1 with 15; a
grid of cells from the compiler, one table a node, with two lookups 4.3 and with three 5.0 (equal bits); one
lookup in a table of all potentials 1.8 (a bound: 65,536 potentials at most); arithmetic in float64 for even
steps 1.9, in float32 1.1. GatherElements takes 0.9 to 1.2 of it whatever the size of the table and the type
of its entries; Gather on tables of bytes 9.2. Limit: 1.3 of 29 ms are 38, of which 27 are the float
products (51 GMAC/s; as bytes 173 GMAC/s and 9 ms, but only for unsigned codes, which few are: 11 GMAC/s for
signed ones); 5.9 million neurons with the quickest exact tables are 25 ms, norms and quotients in 64 bits
40 more: about 92, so 3.2. The cells are not taken: a neuron would carry another input in every file and
runtime, for 3.2 in place of 5.3.

Opening: 0.3 to 1.5 times the float network's time, and numpy packed is 3.1 to 5.1 times as fast as
time-stepped. SpikingJelly's own conversion at the least T with the same agreement takes, beside T = 8,
G = 4, 27.7 times as long for DeiT-Tiny (T = 8), 20.8 for DeiT-S (T = 6) and 111 for ResNet-18 (T = 31;
the goal is 20); for Ge2mS-T it does not get there by T = 256, with 1,349 times as long (9.4 dB beside
18.3). Beside T = 4, G = 2 it is 14.0, 13.5 (T = 3 both), 34 (T = 10) and again not reached: see its
section.

### What limits them on the Intel machine

What bounds them, on the same machine while it did other work: bytes in matrix registers 400 to 550
GMAC/s, 16 bits 50 GMAC/s, reading memory 8 GB/s; a neuron 0.5 to 0.7 ns with even steps, 0.9 ns with
tables. DeiT-Tiny at T = 8, G = 4 has 1.25 GMAC (2.3 to 3 ms for each plane of bytes), 5.9 million
neurons (5 ms) and 0.03 GMAC in the first layer (0.6 ms): about a quarter of the float network's time.
The rest is memory: perf shows waits where neurons first read the sums that the matrix registers wrote,
and where thresholds of single channels are read.

Designs tried for neurons with tables: an affine map to 512 cells with up to 25 thresholds each,
compared in turn (2.1 ns alone); up to 8,192 cells of which most give the code at once and the rest are
settled one by one (1.0 ns, but hardly better inside the network), 32,768 cells settled 16 at a time
over a whole tile. DeiT-Tiny at T = 8, G = 4, batch 1 went from 1.02 to 0.76 with that, packing without
copies and one digit for small inputs. Convolutions: input lines copied for each stride, then the plane
taken apart into phases once, so that every tap is one offset (ResNet-18 at T = 8, G = 4, batch 1: 0.82
to 0.59).

Convolutions now do the membrane arithmetic behind them and fire (scales, biases, one rounding, one sum
with another tensor, a neuron, tile by tile); depthwise ones add up all taps in registers, two at a time;
first layers multiply planes of bytes in matrix registers and round before anything is stored; inputs of
1 x 1 kernels are read where they are; reshapes and transposes in a row are one copy; small products of
attention in windows take 16 bits. Medians of 7 turns on the busy machine, one thread, before and after:
Ge2mS-T at T = 8, G = 4 1.42 and 1.69 (batch 1, 8), then 0.78 and 0.74; at 4, 2 0.74 and 0.76; ResNet-18
at 8, 4 0.59 and 0.72, then 0.55 to 0.60 and 0.55 to 0.58; at 4, 2 0.49 and 0.49.

What limits them. ResNet-18: 1.99 GMAC in bytes (1.4 ms at the 1,200 to 1,450 GMAC/s that matrix registers
reach here when neighbours leave them alone, 5 ms at the 400 that they often get), 0.12 GMAC of the first
layer in four to six planes (3 ms with padding and neurons), 2.3 million neurons (2 ms), 29 MB between
operators and 11 MB of weights (4 ms at 9 GB/s): 10 to 14 ms of 31 to 40. Alone it took 12.6 ms at best
and 21 at the median, beside a float network of 31 at best and 40 at the median: 0.41 and 0.53. Residual
inputs of more than a byte are taken apart into two codes, whose convolutions pass their sums through memory.
Ge2mS-T: 1.29 GMAC in bytes, most with a depth of 24, 48 or 96 that is padded to 64 or 128 (2 to 4 ms),
0.09 GMAC of the first layer (3 ms), 8.8 million neurons (6 to 8 ms), 69 MB between operators (7 ms at the
speed of memory, less as most stays in cache): 14 to 20 ms of a float network of 41 to 48, so 0.35 to 0.45
at best; 23.6 ms was the best run. The rest is small work: a plane of 14 x 14 is 196 neurons, for which
padding, taking margins away and starting the loop of the neuron cost more than the 0.12 ms that the neurons
of 768 planes need (0.83 ms plane by plane, 0.52 with 16 planes finished together), and 330 nodes cost
3 to 6 us each besides.

Other designs for these: depthwise convolutions line by line with sums in memory (2.4 to 5 ms each against
0.5); first layers as two digits of 12 bits in 16-bit products with 64-bit sums in memory (8 ms against 3
to 5); int16 codes of windows in two planes of bytes (0.19 ms a product of windows against 0.1); and not
tried: planes with channels last, which would need no interleaving for matrix registers and no margins
between lines, but every pool, layout and residual sum in that order.

Stock onnxruntime spends two thirds of its time in the loop of the binary search, five to eight rounds
of GatherElements; the goal of 1.3 is not reached. Tried, DeiT-Tiny at T = 8, G = 4, batch 1, processor
time, beside 8.9 before: rounds of four operators in place of six, 8.1 (kept). A grid of 4,096 cells that
the body computes from the thresholds when a file is opened, so that one comparison is left where no cell
holds two: 4.9 with one table for rows that are spaced alike, else one for each row, and 5.7 with one for
each row always; all bits equal. It is not kept, because a neuron has 100 to 165 nodes then, of which each
takes 0.1 ms of every opening: 4.9 to 8.7 s in place of 1.9 s, and minutes without optimisation if the
nodes do not stand in a subgraph, as that time grows with the square of a graph's nodes. Such tables would
have to come from the compiler. What is left at 4.9 are twelve operators an element that stream through
memory, the float products (as long as the whole float network), and 64-bit divisions of norms.

The library also loads into onnxruntime 1.18.1, 1.20.1 and 1.32.0 and passes
`tests/runtimes/test_native_kernels.py` there. In 1.18.1 (numpy 1.26) every operator gives the bits of
`tests/runtimes/test_native_values.py`. Function bodies do not: that release divides by zero in those of
MembraneMask and MembraneMax where there is nothing, and leaves products without depth unset. Our declaration
agrees with the headers of interface version 29. For aarch64 it is cross-compiled; its NEON loops, those of
convolutions too, ran under qemu, all bits equal (`tests/runtimes/test_native_loops.py`).
""".strip().splitlines()
NETWORKS = ["deit_tiny_patch16_224", "resnet18", "ge2mst_small"]
_EXPORT_GE2MST = """
import sys
import torch
from snnc.models import ge2mst
from snnc.nn import float_activation
size, path = sys.argv[1:]
torch.manual_seed(0)
# Random attention grows from block to block; divided by the tokens it stays finite.
network = ge2mst(size, activation=float_activation, score_scale="tokens")
for norm in network.modules():
    if isinstance(norm, torch.nn.BatchNorm2d):  # statistics that keep activations in size
        norm.reset_running_stats()
        norm.momentum = None
with torch.no_grad():
    network.train()(torch.randn(8, 3, 224, 224))
axes = {"x": {0: "n"}, "logits": {0: "n"}}
torch.onnx.export(network.eval(), (torch.randn(1, 3, 224, 224),), path, dynamo=False, opset_version=17,
                  dynamic_axes=axes, input_names=["x"], output_names=["logits"])
"""
#: For --check: native against stock and float on a small network; far from what was measured, 0.2 and 2.5,
#: since other processors have other instructions.
CHECK_STOCK, CHECK_FLOAT = 0.8, 6.0


def original(path: Path, threads: int) -> Any:
    """Open a file as a user does, without spinning threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ratios(sessions: dict[str, Any], feeds: dict[str, np.ndarray], clock: Any, rounds: int) -> dict[str, Any]:
    """Let sessions take turns; return the first one's milliseconds and each one's median ratio to it."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + 2):
        for name, session in sessions.items():
            start = clock()
            session.run(None, feeds)
            times[name].append(clock() - start)
    times = {name: values[2:] for name, values in times.items()}
    base = next(iter(times.values()))
    found: dict[str, Any] = {"float_ms": round(statistics.median(base) * 1e3, 2)}
    for name, values in times.items():
        found[name] = round(
            statistics.median(one / other for one, other in zip(values, base, strict=True)), 3
        )
    return found


def opening(make: Any) -> float:
    """Return the processor seconds of opening a session, the median of three."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        make()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def registered(path: Path) -> Any:
    """Open a converted file with the native operators registered, as README.md shows."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    ort.register(options)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def export(name: str, target: Path) -> None:
    """Write a network with random weights, of timm or (ge2mst_small and so on) of snnc, as ONNX."""
    kind, _, size = name.partition("_")
    run(*((_EXPORT_GE2MST, size, target) if kind == "ge2mst" else (_EXPORT, name, target, "ts")))


def judge(name: str, setting: tuple[int, int], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one network at one setting."""
    source, quantised = folder / f"{name}.ts.onnx", folder / f"{name}.qdq.onnx"
    data = folder / "calibration.npz"
    rng = np.random.default_rng(0)
    if not data.exists():
        np.savez(data, x=rng.standard_normal((4, 3, 224, 224)).astype(np.float32))
    if not source.exists():
        export(name, source)
    if not quantised.exists():
        run(_QUANTIZE_STATIC, source, quantised, data)
    target = folder / f"{name}.t{setting[0]}g{setting[1]}.snn.onnx"
    if not target.exists():
        from snnc.ir import save

        chosen = ConvertOptions(calibrate=str(data), timesteps=setting[0], groups=setting[1])
        save(convert(source, chosen).model, target)
    model = load(target)
    result: dict[str, Any] = {
        "machine": processor(),
        "onnxruntime": onnxruntime.__version__,
        "network": name,
        "timesteps": setting[0],
        "groups": setting[1],
        "runs": [],
    }
    image = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    wanted = OnnxRuntime(model, stock=True).run({"x": image})
    found = [OnnxRuntime(model, stock=False).run({"x": image}), NumpyPacked(model).run({"x": image})]
    result["different"] = sum(int((each[key] != wanted[key]).sum()) for each in found for key in wanted)
    for batch in options.batches:
        feeds = {"x": rng.standard_normal((batch, 3, 224, 224)).astype(np.float32)}
        for threads in options.threads:
            clock = time.process_time if threads == 1 else time.perf_counter
            sessions = {"float": original(source, threads), "int8": original(quantised, threads)}
            sessions["native"] = OnnxRuntime(model, stock=False, threads=threads).session
            if batch == 1:
                sessions["stock"] = OnnxRuntime(model, stock=True, threads=threads).session
            row = ratios(sessions, feeds, clock, options.rounds)
            result["runs"].append({"batch": batch, "threads": threads, **row})
    result["opening"] = {
        "float": round(opening(lambda: original(source, 1)), 3),
        "native": round(opening(lambda: registered(target)), 3),
    }
    if options.numpy:
        feeds = {"x": image}
        taken = []
        for kind in (NumpyPacked, NumpyTimestep):
            runtime = kind(model)
            start = time.process_time()
            runtime.run(feeds)
            taken.append(time.process_time() - start)
        result["numpy"] = {"packed": round(taken[0], 3), "timestep": round(taken[1], 3)}
    return result


def section(results: list[dict[str, Any]]) -> list[str]:
    """Write the section of RESULTS.md: what was measured on each machine, in turn."""
    lines = [
        "`python benchmarks/native.py` (options name the networks). Ratios of processor time, one thread,",
        "of wall time with two; below 1 is faster than the float original. int8 is onnxruntime's own static",
        "quantisation (QDQ).",
        "opening: processor time of making a session, the library registered. numpy: one image.",
    ]
    for machine in dict.fromkeys(result["machine"] for result in results):
        lines += ["", *_tables(machine, [result for result in results if result["machine"] == machine])]
    return [*lines, "", *NOTES]


def _tables(machine: str, results: list[dict[str, Any]]) -> list[str]:
    """Write what one machine measured."""
    versions = ", ".join(dict.fromkeys(result["onnxruntime"] for result in results))
    lines = [
        f"### {machine}, onnxruntime {versions}",
        "",
        "| network | T, G | batch | threads | float, ms | native / float | native / int8 | stock / float |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        head = f"| {result['network']} | {result['timesteps']}, {result['groups']}"
        for row in result["runs"]:
            stock = f"{row['stock']:.2f}" if "stock" in row else ""
            lines.append(
                f"{head} | {row['batch']} | {row['threads']} | {row['float_ms']:.1f} "
                f"| **{row['native']:.2f}** | {row['native'] / row['int8']:.2f} | {stock} |"
            )
    lines += [
        "",
        "| network | T, G | opening float, s | native, s | numpy packed, s | time-stepped, s | differ |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        numpy = result.get("numpy", {"packed": "", "timestep": ""})
        opening = result["opening"]
        lines.append(
            f"| {result['network']} | {result['timesteps']}, {result['groups']} | {opening['float']} "
            f"| {opening['native']} | {numpy['packed']} | {numpy['timestep']} | {result['different']} |"
        )
    return lines


def check() -> int:
    """Compare ratios on a small network of the repository, with generous limits."""
    if ort.native_library() is None:
        print(f"no native library: {ort.native_problem()}")
        return 0
    models = HERE.parent / "examples" / "models"
    model = load(models / "fashion_cnn_float.onnx")
    converted = convert(models / "fashion_cnn_t4g2.onnx", ConvertOptions()).model
    sessions = {
        "float": OnnxRuntime(model, "all", threads=1).session,
        "native": OnnxRuntime(converted, stock=False, threads=1).session,
        "stock": OnnxRuntime(converted, stock=True, threads=1).session,
    }
    entry = sessions["native"].get_inputs()[0]
    shape = [64, *(int(extent) for extent in entry.shape[1:])]
    feeds = {entry.name: np.random.default_rng(0).random(shape, dtype=np.float32)}
    found = ratios(sessions, feeds, time.process_time, 7)
    print(found)
    slow = found["native"] > CHECK_FLOAT or found["native"] > CHECK_STOCK * found["stock"]
    return int(slow)


def main() -> int:
    """Measure, write, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", nargs="+", default=["deit_tiny_patch16_224", "resnet18", "ge2mst_small"]
    )
    parser.add_argument("--settings", nargs="+", default=["4,2", "8,4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--numpy", action="store_true", help="the numpy runtimes too")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        return check()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    file = HERE / "native.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    for name in options.networks:
        for setting in options.settings:
            steps, groups = (int(part) for part in setting.split(","))
            place = (processor(), name, steps, groups)
            results = [
                r for r in results if (r["machine"], r["network"], r["timesteps"], r["groups"]) != place
            ]
            results.append(judge(name, (steps, groups), options, folder))
            print(json.dumps(results[-1]), flush=True)
            file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_section(HERE / "RESULTS.md", "Native operators in onnxruntime", section(results))
    return int(any(result["different"] for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
