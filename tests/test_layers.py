"""Imports point down only, and each heavy library has one owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Layers from bottom to top; packages of one row do not import each other unless listed in BESIDE.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            *("arrays", "coding", "cores", "errors", "explain", "failures", "files", "settings", "shown"),
            *("spool", "strict", "units"),
        }
    ),
    frozenset({"ir"}),
    frozenset({"ops", "data", "isa"}),
    frozenset({"verify", "cost"}),
    frozenset({"pipeline"}),
    frozenset({"passes", "runtimes"}),
    frozenset(
        {"calibration", "demo", "frontends", "grouping", "nn", "options", "recorded", "sizes", "survey"}
    ),
    frozenset({"compile", "models"}),
    frozenset({"auto", "emit", "train"}),
    frozenset({"debug", "report"}),
    frozenset({"cli"}),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

#: Imports inside one layer that are allowed: (from, to).
BESIDE = {
    ("arrays", "errors"),
    ("arrays", "files"),
    ("files", "errors"),
    ("coding", "errors"),
    ("coding", "units"),
    ("units", "errors"),
    ("explain", "errors"),
    ("failures", "errors"),
    ("failures", "explain"),
    ("settings", "errors"),
    ("settings", "files"),
    ("frontends", "nn"),
    ("report", "debug"),
}

#: Who may import what; everybody may import what is not listed.
OWNERS: dict[str, frozenset[str]] = {
    "torch": frozenset({"frontends", "models", "nn", "train"}),
    "onnxscript": frozenset({"frontends", "nn"}),
    "onnx": frozenset({"ir"}),
    "onnx_ir": frozenset({"ir"}),
    "onnx_graphsurgeon": frozenset({"ir"}),
    "onnxruntime": frozenset({"runtimes"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "jinja2": frozenset({"report"}),
    "vl_convert": frozenset({"report"}),
    "networkx": frozenset({"ir", "verify", "passes"}),
}


def sources() -> Iterator[tuple[str, Path]]:
    """Every source file with the package (the part after ``snnc.``) that it belongs to."""
    for path in sorted((ROOT / "snnc").rglob("*.py")):
        parts = path.relative_to(ROOT / "snnc").parts
        if parts[0] in ("passes", "runtimes"):
            continue
        if parts[0] not in ("__init__.py", "__main__.py"):
            yield parts[0].removesuffix(".py"), path
    for package in ("passes", "runtimes"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield package, path


FILES = list(sources())


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, module, whether only for the type checker) of every import statement, nested ones too."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    typing_only = {
        id(node)
        for branch in (ast.walk(tree) if "TYPE_CHECKING" in text else ())
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            for alias in node.names:
                # "from snnc import ir" names a package as much as "import snnc.ir" does.
                full = f"snnc.{alias.name}" if module == "snnc" and alias.name in LEVEL else module
                yield node.lineno, full, id(node) in typing_only


def faults() -> list[str]:
    found = []
    for package, path in FILES:
        for line, module, _ in imports(path):
            top, _, rest = module.partition(".")
            place = f"{path.relative_to(ROOT)}:{line}"
            if top in ("passes", "runtimes"):
                found.append(f"{place}: imports {module}; write snnc.{module}")
            elif top == "snnc" and rest:
                target = rest.split(".")[0]
                if target in LEVEL and not allowed(package, target):
                    found.append(f"{place}: {package} imports {module}, which is not below it")
            elif top in OWNERS and package not in OWNERS[top]:
                found.append(f"{place}: {package} imports {top}; only {', '.join(sorted(OWNERS[top]))} may")
    return found


def allowed(package: str, target: str) -> bool:
    return package == target or LEVEL[target] < LEVEL[package] or (package, target) in BESIDE


def test_every_package_has_a_layer():
    assert {package for package, _ in FILES} <= set(LEVEL)


def test_imports_point_down_and_libraries_have_owners():
    assert faults() == []


@pytest.mark.parametrize(
    ("package", "target", "expected"),
    [
        ("cli", "compile", True),
        ("compile", "cli", False),
        ("passes", "runtimes", False),
        ("runtimes", "passes", False),
        ("verify", "pipeline", False),
        ("pipeline", "verify", True),
        ("ir", "ops", False),
        ("coding", "arrays", False),
    ],
)
def test_the_rule_itself(package, target, expected):
    assert allowed(package, target) is expected


@pytest.mark.parametrize(
    "source",
    [
        "import onnx\n",
        "def f():\n    from onnx_ir import Model\n",
        "import passes.canonical\n",
        "from snnc import cli\n",
    ],
)
def test_canary_forbidden_imports_are_found(tmp_path, monkeypatch, source):
    path = ROOT / "snnc" / "coding" / "canary.py"
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **options: source if self == path else real(self, **options)
    )
    monkeypatch.setattr(sys.modules[__name__], "FILES", [("coding", path)])
    assert len(faults()) == 1


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )


def loaded_after(statement: str, *names: str) -> set[str]:
    code = f"import sys\n{statement}\nprint([n for n in {names!r} if n in sys.modules])"
    done = fresh(code)
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_import_snnc_pulls_in_neither_torch_nor_onnxruntime():
    assert loaded_after("import snnc", "torch", "onnxruntime") == set()


def test_command_line_starts_light():
    heavy = ("torch", "onnxruntime", "onnx", "onnx_ir", "networkx", "numpy", "rich")
    statement = (
        "from click.testing import CliRunner\n"
        "from snnc.cli.group import cli\n"
        "result = CliRunner().invoke(cli, ['--help'])\n"
        "assert result.exit_code == 0, result.output"
    )
    assert loaded_after(statement, *heavy) == set()


MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "snnc").rglob("*.py")
    if path.name != "__main__.py"
    and not any(path.is_relative_to(ROOT / "snnc" / name) for name in ("nn", "models", "train"))
)


def test_no_circular_imports():
    """Importing any package first, in a fresh interpreter, works."""
    packages = sorted({name for name in MODULES if name.count(".") == 1})
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {packages!r}:",
            "    for loaded in [m for m in sys.modules if m == 'snnc' or m.startswith('snnc.')]:",
            "        del sys.modules[loaded]",
            "    importlib.import_module(name)",
        ]
    )
    done = fresh(code)
    assert done.returncode == 0, done.stderr
