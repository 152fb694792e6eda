"""snnc against SpikingJelly's recipes for transformers: the same float networks and images, no training.

    benchmarks/setup_spikingjelly.sh .venv-spikingjelly
    python benchmarks/spikingjelly_transformers.py --spikingjelly .venv-spikingjelly/bin/python OPTIONS

OPTIONS name the models and data, as for `benchmarks/pretrained.py`. Each network is given to every recipe in
each form in which torch can write it (with `nn.MultiheadAttention`, with `scaled_dot_product_attention`,
written out), until one is accepted; a refusal is recorded with its message. Both sides get the same
calibration images and are judged on the same test images; snnc at every T and G of the table in README.md.
Writes `benchmarks/spikingjelly_transformers.json`, so that an interrupted run goes on, and a section of
`benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from networks import NETWORKS, Data, add_data_options, load_data, say
from pretrained import find, judge
from report import processor, write_section

from snnc.compile import ConvertOptions
from snnc.ir import Model, attributes, constant, load

Array = npt.NDArray[Any]
HERE = Path(__file__).resolve().parent
CHOSEN = ("vit_mnist", "vit_cifar10", "resnet8")
OURS = {
    f"T{timesteps}G{groups}": ConvertOptions(timesteps=timesteps, groups=groups)
    for timesteps in (4, 6, 8)
    for groups in sorted({1, 2, 4, timesteps})
}
RECIPES = ("STA, equivalent", "STA, spiking encoder", "TD-equivalent", "SpikeZIP")
STEPS = (4, 8, 32)
COMMAND = (
    "python benchmarks/spikingjelly_transformers.py --spikingjelly PYTHON --models MODELS --mnist MNIST "
    "--mnist-train TRAIN --cifar10 CIFAR10"
)

_INTRODUCTION = """\
Float networks, converted after training from {calibration} training images, judged on {images} test
images. Of the forms in which torch can write a network the first one that a recipe accepts is shown.

What is not equal: snnc's networks compute with additions, comparisons and shifts of integers; of
SpikingJelly's, *STA, equivalent* and *TD-equivalent* compute LayerNorm, softmax, GELU and products in
float at every step and send real numbers, *STA, spiking encoder* sends whole multiples of thresholds
and keeps the same operations in float. *SpikeZIP* asks for a network that was trained with its
quantisers; here it gets the float network, as a user of a pre-trained network has it. An image is
presented at the first step, nothing afterwards, and outputs are summed, as SpikingJelly's example does.
The CIFAR-10 transformer of these rows is an earlier training by the same script, on a CPU (76.74 %); the one
that is shipped is of a later one (76.78 %)."""


def transformer(model: Model, measures: dict[str, Any]) -> dict[str, Array]:
    """Return the weights of a vision transformer by the names that SpikingJelly's side gives them."""
    arrays = {name: constant(value) for name, value in model.graph.initializers.items()}
    matrices = [
        matrix
        for node in model.graph
        if node.op_type == "MatMul" and (matrix := constant(node.inputs[1])) is not None and matrix.ndim == 2
    ]
    width, patch = measures["width"], measures["patch"]
    found: dict[str, Array] = {"head": arrays[measures["names"]["head"] + ".weight"]}
    found["head_bias"] = arrays[measures["names"]["head"] + ".bias"]
    embed = measures["names"]["embed"]
    if f"{embed}.weight" in arrays:
        found["embed"] = arrays[f"{embed}.weight"]
    else:
        # Pixels of a patch, row by row, times a matrix.
        found["embed"] = matrices.pop(0).T.reshape(width, patch, patch, -1).transpose(0, 3, 1, 2)
    found["embed_bias"] = arrays[f"{embed}.bias"]
    found["norm"] = arrays[measures["names"]["norm"] + ".weight"]
    found["norm_bias"] = arrays[measures["names"]["norm"] + ".bias"]
    found["position"] = arrays[measures["names"]["position"]]
    if measures["class_token"]:
        found["token"] = next(
            value
            for node in model.graph
            if node.op_type == "Expand" and (value := constant(node.inputs[0])) is not None
        )
    for block in range(measures["depth"]):
        stems = {key: text.format(block) for key, text in measures["blocks"].items()}
        qkv, out, first, second = (matrix.T for matrix in matrices[4 * block : 4 * block + 4])
        part = {"qkv": qkv, "out": out, "first": first, "second": second}
        part["qkv_bias"] = arrays.get(f"{stems['qkv']}.bias", np.zeros(len(qkv), np.float32))
        for name in ("out", "first", "second"):
            part[f"{name}_bias"] = arrays[f"{stems[name]}.bias"]
        for name in ("norm1", "norm2"):
            part[name] = arrays[f"{stems[name]}.weight"]
            part[f"{name}_bias"] = arrays[f"{stems[name]}.bias"]
        found |= {f"{block}/{name}": array for name, array in part.items()}
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


_MNIST = {
    "width": 64,
    "hidden": 128,
    "heads": 4,
    "size": 64,
    "length": 50,
    "depth": 6,
    "colours": 1,
    "patch": 4,
    "classes": 10,
    "class_token": True,
    "activation": "relu",
    "names": {
        "embed": "to_patch_embedding.1",
        "head": "mlp_head.1",
        "norm": "mlp_head.0",
        "position": "pos_embedding",
    },
    "blocks": {
        "qkv": "transformer.layers.{}.0.fn.to_qkv",
        "out": "transformer.layers.{}.0.fn.to_out.0",
        "first": "transformer.layers.{}.1.fn.net.0",
        "second": "transformer.layers.{}.1.fn.net.3",
        "norm1": "transformer.layers.{}.0.norm",
        "norm2": "transformer.layers.{}.1.norm",
    },
}
_CIFAR = {
    **_MNIST,
    "size": 16,
    "length": 64,
    "depth": 4,
    "colours": 3,
    "class_token": False,
    "activation": "gelu",
    "names": {"embed": "embed", "head": "head", "norm": "norm", "position": "position"},
    "blocks": {
        "qkv": "blocks.{}.attention.qkv",
        "out": "blocks.{}.attention.project",
        "first": "blocks.{}.feed_forward.0",
        "second": "blocks.{}.feed_forward.2",
        "norm1": "blocks.{}.norm1",
        "norm2": "blocks.{}.norm2",
    },
}
MEASURES = {"vit_mnist": _MNIST, "vit_cifar10": _CIFAR}


def chain(model: Model) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return the nodes and weights of a convolutional network, as SpikingJelly's side builds it."""
    nodes, weights = [], {}
    for node in model.graph:
        inputs, held = [], []
        for value in node.inputs:
            array = constant(value)
            if array is None:
                inputs.append("" if value in model.graph.inputs else value.name)
            else:
                held.append(value.name)
                transposed = node.op_type == "Gemm" and array.ndim == 2 and not attributes(node).get("transB")
                weights[value.name] = np.ascontiguousarray(array.T if transposed else array)
        described = {
            key: value for key, value in attributes(node).items() if not isinstance(value, np.ndarray)
        }
        described |= {"op": node.op_type, "inputs": inputs, "weights": held, "output": node.outputs[0].name}
        nodes.append(described)
    return nodes, weights


def theirs(options: argparse.Namespace, key: str, source: Path, data: Data, images: Array) -> dict[str, Any]:
    """Ask SpikingJelly's side, one recipe at a time."""
    network, model = NETWORKS[key], load(source)
    result: dict[str, Any] = {"recipes": {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inputs = {"images": network.prepare(images), "labels": data.labels[: len(images)]}
        np.savez(place / "data.npz", **inputs, calibration=network.prepare(data.train))
        work: dict[str, Any] = {"data": f"{folder}/data.npz", "weights": f"{folder}/weights.npz"}
        if key in MEASURES:
            weights = transformer(model, MEASURES[key])
            work |= {"kind": "transformer", "measures": MEASURES[key]}
        else:
            nodes, weights = chain(model)
            work |= {"kind": "chain", "nodes": nodes}
        np.savez(place / "weights.npz", **weights)
        for recipe in RECIPES:
            say(f"{key}: SpikingJelly, {recipe} ...")
            path = place / "work.json"
            path.write_text(json.dumps({**work, "recipe": recipe, "steps": list(STEPS)}))
            worker = str(HERE / "spikingjelly_transformers_worker.py")
            done = subprocess.run(
                [str(options.spikingjelly), worker, str(path)], stdout=subprocess.PIPE, text=True, check=True
            )
            answer = json.loads(done.stdout.splitlines()[-1])
            result |= {"versions": answer["versions"], "float": answer["float"]}
            result["recipes"][recipe] = {"rows": answer["rows"], "refused": answer["refused"]}
    return result


def table(result: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    first = next(iter(result["networks"].values()))
    lines = [
        _INTRODUCTION.format(calibration=result["calibration"], images=first["images"]),
        "",
        "| network | converter | form | T | accuracy |",
        "|---|---|---|---|---|",
    ]
    for key, entry in result["networks"].items():
        title = NETWORKS[key].title
        lines.append(f"| {title} | none: float | | | {entry['float']:.2f} % |")
        for row in entry["snnc"].values():
            code = f"snnc, G = {row['groups']}"
            lines.append(f"| {title} | {code} | ONNX | {row['timesteps']} | {row['accuracy']:.2f} % |")
        for recipe, answer in (entry["spikingjelly"] or {"recipes": {}})["recipes"].items():
            name = f"SpikingJelly, {recipe}"
            for row in answer["rows"]:
                lines.append(
                    f"| {title} | {name} | {row['form']} | {row['steps']} | {row['accuracy']:.2f} % |"
                )
            if not answer["rows"]:
                for refused in answer["refused"]:
                    message = refused["message"].replace("|", "\\|")
                    lines.append(f"| {title} | {name} | {refused['form']} | | refused: {message} |")
    theirs = (first["spikingjelly"] or {"versions": {}})["versions"]
    return [
        *lines,
        "",
        f"- machine: {result['machine']}",
        f"- versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + "".join(f", {name} {number} (SpikingJelly's side)" for name, number in theirs.items()),
        f"- command: `{result['command']}`",
    ]


def write(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write what is known so far: the file and the section of RESULTS.md."""
    order = [key for key in CHOSEN if key in result["networks"]]
    result["networks"] = {key: result["networks"][key] for key in order}
    result |= {"calibration": options.calibration, "command": f"{COMMAND} --images {options.images}"}
    result |= {"machine": processor()}
    result["versions"] = {name: version(name) for name in ("snnc", "numpy", "onnxruntime")}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    write_section(HERE / "RESULTS.md", "SpikingJelly's recipes for transformers", table(result))


def main() -> int:
    """Judge both sides; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spikingjelly", type=Path, help="Python that has SpikingJelly; without: only snnc")
    add_data_options(parser)
    parser.add_argument("--networks", nargs="+", choices=CHOSEN, default=CHOSEN)
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--calibration", type=int, default=256, help="training images")
    parser.add_argument("--again", action="store_true", help="measure what is in the file already")
    parser.add_argument("--json", type=Path, default=HERE / "spikingjelly_transformers.json")
    options = parser.parse_args()
    data = load_data(options, options.calibration)
    result = json.loads(options.json.read_text()) if options.json.is_file() else {"networks": {}}
    for key in options.networks:
        network, source = NETWORKS[key], find(NETWORKS[key], options.models)
        if source is None or network.data not in data:
            say(f"skipped: {network.title}: {network.file} or its data are not at hand")
            continue
        held = data[network.data]
        images, labels = held.test[: options.images], held.labels[: options.images]
        entry = result["networks"].setdefault(key, {"images": 0})
        if entry["images"] != len(images) or options.again:
            entry |= {"images": len(images), "data": held.words, "snnc": {}, "spikingjelly": None}
        for setting, choice in OURS.items():
            if setting in entry["snnc"]:
                continue
            say(f"{key}: snnc, {setting} ...")
            row = judge(
                source, choice, network.prepare(held.train), network.prepare(images), labels, counted=50
            )
            entry["float"] = row["float"]
            kept = {name: row[name] for name in ("agreement", "decibel")}
            kept |= {"accuracy": row["spiking"], "spikes_per_neuron": row["cost"]["spikes_per_neuron"]}
            entry["snnc"][setting] = {"timesteps": choice.timesteps, "groups": choice.groups, **kept}
            write(options, result)
        if options.spikingjelly is not None and entry["spikingjelly"] is None:
            answer = theirs(options, key, source, held, images)
            for form, accuracy in answer["float"].items():
                if abs(accuracy - entry["float"]) > 0.11:
                    words = f"{key}, {form}: torch classifies {accuracy} %, the file {entry['float']} %"
                    raise SystemExit(words)
            entry["spikingjelly"] = answer
            write(options, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
