"""Make the source models of torchao's PT2E flow: prepare, calibrate, ``convert_pt2e``, export.

Needs torchao beside torch, in an environment of its own.

Run: python tests/sources/make_torchao.py
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from make_torch import strip  # noqa: E402
from networks import Residual, images, seeded  # noqa: E402


def export(network: nn.Module, name: str) -> None:
    """Export a converted graph module with the current exporter."""
    program = torch.onnx.export(
        network,
        (images(2),),
        dynamo=True,
        external_data=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
    )
    program.save(HERE / f"{name}.onnx", external_data=False)
    strip(HERE / f"{name}.onnx")


def quantised(quantizer: object, *, training: bool = False) -> nn.Module:
    """Return the residual network after one of the two flows of PT2E."""
    network = seeded(Residual([nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.Identity()]))
    shapes = ({0: torch.export.Dim("batch", min=2, max=1024)},)
    captured = torch.export.export(
        network.train() if training else network, (images(4),), dynamic_shapes=shapes
    )
    prepared = (prepare_qat_pt2e if training else prepare_pt2e)(captured.module(), quantizer)
    for seed in range(4):
        prepared(images(16, seed))
    return convert_pt2e(prepared)


def main() -> None:
    """Write every model beside this script."""
    xnnpack = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    export(quantised(xnnpack), "torchao_pt2e")
    qat = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_qat=True))
    export(quantised(qat, training=True), "torchao_pt2e_qat")
    x86 = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    export(quantised(x86), "torchao_pt2e_x86")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
