"""Tables of the documents: they are the measurements, and hide nothing of them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def make_tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_the_documents_are_the_measurements(make_tables: ModuleType) -> None:
    found: list[str] = []
    for name in make_tables.DOCUMENTS:
        text = (ROOT / name).read_text()
        found += re.findall(r"<!-- table (\S+) -->", text)
        assert make_tables.filled(text, make_tables.tables()) == text, "run python docs/make_tables.py"
    assert sorted(found) == sorted(make_tables.tables())


def test_every_source_of_the_table_is_told(make_tables: ModuleType) -> None:
    lines = make_tables.tables()["sources"]
    assert sum("`ort_" in line for line in lines) > 15
    assert any("refused, SNN461: FloatQuant" in line for line in lines)
    assert any("takes `--calibrate`; then 35 dB" in line for line in lines)


LOSSLESS: dict[str, Any] = {
    "command": "python benchmarks/lossless.py",
    "float": {"fashion_cnn": 91.5},
    "images": 10_000,
    "machine": "a machine",
    "networks": {
        f"fashion_cnn_t4g{groups}": {
            "accuracy_quantised": 90.0 + groups,
            "accuracy_spiking": {"numpy": 90.0 + groups, "onnxruntime (all)": 90.0 + groups + wrong},
            "mismatches": {"numpy": 0, "onnxruntime (all)": int(1000 * wrong)},
            "compared_per_runtime": 123_456,
            "cost": {
                "spikes_per_neuron": 0.5,
                "most_spikes": groups,
                "energy_with_host_pj": 4.5e6,
                "energy_spikes_pj": 4.0e6,
            },
        }
        for groups, wrong in ((1, 0.0), (2, 1.0))
    },
}
JELLY: dict[str, Any] = {
    "float_accuracy": 91.5,
    "images": 10_000,
    "machine": "a machine",
    "judged": {
        "command": "python benchmarks/spikingjelly_cnn.py",
        "snnc": {
            "fine-tuned T4G2": {
                "timesteps": 4,
                "groups": 2,
                "calibrated": False,
                "accuracy": 91.0,
                "spikes_per_image": 500.0,
                "neurons": 1000,
            }
        },
        "spikingjelly": {
            "rate": {
                "accuracy": {"64": 90.5, "8": 50.0},
                "spikes_per_image": {"64": 4000.0, "8": 400.0},
            }
        },
    },
}
TIMES: dict[str, Any] = {
    "command": "python benchmarks/spikingjelly_cnn.py --only times",
    "seconds_per_image": {
        "snnc fine-tuned T4G2 ort": {"1": 0.004, "32": 0.002},
        "snnc fine-tuned T4G2 numpy-timestep": {"1": 0.02, "32": 0.01},
        "spikingjelly rate T8": {"1": 0.05, "32": 0.025},
        "spikingjelly rate T64": {"1": 0.1, "32": 0.05},
    },
}


def test_tables_show_what_was_measured_and_hide_nothing(make_tables: ModuleType) -> None:
    trained = {"fashion_cnn_t4g4": {"accuracy": 93.0}, "fashion_cnn_t4g2": {"accuracy": 92.5}}
    lines = make_tables.shipped_table(LOSSLESS, trained)
    # What was trained but not yet compared in every runtime stands there with empty cells.
    assert lines[2].startswith("| residual CNN | 4 | 91.50 % | 93.00 % |  |  |")
    assert (
        "| residual CNN | 2 | 91.50 % | 92.50 % | 92.00 % | 92.00 %, 93.00 % | 1,000 of 123,456 |" in lines[3]
    )
    assert (
        "| residual CNN | 1 | 91.50 % |  | 91.00 % | 91.00 % | 0 of 123,456 | 0.500, 1 | 4.50, 4.00 |"
        in lines[4]
    )
    lines = make_tables.spikingjelly_table({**JELLY, "times": TIMES})
    assert lines[2] == "| snnc, fine-tuned, G = 2, onnxruntime | 4 | 91.00 % | 0.500 | 4.00 | 2.00 |"
    assert lines[4] == "| SpikingJelly, rate | 8 | 50.00 % | 0.400 | 50.00 | 25.00 |"
    assert lines[5] == "| SpikingJelly, rate | 64 | 90.50 % | 4.000 | 100.00 | 50.00 |"
    assert all(command in lines[-1] for command in (JELLY["judged"]["command"], TIMES["command"]))


def test_the_table_of_planted_mistakes_tells_what_was_not_tried(make_tables: ModuleType) -> None:
    row = {"possible": 200, "tried": 150, "seen": 120, "explained": 25}
    row |= {"share": 0.8, "share_without_explained": 0.96}
    lines = make_tables.mutation_table({"fold": row})
    assert lines[2:] == ["| fold | 150 of 200 | 120 (80.0 %) | 30, 25 | 96.0 % |"]
    assert make_tables.mutation_table(None) == []


PRETRAINED: dict[str, Any] = {
    "calibration": 256,
    "command": "python benchmarks/pretrained.py",
    "machine": "a machine",
    "networks": {
        "vit": {
            "title": "a transformer",
            "rows": {
                setting: {
                    "images": 10_000,
                    "float": 97.21,
                    "spiking": 97.0,
                    "agreement": 99.5,
                    "decibel": 28.04,
                    "audit": {"clean": not findings, "findings": findings},
                    "verified": {"images": 16, "unequal": {"numpy": 0, "onnxruntime (all)": 2}},
                    "shared": {"images": 1000, "unequal": 3},
                    "cost": {
                        "spikes_per_neuron": 2.0,
                        "most_spikes": 4.0,
                        "energy_with_host_pj": 64.5e6,
                        "energy_dense_float_pj": 148.0e6,
                    },
                }
                for setting, findings in (("defaults", []), ("T4G4", ["Mul a", "Div b"]))
            },
        }
    },
}
STEPS: dict[str, Any] = {
    "calibration": 256,
    "command": "python benchmarks/spikingjelly_transformers.py",
    "machine": "a machine",
    "networks": {
        "vit_mnist": {
            "images": 500,
            "float": 97.0,
            "snnc": {"T8G4": {"timesteps": 8, "groups": 4, "accuracy": 96.9}},
            "spikingjelly": {
                "recipes": {
                    "STA": {"rows": [{"form": "written out", "steps": 8, "accuracy": 50.0}], "refused": []},
                    "TD": {"rows": [{"form": "written out", "steps": 4, "accuracy": 10.0}], "refused": []},
                }
            },
        },
        "resnet8": {
            "images": 500,
            "float": 75.0,
            "snnc": {"T4G4": {"timesteps": 4, "groups": 4, "accuracy": 73.0}},
            "spikingjelly": {
                "recipes": {
                    "STA": {"rows": [], "refused": [{"form": "as it is", "message": "ValueError: no"}]},
                }
            },
        },
    },
}


def test_tables_of_pretrained_networks_hide_nothing(make_tables: ModuleType) -> None:
    lines = make_tables.pretrained_table(PRETRAINED)
    start = "| a transformer | 8, 4 | 10,000 | 97.21 % | 97.00 % | 99.50 % | 28.0 | none | 5 "
    assert lines[2] == f"{start}| 2.00, 4 | 64.50, 148.00 |"
    assert "| 4, 4 |" in lines[3]
    assert "| Mul a; Div b |" in lines[3]
    assert "on 16 images, and outputs of onnxruntime and numpy on 1,000." in lines[-1]
    assert make_tables.pretrained_table({"networks": {}}) == []


def test_table_of_steps_names_what_was_refused(make_tables: ModuleType) -> None:
    lines = make_tables.steps_table(STEPS)
    assert lines[2:7] == [
        "| none: float |  |  | 97.00 % | 75.00 % |",
        "| snnc | 4 | 4 |  | 73.00 % |",
        "| snnc | 8 | 4 | 96.90 % |  |",
        "| SpikingJelly, STA | 8 |  | 50.00 % | refused (1) |",
        "| SpikingJelly, TD | 4 |  | 10.00 % |  |",
    ]
    assert lines[-1] == "1. `ValueError: no`"
    without = {**STEPS["networks"]["vit_mnist"], "spikingjelly": None}
    assert len(make_tables.steps_table({**STEPS, "networks": {"vit_mnist": without}})) == 6


def test_accuracy_is_shown_before_times_are_taken(make_tables: ModuleType) -> None:
    lines = make_tables.spikingjelly_table(JELLY)
    assert lines[2] == "| snnc, fine-tuned, G = 2, onnxruntime | 4 | 91.00 % | 0.500 |"
    assert make_tables.spikingjelly_table({"times": TIMES}) == []


def test_without_a_measurement_there_is_no_number(make_tables: ModuleType, tmp_path: Path) -> None:
    assert set(map(tuple, make_tables.tables(tmp_path).values())) == {()}
    results = {"fashion_cnn_float": {"accuracy": 91.5}, "fashion_cnn_t4g2": {"accuracy": 91.25}}
    (tmp_path / "examples" / "models").mkdir(parents=True)
    (tmp_path / "examples" / "models" / "RESULTS.json").write_text(json.dumps(results))
    assert make_tables.tables(tmp_path)["shipped"][-1] == "| residual CNN | 91.50 % |  | 91.25 % |  |"


def test_stale_tables_are_noticed(make_tables: ModuleType) -> None:
    text = "<!-- table shipped -->\n| 99 % |\n<!-- end of table -->\n"
    filled = make_tables.filled(text, {"shipped": ["| 91 % |"]})
    assert filled == "<!-- table shipped -->\n| 91 % |\n<!-- end of table -->\n"


def test_table_of_native_operators_shows_the_last_machine_and_differences(make_tables: ModuleType) -> None:
    def entry(machine: str, groups: int, native: float, different: int) -> dict[str, Any]:
        runs: list[dict[str, Any]] = [
            {"batch": 8, "threads": 1, "int8": 0.9, "native": native + 1},
            {"batch": 1, "threads": 2, "int8": 0.1, "native": 0.1, "stock": 9.0},
            {"batch": 1, "threads": 1, "int8": 0.8, "native": native, "stock": 4.04},
        ]
        common = {"machine": machine, "onnxruntime": "1.31.1", "network": "vit", "timesteps": 8}
        return {**common, "groups": groups, "runs": runs, "different": different}

    lines = make_tables.native_table(
        [entry("old", 1, 0.2, 0), entry("new", 4, 0.5, 0), entry("new", 2, 0.6, 3)]
    )
    assert lines[2:4] == [
        "| vit, 8, 2 | 0.60 | 1.60 | 0.80 | 0.90 | 4.0 | 3 |",
        "| vit, 8, 4 | 0.50 | 1.50 | 0.80 | 0.90 | 4.0 | 0 |",
    ]
    assert len(lines) == 6
    assert "new, onnxruntime 1.31.1" in lines[-1]
    assert make_tables.native_table(None) == []


def test_table_of_trained_transformers_shows_what_is_unequal(make_tables: ModuleType) -> None:
    trained = {
        "accuracy": 80.37,
        "parameters": 1234,
        "epochs": 45,
        "trained_on": "a GPU",
        "test_samples": 100,
    }
    spiking = {
        "comparisons": {"right": 81, "images": 100, "unequal": 2, "compared": 5000},
        "per_image": {
            "spikes_per_neuron": 0.9,
            "most_spikes": 4,
            "sops": 3.35e6,
            "sop_bound": 17.4e6,
            "energy_with_host_pj": 3.77e6,
            "energy_spikes_pj": 3.0e6,
        },
    }
    rows = {
        "cifar10_ge2mst_float": {},
        "cifar10_gpu_float": {**trained, "settings": {"variant": "float"}},
        "cifar10_gpu_t4g4": {**trained, **spiking, "settings": {"groups": "4"}},
    }
    lines = make_tables.ge2mst_table(rows)
    assert lines[2:4] == [
        "| in float | 80.37 % |  |  |  |  |  |",
        "| T = 4, G = 4 | 80.37 % | 81.00 % | 2 of 5,000 | 0.90, 4 | 3.35 M of 17.40 M | 3.77, 3.00 |",
    ]
    assert "45 epochs on a GPU; 100 test images" in lines[-1]
    assert make_tables.ge2mst_table({}) == []
