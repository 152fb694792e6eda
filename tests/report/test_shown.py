"""Results show themselves: a line in a terminal, tables in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import snnc
from snnc.cost import measure
from snnc.runtimes import create

EVIL = "<img src=x onerror=alert(1)>"


class Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    parser = Parser()
    parser.feed(html)
    return parser


def test_a_conversion_is_a_line_and_tables(case):
    options = snnc.ConvertOptions(timesteps=4, groups=2)
    made = snnc.convert(case.source, options, calibration=case.samples)
    line = repr(made)
    assert line.startswith("<Conversion: ") and line.count("\n") == 0 and len(line) < 200
    assert "T4G2" in line
    next(node for node in made.model.graph if node.op_type == "ExpGIF").metadata_props["snnc.source"] = EVIL
    found = parsed(made._repr_html_())
    assert found.tags.count("table") == 2
    assert "img" not in found.tags
    assert EVIL in found.text
    assert "insert-quantisers" in found.text
    runtime = create("numpy", made.model)
    cost = parsed(measure(made.model, case.samples, runtime.run)._repr_html_())
    assert cost.tags.count("table") == 2 and "energy, integer datapath" in cost.text


def test_a_report_is_a_line_and_tables(built):
    report = built(source=False)
    assert repr(report) == "<Report of vit.snn.onnx: 3 claims hold, 0 fail, 2 not checked; 12 samples>"
    found = parsed(report._repr_html_())
    assert found.tags.count("table") == 2
    assert "not checked" in found.text
