"""Instruction selection: every node of the spike dialect becomes kernels or views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import InternalError, UnsupportedError, Where
from snnc.ir import AI_SNNC, Model, Node, Value, attributes
from snnc.ops import LAYOUT
from snnc.passes.lower import handover, layouts, synapses, vectors
from snnc.passes.lower.builder import Builder, machine_type
from snnc.passes.lower.folding import FARTHEST, WIDEST
from snnc.passes.lower.kernels import Kernel, Operand, View
from snnc.passes.lower.partition import Partition
from snnc.passes.lower.ports import host_channels, host_range
from snnc.passes.lower.views import pad_rank

__all__ = ["Selected", "select"]

Array = npt.NDArray[Any]
_WINDOWED = frozenset({"SpikeConv", "SpikeSumPool", "MembraneSumPool", "MembraneMaxPool", "SpikeMaxPool"})
_LARGEST = (1 << 31) - 1


@dataclass
class Selected:
    """What instruction selection gives.

    Attributes:
        build: Groups and views.
        inputs: Views that the host writes, by tensor.
        outputs: Views that the host reads, by tensor.
        tables: Constant tables that are looked up in DRAM, by identity of their buffer.
    """

    build: Builder
    inputs: dict[str, View] = field(default_factory=dict)
    outputs: dict[str, View] = field(default_factory=dict)


class Selector:
    def __init__(self, model: Model, split: Partition, fuse: bool) -> None:
        self.split = split
        self.found = Selected(Builder(fuse=fuse))
        self.build = self.found.build
        self.limits: dict[str, tuple[int, int]] = {}
        self.graph_outputs = {value.name or "" for value in model.graph.outputs}
        self.products: dict[str, Callable[[View, int, int], None]] = {}
        self.taken: set[str] = set()

    # What nodes read and make.

    def view(self, value: Value | None, *, memory: str = "TMEM") -> View:
        """Return an input as a view; a constant goes to ``memory``, what the host holds gets a port."""
        value = _present(value)
        name = value.name or ""
        if self.split.is_constant(value):
            array = self.split.array(value)
            self.limits[name] = (int(array.min(initial=0)), int(array.max(initial=0)))
            return self.build.constant(name, array, machine_type(array), memory)
        if name not in self.build.made:
            self._port(value)
        return self.build.made[name]

    def _port(self, value: Value) -> None:
        """Let the host write a tensor into DRAM before the run."""
        name = value.name or ""
        array = self.split.samples[name]
        low, high = host_range(value, array)
        dtype = machine_type(array, name)
        if dtype == "i64" and low >= -_LARGEST and high < _LARGEST:
            dtype = "i32"
        rank = array.ndim
        order = (0, *range(2, rank), 1) if rank > 2 and self._slides(value) else None
        view = self.build.fresh(name, array.shape, dtype, order)
        view.buffer.kind, view.buffer.in_dram = "input", True
        view.buffer.low, view.buffer.high = low, high
        if name in self.split.late:
            handover.put(self, value, view)
        else:
            view.buffer.channels = host_channels(value, array)
        self.build.made[name] = self.found.inputs[name] = view
        self.limits[name] = (low, high)

    def _slides(self, value: Value) -> bool:
        """Whether windows slide over a tensor further on, so that its channels should lie together."""
        seen, todo = set(), [value]
        while todo:
            for node, _ in todo.pop().uses():
                if id(node) in seen:
                    continue
                seen.add(id(node))
                if node.domain == AI_SNNC and node.op_type in _WINDOWED:
                    return True
                if node.domain == AI_SNNC and node.op_type not in ("SpikeMatMul", "SpikeMatMulHeld"):
                    todo += node.outputs
        return False

    def result(self, node: Node, order: tuple[int, ...] | None = None, index: int = 0) -> View:
        """Return a new tensor for an output."""
        name = node.outputs[index].name or ""
        array = self.split.samples[name]
        view = self.build.fresh(name, array.shape, machine_type(array, node.name), order)
        self.build.made[name] = view
        return view

    def like(self, node: Node, *sources: View) -> View:
        """Return a new tensor for the output, laid out like the first input of the same shape."""
        shape = self.split.samples[node.outputs[0].name or ""].shape
        same = [
            view
            for view in sources
            if view.shape == shape and all(s or n == 1 for s, n in zip(view.strides, shape, strict=True))
        ]
        return self.result(node, same[0].order() if same else None)

    def range_of(self, value: Value | None) -> tuple[int, int]:
        """Return the range of what acts as spikes."""
        value = _present(value)
        if value.name not in self.limits:
            self.view(value)
        return self.limits[value.name or ""]

    def keep_range(self, node: Node, limits: tuple[int, int]) -> None:
        for value in node.outputs:
            self.limits[value.name or ""] = limits

    # One method per op.

    def lower(self, node: Node) -> None:
        attrs = {
            key: tuple(item) if isinstance(item, list) else item for key, item in attributes(node).items()
        }
        method = getattr(self, f"_{node.op_type}", None) if node.domain == AI_SNNC else self._layout
        if method is None:
            raise UnsupportedError(
                "SNN470", f"{node.op_type} has no instructions", where=Where(node=node.name)
            )
        method(node, attrs)

    def _SpikeMatMul(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        weights = self.split.array(node.inputs[1])  # type: ignore[arg-type]
        limits = self.range_of(node.inputs[0])

        def make(out: View, begin: int, end: int) -> None:
            held = self.build.constant(
                f"{node.name}.weights", weights[..., begin:end], machine_type(weights, node.name), "WMEM"
            )
            synapses.matmul(self.build, node, _matrix(x), held, _matrix(out), limits)

        name = node.outputs[0].name or ""
        if len(x.shape) > 1 and weights.ndim > 1 and self._only_sliced(node.outputs[0]):
            self.products[name] = make
            return
        if weights.ndim == 1:
            raise UnsupportedError("SNN470", "a product with a vector", where=Where(node=node.name))
        make(self.result(node), 0, weights.shape[-1])

    def _only_sliced(self, value: Value) -> bool:
        """Whether every reader takes some columns, so that each part can be a product of its own."""
        uses = [node for node, _ in value.uses()]
        if value.name in self.graph_outputs or len(uses) < 2:
            return False
        return all(self._columns(node, value) is not None for node in uses)

    def _columns(self, node: Node, value: Value) -> tuple[int, int] | None:
        """Return which last columns a Slice takes, or None."""
        if node.op_type != "Slice" or node.domain not in ("", "ai.onnx") or node not in self.split.device:
            return None
        array = self.split.samples[value.name or ""]
        marked = np.broadcast_to(np.arange(array.shape[-1]), array.shape)
        inputs = [marked] + [None if v is None else self.split.array(v) for v in node.inputs[1:]]
        (kept,) = LAYOUT["Slice"].packed(inputs, attributes(node))
        row = kept.reshape(-1, kept.shape[-1])[0] if kept.size else kept
        if kept.shape[:-1] != array.shape[:-1] or not kept.size or (np.diff(row) != 1).any():
            return None
        return int(row[0]), int(row[-1]) + 1

    def _SpikeMatMulHeld(self, node: Node, attrs: Mapping[str, Any]) -> None:
        a, b = self.view(node.inputs[0], memory="SMEM"), self.view(node.inputs[1], memory="SMEM")
        synapses.matmul(
            self.build, node, _matrix(a), _matrix(b), self.result(node), self.range_of(node.inputs[0])
        )

    def _SpikeConv(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        weights = self.split.array(node.inputs[1])  # type: ignore[arg-type]
        rank = weights.ndim
        out = self.result(node, (0, *range(2, rank), 1))
        synapses.conv(self.build, node, x, weights, out, attrs, self.range_of(node.inputs[0]))

    def _pool(self, node: Node, attrs: Mapping[str, Any], function: str, *, spikes: bool) -> None:
        x = self.view(node.inputs[0])
        synapses.pool(self.build, node, x, self.like_window(node), attrs, function)
        if spikes:
            low, high = self.range_of(node.inputs[0])
            wires = int(np.prod(attrs["kernel_shape"])) if function == "sum" else 1
            self.keep_range(node, (min(0, low * wires), high * wires))

    def like_window(self, node: Node) -> View:
        """Return a new tensor for the output with its channels together."""
        rank = self.split.samples[node.outputs[0].name or ""].ndim
        return self.result(node, (0, *range(2, rank), 1))

    def _SpikeSumPool(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._pool(node, attrs, "sum", spikes=True)

    def _MembraneSumPool(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._pool(node, attrs, "sum", spikes=False)

    def _SpikeMaxPool(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._pool(node, attrs, "max", spikes=True)

    def _MembraneMaxPool(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._pool(node, attrs, "max", spikes=False)

    def _sum(self, node: Node, attrs: Mapping[str, Any], *, spikes: bool) -> None:
        x = self.view(node.inputs[0])
        axes = sorted({int(axis) % len(x.shape) for axis in attrs["axes"]})
        kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
        out = self.result(node)
        target = View.whole(out.buffer, kept)
        vectors.reduce(self.build, node.name or "", target, x, axes, "sum")
        if spikes:
            low, high = self.range_of(node.inputs[0])
            wires = int(np.prod([x.shape[axis] for axis in axes]))
            self.keep_range(node, (low * wires, high * wires))

    def _SpikeSum(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._sum(node, attrs, spikes=True)

    def _MembraneSum(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._sum(node, attrs, spikes=False)

    def _MembraneMax(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        out = self.result(node)
        vectors.reduce(self.build, node.name or "", out, x, [int(attrs["axis"]) % len(x.shape)], "max")

    def _MembraneMask(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x, gate = self.view(node.inputs[0]), self.view(node.inputs[1], memory="SMEM")
        out, axis = self.like(node, x), int(attrs["axis"]) % len(x.shape)
        shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
        least = self.build.fresh(f"{node.name}.least", shape, x.buffer.dtype)
        vectors.reduce(self.build, node.name or "", least, x, [axis], "min", complete=False)
        vectors.pointwise(
            self.build, node.name or "", "SEL", out, {"a": x, "b": least, "gate": gate}, {"zero": 0}
        )

    def _SpikeGate(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x, gate = self.view(node.inputs[0]), self.view(node.inputs[1], memory="SMEM")
        vectors.pointwise(
            self.build,
            node.name or "",
            "SEL",
            self.like(node, x),
            {"a": x, "b": x, "gate": gate},
            {"zero": 1},
        )
        low, high = self.range_of(node.inputs[0])
        self.keep_range(node, (min(0, low), max(0, high)))

    def _SpikeMulHeld(self, node: Node, attrs: Mapping[str, Any]) -> None:
        a, b = self.view(node.inputs[0], memory="SMEM"), self.view(node.inputs[1], memory="SMEM")
        steps = synapses.steps_of(self.range_of(node.inputs[0]))
        vectors.pointwise(
            self.build,
            node.name or "",
            "SEW",
            self.like(node, a, b),
            {"a": a, "b": b},
            {"t": steps},
            spikes=steps,
        )

    def _Charge(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        if x.buffer.dtype == "i32":
            self.build.made[node.outputs[0].name or ""] = x
        else:
            vectors.copy(self.build, node.name or "", self.like(node, x), x)

    def _CodeSlice(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        fields = {"sh": int(attrs["shift"]), "bits": int(attrs["bits"])}
        vectors.pointwise(self.build, node.name or "", "BITS", self.like(node, x), {"src": x}, fields)
        low, high = self.range_of(node.inputs[0])
        most = min((1 << fields["bits"]) - 1, max(abs(low), abs(high)) >> fields["sh"])
        self.keep_range(node, (-most if low < 0 else 0, most))

    def _SpikePad(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        pads = attrs["pads"]
        layouts.pad(self.build, node, x, self.result(node, x.order()), pads[: len(pads) // 2])
        low, high = self.range_of(node.inputs[0])
        self.keep_range(node, (min(0, low), max(0, high)))

    def _MembraneAdd(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._arithmetic(node, "VALU", {"f": 0})

    def _MembraneScale(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._arithmetic(node, "SHA", {})

    def _arithmetic(self, node: Node, form: str, fields: dict[str, int]) -> None:
        values = list(node.inputs)
        if self.split.is_constant(values[0]):
            values.reverse()
        shape = self.split.samples[node.outputs[0].name or ""].shape
        a = self.view(values[0])
        out = self.like(node, a, *([] if self.split.is_constant(values[1]) else [self.view(values[1])]))
        source = self.split.array(values[1]) if self.split.is_constant(values[1]) else self.view(values[1])  # type: ignore[arg-type]
        b = vectors.constant_or_view(self.build, node.name or "", source, len(shape), out.order())
        if isinstance(b, int):
            operands, imm = vectors.with_immediate(a, b)
            vectors.pointwise(self.build, node.name or "", form, out, operands, {**fields, **imm})
        else:
            vectors.pointwise(
                self.build, node.name or "", form, out, {"a": a, "b": b}, {**fields, "useimm": 0, "imm": 0}
            )

    def _MembraneRound(self, node: Node, attrs: Mapping[str, Any]) -> None:
        x = self.view(node.inputs[0])
        vectors.pointwise(
            self.build,
            node.name or "",
            "SHR",
            self.like(node, x),
            {"a": x},
            {"sh": int(attrs.get("shift", 0))},
        )

    def _NormPotential(self, node: Node, attrs: Mapping[str, Any]) -> None:
        r = self.view(node.inputs[0])
        sign = self.split.array(node.inputs[1])  # type: ignore[arg-type]
        axes = sorted({int(axis) % len(r.shape) for axis in attrs["axes"]})
        out = self.like(node, r)
        vectors.norm_potential(self.build, node.name or "", r, sign, out, axes, bool(attrs.get("centred", 1)))

    def _NormGain(self, node: Node, attrs: Mapping[str, Any]) -> None:
        r = self.view(node.inputs[0])
        axes = sorted({int(axis) % len(r.shape) for axis in attrs["axes"]})
        vectors.norm_gain(
            self.build,
            node.name or "",
            r,
            self.result(node),
            axes,
            bool(attrs.get("centred", 1)),
            int(attrs["epsilon"]),
        )

    def _ExpGIF(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._neuron(node, attrs, None, 1)

    def _ExpGIFGain(self, node: Node, attrs: Mapping[str, Any]) -> None:
        self._neuron(node, attrs, self.view(node.inputs[1]), 2)

    def _neuron(self, node: Node, attrs: Mapping[str, Any], gain: View | None, first: int) -> None:
        v = self.view(node.inputs[0])
        thresholds, rows = (self.split.array(value) for value in node.inputs[first : first + 2])  # type: ignore[arg-type]
        vectors.neuron(self.build, node, v, gain, thresholds, rows, self.like(node, v), attrs)
        codes = attrs["codes"]
        self.keep_range(node, (min(codes), max(codes)))

    def _layout(self, node: Node, attrs: Mapping[str, Any]) -> None:
        moved = [value for value in node.inputs if not self.split.is_constant(value)]
        if node.op_type == "Concat":
            views = [self.view(value) for value in node.inputs]
            axis = int(attrs["axis"]) % len(views[0].shape)
            layouts.concat(self.build, node, views, self.result(node, views[0].order()), axis)
            ranges = [
                self.limits[v.name or ""] for v in node.inputs if v is not None and v.name in self.limits
            ]
            if len(ranges) == len(node.inputs):
                self.keep_range(node, (min(low for low, _ in ranges), max(high for _, high in ranges)))
            return
        if node.op_type == "Gather" and self.split.is_constant(node.inputs[0]):
            self._look_up(node, attrs)
            return
        source = node.inputs[0]
        if len(moved) != 1 or moved[0] is not source or source is None:
            raise UnsupportedError(
                "SNN470", f"{node.op_type} with several run-time inputs", where=Where(node=node.name)
            )
        columns = self._columns(node, source) if source.name in self.products else None
        if columns is not None:
            out = self.result(node)
            self.products[source.name or ""](out, *columns)
            return
        x = self.view(source)
        results = [self.split.samples[value.name or ""] for value in node.outputs]
        if node.op_type == "Pad":
            begins = layouts.pad_begins(node, attrs, self.split)
            layouts.pad(self.build, node, x, self.result(node, x.order()), begins)
            moves: list[View] | None = [self.build.made[node.outputs[0].name or ""]]
        else:
            inputs = [None if v is None or v is source else self.split.array(v) for v in node.inputs]
            moves = layouts.layout(self.build, node, x, results, attrs, inputs)
        if moves is None:
            raise UnsupportedError(
                "SNN470", f"{node.op_type} has no instructions", where=Where(node=node.name)
            )
        for value, view in zip(node.outputs, moves, strict=True):
            self.build.made[value.name or ""] = view
        if source.name in self.limits:
            low, high = self.limits[source.name or ""]
            self.keep_range(node, (min(0, low), max(0, high)) if node.op_type == "Pad" else (low, high))

    def _look_up(self, node: Node, attrs: Mapping[str, Any]) -> None:
        """Lower an embedding: rows of a constant table in DRAM, by an index that the host gives."""
        table = self.split.array(node.inputs[0])  # type: ignore[arg-type]
        if int(attrs.get("axis", 0)) or table.ndim != 2:
            raise UnsupportedError(
                "SNN470", "Gather from a table along its rows only", where=Where(node=node.name)
            )
        index, out = self.view(node.inputs[1]), self.result(node)
        rows, columns = table.shape
        # Rows lie in blocks of equal size, so that extents and strides fit their fields; the last may end in
        # rows that nobody asks for.
        blocks = -(-rows // min(WIDEST, max(1, FARTHEST // max(1, columns))))
        filled = np.pad(table, ((0, -rows % blocks), (0, 0)), mode="edge").reshape(blocks, -1, columns)
        held = self.build.constant(f"{node.name}.table", filled, machine_type(table, node.name), "TMEM")
        self.build.pinned.add(id(held.buffer))
        self.limits[node.outputs[0].name or ""] = (int(table.min(initial=0)), int(table.max(initial=0)))
        count = int(np.prod(index.shape, dtype=np.int64))
        flat = layouts.reshaped(self.build, node, index, (count,))
        target = View.whole(out.buffer, (count, columns))
        if index.buffer.kind == "input":
            index.buffer.low, index.buffer.high = -rows, rows - 1
        kernel = Kernel(
            "LDX",
            node.name or "",
            out.buffer.name,
            (
                Operand("dst", target, (0, 1)),
                Operand("table", held, (None, None, 1)),
                Operand("index", flat, (0,)),
            ),
            {"rows": rows},
            tails={"table": 3, "dst": 2, "index": 1},
        )
        self.build.add(node.name or "", target.shape, [kernel])


def _present(value: Value | None) -> Value:
    """Return an input that every node of its kind has."""
    if value is None:
        raise InternalError("SNN171", "an input is missing")
    return value


def _matrix(view: View) -> View:
    return pad_rank(view, max(2, len(view.shape)))


def select(model: Model, split: Partition, *, fuse: bool = True) -> Selected:
    """Lower every node for the machine.

    Args:
        model: A converted network.
        split: Which nodes run where.
        fuse: Whether neighbours are joined.

    Raises:
        UnsupportedError: SNN470 to SNN472, a node has no instructions.
    """
    selector = Selector(model, split, fuse)
    for node in split.device:
        selector.lower(node)
    _expose(selector, model)
    return selector.found


def _expose(selector: Selector, model: Model) -> None:
    """Let the host read what its nodes and the user want."""
    wanted = [value for node in selector.split.after for value in node.inputs]
    for value in (*wanted, *model.graph.outputs):
        if value is not None and handover.made_by_machine(selector, value):
            handover.expose(selector, value)
