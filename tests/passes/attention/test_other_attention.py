"""Passes adjacent-attention and burst-attention: numbers of the dense forms, what is recorded, reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from snnc.cli.group import cli
from snnc.compile import ConvertOptions, convert
from snnc.errors import UnsupportedError, UsageError
from snnc.passes.attention.adjacent_attention import AdjacentAttention
from snnc.passes.attention.burst_attention import BurstAttention
from snnc.passes.attention.burst_fit import coded, fit
from snnc.passes.attention.pairs import neighbours
from snnc.passes.quantise.insert_quantisers import Choice
from tests.passes.attention.test_group_attention import HEADS, SIZE, dense, network, run

SOURCE = Path(__file__).parents[2] / "sources" / "vit_torchscript.onnx"


def model_of(proto: onnx.ModelProto):
    import onnx_ir as ir

    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def feeds_of(tokens: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"q": (tokens, SIZE), "k": (SIZE, tokens), "v": (tokens, SIZE)}
    return {
        name: random.standard_normal((2, HEADS, *shape)).astype(np.float32) for name, shape in shapes.items()
    }


def near(side: int, window: int, extra: int) -> np.ndarray:
    row, column = np.divmod(np.arange(side * side), side)
    apart = np.maximum(np.abs(np.subtract.outer(row, row)), np.abs(np.subtract.outer(column, column)))
    mask = np.ones((side * side + extra,) * 2, bool)
    mask[extra:, extra:] = apart <= window // 2
    return mask


@pytest.mark.parametrize(("side", "extra", "window"), [(4, 0, 3), (4, 1, 3), (5, 1, 5), (3, 0, 3), (4, 0, 1)])
def test_neighbours_are_those_of_the_adjacency_mask_and_no_other_pair_is_computed(side, extra, window):
    tokens = side * side + extra
    model = model_of(network(tokens))
    result = AdjacentAttention(window, f"{side}x{side}").run(model)
    mask, feeds = near(side, window, extra), feeds_of(tokens)
    np.testing.assert_allclose(run(model, feeds)[0], dense(feeds, mask), atol=1e-6)
    assert f"{100 * mask.mean():.1f} % of the pairs" in result.notes[0]
    shapes = [tuple(node.outputs[0].shape)[1:] for node in model.graph if node.op_type == "Softmax"]
    assert sum(np.prod(shape) for shape in shapes) == HEADS * mask.sum()


def test_what_adjacent_leaves_alone():
    result = AdjacentAttention(9, "4x4").run(model_of(network(16)))
    assert not result.rewrites and "leaves no pair out of 4 x 4" in result.not_matched[0].reason
    result = AdjacentAttention().run(model_of(network(15)))
    assert "no map is seen" in result.not_matched[0].reason
    assert sum(part.queries.size for part in neighbours(np.arange(1), (4, 4), 3, 1)) == 16


@pytest.mark.parametrize(("tokens", "window", "bursts"), [(15, 0, 3), (17, 3, 1), (16, 3, 5)])
def test_burst_attention_is_what_its_formula_says(tokens, window, bursts):
    feeds = feeds_of(tokens)
    random = np.random.default_rng(1)
    gain, bias = (random.standard_normal((1, HEADS, 1, SIZE)).astype(np.float32) for _ in range(2))
    books = BurstAttention(bursts).books
    steps = (0.7, 0.5, 1.1)
    choices = {
        f"y.burst.{kind}": Choice(book, np.float32(step))
        for kind, book, step in zip("qkv", books, steps, strict=True)
    }
    choices["y.burst.out"] = Choice(books[0], gain, bias)
    model = model_of(network(tokens))
    result = BurstAttention(bursts, window, choices=choices, grid="4x4").run(model)
    assert len(result.rewrites) == 1
    from snnc.ops import attach_functions

    attach_functions(model)
    q, k, v = (coded(feeds[name], step, book) for name, step, book in zip("qkv", steps, books, strict=True))
    assert set(np.unique(q)) <= {0, np.float32(0.7)}
    assert np.isclose(k.max(), 0.5 * min(bursts, np.rint(feeds["k"].max() / 0.5))) and k.min() == 0
    assert np.allclose(np.unique(v), [-1.1, 0, 1.1])
    side = int(tokens**0.5)
    mask = near(side, window, tokens - side * side) if window else np.ones((tokens, tokens), bool)
    np.testing.assert_allclose(
        run(model, feeds)[0], gain * (((q @ k) * mask) @ v) + bias, rtol=1e-4, atol=1e-4
    )
    assert "Softmax" not in [node.op_type for node in model.graph]


def test_the_fit_is_no_worse_than_the_mean_and_finds_what_is_there():
    feeds = feeds_of(9)
    books = BurstAttention(3).books
    units = {name: float(np.sqrt(np.square(array).mean())) for name, array in feeds.items()}
    q, k, v = (coded(feeds[name], units[name], book) for name, book in zip("qkv", books, strict=True))
    # Steps of one unit are not tried for keys: 0.8 of it is near.
    found = fit([feeds["q"], feeds["k"], feeds["v"], 3 * ((q @ k) @ v) + 5], np.ones((9, 9), bool), books)
    assert found.explained is not None and 0.8 < found.explained <= 1
    noise = np.random.default_rng(5).standard_normal(feeds["q"].shape).astype(np.float32)
    assert 0 <= (fit([*feeds.values(), noise], np.ones((9, 9), bool), books).explained or 0) < 0.5


@pytest.mark.parametrize("options", [["adjacent"], ["burst", "--window", "3", "--bursts", "2"]])
def test_the_command_line_converts_verifies_and_audits(tmp_path, options):
    from click.testing import CliRunner

    samples = np.random.default_rng(0).random((8, 3, 8, 8), dtype=np.float32)
    data, out = tmp_path / "x.npz", tmp_path / "vit.snn.onnx"
    np.savez(data, **{"x": samples})
    runner = CliRunner()
    words = ["convert", str(SOURCE), "-o", str(out), "--calibrate", str(data), "--groups", "4"]
    done = runner.invoke(cli, [*words, "--attention", *options])
    assert done.exit_code == 0, done.output
    assert "cost of the other attention on 8 samples" in done.output
    done = runner.invoke(cli, ["verify", str(SOURCE), str(out), "--data", str(data)])
    assert done.exit_code == 0, done.output
    done = runner.invoke(cli, ["audit", str(out)])
    assert done.exit_code == 0, done.output


def test_refusals():
    samples = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    with pytest.raises(UsageError, match=r"SNN290(.|\n)*--window 5"):
        convert(SOURCE, ConvertOptions(attention="adjacent", window=4), calibration=samples)
    with pytest.raises(UsageError, match=r"SNN291(.|\n)*--calibrate"):
        convert(SOURCE, ConvertOptions(attention="burst"))
    with pytest.raises(UnsupportedError, match="SNN464"):
        convert(SOURCE, ConvertOptions(attention="adjacent", window=9), calibration=samples)


def test_channels_that_say_nothing_keep_a_gain_that_fits_beside_the_others():
    """A gain of a millionth put steps of products and constants so far apart that 32 bits held no sum."""
    feeds = feeds_of(9)
    feeds["v"][..., 1] = 0.25  # below the threshold: no spike, though the result is no zero
    weights = np.exp(feeds["q"] @ feeds["k"])
    wanted = (weights / weights.sum(-1, keepdims=True)) @ feeds["v"]
    found = fit([*feeds.values(), wanted], np.ones((9, 9), bool), BurstAttention(3).books)
    gain = np.abs(found.gain)
    assert gain.max() / gain.min() <= 1024
    assert np.allclose(found.bias[..., 1], 0.25)
