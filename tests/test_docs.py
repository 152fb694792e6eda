"""README.md is true: its commands run, its links lead somewhere."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

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
