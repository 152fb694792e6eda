"""Small models and toy passes for the tests of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from snnc import ir
from snnc.errors import Problem
from snnc.pipeline import NoMatch, PassResult, Rewrite
from snnc.verify import INVARIANTS, Invariant

TEXT = """
<ir_version: 10, opset_import: ["" : 17]>
small (float[N, 3] x) => (float[N, 2] y)
<float[3, 2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] b = {0.5, -0.5}>
{
    [twice] t = Add(x, x)
    [same] i = Identity(t)
    [product] p = MatMul(i, w)
    [bias] y = Add(p, b)
}
"""


def make(text: str = TEXT) -> ir.Model:
    model = onnx_ir.from_onnx_text(text)
    ir.infer_shapes(model)
    return model


def proto(model: ir.Model) -> onnx.ModelProto:
    return onnx.load_from_string(ir.to_bytes(model))


def probe(model: ir.Model) -> Mapping[str, np.ndarray[Any, Any]]:
    """Run a model on two fixed samples in onnxruntime and return its outputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(ir.to_bytes(model), options, providers=["CPUExecutionProvider"])
    x = np.array([[1.0, -2.0, 0.25], [0.5, 8.0, -1.0]], np.float32)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


@dataclass(frozen=True)
class RemoveIdentity:
    """Remove Identity nodes: exact."""

    name: ClassVar[str] = "remove-identity"
    requires: ClassVar[frozenset[str]] = frozenset({"sorted"})
    establishes: ClassVar[frozenset[str]] = frozenset({"no-identity"})
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Any] = "exact"

    def run(self, model: ir.Model) -> PassResult:
        result = PassResult()
        for node in list(model.graph):
            if node.op_type == "Identity":
                ir.replace_with(model.graph, node.outputs[0], node.inputs[0], keep_name=False)
                model.graph.remove(node, safe=True)
                result.rewrites.append(Rewrite("drop the identity", (node.name,)))
            else:
                result.not_matched.append(NoMatch("is no Identity", node.name))
        return result


@dataclass(frozen=True)
class ScaleWeights:
    """Multiply every weight matrix: approximate, unless it lies."""

    factor: float = 1.0
    kinds: tuple[int, ...] = (2,)

    name: ClassVar[str] = "scale-weights"
    requires: ClassVar[frozenset[str]] = frozenset({"no-identity"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Any] = "approximate"

    def run(self, model: ir.Model) -> PassResult:
        result = PassResult()
        if self.factor == 1.0:
            return result
        for value in list(model.graph.initializers.values()):
            array = ir.constant(value)
            if array is not None and array.ndim in self.kinds:
                value.const_value = ir.tensor(array * np.float32(self.factor), name=value.name)
                result.rewrites.append(Rewrite(f"scale {value.name}"))
                result.notes.append(f"{value.name} times {self.factor}")
        return result


def function_pass(name: str, run: Callable[[ir.Model], PassResult], **contract: Any) -> Any:
    """Make a pass from a function."""
    body = {
        "name": name,
        "requires": frozenset(contract.get("requires", ())),
        "establishes": frozenset(contract.get("establishes", ())),
        "invalidates": frozenset(contract.get("invalidates", ())),
        "semantics": contract.get("semantics", "exact"),
        "run": lambda self, model: run(model),
    }
    return type(name.title().replace("-", ""), (), body)()


def never(name: str) -> Invariant:
    """Make an invariant that is always broken."""
    return Invariant(name, "never holds", lambda model: [Problem("is broken"), Problem("twice")])


@pytest.fixture
def toys() -> SimpleNamespace:
    return SimpleNamespace(
        TEXT=TEXT,
        make=make,
        proto=proto,
        probe=probe,
        RemoveIdentity=RemoveIdentity,
        ScaleWeights=ScaleWeights,
        function_pass=function_pass,
        never=never,
        INVARIANTS=INVARIANTS,
    )


@pytest.fixture
def model() -> ir.Model:
    return make()
