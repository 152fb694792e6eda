"""README.md is true: its commands run, its tables are the measurements, its links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from snnc.cli.group import cli

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block, in order."""
    return _FENCE.findall(text)


def steps(block: str) -> list[tuple[str, list[str]]]:
    """Commands of a console block, each with the lines that should follow it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def matches(expected: list[str], output: str) -> bool:
    """Whether an output is as written; ``...`` stands for anything, on a line of its own for any lines."""
    parts = ["(?:.*\n)*" if line.strip() == "..." else _line(line) for line in expected]
    return re.fullmatch("".join(parts), output) is not None


def _line(text: str) -> str:
    return ".*".join(map(re.escape, text.rstrip().split("..."))) + "[ ]*\n"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment's ``snnc`` first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run_command(command: str, folder: Path) -> tuple[int, str, str]:
    """Run a line of a console block; return status, stdout and stderr.

    snnc itself runs in this process, which saves its imports; what needs a shell gets one.
    """
    words = shlex.split(command)
    if words[0] == "snnc" and not set(command) & set("|<>&;$`*?{}~"):
        with contextlib.chdir(folder):
            result = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(cli, words[1:])
        return result.exit_code, result.stdout, result.stderr
    done = run(["bash", "-euo", "pipefail", "-c", command], folder)
    return done.returncode, done.stdout, done.stderr


def execute(text: str, folder: Path) -> int:
    """Run all console and Python blocks of a text, compare what commands print; return how many ran."""
    count = 0
    for language, block in blocks(text):
        if language == "python":
            done = run([sys.executable, "-c", block], folder)
            assert done.returncode == 0, f"{block}\n{done.stderr}"
            count += 1
        if language == "console":
            for command, expected in steps(block):
                status, printed, said = run_command(command, folder)
                assert status == 0, f"$ {command}\n{printed}{said}"
                assert matches(expected, printed), f"$ {command}\n{printed}"
                count += 1
    return count


@pytest.fixture
def make_tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(1800)
def test_every_command_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    """All console and Python blocks, in order, in one folder with copies of the shipped models."""
    shutil.copytree(ROOT / "examples" / "models", tmp_path / "examples" / "models")
    commands = execute(README.read_text(), tmp_path)
    assert commands > 8


#: Pages whose blocks run, in order: ten minutes begin with nothing, guides with the models of the checkout.
EXECUTED = [
    "docs/start.md",
    *sorted(f"docs/guides/{path.name}" for path in (ROOT / "docs" / "guides").glob("*.md")),
]


#: Those that convert float networks or train; CI runs them with its slice of the slow tests.
LONG = [page for page in EXECUTED if Path(page).stem in ("accuracy", "timm", "train")]


def _execute_page(page: str, folder: Path) -> None:
    (folder / "examples").mkdir()
    (folder / "examples" / "models").symlink_to(ROOT / "examples" / "models")
    (folder / "out").mkdir()
    assert execute((ROOT / page).read_text(), folder) > 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page", [page for page in EXECUTED if page not in LONG], ids=lambda page: Path(page).stem
)
def test_commands_of_the_pages_do_what_they_say(page: str, tmp_path: Path) -> None:
    _execute_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", LONG, ids=lambda page: Path(page).stem)
def test_slice_of_pages_that_take_longer(page: str, tmp_path: Path) -> None:
    _execute_page(page, tmp_path)


#: Pages that speak of a model of yours, with samples and labels.
PREPARED = ["docs/report.md", "docs/recipe.md", "docs/debugging.md"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PREPARED, ids=lambda page: Path(page).stem)
def test_slice_of_pages_that_need_a_model(page: str, tmp_path: Path) -> None:
    import numpy as np

    from snnc.settings import read_recipe

    shutil.copy(ROOT / "tests" / "sources" / "float_dynamo.onnx", tmp_path / "model.onnx")
    images = np.random.default_rng(0).standard_normal((24, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=images)
    np.save(tmp_path / "labels.npy", np.arange(24) % 10)
    text = (ROOT / page).read_text()
    if "model.snn.onnx" in text and "-o model.snn.onnx" not in text and page != "docs/recipe.md":
        done = run_command("snnc convert model.onnx --calibrate x.npz --quiet", tmp_path)
        assert done[0] == 0, done
    given = "import numpy as np\nimages, labels = np.load('x.npz')['image'], np.load('labels.npy')\n"
    assert execute(text.replace("```python\n", f"```python\n{given}"), tmp_path) > 0
    for language, block in blocks(text):
        if language == "toml":
            (tmp_path / "r.toml").write_text(block)
            assert read_recipe(tmp_path / "r.toml")


def test_fences_of_the_pages_are_of_a_known_kind() -> None:
    """As in the README; ``py`` is Python that needs what no test can have, such as the weights of others."""
    for page in EXECUTED:
        assert {language for language, _ in blocks((ROOT / page).read_text())} <= {
            "console",
            "python",
            "sh",
            "py",
        }


def test_every_fence_is_of_a_known_kind() -> None:
    """``sh`` is for what cannot run in a test: it installs things; ``text`` for what is no command."""
    assert {language for language, _ in blocks(README.read_text())} == {"console", "python", "sh", "text"}


def test_set_up_commands_are_targets_and_ci_calls_them() -> None:
    (setup,) = [block for language, block in blocks(README.read_text()) if language == "sh"]
    makefile = (ROOT / "Makefile").read_text()
    ci = (ROOT / ".ci" / "run").read_text()
    named = re.findall(r"^make (\w+)", setup, re.MULTILINE)
    assert named == ["demo", "test"]
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert re.search(rf"^make {target}$", ci, re.MULTILINE)


def test_the_tour_lists_exactly_the_commands_of_snnc() -> None:
    from snnc.cli.group import COMMANDS

    tour = README.read_text().split("## The command line")[1].split("\n\n")[1]
    listed = re.findall(r"`snnc (\w+)", tour)
    assert sorted(listed) == sorted(name for group in COMMANDS.values() for name in group)


def test_options_named_in_the_readme_exist() -> None:
    from snnc.cli.group import COMMANDS, cli

    known = {option for parameter in cli.params for option in parameter.opts}
    for group in COMMANDS.values():
        for name in group:
            command = cli.get_command(None, name)  # type: ignore[arg-type]
            assert command is not None
            known |= {option for parameter in command.params for option in parameter.opts}
    # Commands of benchmarks, which the tables quote, have options of their own.
    prose = re.sub(r"`python benchmarks/[^`]*`", "", _FENCE.sub("", README.read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)) <= known


def test_every_form_of_quantiser_is_in_the_table() -> None:
    """A new pattern needs a row: the patterns besides snnc's own node have one each."""
    from snnc.passes.recognise.recognise_quantisers import PATTERNS

    rows = {"quantize-dequantize": "QuantizeLinear", "qonnx-quant": "QONNX", "qcfs-chain": "floor(clip"}
    rows |= {"round-chain": "round(clip", "qonnx-trunc": "`Trunc`"}
    assert {pattern.name for pattern in PATTERNS} == set(rows)
    table = README.read_text().split("| quantiser in the file |")[1].split("\n\n")[0]
    assert all(text in table for text in rows.values())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_code_exist(document: Path) -> None:
    folders = "snnc|passes|runtimes|examples|tests|benchmarks|docs|\\.ci"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", document.read_text()):
        assert (ROOT / name).exists() or list(ROOT.glob(f"{name}*")), name


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


@pytest.mark.parametrize(
    ("expected", "output", "result"),
    [
        (["a", "...", "d"], "a\nb\nc\nd\n", True),
        (["a", "...", "d"], "a\nd\n", True),
        (["a ... c"], "a 12 c\n", True),
        (["a", "..."], "b\na\n", False),
        (["a"], "a\nb\n", False),
        ([], "", True),
        ([], "a\n", False),
        (["1 + 1"], "1 + 1\n", True),
    ],
)
def test_matching_of_outputs_can_fail(expected: list[str], output: str, result: bool) -> None:
    assert matches(expected, output) is result


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
