"""Nodes of a NIR graph: convolutions, affine maps, comparisons; written, and read back, by ``nir``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.errors import EnvironmentFailure, InternalError, UnsupportedError, Where

__all__ = ["Graph", "package", "square"]

Array = npt.NDArray[Any]


def package() -> Any:
    """Return the ``nir`` package.

    Raises:
        EnvironmentFailure: SNN618, it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise EnvironmentFailure(
            "SNN618", f"NIR files need the package 'nir': {error}", hint="pip install 'snnc[nir]'"
        ) from error
    return nir


def square(
    weights: Array, pads: Sequence[int], dilations: Sequence[int], node: str
) -> tuple[Array, list[int]]:
    """Return a kernel with equal sides for equal padding on both ends of an axis, and this padding.

    Args:
        weights: Kernel, (O, C, rows, columns).
        pads: Zeros before the rows and columns, and behind them.
        dilations: Spacing inside the kernel.
        node: For messages.

    Raises:
        UnsupportedError: SNN484, there is none.
    """
    kernel, before, behind = weights.shape[2:], pads[:2], pads[2:]
    even = [max(b, e) for b, e in zip(before, behind, strict=True)]
    wider = [2 * p - b - e for p, b, e in zip(even, before, behind, strict=True)]
    sizes = [k + more for k, more in zip(kernel, wider, strict=True)]
    side = max(sizes)
    # A longer axis grows by as much before as behind.
    for axis, size in enumerate(sizes):
        if (side - size) % 2:
            side += 1 if axis == 0 and (side + 1 - sizes[1]) % 2 == 0 else 0
    if any((side - size) % 2 for size in sizes) or (
        any(d > 1 for d in dilations) and (any(wider) or any(size != side for size in sizes))
    ):
        raise UnsupportedError(
            "SNN484",
            f"a window of {tuple(kernel)} with padding {tuple(pads)}: NIR's shapes know equal sides only",
            where=Where(node=node),
        )
    grown = [(side - size) // 2 for size in sizes]
    room = [(0, 0), (0, 0)]
    for axis in range(2):
        room.append((even[axis] - before[axis] + grown[axis], even[axis] - behind[axis] + grown[axis]))
    return np.pad(weights, room), [p + more for p, more in zip(even, grown, strict=True)]


@dataclass
class Graph:
    """A NIR graph under construction.

    Attributes:
        nodes: Nodes by name.
        edges: Names of the two ends of each edge.
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def put(self, name: str, node: Any, sources: Sequence[str]) -> str:
        """Add a node behind others; return its name in the graph.

        Names begin with a number: readers find nodes in the order of their names, and some need that order
        to be one in which they can be executed.
        """
        unique = f"n{len(self.nodes):05d}.{name.replace('/', '.').strip('.')}"
        self.nodes[unique] = node
        self.edges += [(source, unique) for source in sources]
        return unique

    def conv(
        self,
        name: str,
        sources: Sequence[str],
        weights: Array,
        bias: Array,
        shape: Sequence[int],
        strides: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilations: Sequence[int] = (1, 1),
    ) -> str:
        """Add a convolution over a map of some shape (C, rows, columns)."""
        node = package().Conv2d(
            input_shape=tuple(int(n) for n in shape[1:]),
            weight=weights.astype(np.float32),
            stride=tuple(int(n) for n in strides),
            padding=tuple(int(n) for n in padding),
            dilation=tuple(int(n) for n in dilations),
            groups=1,
            bias=bias.astype(np.float32),
        )
        return self.put(name, node, sources)

    def affine(self, name: str, sources: Sequence[str], weights: Array, bias: Array) -> str:
        """Add an affine map of vectors; weights (outputs, inputs)."""
        node = package().Affine(weight=weights.astype(np.float32), bias=bias.astype(np.float32))
        return self.put(name, node, sources)

    def linear(self, name: str, sources: Sequence[str], mix: Array, bias: Array, shape: Sequence[int]) -> str:
        """Add a map between channels that is the same everywhere.

        Args:
            name: Of the node.
            sources: Nodes whose sum it reads.
            mix: (channels out, channels in).
            bias: Of each channel.
            shape: Of what it reads: (C, rows, columns), or (features,).
        """
        if len(shape) == 1:
            return self.affine(name, sources, mix, bias)
        return self.conv(name, sources, mix[:, :, None, None], bias, shape)

    def compare(self, name: str, source: str, limits: Array) -> str:
        """Add neurons of one step: 1 where the input is above a limit, for each element."""
        limits = limits.astype(np.float32)
        node = package().IF(r=np.ones_like(limits), v_threshold=limits, v_reset=np.zeros_like(limits))
        return self.put(name, node, [source])

    def flatten(self, name: str, sources: Sequence[str], shape: Sequence[int]) -> str:
        """Add what makes a vector of a map."""
        node = package().Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
        return self.put(name, node, sources)

    def input(self, name: str, shape: Sequence[int]) -> str:
        """Add an input."""
        return self.put(name, package().Input({"input": np.array(shape)}), [])

    def output(self, name: str, sources: Sequence[str], shape: Sequence[int]) -> str:
        """Add an output."""
        return self.put(name, package().Output({"output": np.array(shape)}), sources)

    def to_bytes(self) -> bytes:
        """Return the file; it is read back, and has every array that was written.

        Raises:
            InternalError: SNN174, it is not what was written.
        """
        nir = package()
        stream = io.BytesIO()
        nir.write(stream, nir.NIRGraph(self.nodes, self.edges))
        found = nir.read(io.BytesIO(stream.getvalue()))
        if set(found.nodes) != set(self.nodes) or set(found.edges) != set(self.edges):
            raise InternalError("SNN174", "the NIR file does not read back")
        for name, node in self.nodes.items():
            for key, value in _arrays(node).items():
                if not np.array_equal(value, _arrays(found.nodes[name]).get(key, np.zeros(0))):
                    raise InternalError("SNN174", f"'{key}' does not read back", where=Where(node=name))
        return stream.getvalue()


def _arrays(node: Any) -> Mapping[str, Array]:
    return {key: np.asarray(value) for key, value in vars(node).items() if isinstance(value, np.ndarray)}
