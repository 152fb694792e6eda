"""The page: self-contained, harmless whatever names are in the file, small; and what the command writes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import jsonschema
import numpy as np
import pytest

from snnc.compile import load_spiking
from snnc.ir import save
from snnc.report.page import page
from snnc.report.plots import plots

EVIL = "</script><img src=x onerror=alert(1)><!-- 'quoted' \"too\" {{ 7 * 7 }}"


class Tags(HTMLParser):
    """Elements with their attributes, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.elements


@pytest.fixture(scope="module")
def whole(built) -> str:
    return page(built(source=True), interactive=True)


def test_nothing_leads_out_of_the_page(whole):
    for tag, attributes in tags(whole):
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
    style = re.search("<style>(.*?)</style>", whole, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert len(whole.encode()) < 2_000_000


def test_only_our_scripts_may_run(whole):
    policy = next(a["content"] for t, a in tags(whole) if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    scripts = re.findall("<script>(.*?)</script>", whole, re.DOTALL)
    assert len(scripts) == 2
    for text in scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_ids_are_unique_and_sections_are_all_there(whole):
    ids = [attributes["id"] for _, attributes in tags(whole) if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {
        "summary",
        "accuracy",
        "fidelity",
        "spikes",
        "energy",
        "trade-off",
        "passes",
        "graph",
        "environment",
    }
    assert wanted <= set(ids)
    names = {"fidelity", "rates", "blocks", "histogram", "raster", "energy", "trade-off", "passes"}
    assert {f"plot-{name}" for name in names} <= set(ids)


def test_without_the_extra_all_tables_are_there(built):
    bare = page(built(source=True), interactive=False)
    assert "snnc[report]" in bare
    rows = [sum(tag == "tr" for tag, _ in tags(text)) for text in (bare, page(built(source=True)))]
    assert rows[0] == rows[1] > 100
    assert len(bare) < 600_000


def test_every_plot_is_a_valid_drawing(built):
    """The library itself draws each: a wrong field or scale would fail or warn."""
    vl_convert = pytest.importorskip("vl_convert", reason="plots are drawn with the extra report")
    for name, spec in plots(built(source=True)).items():
        drawn = vl_convert.vegalite_to_svg({**spec, "width": 400})
        assert len(drawn) > 2_000, name


@pytest.fixture
def hostile(small, tmp_path):
    """The converted network with names that try to be markup."""
    model = load_spiking(small.converted)
    for node in model.graph:
        if node.op_type == "ExpGIF":
            node.name = EVIL + (node.name or "")
            node.metadata_props["snnc.source"] = EVIL + node.metadata_props.get("snnc.source", "")
    path = tmp_path / "evil.snn.onnx"
    save(model, path)
    return path


def test_names_are_only_text(hostile, small):
    from snnc.report.content import Plan, build

    report = build(hostile, small.samples, plan=Plan(samples=2, verified=2), data=EVIL, command=EVIL)
    for interactive in (True, False):
        text = page(report, interactive=interactive)
        elements = tags(text)
        assert "img" not in [tag for tag, _ in elements]
        assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
        assert sum(tag == "script" for tag, _ in elements) == (3 if interactive else 2)
        assert "alert(1)" in text
        assert "49" not in re.findall(r"too\W+(\d+)", text)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run ``snnc report`` in a folder of its own."""
    from click.testing import CliRunner

    from snnc.cli.group import cli

    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_the_command_writes_page_json_and_traces(small, tmp_path, run):
    from pathlib import Path

    np.savez(tmp_path / "x.npz", **small.samples)
    np.save(tmp_path / "y.npy", small.labels)
    arguments = [small.converted, "--data", "x.npz", "--labels", "y.npy", "--source", small.source, "--json"]
    arguments += ["-o", "r.html", "--trace", "s.npz", "--measured", 4, "--verified", 1, "--trade-off", "none"]
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    schemas = Path(__file__).resolve().parents[2] / "snnc" / "cli" / "schemas"
    jsonschema.validate(document, json.loads((schemas / "report.json").read_text()))
    assert document["report"] == json.loads((tmp_path / "r.json").read_text())
    assert document["report"]["data"] == {"what": "x.npz", "samples": 12, "measured": 4, "labels": True}
    assert str(tmp_path) not in (tmp_path / "r.html").read_text() + (tmp_path / "r.json").read_text()
    with np.load(tmp_path / "s.npz") as traces:
        assert {array.shape[0] for array in traces.values()} == {4}
    again = run(*arguments)
    assert again.exit_code == 2
    assert "SNN230" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--data", "x.npz", "-o", "r.json"], 2, "SNN255"),
        ([], 2, "SNN237"),
        (["--data", "x.npz", "--trade-off", "4:9"], 2, "SNN254"),
        (["--data", "x.npz", "--labels", "three.npy"], 3, "SNN339"),
        (["--data", "x.npz", "--dump", "empty"], 3, "SNN301"),
    ],
)
def test_refusals_leave_nothing(small, tmp_path, run, arguments, code, text):
    np.savez(tmp_path / "x.npz", **small.samples)
    np.save(tmp_path / "three.npy", small.labels[:3])
    (tmp_path / "empty").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    output = [] if "-o" in arguments else ["-o", "r.html"]
    done = run(small.converted, *arguments, *output, "--measured", 2, "--verified", 2)
    assert done.exit_code == code, done.stderr
    assert text in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_plots_without_the_extra_are_an_environment_error(monkeypatch):
    from snnc.errors import EnvironmentFailure
    from snnc.report import page as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.check_library(None) is False
    with pytest.raises(EnvironmentFailure, match="SNN613") as caught:
        module.check_library(True)
    assert "pip install 'snnc[report]'" in str(caught.value)


@pytest.mark.parametrize("runtime", ["numpy", "numpy-timestep", "ort"])
def test_run_writes_the_spikes_of_its_runtime(case, tmp_path, monkeypatch, runtime):
    from click.testing import CliRunner

    from snnc.cli.group import cli

    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", **case.samples)
    arguments = ["run", str(case.converted), "--input", "x.npz", "--trace"]
    done = CliRunner().invoke(cli, [*arguments, f"{runtime}.npz", "--runtime", runtime])
    assert done.exit_code == 0, done.output
    with np.load(f"{runtime}.npz") as archive:
        assert all(array.dtype == np.int8 and array.shape[:2] == (12, 4) for array in archive.values())
    if runtime != "numpy":
        CliRunner().invoke(cli, [*arguments, "numpy.npz"])
        assert (tmp_path / "numpy.npz").read_bytes() == (tmp_path / f"{runtime}.npz").read_bytes()
    for wrong in (["t.csv"], ["t.npz", "--output", "t.npz"], ["t.npz", "--runtime", "expg1"]):
        refused = CliRunner().invoke(cli, [*arguments, *wrong])
        assert (refused.exit_code, "SNN256" in refused.stderr) == (2, True), refused.output
