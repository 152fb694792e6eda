"""Every pass that calls itself exact changes no bit, checked on other tools' networks.

The probe runs each state of a model by its definition: onnxruntime without optimisation while the graph is
float, the exact oracle once it is in the quant dialect, and the time-stepped runtime once it spikes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from snnc import ir
from snnc.compile import ConvertOptions, pipeline
from snnc.debug.verify import coded_tensors
from snnc.errors import MismatchError, UnsupportedError
from snnc.ops import attach_functions
from snnc.pipeline import PassResult, Rewrite, run_pipeline
from snnc.runtimes import OnnxRuntime, create
from snnc.runtimes.oracle import QuantisedOracle
from snnc.verify import dialect_of, verify_dialect

SOURCES = Path(__file__).resolve().parents[1] / "sources"
NETWORKS = ["qcfs_dynamo", "round_clamp_dynamo", "ort_qdq_u8s8", "brevitas_qcdq", "fake_quantize_torchscript"]


def quantisers(model):
    return [node.outputs[0].name for node in model.graph if node.op_type == "Quantise"]


def make_probe(image):
    """Results by name: outputs as they are, codes under ``codes of NAME``, the same in both dialects."""

    def probe(model):
        if dialect_of(model) == "spike":
            taps = coded_tensors(model)
            found = create("numpy-timestep", model).run({"image": image}, list(taps))
            codes = {f"codes of {name}": found[tap].astype(np.int32) for tap, name in taps.items()}
            return {**codes, **{value.name: found[value.name] for value in model.graph.outputs}}
        if quantisers(model) and not verify_dialect(model, "quant"):
            # On its way into the dialect a graph holds what the oracle has no rule for.
            with contextlib.suppress(UnsupportedError, TypeError):
                outputs, codes = QuantisedOracle(model).run_batch({"image": image}, quantisers(model))
                return {**{f"codes of {name}": array for name, array in codes.items()}, **outputs}
        copy = ir.clone(model)
        attach_functions(copy)
        return OnnxRuntime(copy, optimisation="none").run({"image": image})

    return probe


@pytest.fixture
def image():
    return np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_passes_of_a_conversion_change_no_bit(name, image):
    model = ir.load(SOURCES / f"{name}.onnx")
    result = run_pipeline(model, pipeline(ConvertOptions()), probe=make_probe(image), verify="all")
    changed = [record for record in result.records if record.changed]
    assert changed[-1].name == "encode"
    assert changed[-1].semantics == "exact"
    assert all(record.probed for record in changed)
    # What is approximate has its cost measured; together it stays small.
    assert all(record.cost for record in changed if record.semantics == "approximate")
    worst = min(cost.sqnr_db for record in changed for cost in record.cost)
    assert worst > 20.0


def test_canary_encode_with_one_threshold_off_by_one_is_caught(image):
    """The smallest wrong encoder: a threshold moved by one in a neuron whose potential comes that close."""

    class WrongEncode:
        real = pipeline(ConvertOptions())[-1]
        name = "encode"
        requires, establishes, invalidates = real.requires, real.establishes, real.invalidates
        semantics = "exact"

        def run(self, model: ir.Model) -> PassResult:
            result = self.real.run(model)
            node = next(node for node in model.graph if node.op_type == "ExpGIF")
            potential = create("numpy", model).run({"image": image}, [node.inputs[0].name])
            seen = potential[node.inputs[0].name]
            thresholds, rows = (np.array(ir.constant(value)) for value in node.inputs[1:3])
            rows = np.broadcast_to(rows, seen.shape)
            lower = thresholds[rows, 0]
            # Put the first threshold just above a potential that just reached it.
            place = np.unravel_index(np.argmin(np.where(seen >= lower, seen - lower, 2**30)), seen.shape)
            thresholds[rows[place], 0] = seen[place] + 1
            node.inputs[1].const_value = ir.tensor(thresholds, name=node.inputs[1].name)
            return PassResult([*result.rewrites, Rewrite("sabotage")])

    steps = (*pipeline(ConvertOptions())[:-1], WrongEncode())
    with pytest.raises(MismatchError) as caught:
        run_pipeline(ir.load(SOURCES / "qcfs_dynamo.onnx"), steps, probe=make_probe(image))
    assert caught.value.where.pass_name == "encode"
    assert caught.value.code == "SNN501"
