"""Make more sources with onnxruntime's quantiser: other operators and formats, networks partly in float.

Run: python tests/sources/make_ort_more.py
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from make_ort import Reader  # noqa: E402


class Branches(nn.Module):
    """Concat of branches, max pooling, average pooling with padding, GlobalAveragePool, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.left, self.right, self.pooled = (
            nn.Conv2d(6, 4, 1),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.Conv2d(6, 4, 1),
        )
        self.mix, self.head = nn.Conv2d(18, 18, 1), nn.Linear(18, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        parts = [functional.relu(self.left(x)), functional.relu(self.right(x))]
        parts.append(functional.relu(self.pooled(functional.avg_pool2d(x, 3, 1, 1))))
        x = torch.cat([*parts, functional.max_pool2d(x, 3, 1, 1)], 1)
        x = functional.relu(self.mix(x) + x)
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class Activations(nn.Module):
    """GELU by Erf and by tanh, QuickGELU, SiLU, HardSwish, LeakyReLU, sigmoid, tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.point = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.Conv2d(8, 8, 1),
        )
        self.inner, self.outer, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.stem(x))
        y = self.deep(x)
        x = x + functional.hardswish(self.point(y * torch.sigmoid(1.702 * y)))
        x = functional.leaky_relu(functional.silu(x), 0.1).mean((2, 3))
        x = functional.gelu(self.inner(x), approximate="tanh")
        return self.head(torch.tanh(self.outer(x)) + torch.sigmoid(x))


class Perceptron(nn.Module):
    """Products of matrices alone, as language models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(32, 32, bias=False), nn.Linear(32, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(functional.relu(self.inner(x.reshape(-1, 6, 32)))).sum(1)


class Transformer(nn.Module):
    """One pre-LN block with softmax and GELU on 16 patches."""

    def __init__(self, dim: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.patches = heads, nn.Conv2d(3, dim, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, dim) / 2)
        self.norm1, self.norm2, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj, self.head = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, 10)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) * (dim // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((attention @ v).transpose(1, 2).reshape(batch, tokens, dim))
        x = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return self.head(self.norm(x).mean(1))


def float_model(network: nn.Module) -> onnx.ModelProto:
    """Export a network with weights large enough to matter."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and name != "positions":
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.rand(2, 3, 8, 8),),
            file,
            opset_version=17,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return onnx.load_from_string(file.getvalue())


QOPERATOR = {"quant_format": QuantFormat.QOperator}
SYNAPSES = {"op_types_to_quantize": ["Conv", "Gemm", "MatMul"]}
CASES: dict[str, tuple[type[nn.Module], dict[str, object]]] = {
    "ort_qdq_branches": (Branches, {"extra_options": {"UseQDQContribOps": True}}),
    "ort_qdq_branches_reduced": (Branches, {"reduce_range": True, "per_channel": True}),
    "ort_qdq_branches_u8u4": (Branches, {"weight_type": QuantType.QUInt4}),
    "ort_qdq_branches_s16": (Branches, {"activation_type": QuantType.QInt16, **SYNAPSES}),
    "ort_qoperator_branches": (Branches, {**QOPERATOR, "per_channel": True}),
    "ort_qdq_branches_partly": (Branches, {"nodes_to_exclude": ["/mix/Conv", "/Add"], **SYNAPSES}),
    "ort_qdq_activations": (Activations, {}),
    "ort_qdq_activations_symmetric": (
        Activations,
        {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
    ),
    "ort_qdq_activations_partly": (Activations, SYNAPSES),
    "ort_qoperator_activations": (Activations, QOPERATOR),
    "ort_qdq_transformer": (Transformer, {}),
    "ort_qdq_transformer_partly": (Transformer, SYNAPSES),
    "ort_qoperator_transformer": (Transformer, QOPERATOR),
}


def main() -> None:
    """Write every model beside this script."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[type[nn.Module], str] = {}
        for kind in (Branches, Activations, Transformer, Perceptron):
            source = Path(folder) / f"{kind.__name__}.onnx"
            onnx.save(float_model(kind()), source)
            sources[kind] = str(source.with_suffix(".ready.onnx"))
            quant_pre_process(str(source), sources[kind])
        for name, (kind, options) in CASES.items():
            settings: dict[str, object] = {
                "quant_format": QuantFormat.QDQ,
                "activation_type": QuantType.QUInt8,
                "weight_type": QuantType.QInt8,
                **options,
            }
            quantize_static(sources[kind], str(HERE / f"{name}.onnx"), Reader(), **settings)
        for form in (QuantFormat.QDQ, QuantFormat.QOperator):
            blocked = MatMulNBitsQuantizer(onnx.load(sources[Perceptron]), block_size=16, quant_format=form)
            blocked.process()
            blocked.model.save_model_to_file(str(HERE / f"ort_nbits_{form.name.lower()}.onnx"))


if __name__ == "__main__":
    main()
