"""Measuring a spike model: run it in batches, count on the tapped tensors, add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.cost.hosted import host_cost, host_taps
from snnc.cost.layer import LayerCost
from snnc.cost.report import CostReport
from snnc.cost.rules import RULES, Seen
from snnc.errors import InternalError, UsageError, Where
from snnc.ir import AI_SNNC, Model, Node, attributes
from snnc.ir.hosting import declared
from snnc.ir.paths import longest_path
from snnc.ir.taps import elements_per_sample

__all__ = ["Runner", "count", "measure", "required_taps"]

Array = npt.NDArray[Any]
_MOST_IMAGES = 64
_TAPPED_ELEMENTS = 1 << 24
Runner = Callable[[Mapping[str, Array], Sequence[str]], Mapping[str, Array]]


def _billed(model: Model) -> list[Node]:
    nodes = [node for node in model.graph if node.domain == AI_SNNC or declared(node)]
    for node in nodes:
        if node.op_type not in RULES and not declared(node):
            raise InternalError(
                "SNN140", f"op {node.op_type!r} has no cost rule", where=Where(node=node.name)
            )
    return nodes


def required_taps(model: Model) -> tuple[str, ...]:
    """Return the names of the tensors that `count` must see, each once, in the order of the graph.

    Raises:
        InternalError: SNN140, an op has no cost rule.
    """
    names = [
        name
        for node in _billed(model)
        for name in (host_taps(node) if declared(node) else RULES[node.op_type].taps(node))
    ]
    return tuple(dict.fromkeys(names))


def count(model: Model, arrays: Mapping[str, Array]) -> tuple[LayerCost, ...]:
    """Count what a spike model did, from the tensors of one run.

    Args:
        model: Model of the spike dialect.
        arrays: The tensors of `required_taps`; codes as integers, all images in one array.

    Returns:
        One row per node that costs something, in the order of the graph; counts over all images.

    Raises:
        InternalError: SNN140 an op has no cost rule, SNN141 a tensor is missing, SNN142 spikes that
            come from no neuron, SNN143 more spikes than the code allows.
    """
    rows = (
        host_cost(Seen(node, arrays)) if declared(node) else RULES[node.op_type].count(Seen(node, arrays))
        for node in _billed(model)
    )
    return tuple(row for row in rows if row is not None)


def measure(
    model: Model,
    inputs: Mapping[str, Array],
    run: Runner,
    *,
    batch: int | None = None,
    data: str | None = None,
) -> CostReport:
    """Run a spike model on images, batch by batch, and count.

    Memory does not grow with the number of images: the tensors of a batch are dropped once counted.

    Args:
        model: Model of the spike dialect.
        inputs: Input arrays by name; the first axis counts images.
        run: Runs the model: called with the inputs of a batch and the names of tensors, returns these
            tensors by name.
        batch: Images per run; default: up to 64, as many as keep the tensors of a run in some 100 MB.
        data: What the images are, in words; default: their number.

    Returns:
        The report. It does not depend on ``batch``. A model of a fixed batch is counted on whole batches, the
        last one filled up with the first images.

    Raises:
        UsageError: SNN245, no inputs or no images, or ``batch`` below 1.
        InternalError: see `count`.
    """
    images = min((len(array) for array in inputs.values()), default=0)
    taps = required_taps(model)
    if batch is None:
        batch = min(_MOST_IMAGES, max(1, _TAPPED_ELEMENTS // elements_per_sample(model, taps)))
    if images < 1 or batch < 1:
        raise UsageError("SNN245", f"needs at least one image and one per batch, not {images} and {batch}")
    fixed = _fixed_batch(model)
    if fixed is not None:
        # Constant shapes of the model hold for this batch alone; a part of one is filled up with images.
        images, batch = -(-images // fixed) * fixed, fixed
        inputs = {name: np.resize(array, (images, *array.shape[1:])) for name, array in inputs.items()}
    total: tuple[LayerCost, ...] = ()
    for start in range(0, images, batch):
        stop = min(start + batch, images)
        part = {name: array[start:stop] for name, array in inputs.items()}
        rows = count(model, run(part, taps))
        total = tuple(a + b for a, b in zip(total, rows, strict=True)) if total else rows
    return CostReport(data or f"{images} images", images, total, latency(model))


def _fixed_batch(model: Model) -> int | None:
    """Return the number of images that a model takes at once, None where it takes any."""
    sizes = {value.shape[0] for value in model.graph.inputs if value.shape is not None and len(value.shape)}
    return sizes.pop() if len(sizes) == 1 and all(isinstance(size, int) for size in sizes) else None  # type: ignore[return-value]


def latency(model: Model) -> int:
    """Return the time-steps of one inference: windows of T along the longest path of encoders and neurons."""

    def window(node: Node) -> int:
        if node.domain == AI_SNNC and node.op_type in ("ExpGIF", "ExpGIFGain", "Encode"):
            return int(attributes(node)["timesteps"])
        return 0

    return longest_path(model, window)
