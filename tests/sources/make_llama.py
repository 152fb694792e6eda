"""Make a small LLaMA with random weights, by torch's exporter: RMSNorm, SwiGLU, rotary positions.

Run: python tests/sources/make_llama.py (needs transformers, which the project does not depend on).
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

HERE = Path(__file__).parent
TOKENS, WORDS = 12, 64


class LastHidden(nn.Module):
    """The model with two inputs and one output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


if __name__ == "__main__":
    torch.manual_seed(7)
    model = LlamaModel(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=3,
            num_key_value_heads=3,
            max_position_embeddings=32,
            use_cache=False,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
    ids = torch.randint(5, 60, (2, TOKENS))
    batch = torch.export.Dim("batch", min=1, max=256)
    program = torch.onnx.export(
        LastHidden(model.eval()),
        (ids, torch.ones_like(ids)),
        dynamo=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_shapes=({0: batch}, {0: batch}),
        external_data=False,
    )
    path = HERE / "llama_dynamo.onnx"
    program.save(path, external_data=False)
    proto = onnx.load(path)
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(proto, path)
