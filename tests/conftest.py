"""Small quantised networks; what must agree of them is in `tests.agreement`."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from snnc.coding import CodeBook
from snnc.compile import Conversion, ConvertOptions, convert
from snnc.ir import Model, concrete_shapes
from tests.agreement import NearTie, compare_with_float64, evaluate_in_float64, everywhere

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
LEVELS = ("none", "basic", "extended", "all")


class Net:
    """A network under construction: standard nodes between ``ai.snnc::Quantise`` nodes, weights in float."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.names: set[str] = set()

    def _unique(self, stem: str) -> str:
        name, count = stem, 0
        while name in self.names:
            count += 1
            name = f"{stem}{count}"
        self.names.add(name)
        return name

    def input(self, shape: Sequence[int | str], name: str = "x") -> str:
        self.names.add(name)
        self.inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape)))
        return name

    def const(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32, name: str = "c") -> str:
        name = self._unique(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        outputs: int = 1,
        name: str = "",
        domain: str = "",
        **a: Any,
    ) -> Any:
        name = self._unique(name or kind.lower())
        names = [name] if outputs == 1 else [self._unique(f"{name}_{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **a))
        return names[0] if outputs == 1 else names

    def quantise(
        self,
        x: str,
        step: npt.ArrayLike = 0.25,
        book: CodeBook | tuple[Any, ...] = (4, 2),
        *,
        ties: str = "away",
        name: str = "",
    ) -> str:
        """Quantise; a book may be given as the arguments of ``CodeBook``."""
        book = book if isinstance(book, CodeBook) else CodeBook(*book)
        steps = self.const(step, name="step")
        attrs = {
            **book.to_attributes(),
            "ties": ties,
            "codes": book.codes.tolist(),
            "twice_midpoints": book.twice_midpoints.tolist(),
            "closed": [int(flag) for flag in book.closed(ties)],  # type: ignore[arg-type]
        }
        return str(self.op("Quantise", [x, steps], name=name or "code", domain="ai.snnc", **attrs))

    def normal(self, *shape: int, gain: float = 1.0) -> Array:
        """Normal random numbers for weights: variance gain² / fan-in."""
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return (self.random.standard_normal(shape) * gain / np.sqrt(fan)).astype(np.float32)

    def grid(self, *shape: int, scale: float = 2.0**-9) -> Array:
        """Weights that int8 represents exactly: multiples of ``scale``, ±127 of them in each channel."""
        integers = self.random.integers(-126, 127, shape)
        # Conv has its output channels first, MatMul last; one weight of each channel is the largest.
        (integers.reshape(shape[0], -1)[:, 0] if len(shape) > 2 else integers[0])[...] = 127
        return (integers * scale).astype(np.float32)

    def conv(
        self,
        x: str,
        shape: Sequence[int],
        *,
        bias: bool = True,
        weights: npt.ArrayLike | None = None,
        **a: Any,
    ) -> str:
        """Conv with random (or given) weights of shape (O, C / group, *kernel), same padding by default."""
        kernel = list(shape[2:])
        array = self.normal(*shape) if weights is None else np.asarray(weights, np.float32)
        inputs = [x, self.const(array, name="w")]
        if bias:
            inputs.append(self.const(self.random.standard_normal(shape[0]) * 0.1, name="b"))
        a.setdefault("pads", [size // 2 for size in kernel] * 2)
        return str(self.op("Conv", inputs, kernel_shape=kernel, **a))

    def matmul(self, x: str, shape: Sequence[int], weights: npt.ArrayLike | None = None) -> str:
        """MatMul with random (or given) weights of shape (K, N)."""
        array = self.normal(*shape) if weights is None else np.asarray(weights, np.float32)
        return str(self.op("MatMul", [x, self.const(array, name="w")]))

    def output(self, *names: str) -> Net:
        self.outputs += [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names]
        return self

    def proto(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "net", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.snnc", 1)]
        return helper.make_model(graph, ir_version=10, opset_imports=opsets)

    def model(self) -> Model:
        return ir.from_proto(self.proto())

    def save(self, folder: Path, name: str = "net.onnx") -> Path:
        """Write a file; its outputs get the shapes that a file must give."""
        proto = self.proto()
        one, two = (concrete_shapes(ir.from_proto(proto), batch) for batch in (1, 2))
        for value in proto.graph.output:
            pairs = zip(one[value.name], two[value.name], strict=True)
            dims = [a if a == b else f"dim_{axis}" for axis, (a, b) in enumerate(pairs)]
            value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, dims))
        onnx.save(proto, folder / name)
        return folder / name

    def feeds(self, batch: int = 3, spread: float = 1.0, seed: int = 1) -> dict[str, Array]:
        """Normal random numbers for every input."""
        random = np.random.default_rng(seed)
        feeds = {}
        for entry in self.inputs:
            dims = entry.type.tensor_type.shape.dim
            shape = [dim.dim_value or batch for dim in dims]
            feeds[entry.name] = (random.standard_normal(shape) * spread).astype(np.float32)
        return feeds


# --- agreement ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """What all agreed upon.

    Attributes:
        conversion: The converted network.
        outputs: Outputs by name.
        codes: Codes by the name of their tensor in the quantised network.
    """

    conversion: Conversion
    outputs: dict[str, Array]
    codes: dict[str, Array]

    @property
    def ops(self) -> list[str]:
        """Operators of the spiking graph, in order."""
        return [node.op_type for node in self.conversion.model.graph]

    @property
    def notes(self) -> list[str]:
        """Everything that the passes noted."""
        return [note for record in self.conversion.records for note in record.notes]


def agree(
    model: Net | Model,
    feeds: Feeds | None = None,
    *,
    levels: Sequence[str] = ("none", "all"),
    source: bool = False,
    float64: bool = True,
    tolerance: float = 1e-5,
    **options: Any,
) -> Agreement:
    """Convert a network and require equal bits from the oracle, both numpy runtimes and onnxruntime.

    Args:
        model: The network, its weights in float.
        feeds: Inputs; default normal random numbers.
        levels: Optimisation levels of onnxruntime.
        source: Nothing is approximated: the codes of the source itself, in float64, must be the same too.
        float64: Compare with a float64 evaluation of the quantised network as well.
        tolerance: Of that comparison, for outputs, relative to the largest.
        options: Fields of ``ConvertOptions``.
    """
    if feeds is None:
        assert isinstance(model, Net)
        feeds = model.feeds()
    original = model.model() if isinstance(model, Net) else model
    conversion = convert(original, ConvertOptions(**options))
    outputs, codes = everywhere(conversion, feeds, levels=levels)
    if float64:
        compare_with_float64(conversion.quantised, feeds, outputs, codes, tolerance)
    if source:
        compare_with_float64(original, feeds, outputs, codes, tolerance)
    return Agreement(conversion, outputs, codes)


@pytest.fixture(scope="session", name="net")
def net_fixture() -> type[Net]:
    return Net


@pytest.fixture(scope="session", name="agree")
def agree_fixture() -> Callable[..., Agreement]:
    return agree


@pytest.fixture(scope="session", name="in_float64")
def in_float64_fixture() -> Callable[[Model, Feeds], dict[str, Array]]:
    return evaluate_in_float64


@pytest.fixture(scope="session", name="near_tie")
def near_tie_fixture() -> type[Exception]:
    return NearTie


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built by hatchling's own command, once for all processes of a test run."""
    if find_spec("hatchling") is None:
        pytest.skip("the build backend hatchling is not installed here; `make test` has it")
    base = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own within one that they share.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel-of-this-tree"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
            root = Path(__file__).resolve().parents[1]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def integers_as_outputs() -> Callable[[Path], None]:
    """Write a dynamically quantised network that gives integer products away: nothing can stand for them."""

    def write(path: Path) -> None:
        proto = onnx.load(Path(__file__).parent / "sources" / "ort_dynamic.onnx")
        products = [node for node in proto.graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
        for node in products:
            proto.graph.output.append(
                helper.make_tensor_value_info(node.output[0], onnx.TensorProto.INT32, None)
            )
        onnx.save(proto, path)

    return write
