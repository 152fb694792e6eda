"""What `--reconstruct` gives at weights of 8, 4 and 3 bits.

    python benchmarks/reconstruct.py --models MODELS --mnist MNIST --mnist-train TRAIN --cifar10 CIFAR10

Converts pre-trained networks at T = 8 and G = 4 with weights of each width and each kind of reconstruction,
calibrated on the same training images, and judges them on test images. Writes a section of
`benchmarks/RESULTS.md`; ends with status 1 if an audit finds something.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from networks import NETWORKS, add_data_options, load_data, say
from pretrained import find, judge
from report import processor, write_section

from snnc.compile import ConvertOptions
from snnc.passes.quantise.reconstruct import RECONSTRUCTIONS

WEIGHTS = ("int8", "int4", "int3")
COMMAND = (
    "python benchmarks/reconstruct.py --models MODELS --mnist MNIST --mnist-train TRAIN --cifar10 CIFAR10"
)


def main() -> int:
    """Measure all; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_options(parser)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["vit_mnist", "resnet8"])
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--calibration", type=int, default=256, help="training images")
    options = parser.parse_args()
    data = load_data(options, options.calibration)
    lines = [
        f"T = 8, G = 4, {options.calibration} training images to calibrate on, the first",
        f"{options.images:,} test images. *Agree* and *SNR* compare the spiking network with the float one.",
        "",
        "| network | weights | reconstruct | float | spiking | agree | SNR, dB | converting, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    clean = True
    for key in options.networks:
        network = NETWORKS[key]
        source = find(network, options.models)
        if source is None or network.data not in data:
            say(f"skipped: {network.title}: {network.file} or its data are not at hand")
            continue
        held = data[network.data]
        calibration, inputs = network.prepare(held.train), network.prepare(held.test[: options.images])
        for weights in WEIGHTS:
            for way in RECONSTRUCTIONS:
                choice = ConvertOptions(groups=4, weights=weights, reconstruct=way)
                row = judge(source, choice, calibration, inputs, held.labels[: len(inputs)], counted=1)
                clean = clean and bool(row["audit"]["clean"])
                lines.append(
                    f"| {network.title} | {weights} | {way} | {row['float']:.1f} % | {row['spiking']:.1f} % "
                    f"| {row['agreement']:.1f} % | {row['decibel']:.1f} | {row['seconds_converting']} |"
                )
                say(lines[-1])
    asked = f"--networks {' '.join(options.networks)} --images {options.images}"
    command = f"{COMMAND} {asked} --calibration {options.calibration}"
    lines += ["", f"- machine: {processor()}", f"- command: `{command}`"]
    write_section(Path(__file__).resolve().parent / "RESULTS.md", "Reconstruction of weights", lines)
    return int(not clean)


if __name__ == "__main__":
    raise SystemExit(main())
