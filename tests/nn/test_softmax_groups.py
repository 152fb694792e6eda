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


@pytest.mark.parametrize(
    ("grid", "tokens", "window"),
    [((4, 6), 1, 0), ((2, 12), 1, 2), ((6, 4), 5, 2), ((2, 6), 0, 0), ((4, 4), 4, 4)],
)
@pytest.mark.parametrize("heads", [1, 3])
def test_grids_that_are_no_squares_several_tokens_in_front_and_biases(
    grid: tuple[int, int], tokens: int, window: int, heads: int
) -> None:
    """Against the definition: attention to all, with minus infinity at the pairs of other groups."""
    height, width = grid
    count = tokens + height * width
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, count, 4, generator=random, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(heads, count, count, generator=random, dtype=torch.float64, requires_grad=True)
    row, column = (torch.arange(height * width) // width, torch.arange(height * width) % width)
    cuts = [window or side // 2 for side in grid]
    left = torch.ones(heads, count, count, dtype=torch.bool)
    half = (heads + 1) // 2
    for some, across, along in (
        (slice(half), row % 2, column % 2),
        (slice(half, heads), row // cuts[0], column // cuts[1]),
    ):
        left[some, tokens:, tokens:] = (across[:, None] == across) & (along[:, None] == along)
    scores = (q @ k.transpose(2, 3) * 0.5 + bias).masked_fill(~left, -torch.inf)
    options = {"class_token": tokens, "grid": grid, "window": window}
    found = grouped_softmax_attention(q, k, v, bias=bias, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(found, scores.softmax(-1) @ v)
    found.sum().backward()
    assert bias.grad is not None and bool((bias.grad[~left] == 0).all())
    shared = grouped_softmax_attention(q, k, v, bias=bias[:1], **options)  # type: ignore[arg-type]
    scores = (q @ k.transpose(2, 3) * 0.5 + bias[:1]).masked_fill(~left, -torch.inf)
    torch.testing.assert_close(shared, scores.softmax(-1) @ v)


def test_a_square_that_tokens_make_is_not_taken_for_a_stated_grid() -> None:
    x = torch.zeros(1, 2, 25, 4)
    assert grouped_softmax_attention(x, x, x, class_token=1, grid=(4, 6)).shape == x.shape
    with pytest.raises(UsageError, match=r"SNN216(.|\n)*taken to be a square: grid="):
        grouped_softmax_attention(x, x, x, class_token=1)  # 24 patches are none
    for grid, tokens in (((4, 6), 0), ((5, 5), 0), ((4, 6), 2)):
        with pytest.raises(UsageError, match="SNN216"):
            grouped_softmax_attention(x, x, x, class_token=tokens, grid=grid)
