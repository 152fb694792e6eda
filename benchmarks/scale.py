"""Large networks: time and memory of a conversion beside onnxruntime's static quantisation.

    python benchmarks/scale.py --networks deit_tiny_patch16_224 vit_base_patch16_224 --images 32

Makes networks with random weights (timm; `pip install timm`), exports them, and converts each in a process
of its own; `onnxruntime.quantization.quantize_static` gets the same images in another one, in turns; the
median of the rounds counts. Time and peak memory are those of the whole process, imports and reading
included. Some images are run in every runtime, and all outputs are compared. Writes
`benchmarks/scale.json` and a section of `benchmarks/RESULTS.md`; ends with status 1 if outputs differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report import processor, write_section  # noqa: E402

NETWORKS = ("deit_tiny_patch16_224", "deit_small_patch16_224", "vit_base_patch16_224")

_EXPORT = """
import sys
import torch, timm
name, path, exporter = sys.argv[1:]
torch.manual_seed(0)
network = timm.create_model(name, pretrained=False)
norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
size = network.default_cfg["input_size"]
for norm in norms:  # statistics of random weights, so that activations keep their size
    norm.reset_running_stats()
    norm.momentum = None
if norms:
    with torch.no_grad():
        network.train()(torch.randn(4, *size))
x = torch.randn(1, *size)
names = {"input_names": ["x"], "output_names": ["logits"]}
if exporter == "dynamo":
    free = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(network.eval(), (x,), path, dynamo=True, dynamic_shapes=free, **names)
else:
    axes = {"x": {0: "n"}, "logits": {0: "n"}}
    torch.onnx.export(network.eval(), (x,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
"""
_CONVERT = """
import sys
from snnc.compile import ConvertOptions, convert
from snnc.ir import save
from snnc.pipeline import Timing
source, target, data = sys.argv[1:]
timing = Timing()
save(convert(source, ConvertOptions(calibrate=data), instruments=[timing]).model, target)
calibration = sum(seconds for name, seconds in timing.seconds if name == "insert-quantisers")
print("calibration seconds", calibration)
"""
_QUANTIZE_STATIC = """
import logging, sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
logging.disable(logging.WARNING)
source, target, data = sys.argv[1:]
class Images(CalibrationDataReader):
    def __init__(self): self.rest = iter(np.load(data)["x"])
    def get_next(self):
        image = next(self.rest, None)
        return None if image is None else {"x": image[None]}
quantize_static(source, target, Images(), quant_format=QuantFormat.QDQ)
"""


def run(script: str, *arguments: object) -> dict[str, float]:
    """Run a script in a process of its own; return its seconds and its peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(error.decode()[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The largest child so far: the callers run the small processes first, in a process each.
    return {
        "wall_seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": round(after.ru_maxrss / 1024),
    }


def measured(script: str, *arguments: object) -> dict[str, float]:
    """As `run`, from a fresh process, so that the peak is that of this script alone."""
    code = f"import json, sys; sys.path.insert(0, {str(HERE)!r}); import scale; "
    code += "print(json.dumps(scale.run(sys.argv[1], *sys.argv[2:])))"
    found = subprocess.run(
        [sys.executable, "-c", code, script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(found.stderr[-2000:])
    result: dict[str, float] = json.loads(found.stdout)
    return result


def compared(path: Path, images: np.ndarray, *, numpy: bool) -> dict[str, Any]:
    """Return the number of output elements that differ between runtimes, and which these are."""
    from snnc.debug.verify import default_runtimes
    from snnc.ir import load
    from snnc.runtimes import OnnxRuntime

    model = load(path)
    makers = {name: make for name, make in default_runtimes().items() if numpy or "numpy" not in name}
    makers["native operators"] = lambda model: OnnxRuntime(model, "all", stock=False)
    first: dict[str, np.ndarray] = {}
    unequal = 0
    for name, make in makers.items():
        runtime = make(model)
        found = [runtime.run({"x": image[None]}) for image in images]
        outputs = {key: np.concatenate([result[key] for result in found]) for key in found[0]}
        first = first or outputs
        unequal += sum(int((outputs[key] != first[key]).sum()) for key in first)
        print(f"{path.name}: {name}, {unequal} unequal so far", flush=True)
    return {"unequal": unequal, "compared": ", ".join(makers)}


def audited(path: Path) -> str:
    """Return ``clean``, or what multiplies between encoder and readout."""
    from snnc.cost.audit import audit
    from snnc.ir import load

    report = audit(load(path))
    return "clean" if report.clean else "; ".join(sorted(f"{row.op} {row.node}" for row in report.findings))


def judge(
    name: str, folder: Path, options: argparse.Namespace, data: Path, known: dict[str, Any]
) -> dict[str, Any]:
    """Export, convert and quantise one network; ``known`` is its row so far."""
    source = folder / f"{name}.{options.exporter}.onnx"
    if not source.exists():
        run(_EXPORT, name, source, options.exporter)
    target = folder / f"{name}.snn.onnx"
    if options.part == "compare":
        row = {**known, "images": options.verified}
        return row | compared(
            target, np.load(data)["x"][: options.verified], numpy=not options.onnxruntime_only
        )
    weights = sum(file.stat().st_size for file in (source, Path(f"{source}.data")) if file.exists())
    row = {
        "weights_mb": round(weights / 2**20),
        "images": options.verified,
        "calibration": options.images,
        "machine": processor(),
        "command": shlex.join(["python", "benchmarks/scale.py", *sys.argv[1:]]),
    }
    rounds: dict[str, list[dict[str, float]]] = {"snnc": [], "quantize_static": []}
    for _ in range(options.rounds):
        rounds["snnc"].append(measured(_CONVERT, source, target, data))
        quantised = folder / f"{name}.qdq.onnx"
        rounds["quantize_static"].append(measured(_QUANTIZE_STATIC, source, quantised, data))
    for kind, found in rounds.items():
        row[kind] = {key: round(float(np.median([each[key] for each in found])), 1) for key in found[0]}
    row["rounds"] = options.rounds
    row["snnc"]["file_mb"] = round(target.stat().st_size / 2**20)
    row["audit"] = audited(target)
    if options.verified and options.part == "all":
        row |= compared(target, np.load(data)["x"][: options.verified], numpy=not options.onnxruntime_only)
    return row


def table(result: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    columns = (
        "network",
        "calibration images",
        "weights, MB",
        "snnc: s",
        "CPU s",
        "peak, MB",
        "of weights",
        "file, MB",
        "quantize_static: s",
        "CPU s",
        "peak, MB",
        "audit",
        "compared",
        "unequal",
    )
    lines = [
        "Random weights, images of standard normal noise. Seconds by the clock, processor seconds and peak",
        "memory of the whole process, imports included, the two in turns; *of weights* is the peak",
        "as a multiple of the weights' size. *Unequal* counts output elements that differ between the",
        "runtimes compared; how many images they ran on stands in brackets.",
        "",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
    ]
    for name, row in result["networks"].items():
        ours, theirs = row["snnc"], row["quantize_static"]
        lines.append(
            f"| {name} | {row['calibration']} | {row['weights_mb']} "
            f"| {ours['wall_seconds']} | {ours['cpu_seconds']} | {ours['peak_mb']:.0f} "
            f"| {ours['peak_mb'] / row['weights_mb']:.1f} | {ours['file_mb']} "
            f"| {theirs['wall_seconds']} | {theirs['cpu_seconds']} | {theirs['peak_mb']:.0f} "
            f"| {row.get('audit', '')} "
            f"| {row.get('compared', '')} ({row['images']}) "
            f"| {row.get('unequal', '')} |"
        )
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    origins: dict[tuple[str, str], list[str]] = {}
    for name, row in result["networks"].items():
        origin = row.get("machine", result["machine"]), row.get("command", result["command"])
        origins.setdefault(origin, []).append(name)
    return [
        *lines,
        "",
        *(f"- {', '.join(names)}: {machine}; `{command}`" for (machine, command), names in origins.items()),
        f"- versions: {versions}",
        *result.get("remarks", []),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def main() -> int:
    """Judge all networks; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="names in timm")
    parser.add_argument("--rounds", type=int, default=1, help="conversions of each; the median counts")
    parser.add_argument("--images", type=int, default=32, help="calibration images")
    parser.add_argument("--verified", type=int, default=2, help="images on which runtimes are compared")
    parser.add_argument("--onnxruntime-only", action="store_true", help="leave out numpy, which takes long")
    parser.add_argument("--again", action="store_true", help="keep the rows of other networks")
    parser.add_argument(
        "--part",
        choices=["all", "time", "compare"],
        default="all",
        help="time: no comparison, which takes long; compare: add it to a row, of the file that was timed",
    )
    parser.add_argument("--exporter", choices=["torchscript", "dynamo"], default="torchscript")
    parser.add_argument(
        "--folder", type=Path, default=Path("out/scale"), help="where models go, and are kept"
    )
    parser.add_argument("--json", type=Path, default=HERE / "scale.json")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = options.folder / f"x{options.images}.npz"
    noise = np.random.default_rng(0).standard_normal((options.images, 3, 224, 224)).astype(np.float32)
    np.savez(data, x=noise)
    before: dict[str, Any] = {}
    if (options.again or options.part == "compare") and options.json.exists():
        before = json.loads(options.json.read_text())
    networks = before.get("networks", {})
    for name in options.networks:
        networks[name] = judge(name, options.folder, options, data, networks.get(name, {}))
        print(name, json.dumps(networks[name], sort_keys=True), flush=True)
    result = {
        # Of rows that were made before these were kept with each.
        "command": before.get("command", shlex.join(["python", "benchmarks/scale.py", *sys.argv[1:]])),
        "machine": before.get("machine", processor()),
        "remarks": before.get("remarks", []),
        "networks": networks,
        "versions": {name: _version(name) for name in ("snnc", "numpy", "onnxruntime", "timm")},
    }
    options.json.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    write_section(HERE / "RESULTS.md", "Large networks", table(result))
    return int(any(row.get("unequal") for row in networks.values()))


if __name__ == "__main__":
    raise SystemExit(main())
