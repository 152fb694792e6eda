"""ExpG-1 as a runtime: the host computes what is the host's, the machine the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc.arrays import InputSpec
from snnc.ir import Model
from snnc.isa.program import Program
from snnc.runtimes.common import check_inputs, check_taps, run_in_batches
from snnc.runtimes.expg1.machine import Machine, Order
from snnc.runtimes.numpy_runtime import NumpyPacked

__all__ = ["Expg1"]

Array = npt.NDArray[Any]


class Expg1:
    """Runs a compiled network: the numpy runtime for the host's nodes, the simulator for the rest.

    Args:
        model: The converted network, for the host's nodes.
        program: What `snnc.passes.lower` made of it.
        binary: The words of the program.
        order: ``parallel`` or ``serial`` time-steps.
        seed: None for program order; a number draws legal interleavings of the queues.
    """

    def __init__(
        self,
        model: Model,
        program: Program,
        binary: bytes,
        *,
        order: Order = "parallel",
        seed: int | None = None,
    ) -> None:
        self._host = NumpyPacked(model, batch_size=1)
        self.machine = Machine(program, binary, order=order)
        self._seed = seed

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What the model expects, in its order."""
        return self._host.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs, in its order."""
        return self._host.outputs

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that can be tapped: what the host writes, then as they are complete."""
        program = self.machine.program
        ported = (port.tensor for port in program.inputs)
        return tuple(dict.fromkeys([*ported, *(tap.tensor for tap in program.taps)]))

    def run(self, inputs: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
        """Evaluate the model on any number of samples; see `Runtime.run`."""
        check_taps(taps, self.tensors)
        return run_in_batches(
            check_inputs(inputs, self.inputs), self.inputs, lambda feeds: self.sample(feeds, taps), 1
        )

    def ports(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return what the host writes for a sample, by tensor."""
        wanted = [port.tensor for port in self.machine.program.inputs if not port.late]
        return self._host.pull(feeds, wanted)

    def execute(
        self, feeds: Mapping[str, Array], taps: Sequence[str] = (), watch: Any = None
    ) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
        """Run a sample; return what the host put, what the machine gave, and tapped tensors."""
        given = self.ports(feeds)

        def host(tensor: str, taken: Mapping[str, Array]) -> Array:
            given[tensor] = self._host.pull({**feeds, **given, **taken}, [tensor])[tensor]
            return given[tensor]

        results, seen = self.machine.run(given, taps=taps, seed=self._seed, watch=watch, host=host)
        return given, results, seen

    def finish(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of the network from inputs, ports and what the machine gave."""
        return self._host.pull(values, self.outputs)

    def sample(
        self, feeds: Mapping[str, Array], taps: Sequence[str] = (), watch: Any = None
    ) -> dict[str, Array]:
        """Evaluate one sample."""
        computed = {tap.tensor for tap in self.machine.program.taps}
        given, results, seen = self.execute(feeds, [tap for tap in taps if tap in computed], watch)
        tapped = {tap: np.asarray(seen[tap] if tap in computed else given[tap]) for tap in taps}
        return {**self.finish({**feeds, **given, **results}), **tapped}
