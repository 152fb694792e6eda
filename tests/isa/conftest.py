"""Networks compiled for ExpG-1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.emit.compiled import Compiled, compile_program
from snnc.isa.arch import Arch

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
#: So small that everything is cut into tiles and moved to DRAM and back.
TINY = Arch(name="tiny", wmem=2048, smem=1024, amem=2048, tmem=2048)


def residual(net: Any, seed: int = 3) -> Any:
    """A small network with all kinds of convolution, pools and a residual join."""
    made = net(seed)
    code = made.quantise(made.conv(made.input(["N", 2, 8, 8]), (6, 2, 3, 3)), 0.4, (4, 2))
    pooled = made.op("MaxPool", [code], kernel_shape=[2, 2], strides=[2, 2])
    deep = made.quantise(made.conv(pooled, (6, 1, 3, 3), group=6), 0.3, (4, 2))
    pair = made.conv(deep, (6, 3, 3, 3), group=2, dilations=[2, 2], pads=[2] * 4)
    joined = made.op("Add", [made.conv(pooled, (6, 6, 1, 1)), pair])
    wide = made.quantise(
        made.conv(made.quantise(joined, 0.5, (3, 1)), (8, 6, 3, 3), strides=[2, 2]), 0.4, (6, 3)
    )
    mean = made.op("GlobalAveragePool", [wide])
    return made.output(made.matmul(made.op("Flatten", [mean]), (8, 3)))


def attention(net: Any, seed: int = 5) -> Any:
    """A float network with LayerNorm, softmax attention in two heads and a ReLU."""
    made = net(seed)
    stream = made.matmul(made.input(["N", 5, 6]), (6, 8))
    scale, shift = made.const(made.random.uniform(0.5, 2, 8)), made.const(made.normal(8))
    normed = made.op("LayerNormalization", [stream, scale, shift], axis=-1)
    heads = []
    for letter in "qkv":
        split = made.op(
            "Reshape", [made.matmul(normed, (8, 8)), made.const([0, 5, 2, 4], np.int64)], name=letter
        )
        heads.append(made.op("Transpose", [split], perm=[0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]))
    scores = made.op("Mul", [made.op("MatMul", heads[:2]), made.const(0.5)])
    mixed = made.op("MatMul", [made.op("Softmax", [scores], axis=-1), heads[2]])
    back = made.op(
        "Reshape", [made.op("Transpose", [mixed], perm=[0, 2, 1, 3]), made.const([0, 5, 8], np.int64)]
    )
    stream = made.op("Add", [stream, made.matmul(back, (8, 8))])
    stream = made.op("Add", [stream, made.matmul(made.op("Relu", [made.matmul(stream, (8, 12))]), (12, 8))])
    return made.output(made.matmul(made.op("ReduceMean", [stream], axes=[1], keepdims=0), (8, 3)))


@pytest.fixture(scope="session")
def compiled(net: Any) -> Callable[..., Compiled]:
    """Return a compiled network by name; converted once."""
    models: dict[str, Any] = {}
    programs: dict[tuple[str, Arch | None], Compiled] = {}

    def build(name: str, arch: Arch | None = None, *, again: bool = False) -> Compiled:
        if not again and (name, arch) in programs:
            return programs[name, arch]
        if name not in models:
            if name == "residual":
                models[name] = convert(residual(net).model(), ConvertOptions(weights="int8")).model
            elif name == "attention":
                options = ConvertOptions(timesteps=6, groups=3, calibrate="random:8")
                models[name] = convert(attention(net).model(), options).model
            else:
                models[name] = convert(MODELS / name, ConvertOptions()).model
        programs[name, arch] = compile_program(models[name], arch)
        return programs[name, arch]

    return build


@pytest.fixture(scope="session")
def tiny() -> Arch:
    return TINY
