"""Export through torch's older exporter, which traces: fast, and still widely used."""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from snnc.errors import InputError, Where
from snnc.ir import Model, load, settle_outputs
from snnc.ops import DOMAIN

__all__ = ["trace"]

_OPSET = 17


def trace(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    dynamic_batch: bool,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    path: Path,
) -> Model:
    """Return the graph that torch.onnx's tracing exporter makes.

    Args:
        module: Network in its deployed form.
        inputs: Example inputs.
        dynamic_batch: Leave axis 0 of inputs and outputs open.
        input_names: Names of the inputs; default: the argument names of ``forward``.
        output_names: Names of the outputs; default ``("logits",)`` for one output, else ``output_0``...
        path: For messages.

    Raises:
        InputError: SNN308 if torch cannot trace or translate the module.
    """
    parameters = list(inspect.signature(module.forward).parameters)
    names = list(input_names or parameters[: len(inputs)])
    with torch.no_grad():
        result = module(*inputs)
    count = 1 if isinstance(result, Tensor) else len(result)
    found = list(output_names or (["logits"] if count == 1 else [f"output_{i}" for i in range(count)]))
    axes = {name: {0: "batch"} for name in (*names, *found)} if dynamic_batch else None
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")  # of deprecation, and of sizes that become constants
            torch.onnx.export(
                module,
                inputs,
                Path(folder) / "traced.onnx",
                dynamo=False,
                opset_version=_OPSET,
                input_names=names,
                output_names=found,
                dynamic_axes=axes,
                custom_opsets={DOMAIN: 1},
            )
            model = load(Path(folder) / "traced.onnx")
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            "SNN308",
            f"torch.onnx.export cannot translate this module: {text}",
            where=Where(file=str(path)),
            hint="exporter='dynamo' may",
        ) from error
    finally:
        logger.setLevel(level)
    for node in model.graph:
        node.doc_string = None
    model.doc_string = None
    model.graph.name = "main"
    # torch (2.11) leaves names such as Gemmlogits_dim_1 behind operators that it does not know.
    settle_outputs(model)
    return model
