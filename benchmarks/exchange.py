"""Let norse, an independent reader, execute what snnc writes as NIR, and print the difference.

make exchange (installs norse into .venv/norse), or: python benchmarks/exchange.py [--images N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from snnc.compile import ConvertOptions, convert  # noqa: E402
from tests.isa.norse_reader import difference, norse_path  # noqa: E402

MODELS = ROOT / "examples" / "models"
NETWORKS = ("fashion_cnn_t4g1", "fashion_cnn_t4g2", "fashion_cnn_t4g4")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20)
    images = parser.parse_args().images
    if norse_path() is None:
        print("norse is not installed; make exchange installs it beside snnc")
        return 6
    print("| network | images | logits: largest difference of norse and numpy | largest |")
    print("| --- | --- | --- | --- |")
    for name in NETWORKS:
        model = convert(MODELS / f"{name}.onnx", ConvertOptions()).model
        with tempfile.TemporaryDirectory() as folder:
            worst, largest = difference(model, str(MODELS / "fashion_sample.npz"), Path(folder), images)
        print(f"| {name} | {images} | {worst:g} | {largest:.4g} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
