"""Make small pre-LN vision transformers with random weights, straight out of torch's two exporters.

Run: python tests/sources/make_vit.py
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from make_torch import strip  # noqa: E402

DIM, HEADS, BLOCKS = 24, 3, 2


class Block(nn.Module):
    """Attention and MLP, a normalisation in front of each."""

    def __init__(self, activation: nn.Module, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), activation, nn.Linear(2 * DIM, DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (
            self.qkv(self.norm1(x)).reshape(batch, tokens, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        )
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            scores = torch.einsum("bhid,bhjd->bhij", q, k) * (DIM // HEADS) ** -0.5
            y = torch.einsum("bhij,bhjd->bhid", scores.softmax(dim=-1), v)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, tokens, DIM))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches, class token, position embedding, blocks, norm and head for 3 x 8 x 8 images."""

    def __init__(self, activation: type[nn.Module], *, fused: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, DIM))
        self.positions = nn.Parameter(torch.randn(1, 17, DIM) / 2)
        self.blocks = nn.Sequential(*(Block(activation(), fused) for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def seeded(activation: type[nn.Module], *, fused: bool) -> Vit:
    """Return a network whose weights are large enough for attention to attend; some scales are negative."""
    torch.manual_seed(7)
    network = Vit(activation, fused=fused)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.normal_(0.8, 0.5)
                module.bias.normal_(0, 0.3)
            elif isinstance(module, nn.Linear):
                module.weight.mul_(2)
        network.norm.weight[3] = 0
    return network.eval()


if __name__ == "__main__":
    images = torch.rand(2, 3, 8, 8)
    torch.onnx.export(
        seeded(nn.ReLU, fused=True),
        (images,),
        dynamo=True,
        external_data=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=1024)}},
    ).save(HERE / "vit_dynamo.onnx", external_data=False)
    strip(HERE / "vit_dynamo.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            seeded(nn.GELU, fused=False),
            (images,),
            HERE / "vit_torchscript.onnx",
            opset_version=17,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    strip(HERE / "vit_torchscript.onnx")
