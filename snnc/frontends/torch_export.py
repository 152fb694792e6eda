"""From a torch module to an ONNX file that any onnxruntime runs and ``snnc convert`` reads."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snnc.errors import InputError, UsageError, Where
from snnc.frontends.torch_trace import trace
from snnc.ir import Model, Node, save, unique_name
from snnc.nn.expg import ExpG
from snnc.nn.weights import QuantConv2d, QuantLinear
from snnc.ops import attach_functions

__all__ = ["export"]

_OPSET = 18  # the lowest that torch's exporter writes without converting afterwards
_IR_VERSION = 10
_SCOPES = "pkg.torch.onnx.name_scopes"


def export(
    module: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: str | os.PathLike[str],
    *,
    dynamic_batch: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    exporter: Literal["dynamo", "torchscript"] = "dynamo",
) -> None:
    """Write a torch module as one ONNX file.

    An `ExpG` becomes one node ``ai.snnc::Quantise`` with its step as an initializer; the file holds the
    function of standard ops that defines the node. Weights of `QuantConv2d` and `QuantLinear` become int8
    initializers with DequantizeLinear. Nodes are named after the modules they come from; paths and source
    lines of the exporting machine are not in the file. The same module gives the same bytes.

    Args:
        module: Network, on any device; it is exported in evaluation mode, and itself left as it is.
        example: Input, or inputs in the order of ``forward``: float32, axis 0 is the batch.
        path: File to write; it appears complete or not at all.
        dynamic_batch: Leave axis 0 of every input open. Otherwise the example's batch is fixed.
        input_names: Names of the graph inputs; default: the argument names of ``forward``.
        output_names: Names of the graph outputs; default ``("logits",)`` for one output, else torch's.
        exporter: Which of torch's exporters: ``"torchscript"`` is several times faster on small networks, but
            deprecated by torch, and its nodes keep torch's names.

    Raises:
        UsageError: SNN211 if no example is given, or an ExpG per channel reads inputs of different ranks, or
            there is no such exporter.
        InputError: SNN308 if torch cannot trace or translate the module.
        EnvironmentFailure: SNN603 if the file cannot be written.
    """
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    if not inputs or not all(isinstance(part, Tensor) for part in inputs):
        raise UsageError("SNN211", "export needs an example input: a tensor, or a sequence of tensors")
    if exporter not in ("dynamo", "torchscript"):
        raise UsageError("SNN211", f"no exporter {exporter!r}", hint="dynamo or torchscript")
    # The file is that of the processor's arithmetic, wherever the network was trained.
    copied, inputs = copy.deepcopy(module).cpu().eval(), tuple(part.cpu() for part in inputs)
    deployed = _deployed(copied, inputs)
    if dynamic_batch:
        # torch specialises a batch of one; any other size keeps the axis open.
        inputs = tuple(torch.cat([part[:1], part[:1]]) for part in inputs)
    if exporter == "torchscript":
        model = trace(deployed, inputs, dynamic_batch, input_names, output_names, Path(path))
    else:
        model = _translate(deployed, inputs, dynamic_batch, input_names, output_names, Path(path))
        _tidy(model)
    attach_functions(model)
    model.ir_version = _IR_VERSION
    save(model, path)


def _deployed(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Replace training modules by their deployed form, in place; returns the module."""
    ranks: dict[nn.Module, set[int]] = {part: set() for part in module.modules() if isinstance(part, ExpG)}

    def note(part: nn.Module, arguments: tuple[Any, ...]) -> None:
        ranks[part].add(arguments[0].ndim)

    hooks = [part.register_forward_pre_hook(note) for part in ranks]
    with torch.no_grad():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    fixed: dict[nn.Module, nn.Module] = {}
    for name, part in module.named_modules():
        if isinstance(part, ExpG):
            seen = ranks[part]
            if len(seen) > 1 and part.channels is not None:
                raise UsageError("SNN211", f"ExpG {name!r} reads inputs of ranks {sorted(seen)}: use two")
            if seen:
                fixed[part] = part.fixed(seen.pop())
        elif isinstance(part, QuantConv2d | QuantLinear):
            part.freeze()
    if module in fixed:
        return fixed[module]
    for part in module.modules():
        # named_children would name a module only once that stands in two places.
        for name, child in list(part._modules.items()):
            if child in fixed:
                setattr(part, name, fixed[child])
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own registry and deprecations from the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _translate(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    dynamic_batch: bool,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    path: Path,
) -> Model:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs) if dynamic_batch else None
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=_OPSET,
                input_names=input_names,
                output_names=output_names,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        text = next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
        raise InputError(
            "SNN308",
            f"torch.onnx.export cannot translate this module: {text}",
            where=Where(file=str(path)),
            hint="call torch.onnx.export(module, example, dynamo=True) for its full account",
        ) from error
    if program is None:
        raise InputError("SNN308", "torch.onnx.export returned nothing", where=Where(file=str(path)))
    model: Model = program.model
    if output_names is None and len(model.graph.outputs) == 1:
        model.graph.outputs[0].name = "logits"
    return model


def _scope(node: Node) -> str:
    """Return the dotted name of the module that a node comes from, or an empty string."""
    text = node.metadata_props.get(_SCOPES, "")
    # A list as text: names from the root to the module, then the name of the traced call.
    parts = [part.strip().strip("'\"") for part in text.strip("[]").split(",")]
    return parts[-2] if len(parts) > 1 else ""


def _weight_scope(node: Node) -> str:
    """Return the module that owns a node's weight; torch credits a convolution to the BatchNorm folded in."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or not weight.is_initializer() or not (weight.name or "").endswith(".weight"):
        return ""
    return (weight.name or "").removesuffix(".weight")


def _tidy(model: Model) -> None:
    """Name nodes and values after modules; drop what speaks of the exporting machine."""
    graph = model.graph
    scopes = [_weight_scope(node) or _scope(node) for node in graph]
    population = Counter(scopes)
    kept = {value.name for value in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    graph.meta.pop("snnc.names", None)
    renamed: list[tuple[Node, str]] = []
    for node, scope in zip(graph, scopes, strict=True):
        alone = scope and population[scope] == 1
        renamed.append((node, scope if alone else ".".join(filter(None, (scope, node.op_type)))))
    for number, (node, _) in enumerate(renamed):
        # Old names must not stand in the way of new ones.
        node.name = f"#{number}"
        for place, value in enumerate(node.outputs):
            if value.name not in kept:
                value.name = f"#{number}.{place}"
    for node, stem in renamed:
        node.name = unique_name(graph, stem)
        for place, value in enumerate(node.outputs):
            if value.name not in kept:
                value.name = unique_name(graph, f"{stem}.out" if place == 0 else f"{stem}.out{place}")
        _clean(node)
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
        if value.const_value is not None:
            value.const_value.metadata_props.clear()
    graph.metadata_props.clear()
    model.metadata_props.clear()
    graph.meta.pop("snnc.names", None)
    graph.name = "main"


def _clean(node: Node) -> None:
    scopes = node.metadata_props.get(_SCOPES)
    node.metadata_props.clear()
    node.doc_string = None
    if scopes is not None:
        node.metadata_props[_SCOPES] = scopes
    for value in node.outputs:
        value.metadata_props.clear()
