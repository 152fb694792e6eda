"""Fixtures for tests of whole conversions: networks written as ONNX text."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest


@pytest.fixture
def network(tmp_path: Path) -> Callable[..., Path]:
    """Write a network from text, RANDOM standing for normal numbers, halved; nodes are called n_OUTPUT."""

    def write(text: str, opset: int = 17, name: str = "net.onnx") -> Path:
        random = np.random.default_rng(0)
        parts = text.split("RANDOM")
        filled = parts[0]
        for before, part in pairwise(parts):
            dims = before[before.rindex("float[") + 6 : before.rindex("]")]
            count = int(np.prod([int(size) for size in dims.split(",")]))
            filled += ", ".join(f"{x:.6f}" for x in random.standard_normal(count) / 2) + part
        header = f'<ir_version: 10, opset_import: ["" : {opset}, "other.domain" : 1]>\n'
        proto = onnx.parser.parse_model(header + filled)
        for node in proto.graph.node:
            node.name = f"n_{node.output[0]}"
        path = tmp_path / name
        onnx.save(proto, path)
        return path

    return write
