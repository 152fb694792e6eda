"""When neurons fire: spikes a time-step, a neuron and a layer, rasters of some of them, whole traces."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from snnc.arrays import sample_count
from snnc.coding import CodeBook
from snnc.debug.verify import batch_size, coded_tensors
from snnc.ir import Model, attributes
from snnc.ops import book_of
from snnc.runtimes import Runtime, create

__all__ = ["LayerSpikes", "Watch", "layers_of", "watch_spikes", "write_traces"]

Array = npt.NDArray[Any]


@dataclass
class LayerSpikes:
    """The spikes of one layer of neurons, or of an encoder, over some samples.

    Attributes:
        tensor: Name of the tensor of codes.
        name: Name in the user's file where it has one there.
        book: The code that it sends.
        windows: Neurons times samples: how many windows were sent.
        neurons: Neurons that one sample has.
        by_step: Spikes at time-step 1, 2, ... T, all neurons and samples together.
        by_count: Windows with 0, 1, 2, ... spikes.
        silent: Neurons that never fired on any sample.
        at_limit: Windows whose code is the largest or smallest that the book has.
        raster: Spikes of the chosen neurons: (sample, neuron, time-step, sign), neuron counted among the
            chosen.
        chosen: Their indices among the neurons of a sample.
    """

    tensor: str
    name: str
    book: CodeBook
    windows: int = 0
    neurons: int = 0
    by_step: list[int] = field(default_factory=list)
    by_count: list[int] = field(default_factory=list)
    silent: int = 0
    at_limit: int = 0
    raster: list[tuple[int, int, int, int]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)

    @property
    def spikes(self) -> int:
        """All spikes together."""
        return sum(self.by_step)

    @property
    def rates(self) -> list[float]:
        """Share of neurons that fire at each time-step."""
        return [count / self.windows if self.windows else 0.0 for count in self.by_step]

    @property
    def per_neuron(self) -> float:
        """Mean spikes of a neuron in one window."""
        return self.spikes / self.windows if self.windows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain values; the raster is left to traces."""
        return {
            "tensor": self.tensor,
            "name": self.name,
            "timesteps": self.book.timesteps,
            "groups": self.book.groups,
            "partition": self.book.partition,
            "signed": self.book.signed,
            "levels": self.book.levels,
            "neurons": self.neurons,
            "windows": self.windows,
            "spikes": self.spikes,
            "spikes_per_neuron": self.per_neuron,
            "by_step": self.by_step,
            "by_count": self.by_count,
            "silent": self.silent,
            "at_limit": self.at_limit,
        }


@dataclass(frozen=True)
class Watch:
    """How much of the spikes is kept for rasters.

    Attributes:
        samples: Samples shown.
        neurons: Neurons of each layer, spread evenly over the layer.
    """

    samples: int = 4
    neurons: int = 48


def layers_of(model: Model) -> list[tuple[str, str, CodeBook]]:
    """Return the tensor, the user's name and the code of every layer of neurons and every encoder."""
    names = coded_tensors(model)
    return [
        (
            tensor,
            node.metadata_props.get("snnc.source") or node.name or tensor,
            book_of(attributes(node)),
        )
        for node in model.graph
        for tensor in [node.outputs[0].name or ""]
        if tensor in names
    ]


def watch_spikes(
    model: Model,
    inputs: Mapping[str, Array],
    watch: Watch,
    *,
    runtime: Runtime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LayerSpikes]:
    """Run a converted model and count when its neurons fire.

    Args:
        model: The converted model.
        inputs: Samples by input name.
        watch: What rasters show.
        runtime: What runs it; default numpy on packed codes.
        progress: Called with samples done and samples in all.

    Returns:
        One entry per layer of neurons and per encoder, in graph order.
    """
    layers = [LayerSpikes(*entry) for entry in layers_of(model)]
    fired: dict[str, Array] = {}
    for start, size, codes in _codes(model, inputs, runtime):
        for layer in layers:
            array = codes[layer.tensor]
            # A tensor of another layout for each sample (windows) has its samples one behind the other.
            rows = array.reshape(size if array.shape[0] % size == 0 else 1, -1)
            _count(layer, rows, fired)
            if start < watch.samples:
                _draw(layer, rows[: watch.samples - start], start, watch.neurons)
        if progress is not None:
            progress(start + size, sample_count(inputs))
    for layer in layers:
        if layer.tensor in fired:
            layer.silent = int(np.count_nonzero(~fired[layer.tensor]))
    return layers


def _codes(
    model: Model, inputs: Mapping[str, Array], runtime: Runtime | None
) -> Iterator[tuple[int, int, Mapping[str, Array]]]:
    """Yield the first sample of each batch, its number of samples, and codes by tensor, samples in front."""
    executor = runtime or create("numpy", model)
    axes = _sample_axes(model)
    taps = list(axes)
    count = sample_count(inputs)
    size = executor.inputs[0].shape[0] or batch_size(model, taps)
    for start in range(0, count, size):
        batch = {name: array[start : start + size] for name, array in inputs.items()}
        found = executor.run(batch, taps)
        yield start, min(size, count - start), {n: np.moveaxis(found[n], axes[n], 0) for n in taps}


def _sample_axes(model: Model) -> dict[str, int]:
    """Return which axis of each coded tensor counts samples: the one whose size is open, else the first.

    It is not always the first: queries, keys and values of one product lie in front of it.
    """
    names = coded_tensors(model)
    found = {}
    for node in model.graph:
        for value in node.outputs:
            if value.name in names:
                dims = value.shape.dims if value.shape is not None else ()
                open_ = [axis for axis, dim in enumerate(dims) if not isinstance(dim, int)]
                found[value.name or ""] = open_[0] if len(open_) == 1 else 0
    return found


def _count(layer: LayerSpikes, rows: Array, fired: dict[str, Array]) -> None:
    book = layer.book
    values, numbers = np.unique(rows, return_counts=True)
    patterns = np.abs(book.encode(values)).astype(np.int64)
    by_step = (patterns * numbers).sum(axis=1)
    spikes = patterns.sum(axis=0)
    by_count = np.bincount(spikes, weights=numbers, minlength=book.groups + 1).astype(np.int64)
    layer.by_step = [a + int(b) for a, b in zip(layer.by_step or [0] * book.timesteps, by_step, strict=True)]
    layer.by_count = [
        a + int(b) for a, b in zip(layer.by_count or [0] * len(by_count), by_count, strict=True)
    ]
    limits = (values == book.codes[-1]) | (values == book.codes[0] if book.signed else False)
    layer.at_limit += int(numbers[limits].sum())
    layer.windows += rows.size
    layer.neurons = rows.shape[1]
    seen = (rows != 0).any(axis=0)
    fired[layer.tensor] = fired[layer.tensor] | seen if layer.tensor in fired else seen


def _draw(layer: LayerSpikes, rows: Array, start: int, most: int) -> None:
    if not layer.chosen:
        count = min(most, rows.shape[1])
        layer.chosen = [index * rows.shape[1] // count for index in range(count)]
    patterns = layer.book.encode(rows[:, layer.chosen])
    for step, sample, neuron in np.argwhere(patterns != 0):
        sign = int(patterns[step, sample, neuron])
        layer.raster.append((start + int(sample), int(neuron), int(step) + 1, sign))


def write_traces(
    stream: BinaryIO, model: Model, inputs: Mapping[str, Array], *, runtime: Runtime | None = None
) -> dict[str, tuple[int, ...]]:
    """Write every spike of a run as a compressed ``.npz``, the same bytes for the same spikes.

    Each layer of neurons, and each encoder, is one array by the name of its tensor: int8, shape
    (samples, T, ...), the samples in front; 1 where a neuron fires, -1 where a signed one sends a negative
    spike, 0 elsewhere.
    Time-step 1, the most significant, comes first.

    Args:
        stream: Where to write.
        model: The converted model.
        inputs: Samples by input name.
        runtime: What runs it; default numpy on packed codes.

    Returns:
        Shape of each array by name.
    """
    parts: dict[str, list[Array]] = {}
    for _, _, codes in _codes(model, inputs, runtime):
        for tensor, array in codes.items():
            parts.setdefault(tensor, []).append(array)
    shapes = {}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for tensor, _, book in layers_of(model):
            spikes = np.moveaxis(book.encode(np.concatenate(parts.pop(tensor))), 0, 1)
            shapes[tensor] = spikes.shape
            held = io.BytesIO()
            np.save(held, np.ascontiguousarray(spikes))
            # A fixed date: the same spikes are the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{tensor}.npy"), held.getvalue(), zipfile.ZIP_DEFLATED)
    return shapes
