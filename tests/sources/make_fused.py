"""Make transformers with fused operators: of onnxruntime's optimiser, and of opset 23.

Run: python tests/sources/make_fused.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.transformers.optimizer import optimize_model
from torch import nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_vit  # noqa: E402
from make_torch import strip  # noqa: E402

DIM, HEADS = make_vit.DIM, make_vit.HEADS


class Layer(nn.Module):
    """One layer of BERT: normalised behind attention and behind the MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(DIM, DIM) for _ in range(4))
        self.up, self.down = nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view((*x.size()[:-1], HEADS, DIM // HEADS)).permute(0, 2, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self.heads(part(x)) for part in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / (DIM // HEADS) ** 0.5
        y = torch.matmul(nn.functional.softmax(scores, dim=-1), value).permute(0, 2, 1, 3).contiguous()
        x = self.norm1(self.out(y.view((*y.size()[:-2], DIM))) + x)
        return self.norm2(self.down(nn.functional.gelu(self.up(x))) + x)


class Encoder(nn.Module):
    """Patches of 3 x 8 x 8 images as tokens, two layers, a pooler and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, DIM, 2, 2), nn.LayerNorm(DIM)
        self.layers = nn.Sequential(Layer(), Layer())
        self.pooler, self.head = nn.Linear(DIM, DIM), nn.Linear(DIM, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.layers(self.norm(self.patches(image).flatten(2).transpose(1, 2)))
        return self.head(torch.tanh(self.pooler(x[:, 0])))


def encoder() -> Encoder:
    torch.manual_seed(7)
    network = Encoder()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.normal_(0.9, 0.3)
                module.bias.normal_(0, 0.2)
    return network.eval()


if __name__ == "__main__":
    images = torch.rand(2, 3, 8, 8)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        plain = Path(folder) / "encoder.onnx"
        torch.onnx.export(
            encoder(),
            (images,),
            plain,
            opset_version=14,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
        fused = optimize_model(str(plain), model_type="bert", num_heads=HEADS, hidden_size=DIM, opt_level=0)
        fused.save_model_to_file(str(HERE / "ort_fused.onnx"))
    strip(HERE / "ort_fused.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(HERE / "ort_extended.onnx")
    onnxruntime.InferenceSession(str(HERE / "float_dynamo.onnx"), options)
    strip(HERE / "ort_extended.onnx")
    make_vit.BLOCKS = 1
    torch.onnx.export(
        make_vit.seeded(nn.GELU, fused=True),
        (images,),
        dynamo=True,
        opset_version=23,
        external_data=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=1024)}},
    ).save(HERE / "vit_opset23.onnx", external_data=False)
    strip(HERE / "vit_opset23.onnx")
