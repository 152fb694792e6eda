"""Write the tables of the README and of pages from the measurements and tests of this repository.

    python docs/make_tables.py            # rewrite them
    python docs/make_tables.py --check    # status 1 if one says something else

Each table stands between ``<!-- table NAME -->`` and ``<!-- end of table -->``. A measurement that is not
there gives an empty table: no number is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Documents that hold tables.
DOCUMENTS = ("README.md", "docs/limits.md", "docs/sources.md")
TITLES = {"fashion_cnn": "residual CNN", "fashion_transformer": "transformer"}
GROUPS = (4, 2, 1)

_BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _rows(headings: list[str], rows: list[list[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def shipped_table(lossless: dict[str, Any] | None, trained: dict[str, Any]) -> list[str]:
    """Return the table of the shipped networks.

    Args:
        lossless: Content of ``benchmarks/lossless.json``, or None if it was not measured yet.
        trained: Content of ``examples/models/RESULTS.json``.
    """
    if lossless is not None:
        return _lossless_table(lossless, trained)
    rows = []
    for name, title in TITLES.items():
        cells = [
            f"{trained[key]['accuracy']:.2f} %" if (key := f"{name}_{form}") in trained else ""
            for form in ("float", *(f"t4g{groups}" for groups in GROUPS))
        ]
        if any(cells):
            rows.append([title, *cells])
    if not rows:
        return []
    headings = ["network", "trained in float", *(f"T=4, G={groups}" for groups in GROUPS)]
    return [
        "Accuracy of the trained networks on the 10,000 test images, in float, before conversion:",
        "",
        *_rows(headings, rows),
    ]


def _lossless_table(result: dict[str, Any], trained: dict[str, Any]) -> list[str]:
    rows = []
    for name, groups in ((name, groups) for name in TITLES for groups in GROUPS if name in result["float"]):
        key = f"{name}_t4g{groups}"
        start = [TITLES[name], str(groups), f"{result['float'][name]:.2f} %"]
        start.append(f"{trained[key]['accuracy']:.2f} %" if key in trained else "")
        row = result["networks"].get(key)
        if row is None:
            rows.append([*start, "", "", "", "", ""])
            continue
        cost = row["cost"]
        spiking = sorted({f"{value:.2f} %" for value in row["accuracy_spiking"].values()})
        rows.append(
            [
                *start,
                f"{row['accuracy_quantised']:.2f} %",
                ", ".join(spiking),
                f"{sum(row['mismatches'].values()):,} of {row['compared_per_runtime']:,}",
                f"{cost['spikes_per_neuron']:.3f}, {cost['most_spikes']}",
                f"{cost['energy_with_host_pj'] / 1e6:.2f}, {cost['energy_spikes_pj'] / 1e6:.2f}",
            ]
        )
    headings = [
        "network",
        "G",
        "trained in float",
        "trained with ExpG",
        "quantised",
        "spiking",
        "unequal codes and logits",
        "spikes per neuron: mean, most",
        "energy, µJ: all, without first layer",
    ]
    runtimes = len(next(iter(result["networks"].values()))["mismatches"])
    return [
        *_rows(headings, rows),
        "",
        (
            f"{result['images']:,} test images, T = 4; figures are per image. Unequal is summed over "
            f"{runtimes} runtimes, each with as many comparisons as stated; an empty cell was not measured. "
            f"{result['machine']}; `{result['command']}`."
        ),
    ]


def spikingjelly_table(result: dict[str, Any] | None) -> list[str]:
    """Return the comparison with SpikingJelly's converter; times only if they were taken.

    Args:
        result: Content of ``benchmarks/spikingjelly_cnn.json``, or None if it was not measured yet.
    """
    if result is None or "judged" not in result:
        return []
    ours, theirs = result["judged"]["snnc"], result["judged"]["spikingjelly"]
    neurons = next(iter(ours.values()))["neurons"]
    times = result.get("times", {}).get("seconds_per_image", {})

    def row(name: str, steps: int, accuracy: float, spikes: float, key: str) -> list[str]:
        milliseconds = [f"{1000 * seconds:.2f}" for seconds in times.get(key, {}).values()]
        return [name, str(steps), f"{accuracy:.2f} %", f"{spikes / neurons:.3f}", *milliseconds]

    rows = []
    for contestant, judged in ours.items():
        kind = "calibrated" if judged["calibrated"] else "fine-tuned"
        for runtime, words in (("ort", "onnxruntime"), ("numpy-timestep", "numpy, step by step")):
            name = f"snnc, {kind}, G = {judged['groups']}, {words}"
            key = f"snnc {contestant} {runtime}"
            rows.append(row(name, judged["timesteps"], judged["accuracy"], judged["spikes_per_image"], key))
    for recipe, judged in theirs.items():
        for steps in sorted(judged["accuracy"], key=int):
            key = f"spikingjelly {recipe} T{steps}"
            accuracy, spikes = judged["accuracy"][steps], judged["spikes_per_image"][steps]
            rows.append(row(f"SpikingJelly, {recipe}", int(steps), accuracy, spikes, key))
    headings = ["converter", "T", "accuracy", "spikes per neuron"]
    headings += [f"ms per image, batch {batch}" for batch in next(iter(times.values()), {})]
    if times:
        differences = " What is not equal is said in [benchmarks/RESULTS.md](benchmarks/RESULTS.md)."
    else:
        differences = ""
    commands = {part["command"] for part in (result["judged"], result.get("times")) if part}
    return [
        *_rows(headings, rows),
        "",
        (
            f"{result['images']:,} test images, {neurons:,.0f} neurons; the float network classifies "
            f"{result['float_accuracy']:.2f} %. {result['machine']}, one thread each; "
            f"{', '.join(f'`{command}`' for command in sorted(commands))}.{differences}"
        ),
    ]


def pretrained_table(result: dict[str, Any] | None) -> list[str]:
    """Return the table of networks converted after training.

    Args:
        result: Content of ``benchmarks/pretrained.json``, or None if it was not measured yet.
    """
    if result is None or not result["networks"]:
        return []
    rows, verified, shared = [], set(), set()
    for network in result["networks"].values():
        for setting, row in network["rows"].items():
            cost = row["cost"]
            unequal = sum(row["verified"]["unequal"].values()) + row["shared"]["unequal"]
            verified.add(row["verified"]["images"])
            shared.add(row["shared"]["images"])
            rows.append(
                [
                    network["title"],
                    "8, 4" if setting == "defaults" else ", ".join(setting[1:].split("G")),
                    f"{row['images']:,}",
                    f"{row['float']:.2f} %",
                    f"{row['spiking']:.2f} %",
                    f"{row['agreement']:.2f} %",
                    "" if row["decibel"] is None else f"{row['decibel']:.1f}",
                    "none" if row["audit"]["clean"] else "; ".join(row["audit"]["findings"]),
                    f"{unequal:,}",
                    f"{cost['spikes_per_neuron']:.2f}, {cost['most_spikes']:.0f}",
                    f"{cost['energy_with_host_pj'] / 1e6:.2f}, {cost['energy_dense_float_pj'] / 1e6:.2f}",
                ]
            )
    headings = [
        "network",
        "T, G",
        "test images",
        "float",
        "spiking",
        "same class",
        "SNR, dB",
        "multiplications",
        "unequal",
        "spikes per neuron: mean, most",
        "energy, µJ: spiking, dense float",
    ]
    counts = (" and ".join(f"{count:,}" for count in sorted(counts)) for counts in (verified, shared))
    return [
        *_rows(headings, rows),
        "",
        (
            "Calibrated on {} training images; T = 8, G = 4 is what `--groups 4` gives. Same class: float "
            "and spiking network agree. Multiplications: what `snnc audit` finds between encoder and "
            "readout. Unequal: codes and outputs of six runtimes on {} images, and outputs of onnxruntime "
            "and numpy on {}. {}; `{}`."
        ).format(result["calibration"], *counts, result["machine"], result["command"]),
    ]


def steps_table(result: dict[str, Any] | None) -> list[str]:
    """Return accuracy against T and G, and SpikingJelly's recipes for transformers beside it.

    Args:
        result: Content of ``benchmarks/spikingjelly_transformers.json``, or None if it was not measured yet.
    """
    if result is None or not result["networks"]:
        return []
    networks = result["networks"].values()
    rows = [["none: float", "", "", *(f"{entry['float']:.2f} %" for entry in networks)]]
    settings = sorted(
        {(row["timesteps"], row["groups"]) for entry in networks for row in entry["snnc"].values()}
    )
    for timesteps, groups in settings:
        found = [entry["snnc"].get(f"T{timesteps}G{groups}") for entry in networks]
        cells = ["" if row is None else f"{row['accuracy']:.2f} %" for row in found]
        rows.append(["snnc", str(timesteps), str(groups), *cells])
    refusals: list[str] = []
    for recipe, steps in _recipes(result):
        cells = [_of_recipe(entry["spikingjelly"], recipe, steps, refusals) for entry in networks]
        rows.append([f"SpikingJelly, {recipe}", str(steps), "", *cells])
    headings = ["converter", "T", "G", *(_title(key) for key in result["networks"])]
    images = " and ".join(f"{count:,}" for count in sorted({entry["images"] for entry in networks}))
    return [
        *_rows(headings, rows),
        "",
        (
            f"The first {images} test images, {result['calibration']} training images to calibrate on, "
            f"nothing trained. What is not equal is said in [benchmarks/RESULTS.md](benchmarks/RESULTS.md). "
            f"{result['machine']}; `{result['command']}`."
        ),
        *(["", *(f"{number}. `{text}`" for number, text in enumerate(refusals, 1))] if refusals else []),
    ]


def _title(key: str) -> str:
    return {"vit_mnist": "ViT, MNIST", "vit_cifar10": "ViT, CIFAR-10", "resnet8": "ResNet8, CIFAR-10"}[key]


def _recipes(result: dict[str, Any]) -> list[tuple[str, int]]:
    """Every recipe with every number of steps that any network was judged at."""
    found: dict[tuple[str, int], None] = {}
    for entry in result["networks"].values():
        for recipe, answer in (entry["spikingjelly"] or {"recipes": {}})["recipes"].items():
            found |= dict.fromkeys((recipe, row["steps"]) for row in answer["rows"])
    order = list(dict.fromkeys(recipe for recipe, _ in found))
    return sorted(found, key=lambda pair: (order.index(pair[0]), pair[1]))


def _of_recipe(judged: dict[str, Any] | None, recipe: str, steps: int, refusals: list[str]) -> str:
    if judged is None or recipe not in judged["recipes"]:
        return ""
    answer = judged["recipes"][recipe]
    for row in answer["rows"]:
        if row["steps"] == steps:
            return f"{row['accuracy']:.2f} %"
    message = answer["refused"][-1]["message"]
    if message not in refusals:
        refusals.append(message)
    return f"refused ({refusals.index(message) + 1})"


#: What a row of tests/sources/sources.toml promises, in words.
_RESULTS = {
    "exact": "equal to its source",
    "close": "{decibel} dB to its source, at least",
    "calibrate": "takes `--calibrate`; then {decibel} dB to its source, at least",
    "refused": "refused, {code}: {reason}",
}


def sources_table(root: Path) -> list[str]:
    """Return the table of source models that the tests convert or see refused.

    Args:
        root: The repository; without ``tests/sources/sources.toml`` the table is empty.
    """
    path = root / "tests" / "sources" / "sources.toml"
    if not path.is_file():
        return []
    listed = tomllib.loads(path.read_text())["source"]
    rows = [
        [row["tool"], row["form"], _RESULTS[row["result"]].format_map(row), f"`{row['file']}`"]
        for row in listed
    ]
    return _rows(["written by", "form", "result", "model"], rows)


def mutation_table(result: dict[str, Any] | None) -> list[str]:
    """Return how many planted mistakes the tests saw.

    Args:
        result: Content of ``benchmarks/mutation.json``, or None if it was not measured yet.
    """
    if result is None:
        return []
    rows = [
        [
            name,
            f"{row['tried']} of {row['possible']}",
            f"{row['seen']} ({100 * row['share']:.1f} %)",
            f"{row['tried'] - row['seen']}, {row['explained']}",
            f"{100 * row['share_without_explained']:.1f} %",
        ]
        for name, row in result.items()
    ]
    headings = [
        "mistakes in",
        "tried",
        "seen by a test",
        "not seen, of these explained",
        "seen, but for those",
    ]
    return _rows(headings, rows)


def ge2mst_table(result: dict[str, Any] | None) -> list[str]:
    """Return the Ge2mS-T networks that were trained to the end, converted and compared.

    Args:
        result: Content of ``benchmarks/ge2mst.json``, or None if it was not measured yet.
    """
    trained = {key: row for key, row in (result or {}).items() if key.startswith("cifar10_gpu_")}
    if not trained:
        return []
    rows = []
    for row in trained.values():
        groups = row["settings"].get("groups")
        start = ["in float" if groups is None else f"T = 4, G = {groups}", f"{row['accuracy']:.2f} %"]
        if groups is None:
            rows.append([*start, "", "", "", "", ""])
            continue
        found, cost = row["comparisons"], row["per_image"]
        rows.append(
            [
                *start,
                f"{100 * found['right'] / found['images']:.2f} %",
                f"{found['unequal']:,} of {found['compared']:,}",
                f"{cost['spikes_per_neuron']:.2f}, {cost['most_spikes']:.0f}",
                f"{cost['sops'] / 1e6:.2f} M of {cost['sop_bound'] / 1e6:.2f} M",
                f"{cost['energy_with_host_pj'] / 1e6:.2f}, {cost['energy_spikes_pj'] / 1e6:.2f}",
            ]
        )
    headings = [
        "Ge2mS-T, CIFAR-10",
        "in torch",
        "spiking",
        "unequal codes and logits",
        "spikes per neuron: mean, most",
        "SOPs of their bound",
        "energy, µJ: all, without first layer",
    ]
    some = list(trained.values())[-1]
    return [
        *_rows(headings, rows),
        "",
        (
            f"{some['parameters']:,} parameters, {some['epochs']} epochs on {some['trained_on']}; "
            f"{some['test_samples']:,} test images. Both spiking ones are in "
            "[examples/models](examples/models/README.md). Training beside a LIF spiking transformer, cost "
            "by module, and the three networks of the paper: [benchmarks/RESULTS.md](benchmarks/RESULTS.md)."
        ),
    ]


def native_table(result: list[dict[str, Any]] | None) -> list[str]:
    """Return how long the native operators take beside the float network, on the machine measured last.

    Args:
        result: Content of ``benchmarks/native.json``, or None if it was not measured yet.
    """
    if not result:
        return []
    machine, version = result[-1]["machine"], result[-1]["onnxruntime"]
    rows = []
    for entry in sorted(
        (entry for entry in result if (entry["machine"], entry["onnxruntime"]) == (machine, version)),
        key=lambda entry: (entry["network"], entry["timesteps"], entry["groups"]),
    ):
        alone = {run["batch"]: run for run in entry["runs"] if run["threads"] == 1}
        cells = [f"{run[kind]:.2f}" for kind in ("native", "int8") for _, run in sorted(alone.items())]
        stock = next((f"{run['stock']:.1f}" for _, run in sorted(alone.items()) if "stock" in run), "")
        name = f"{entry['network']}, {entry['timesteps']}, {entry['groups']}"
        rows.append([name, *cells, stock, f"{entry['different']:,}"])
        batches = sorted(alone)
    headings = ["network, T, G"]
    headings += [f"{what}, batch {batch}" for what in ("native", "int8") for batch in batches]
    return [
        *_rows([*headings, f"no library, batch {batches[0]}", "unequal"], rows),
        "",
        (
            f"Processor time, one thread; 1 is the float network. int8: `quantize_static` of onnxruntime. No "
            f"library: onnxruntime with nothing of snnc. {machine}, onnxruntime {version}; "
            f"`python benchmarks/native.py`. Another machine, two threads, and what limits it: "
            f"[benchmarks/RESULTS.md](benchmarks/RESULTS.md)."
        ),
    ]


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def tables(root: Path = ROOT) -> dict[str, list[str]]:
    """Return every table by name, from the measurements under ``root``."""
    return {
        "shipped": shipped_table(
            _read(root / "benchmarks" / "lossless.json"),
            _read(root / "examples" / "models" / "RESULTS.json") or {},
        ),
        "pretrained": pretrained_table(_read(root / "benchmarks" / "pretrained.json")),
        "steps": steps_table(_read(root / "benchmarks" / "spikingjelly_transformers.json")),
        "spikingjelly": spikingjelly_table(_read(root / "benchmarks" / "spikingjelly_cnn.json")),
        "ge2mst": ge2mst_table(_read(root / "benchmarks" / "ge2mst.json")),
        "native": native_table(_read(root / "benchmarks" / "native.json")),
        "sources": sources_table(root),
        "mutation": mutation_table(_read(root / "benchmarks" / "mutation.json")),
    }


def filled(text: str, content: dict[str, list[str]]) -> str:
    """Return a Markdown text with its tables replaced.

    Raises:
        KeyError: The text has a table that ``content`` has not.
    """

    def replace(match: re.Match[str]) -> str:
        return "\n".join([match[1].rstrip("\n"), *content[match[2]], match[3]])

    return _BLOCK.sub(replace, text)


def main() -> int:
    """Rewrite the documents, or compare; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    stale = False
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        wanted = filled(text, tables())
        if not check:
            path.write_text(wanted)
        elif text != wanted:
            print(f"{name} does not say what was measured: run python docs/make_tables.py")
            stale = True
    return int(stale)


if __name__ == "__main__":
    raise SystemExit(main())
