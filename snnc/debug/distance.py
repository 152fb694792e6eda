"""How far a quantised tensor lies from the float tensor it stands for: measurements, never claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.ir import AI_SNNC, Model, Node, constant
from snnc.passes.quantise.insert_quantisers import SITE

__all__ = ["Counterpart", "Distance", "OutputDistance", "counterparts"]

Array = npt.NDArray[Any]
#: In dB: the ratio of the smallest and the largest number there is; of values that are not finite.
_HOPELESS = -6160.0


@dataclass
class Distance:
    """One tensor of the quantised network against the same tensor of the float source.

    Attributes:
        tensor: Name in the source.
        elements: Number of elements compared.
        largest_error: Largest absolute difference.
        signal: Sum of squares of the source's values.
        power: Sum of squares of the quantised values.
        product: Sum of the products of both.
        noise: Sum of squared differences.
    """

    tensor: str
    elements: int = 0
    largest_error: float = 0.0
    signal: float = 0.0
    power: float = 0.0
    product: float = 0.0
    noise: float = 0.0

    def add(self, source: Array, quantised: Array) -> None:
        """Compare one batch; both arrays have the same shape."""
        wanted, found = source.astype(np.float64).ravel(), quantised.astype(np.float64).ravel()
        self.elements += source.size
        # What a network overflows to is not finite, and is judged so below.
        with np.errstate(all="ignore"):
            difference = found - wanted
            self.largest_error = max(self.largest_error, float(np.abs(difference).max(initial=0.0)))
            self.signal += float(wanted @ wanted)
            self.power += float(found @ found)
            self.product += float(wanted @ found)
            self.noise += float(difference @ difference)

    @property
    def decibel(self) -> float | None:
        """Signal-to-noise ratio in dB; None where there is no noise or no signal."""
        if not np.isfinite(self.noise):
            return _HOPELESS
        if self.noise == 0.0 or self.signal == 0.0:
            return None
        return float(10 * np.log10(self.signal / self.noise))

    @property
    def cosine(self) -> float | None:
        """Cosine similarity over all elements of all samples; None where either is zero throughout."""
        if self.signal == 0.0 or self.power == 0.0:
            return None
        if not np.isfinite([self.signal, self.power, self.product]).all():
            return 0.0
        return self.product / float(np.sqrt(self.signal) * np.sqrt(self.power))


@dataclass
class OutputDistance(Distance):
    """A network output, which besides may name a class.

    Attributes:
        samples: Number of samples.
        agreeing: Samples whose largest element is at the same place in both.
    """

    samples: int = 0
    agreeing: int = 0

    def add(self, source: Array, quantised: Array) -> None:
        """Compare one batch, samples on axis 0."""
        super().add(source, quantised)
        self.samples += len(source)
        first, second = (array.reshape(len(array), -1).argmax(axis=1) for array in (source, quantised))
        self.agreeing += int(np.count_nonzero(first == second))


@dataclass(frozen=True, eq=False)
class Counterpart:
    """A quantiser and the source's tensor that it stands for.

    Attributes:
        code: Name of the coded tensor in the quantised network.
        tensor: Name of the tensor in the source.
        step: What one unit of the code is worth, float32, broadcastable to the codes.
    """

    code: str
    tensor: str
    step: Array


def counterparts(quantised: Model, source: Model) -> tuple[list[Counterpart], list[str]]:
    """Find the source's tensor of every quantiser.

    Passes keep the names of the values they keep, and an inserted quantiser records the tensor it was made
    for. What a pass introduced (the numerator of a softmax) has no counterpart.

    Args:
        quantised: The network in the quant dialect.
        source: The network it was made from.

    Returns:
        The pairs in graph order, and the names of coded tensors that have none.
    """
    known = {value.name for node in source.graph for value in node.outputs if value.name}
    found: list[Counterpart] = []
    alone: list[str] = []
    for node in _quantisers(quantised):
        code = node.outputs[0].name or ""
        meant = next((name for name in (node.metadata_props.get(SITE), code) if name in known), None)
        step = constant(node.inputs[1])
        if meant is None or step is None:
            alone.append(code)
        else:
            found.append(Counterpart(code, meant, np.asarray(step, dtype=np.float32)))
    return found, alone


def _quantisers(model: Model) -> Iterator[Node]:
    for node in model.graph:
        if node.domain == AI_SNNC and node.op_type == "Quantise":
            yield node
