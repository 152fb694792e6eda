"""Export to NIR: what NIR can say of a network, and what is lost of each node.

NIR has no neuron whose threshold changes over time and no graded spikes. A neuron of K thresholds becomes K
comparisons (integrate-and-fire neurons that run for one step); what they say, weighted with the differences
of neighbouring codes, is the code. The weights behind carry these differences, so nothing is put in between.
That is exact as far as float32 is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.emit.nir_nodes import Graph, package, square
from snnc.errors import Problem, UnsupportedError, Where
from snnc.ir import Model, Node, Value, attributes
from snnc.passes.lower.partition import Partition, partition

__all__ = ["Exported", "Loss", "export_nir"]

Array = npt.NDArray[Any]
_EXACT = 1 << 24
_REASONS: Mapping[str, str] = {
    "SpikeMatMulHeld": "multiplies two spike tensors; NIR has no product of two signals",
    "SpikeMulHeld": "multiplies two spike tensors; NIR has no product of two signals",
    "ExpGIFGain": "its thresholds depend on the data; thresholds of NIR are constant",
    "NormPotential": "a norm depends on the data; NIR has none",
    "NormGain": "a norm depends on the data; NIR has none",
    "MembraneMax": "takes a maximum of membranes; NIR has none",
    "MembraneMaxPool": "takes a maximum of membranes; NIR has none",
    "MembraneMask": "masks membranes; NIR has no masks",
    "SpikeGate": "masks spikes; NIR has no masks",
    "CodeSlice": "takes single time-steps of a code; the comparisons of NIR have none",
    "Gather": "looks up rows; NIR has no tables",
}


@dataclass(frozen=True)
class Loss:
    """What became of a node.

    Attributes:
        node: Its name.
        op: Its operator.
        nir: Nodes of the NIR graph that stand for it.
        lost: What they do not say; empty if they say all.
    """

    node: str
    op: str
    nir: tuple[str, ...]
    lost: str


@dataclass(frozen=True)
class Exported:
    """A NIR file.

    Attributes:
        content: Its bytes.
        inputs: Name in NIR of each tensor that is fed, by the name of the tensor.
        outputs: The same of results.
        losses: What is lost of each node, in graph order.
        nodes: Number of nodes in NIR.
    """

    content: bytes
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    losses: tuple[Loss, ...]
    nodes: int


@dataclass(frozen=True)
class _Planes:
    """Codes, the sum of planes times their weights; planes follow each other along the channels."""

    source: str
    weights: Array
    shape: tuple[int, ...]
    peak: float
    binary: bool = False


@dataclass(frozen=True)
class _Membrane:
    """A sum of nodes; the value is ``floor((sum + half) / 2^shift)``."""

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    peak: float
    shift: int = 0


@dataclass
class _Export:
    model: Model
    split: Partition
    graph: Graph = field(default_factory=Graph)
    held: dict[str, _Planes | _Membrane] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def run(self) -> Exported:
        package()
        for node in self.model.graph:
            if all(self.split.is_constant(value) for value in node.outputs):
                continue
            before, self.note = set(self.graph.nodes), ""
            try:
                done = self._node(node)
            except UnsupportedError as error:
                self.problems.append(Problem(error.message, Where(node=node.name)))
                done = False
            if done:
                made = tuple(name for name in self.graph.nodes if name not in before)
                self.losses.append(Loss(node.name or "", node.op_type, made, self.note))
        self._finish()
        return Exported(
            self.graph.to_bytes(), self.inputs, self.outputs, tuple(self.losses), len(self.graph.nodes)
        )

    def _finish(self) -> None:
        for value in self.model.graph.outputs:
            name = value.name or ""
            held = self.held.get(name)
            if not self.problems and held is None:
                self.problems.append(Problem("a result that NIR cannot give", Where(tensor=name)))
            if held is not None and name not in self.outputs and not self.problems:
                membrane = held if isinstance(held, _Membrane) else self._decoded(name, held)
                self.outputs[name] = self.graph.output(f"output.{name}", membrane.sources, membrane.shape)
        if self.problems:
            raise UnsupportedError(
                "SNN484",
                "NIR cannot say all of the network",
                problems=self.problems[:20],
                hint="networks of convolutions, linear layers, pools and residual sums can be exported",
            )

    def _node(self, node: Node) -> bool:
        """Export a node; return whether the graph has it."""
        method: Callable[[Node, Mapping[str, Any]], None] | None = getattr(self, f"_{node.op_type}", None)
        runtime = [v for v in node.inputs if v is not None and not self.split.is_constant(v)]
        if node.op_type not in ("FixedPointEncode", "Encode") and not any(
            (value.name or "") in self.held for value in runtime
        ):
            if node in self.split.before:
                self.note = "left to whoever feeds the graph"
                return True
            return False  # behind what was refused
        if method is None:
            raise UnsupportedError("SNN484", _REASONS.get(node.op_type, f"NIR has no {node.op_type}"))
        method(node, attributes(node))
        return True

    # Values.

    def _shape(self, value: Value) -> tuple[int, ...]:
        """Return extents without the batch: (C, rows, columns), or (features,).

        Raises:
            UnsupportedError: SNN484, they are others.
        """
        shape = self.split.samples[value.name or ""].shape
        if len(shape) not in (2, 4) or shape[0] != 1:
            raise UnsupportedError("SNN484", f"a tensor of shape {shape} is neither a map nor a vector")
        return tuple(int(n) for n in shape[1:])

    def _codes(self, value: Value | None) -> _Planes:
        held = self.held.get(value.name or "") if value is not None else None
        if not isinstance(held, _Planes):
            raise UnsupportedError("SNN484", "reads membranes where NIR needs spikes")
        return held

    def _membrane(self, value: Value | None) -> _Membrane:
        """Return a membrane without a shift."""
        name = (value.name or "") if value is not None else ""
        held = self.held[name]
        if isinstance(held, _Planes):
            held = self._decoded(name, held)
        if held.shift:
            channels = held.shape[0]
            mix = np.eye(channels) * 2.0**-held.shift
            source = self.graph.linear(f"{name}.shifted", held.sources, mix, np.zeros(channels), held.shape)
            self._lose("the rounding in front of it is left out: off by half a unit at most")
            held = _Membrane((source,), held.shape, held.peak / 2**held.shift + 1)
        return held

    def _decoded(self, name: str, planes: _Planes) -> _Membrane:
        """Add up the planes of codes."""
        channels = planes.shape[0]
        mix = np.kron(planes.weights[None, :], np.eye(channels))
        shape = (len(planes.weights) * channels, *planes.shape[1:])
        source = self.graph.linear(f"{name}.code", [planes.source], mix, np.zeros(channels), shape)
        return _Membrane((source,), planes.shape, planes.peak)

    def _lose(self, text: str) -> None:
        self.note = f"{self.note}; {text}" if self.note and text not in self.note else self.note or text

    def _keep(self, value: Value, held: _Planes | _Membrane) -> None:
        if held.peak >= _EXACT:
            self._lose(f"sums may reach {held.peak:.3g}: float32 is exact below 2^24")
        self.held[value.name or ""] = held

    # One method per op.

    def _FixedPointEncode(self, node: Node, attrs: Mapping[str, Any]) -> None:
        bits, fraction = int(attrs["bits"]), int(attrs["fraction_bits"])
        value = node.outputs[0]
        shape = self._shape(value)
        source = self.graph.input(value.name or "input", shape)
        self.inputs[value.name or ""] = source
        self.note = f"left to whoever feeds the graph: round(x * 2^{fraction}), clipped to {bits} bits"
        self.held[value.name or ""] = _Planes(source, np.ones(1), shape, (1 << (bits - 1)) - 1)

    def _Encode(self, node: Node, attrs: Mapping[str, Any]) -> None:
        value, out = node.inputs[0], node.outputs[0]
        if value is None or self.split.is_constant(value):
            raise UnsupportedError("SNN484", "encodes a constant")
        shape, name = self._shape(out), value.name or "input"
        if name not in self.inputs:
            self.inputs[name] = self.graph.input(name, shape)
        edges, rows = (self.split.array(v) for v in node.inputs[1:3])  # type: ignore[arg-type]
        # At or above an edge is above the number before it; below an edge is, turned round, above it.
        edges = edges.astype(np.float32)
        pair = (np.nextafter(edges, np.float32(-np.inf)), -edges)
        self._neurons(node, out, (self.inputs[name],), pair, rows, attrs, shape)

    def _ExpGIF(self, node: Node, attrs: Mapping[str, Any]) -> None:
        name = (node.inputs[0].name or "") if node.inputs[0] is not None else ""
        held = self.held[name]
        membrane = self._decoded(name, held) if isinstance(held, _Planes) else held
        thresholds, rows = (self.split.array(v) for v in node.inputs[1:3])  # type: ignore[arg-type]
        # floor((v + half) / 2^s) reaches t where v reaches t * 2^s - half; halves lie between integers.
        half = (1 << membrane.shift) >> 1
        limits = thresholds.astype(np.float64) * 2.0**membrane.shift - half
        if np.abs(limits[np.abs(thresholds.astype(np.float64)) < 2.0**31 - 1]).max(initial=0) >= _EXACT / 2:
            self._lose("thresholds beyond 2^23 are rounded to float32")
        pair = (limits - 0.5, 0.5 - limits)
        self._neurons(node, node.outputs[0], membrane.sources, pair, rows, attrs, membrane.shape)

    def _neurons(
        self,
        node: Node,
        out: Value,
        sources: tuple[str, ...],
        limits: tuple[Array, Array],
        rows: Array,
        attrs: Mapping[str, Any],
        shape: tuple[int, ...],
    ) -> None:
        """Add the comparisons of a neuron; those below the code 0 are turned round: rest is silence."""
        codes = np.asarray(attrs["codes"], np.int64)
        if 0 not in codes:
            raise UnsupportedError("SNN484", "its neurons never rest: no code is 0")
        rest = int(np.flatnonzero(codes == 0)[0])
        kept = len(codes) - 1
        channels = shape[0]
        signs = np.array([1.0 if j >= rest else -1.0 for j in range(kept)])
        table = np.where(signs > 0, limits[0][:, :kept], limits[1][:, :kept])
        placed = np.broadcast_to(rows.reshape((1,) * (len(shape) + 1 - rows.ndim) + rows.shape), (1, *shape))
        limit = np.moveaxis(table[placed[0] if table.shape[0] > 1 else np.zeros(shape, int)], -1, 0)
        mix = np.concatenate([sign * np.eye(channels) for sign in signs]) if kept else np.zeros((0, channels))
        if not kept:
            raise UnsupportedError("SNN484", "its neurons never fire")
        spread = self.graph.linear(f"{node.name}.spread", sources, mix, np.zeros(kept * channels), shape)
        fired = self.graph.compare(node.name or "neuron", spread, limit.reshape(-1, *shape[1:]))
        self._lose(f"T = {attrs['timesteps']} time-steps become one, {kept} comparisons stand for a neuron")
        peak = int(np.abs(codes).max())
        self._keep(out, _Planes(fired, np.diff(codes) * signs, shape, peak, True))

    def _synapse(self, node: Node, attrs: Mapping[str, Any]) -> None:
        planes = self._codes(node.inputs[0])
        weights = self.split.array(node.inputs[1]).astype(np.int64)  # type: ignore[arg-type]
        shape = self._shape(node.outputs[0])
        if weights.ndim != 4 or len(planes.shape) != 3:
            raise UnsupportedError("SNN484", "only windows over rows and columns are exported")
        group, (inside, channels) = int(attrs.get("group", 1)), (weights.shape[1], planes.shape[0])
        whole = np.zeros((weights.shape[0], channels, *weights.shape[2:]), np.int64)
        each = weights.shape[0] // group
        for index in range(group):
            part = slice(index * each, (index + 1) * each)
            whole[part, index * inside : (index + 1) * inside] = weights[part]
        peak = float(np.abs(whole).reshape(len(whole), -1).sum(axis=1).max(initial=0)) * planes.peak
        self._windows(node, planes, whole, attrs, shape, peak)

    def _windows(
        self,
        node: Node,
        planes: _Planes,
        weights: Array,
        attrs: Mapping[str, Any],
        shape: tuple[int, ...],
        peak: float,
    ) -> None:
        expanded = np.concatenate([weights * weight for weight in planes.weights], axis=1)
        dilations = attrs.get("dilations") or (1, 1)
        kernel, padding = square(expanded, attrs.get("pads") or (0, 0, 0, 0), dilations, node.name or "")
        inner = (len(planes.weights) * planes.shape[0], *planes.shape[1:])
        name = self.graph.conv(
            node.name or "conv",
            [planes.source],
            kernel,
            np.zeros(len(kernel)),
            inner,
            attrs.get("strides") or (1, 1),
            padding,
            dilations,
        )
        self._keep(node.outputs[0], _Membrane((name,), shape, peak))

    _SpikeConv = _HostConv = _synapse

    def _product(self, node: Node, attrs: Mapping[str, Any]) -> None:
        planes = self._codes(node.inputs[0])
        weights = self.split.array(node.inputs[1]).astype(np.int64)  # type: ignore[arg-type]
        shape = self._shape(node.outputs[0])
        if len(planes.shape) != 1 or weights.ndim != 2:
            raise UnsupportedError("SNN484", "a product for each of several rows; NIR multiplies vectors")
        peak = float(np.abs(weights).sum(axis=0).max(initial=0)) * planes.peak
        expanded = np.concatenate([weights.T * weight for weight in planes.weights], axis=1)
        name = self.graph.affine(
            node.name or "product", [planes.source], expanded, np.zeros(weights.shape[1])
        )
        self._keep(node.outputs[0], _Membrane((name,), shape, peak))

    _SpikeMatMul = _HostMatMul = _product

    def _summed(self, node: Node, kernel: tuple[int, int], attrs: Mapping[str, Any]) -> None:
        """Add up the planes of codes, or membranes, over a window, each channel for itself."""
        value, out = node.inputs[0], node.outputs[0]
        held = self.held[(value.name or "") if value is not None else ""]
        single = held if isinstance(held, _Planes) else self._membrane(value)
        sources = [single.source] if isinstance(single, _Planes) else list(single.sources)
        channels = single.shape[0] * (len(single.weights) if isinstance(single, _Planes) else 1)
        ones = np.eye(channels)[:, :, None, None] * np.ones((1, 1, *kernel))
        dilations = attrs.get("dilations") or (1, 1)
        weights, padding = square(ones, attrs.get("pads") or (0, 0, 0, 0), dilations, node.name or "")
        name = self.graph.conv(
            node.name or "pool",
            sources,
            weights,
            np.zeros(channels),
            (channels, *single.shape[1:]),
            attrs.get("strides") or (1, 1),
            padding,
            dilations,
        )
        samples = self.split.samples[out.name or ""].shape
        shape = (single.shape[0], *(samples[2:] if len(samples) == 4 else (1, 1)))
        peak = single.peak * kernel[0] * kernel[1]
        if isinstance(single, _Planes):
            kept: _Planes | _Membrane = replace(single, source=name, shape=shape, peak=peak, binary=False)
        else:
            kept = _Membrane((name,), shape, peak)
        self._keep(out, kept if len(samples) == 4 else self._flat(node, kept))

    def _SpikeSumPool(self, node: Node, attrs: Mapping[str, Any]) -> None:
        kernel = tuple(attrs["kernel_shape"])
        if len(kernel) != 2:
            raise UnsupportedError("SNN484", "only windows over rows and columns are exported")
        self._summed(node, (kernel[0], kernel[1]), attrs)

    _MembraneSumPool = _SpikeSumPool

    def _SpikeSum(self, node: Node, attrs: Mapping[str, Any]) -> None:
        value = node.inputs[0]
        shape = self.split.samples[(value.name or "") if value is not None else ""].shape
        if len(shape) != 4 or sorted(axis % 4 for axis in attrs["axes"]) != [2, 3]:
            raise UnsupportedError("SNN484", "only sums over rows and columns are exported")
        self._summed(node, (shape[2], shape[3]), {})

    _MembraneSum = _SpikeSum

    def _SpikeMaxPool(self, node: Node, attrs: Mapping[str, Any]) -> None:
        """A comparison holds for the largest code in a window where it holds for any."""
        planes = self._codes(node.inputs[0])
        if not planes.binary or (planes.weights < 0).any() or len(planes.shape) != 3:
            raise UnsupportedError("SNN484", "a maximum of codes that are no rising thresholds")
        out = node.outputs[0]
        self._summed(node, (attrs["kernel_shape"][0], attrs["kernel_shape"][1]), attrs)
        pooled = self.held[out.name or ""]
        if not isinstance(pooled, _Planes):
            raise UnsupportedError("SNN484", "a maximum of membranes")
        limits = np.full((len(planes.weights) * planes.shape[0], *pooled.shape[1:]), 0.5)
        fired = self.graph.compare(f"{node.name}.any", pooled.source, limits)
        self._keep(out, replace(planes, source=fired, shape=pooled.shape))

    def _MembraneAdd(self, node: Node, attrs: Mapping[str, Any]) -> None:
        values = sorted(node.inputs, key=self.split.is_constant)
        first, shape = self._membrane(values[0]), self._shape(node.outputs[0])
        if self.split.is_constant(values[1]):
            constant = self.split.array(values[1]).astype(np.float64)  # type: ignore[arg-type]
            bias = self._per_channel(constant, shape)
            name = self.graph.linear(node.name or "add", first.sources, np.eye(shape[0]), bias, first.shape)
            held = _Membrane((name,), shape, first.peak + float(np.abs(bias).max(initial=0)))
        else:
            second = self._membrane(values[1])
            if first.shape != second.shape:
                raise UnsupportedError("SNN484", "adds tensors of different shapes")
            sources = second.sources
            if set(sources) & set(first.sources):
                zeros = np.zeros(shape[0])
                sources = (self.graph.linear(f"{node.name}.twice", sources, np.eye(shape[0]), zeros, shape),)
            held = _Membrane((*first.sources, *sources), shape, first.peak + second.peak)
        self._keep(node.outputs[0], held)

    def _per_channel(self, constant: Array, shape: tuple[int, ...]) -> Array:
        spread = np.broadcast_to(constant, (1, *shape))[0].reshape(shape[0], -1)
        if (spread != spread[:, :1]).any():
            raise UnsupportedError("SNN484", "a constant that differs from place to place")
        return np.asarray(spread[:, 0])

    def _MembraneScale(self, node: Node, attrs: Mapping[str, Any]) -> None:
        values = sorted(node.inputs, key=self.split.is_constant)
        first, shape = self._membrane(values[0]), self._shape(node.outputs[0])
        if not self.split.is_constant(values[1]):
            raise UnsupportedError("SNN484", "multiplies two signals")
        factor = self._per_channel(self.split.array(values[1]).astype(np.float64), shape)  # type: ignore[arg-type]
        name = self.graph.linear(
            node.name or "scale", first.sources, np.diag(factor), np.zeros(shape[0]), first.shape
        )
        peak = first.peak * float(np.abs(factor).max(initial=0))
        self._keep(node.outputs[0], _Membrane((name,), shape, peak))

    def _MembraneRound(self, node: Node, attrs: Mapping[str, Any]) -> None:
        membrane = self._membrane(node.inputs[0])
        self._keep(node.outputs[0], replace(membrane, shift=int(attrs.get("shift", 0))))

    def _Charge(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._keep(node.outputs[0], self._membrane(node.inputs[0]))

    def _flat(self, node: Node, held: _Planes | _Membrane) -> _Planes | _Membrane:
        count = int(np.prod(held.shape))
        if len(held.shape) == 1:
            return held
        if isinstance(held, _Planes):
            shape = (len(held.weights) * held.shape[0], *held.shape[1:])
            return replace(
                held, source=self.graph.flatten(f"{node.name}.flat", [held.source], shape), shape=(count,)
            )
        return replace(
            held,
            sources=(self.graph.flatten(f"{node.name}.flat", held.sources, held.shape),),
            shape=(count,),
        )

    def _layout(self, node: Node, attrs: Mapping[str, Any]) -> None:
        value, out = node.inputs[0], node.outputs[0]
        held = self.held[(value.name or "") if value is not None else ""]
        shape = self._shape(out)
        if shape == held.shape:
            self._keep(out, held)
        elif shape == (int(np.prod(held.shape)),):
            self._keep(out, self._flat(node, held))
        else:
            raise UnsupportedError("SNN484", f"NIR has no {node.op_type} to {shape}; it has Flatten")

    _Reshape = _Flatten = _Squeeze = _Identity = _layout

    def _Readout(self, node: Node, attrs: Mapping[str, Any]) -> None:
        membrane, out = self._membrane(node.inputs[0]), node.outputs[0]
        shape = self._shape(out)
        scale, bias = (
            self._per_channel(self.split.array(v).astype(np.float64), shape)  # type: ignore[arg-type]
            for v in node.inputs[1:3]
        )
        name = self.graph.linear(
            node.name or "readout", membrane.sources, np.diag(scale), bias, membrane.shape
        )
        self.held[out.name or ""] = _Membrane((name,), shape, 0.0)


def export_nir(model: Model) -> Exported:
    """Export a network of the spike dialect to NIR.

    Args:
        model: A converted network; the batch is no axis of the NIR graph.

    Raises:
        UnsupportedError: SNN484, NIR cannot say some nodes; each is named with the reason.
        EnvironmentFailure: SNN618, the package ``nir`` is not installed.
    """
    return _Export(model, partition(model)).run()
