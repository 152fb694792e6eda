"""Groups of tokens: the index maps of semantics note 3.1, and attention within them against a dense mask."""

import numpy as np
import pytest
import torch

from snnc.errors import UsageError
from snnc.nn import (
    GroupedAttention,
    dilated_groups,
    expg_activation,
    float_activation,
    from_dilated_groups,
    from_window_groups,
    window_groups,
)
from snnc.nn.attention import attend

SIZES = [(4, 6, 2), (8, 8, 4), (6, 6, 1), (9, 3, 3)]


@pytest.mark.parametrize(("height", "width", "m"), SIZES)
def test_tokens_of_a_group_are_the_pixels_that_the_map_says(height, width, m):
    x = torch.arange(2 * 3 * height * width).reshape(2, 3, height, width)
    rows, columns = height // m, width // m
    dilated, windows = dilated_groups(x, m), window_groups(x, m)
    assert dilated.shape == windows.shape == (2, m * m, 3, rows * columns)
    for i in range(m):
        for j in range(m):
            assert torch.equal(dilated[:, i * m + j], x[:, :, i::m, j::m].flatten(2))
            window = x[:, :, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            assert torch.equal(windows[:, i * m + j], window.flatten(2))
    assert torch.equal(from_dilated_groups(dilated, m, height, width), x)
    assert torch.equal(from_window_groups(windows, m, height, width), x)


@pytest.mark.parametrize("kind", ["dilated", "window"])
def test_attention_in_groups_is_dense_attention_under_a_block_mask(kind):
    torch.manual_seed(0)
    height, width, m, heads, channels = 6, 4, 2, 2, 8
    q, k, v = torch.randn(3, 2, channels, height, width).double()
    cut, join = {
        "dilated": (dilated_groups, from_dilated_groups),
        "window": (window_groups, from_window_groups),
    }[kind]
    found = attend(cut(q, m), cut(k, m), cut(v, m), torch.nn.ReLU(), heads=heads, scale=0.5)
    found = join(found, m, height, width)
    row, column = np.divmod(np.arange(height * width), width)
    if kind == "dilated":
        group = (row % m) * m + column % m
    else:
        group = (row // (height // m)) * m + column // (width // m)
    mask = torch.from_numpy(group[:, None] == group[None, :])
    assert mask.sum() * m * m == mask.numel()
    queries, keys, values = (part.reshape(2, heads, channels // heads, -1) for part in (q, k, v))
    scores = torch.einsum("bhdi,bhdj->bhij", queries, keys).mul(0.5).relu() * mask
    wanted = torch.einsum("bhij,bhdj->bhdi", scores, values).reshape(2, channels, height, width)
    torch.testing.assert_close(found, wanted)


def test_maps_that_do_not_divide_are_refused():
    for cut in (dilated_groups, window_groups):
        with pytest.raises(UsageError, match=r"SNN216.*7x8") as caught:
            cut(torch.zeros(1, 1, 7, 8), 2)
        assert "input size" in str(caught.value.hint)


def test_heads_split_between_the_groupings():
    block = GroupedAttention(12, float_activation, heads=3, chunks=2, dilated_heads=2)
    assert block.parts == [("dilated", 2), ("window", 1)]
    assert block(torch.randn(2, 12, 4, 4)).shape == (2, 12, 4, 4)
    assert GroupedAttention(12, float_activation, heads=3, chunks=2, dilated_heads=3).parts == [
        ("dilated", 3)
    ]
    assert GroupedAttention(12, float_activation, heads=3).parts == [("window", 3)]
    for heads, dilated in ((5, None), (3, 4)):
        with pytest.raises(UsageError, match="SNN217"):
            GroupedAttention(12, float_activation, heads=heads, dilated_heads=dilated)


def test_a_token_reaches_its_dilated_group_its_window_and_no_other():
    torch.manual_seed(1)
    block = GroupedAttention(
        8, lambda signed: torch.nn.Identity(), heads=2, chunks=2, convolution_branch=False
    )
    block.eval()
    x = torch.rand(1, 8, 4, 4, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    rows = columns = torch.arange(4)
    dilated = (rows[:, None] % 2 == 0) & (columns[None, :] % 2 == 0)
    window = (rows[:, None] < 2) & (columns[None, :] < 2)
    assert torch.equal(seen, dilated | window)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(2)
    block = GroupedAttention(16, expg_activation(4, 2), heads=2, chunks=2)
    block(torch.randn(8, 16, 4, 4)).square().sum().backward()
    silent = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_scores_may_be_divided_by_the_tokens():
    torch.manual_seed(3)
    plain = GroupedAttention(4, float_activation, heads=1, convolution_branch=False).eval()
    divided = GroupedAttention(
        4, float_activation, heads=1, convolution_branch=False, score_scale="tokens"
    ).eval()
    divided.load_state_dict(plain.state_dict())
    plain.project, divided.project = torch.nn.Identity(), torch.nn.Identity()
    x = torch.rand(1, 4, 3, 3)
    torch.testing.assert_close(plain(x), divided(x) * 9)
