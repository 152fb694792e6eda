"""A language model as torch's exporter writes it: RMSNorm, SwiGLU, rotary positions, causal masks.

``llama_dynamo`` is made by tests/sources/make_llama.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snnc.compile import ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.debug.verify import verify

SOURCE = Path(__file__).resolve().parents[1] / "sources" / "llama_dynamo.onnx"


def test_a_llama_block(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    samples = {
        "input_ids": rng.integers(3, 64, (28, 12)),
        "attention_mask": (np.arange(12) < rng.integers(3, 13, (28, 1))).astype(np.int64),
    }
    np.savez(tmp_path / "x.npz", **{name: array[4:] for name, array in samples.items()})
    options = ConvertOptions(timesteps=8, groups=8, calibrate=str(tmp_path / "x.npz"))
    conversion = convert(SOURCE, options)
    report = verify(SOURCE, conversion.model, {name: array[:2] for name, array in samples.items()})
    for agreement in report.agreements:
        assert agreement.identical, f"{agreement.runtime}: {agreement.first}"
    assert report.distances[0].decibel is not None
    assert report.distances[0].decibel > 20
    assert audit(conversion.model).clean
    ops = [node.op_type for node in conversion.model.graph]
    assert ops.count("SpikeMulHeld") == 1
    assert ops.count("SpikeGate") == 1
    assert ops.count("NormGain") == 3
