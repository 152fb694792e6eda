"""Make the source models that Brevitas writes, QONNX and QCDQ, with its own exporters.

Needs Brevitas and onnxoptimizer beside torch, in an environment of their own. What torch computes with each
network goes to brevitas_expected.npz: onnxruntime cannot run QONNX.

Run: python tests/sources/make_brevitas.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import numpy.typing as npt
import onnx
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8Bias,
    Int8WeightPerChannelFloat,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    TruncTo8bit,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.experimental.float_quant_ocp import Fp8e4m3OCPActPerTensorFloat
from torch import nn

HERE = Path(__file__).parent
SAMPLES, SEED = 64, 99
sys.path.insert(0, str(HERE))

from make_torch import strip  # noqa: E402
from networks import images  # noqa: E402


class Residual(nn.Module):
    """The residual network of the other sources in Brevitas layers: 8-bit input, 4-bit activations."""

    def __init__(self, act: type = Uint8ActPerTensorFloat, bits: int = 4, **weight: object) -> None:
        super().__init__()
        options = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": bits, **weight}
        self.quant_in = qnn.QuantIdentity(
            bit_width=8, act_quant=Int8ActPerTensorFloat, return_quant_tensor=True
        )
        self.stem = qnn.QuantConv2d(3, 8, 3, padding=1, bias=False, **options)
        self.stem_norm = nn.BatchNorm2d(8)
        self.act1 = qnn.QuantReLU(bit_width=bits, act_quant=act, return_quant_tensor=True)
        self.deep = qnn.QuantConv2d(8, 8, 3, padding=1, groups=8, bias=False, **options)
        self.deep_norm = nn.BatchNorm2d(8)
        self.act2 = qnn.QuantIdentity(bit_width=bits, return_quant_tensor=True)
        self.point = qnn.QuantConv2d(8, 8, 1, bias_quant=Int8Bias, **options)
        self.act3 = qnn.QuantReLU(bit_width=bits, act_quant=act, return_quant_tensor=True)
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.act4 = qnn.QuantIdentity(bit_width=6, return_quant_tensor=True)
        self.head = qnn.QuantLinear(8, 10, bias=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.stem_norm(self.stem(self.quant_in(x))))
        y = self.act2(self.deep_norm(self.deep(x)))
        x = self.act3(self.point(y) + x)
        x = self.average(self.pool(x))
        return self.head(torch.flatten(self.act4(x), 1))


class Truncated(nn.Module):
    """Average pooling as FINN wants it: the sum of a window, its low bits cut off."""

    def __init__(self) -> None:
        super().__init__()
        options = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 4}
        self.quant_in = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
        self.stem = qnn.QuantConv2d(3, 8, 3, padding=1, bias=False, **options)
        self.act = qnn.QuantReLU(bit_width=4, return_quant_tensor=True)
        self.pool = qnn.TruncAvgPool2d(4, 4, trunc_quant=TruncTo8bit, bit_width=4, return_quant_tensor=True)
        self.head = qnn.QuantLinear(32, 10, bias=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(self.pool(self.act(self.stem(self.quant_in(x)))), 1))


class Binary(nn.Module):
    """Weights and activations of -1 and +1."""

    def __init__(self) -> None:
        super().__init__()
        options = {"weight_quant": SignedBinaryWeightPerTensorConst}
        self.quant_in = qnn.QuantIdentity(bit_width=8)
        self.stem = qnn.QuantConv2d(3, 16, 3, stride=2, bias=False, weight_bit_width=8)
        self.norm = nn.BatchNorm2d(16)
        self.act = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        self.deep = qnn.QuantConv2d(16, 16, 3, bias=False, **options)
        self.deep_norm = nn.BatchNorm2d(16)
        self.deep_act = qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        self.head = qnn.QuantLinear(16, 10, bias=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.stem(self.quant_in(x))))
        return self.head(torch.flatten(self.deep_act(self.deep_norm(self.deep(x))), 1))


class Float8(nn.Module):
    """Activations on a floating-point grid, which no code of integers has."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.inner = nn.Flatten(), qnn.QuantLinear(192, 16, bias=True)
        self.act = qnn.QuantReLU(act_quant=Fp8e4m3OCPActPerTensorFloat)
        self.head = qnn.QuantLinear(16, 10, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.inner(self.flat(x))))


def seeded(network: nn.Module) -> nn.Module:
    """Give a network reproducible weights and calibrated scales; returns it in eval mode."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        network.train()
        for seed in range(40):
            network(images(32, seed))
    return network.eval()


def main() -> None:
    """Write every model beside this script, and what torch computes with each."""
    torch.manual_seed(0)
    cases: list[tuple[str, str, Callable[[], nn.Module], bool]] = [
        ("brevitas_qonnx_4bit", "qonnx", Residual, False),
        ("brevitas_qonnx_4bit_dynamo", "qonnx", Residual, True),
        ("brevitas_qonnx_shifted", "qonnx", lambda: Residual(ShiftedUint8ActPerTensorFloat, 8), False),
        ("brevitas_qonnx_trunc", "qonnx", Truncated, False),
        ("brevitas_qonnx_trunc_dynamo", "qonnx", Truncated, True),
        ("brevitas_qonnx_binary", "qonnx", Binary, False),
        ("brevitas_qonnx_float8", "qonnx", Float8, False),
        ("brevitas_qcdq_4bit", "qcdq", Residual, False),
        ("brevitas_qcdq_shifted", "qcdq", lambda: Residual(ShiftedUint8ActPerTensorFloat, 8), False),
    ]
    expected: dict[str, npt.NDArray[np.float32]] = {}
    for name, form, make, dynamo in cases:
        network = seeded(make())
        if form == "qonnx" and make is not Float8:
            with torch.no_grad():
                result = network(images(SAMPLES, SEED))
            expected[name] = (result.value if hasattr(result, "value") else result).numpy()
        write(network, name, form, dynamo=dynamo)
    np.savez_compressed(HERE / "brevitas_expected.npz", **expected)


def write(network: nn.Module, name: str, form: str, *, dynamo: bool) -> None:
    """Export a network; the batch is fixed by the current exporter and free in the other."""
    export = export_qonnx if form == "qonnx" else export_onnx_qcdq
    names = {"input_names": ["image"], "output_names": ["logits"]}
    free = {"dynamic_axes": {"image": {0: "batch"}, "logits": {0: "batch"}}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        export(
            network,
            args=images(2),
            export_path=str(path),
            dynamo=dynamo,
            **({} if dynamo else {**names, **free}),
        )
        # Weights come back from a file beside the model, as the current exporter writes them.
        onnx.save(onnx.load(path), HERE / f"{name}.onnx")
    strip(HERE / f"{name}.onnx")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
