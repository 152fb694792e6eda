"""Grouped softmax attention in torch: the numbers of the pass, real groups in the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from snnc.errors import UsageError
from snnc.ir import load
from snnc.nn import grouped_softmax_attention
from snnc.passes.attention.group_attention import GroupAttention


class Heads(nn.Module):
    """Attention on ``x`` as queries, keys and values; grouped with a stride, else global."""

    def __init__(self, stride: int, token: bool) -> None:
        super().__init__()
        self.stride, self.token = stride, token

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend."""
        if self.stride:
            return grouped_softmax_attention(x, x, x, stride=self.stride, class_token=self.token)
        return torch.matmul((torch.matmul(x, x.transpose(2, 3)) * 0.5).softmax(-1), x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("stride", "token"), [(2, False), (2, True), (3, True)])
def test_it_is_what_the_pass_makes_of_global_attention(stride: int, token: bool, tmp_path: Path) -> None:
    side = 2 * stride
    x = torch.randn(2, 3, side * side + token, 4, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "global.onnx"
    torch.onnx.export(Heads(0, token), (x,), str(path), dynamo=False, input_names=["x"])
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(path)), path)
    model = load(path)
    assert GroupAttention(stride, grid=f"{side}x{side}").run(model).rewrites
    import onnx_ir as ir

    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (wanted,) = session.run(None, {"x": x.numpy()})
    found = Heads(stride, token)(x)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    torch.onnx.export(Heads(stride, token), (x,), str(path), dynamo=False, input_names=["x"])
    (exported,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(exported, wanted, atol=1e-5)
    shapes = onnx.shape_inference.infer_shapes(onnx.load(path)).graph.value_info
    sizes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes]
    pairs = [size for size in sizes if size[-2:] == [x.shape[2]] * 2]
    assert pairs == []  # no matrix of all pairs


def test_what_does_not_divide_is_refused() -> None:
    x = torch.zeros(1, 2, 16, 4)
    for options in ({"stride": 3}, {"stride": 2, "window": 3}, {"class_token": True}):
        with pytest.raises(UsageError, match="SNN216"):
            grouped_softmax_attention(x, x, x, **options)
