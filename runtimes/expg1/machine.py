"""One core of ExpG-1: memories, four queues, tokens."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError, Where
from snnc.isa.codec import decode_all
from snnc.isa.program import Descriptor, Port, Program, Step, Tap, follow, in_queues, strided
from snnc.isa.table import QUEUES
from snnc.runtimes.expg1.semantics import SEMANTICS

__all__ = ["Machine", "Retired"]

Array = npt.NDArray[Any]
Order = Literal["parallel", "serial"]
_FRAME = frozenset({"NOP", "HALT", "TDESC", "TSTRIDE"})
Retired = Callable[[Step, Mapping[str, Array], Array | None], None]


class Machine:
    """Executes a program's words.

    Args:
        program: Arch, constants and ports are taken from it.
        binary: The words; its instructions are decoded from nothing else.
        order: ``parallel`` takes all time-steps of a code at once, ``serial`` one after the other.
    """

    def __init__(self, program: Program, binary: bytes, *, order: Order = "parallel") -> None:
        self.program = program
        self.steps = list(follow(decode_all(binary)))
        self.serial = order == "serial"
        self._taps: dict[int, list[Tap]] = defaultdict(list)
        for tap in program.taps:
            self._taps[tap.pc].append(tap)
        arch = program.arch
        self.memory = {
            name: np.zeros(-(-arch.capacity(name) // 8) * 8, np.uint8)
            for name in ("WMEM", "SMEM", "AMEM", "TMEM")
        }
        touched = [place for step in self.steps for place, _ in step.accesses() if place.memory == "DRAM"]
        touched += [port.place for port in (*program.inputs, *program.outputs)]
        size = max([len(program.image), *(place.span[1] for place in touched)])
        if size > arch.dram:
            raise InputError("SNN366", f"the program reaches byte {size} of {arch.dram} bytes of DRAM")
        self.memory["DRAM"] = np.zeros(-(-size // 8) * 8, np.uint8)
        self.memory["DRAM"][: len(program.image)] = np.frombuffer(program.image, np.uint8)

    def look(self, place: Descriptor, *, writable: bool = False) -> Array:
        """Return the elements of a descriptor."""
        return strided(self.memory[place.memory], place, writable=writable)

    def write(self, port: Port, array: Array) -> None:
        """Write a tensor that the host gives.

        Raises:
            InputError: SNN367, its shape or its values are not what the program was made for.
        """
        where = Where(tensor=port.tensor)
        if array.shape != port.place.shape:
            raise InputError("SNN367", f"has shape {array.shape}, not {port.place.shape}", where=where)
        if array.size and not port.low <= int(array.min()) <= int(array.max()) <= port.high:
            raise InputError("SNN367", f"has values beyond {port.low} .. {port.high}", where=where)
        self.look(port.place, writable=True)[...] = array

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        taps: Collection[str] | None = (),
        seed: int | None = None,
        watch: Retired | None = None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Execute the program once.

        Args:
            inputs: What the host gives, by tensor.
            taps: Tensors wanted beside the outputs; None for all.
            seed: None executes in program order; a number draws a legal interleaving of the queues.
            watch: Called behind each instruction with its operands and what it wrote.

        Returns:
            Outputs by tensor, and tapped tensors by name.

        Raises:
            InputError: SNN367, an input is wrong; SNN368, the program breaks the rules of the machine.
        """
        for port in self.program.inputs:
            if port.tensor not in inputs:
                raise InputError("SNN367", "is not given", where=Where(tensor=port.tensor))
            self.write(port, np.asarray(inputs[port.tensor]))
        seen: dict[str, Array] = {}
        for step in self._schedule(seed):
            given, written = self._execute(step)
            if watch is not None:
                watch(step, given, written)
            for tap in self._taps.get(step.index, ()):
                if taps is None or tap.tensor in taps:
                    self._keep(tap, seen)
        outputs = {port.tensor: self.look(port.place).copy() for port in self.program.outputs}
        return outputs, seen

    def _keep(self, tap: Tap, seen: dict[str, Array]) -> None:
        part = self.look(tap.place)
        whole = seen.setdefault(tap.tensor, np.zeros(tap.shape, part.dtype))
        whole[tuple(slice(b, b + n) for b, n in zip(tap.begin, part.shape, strict=True))] = part

    def _schedule(self, seed: int | None) -> Any:
        """Yield instructions in an order that the tokens allow."""
        tokens: dict[tuple[str, str], int] = defaultdict(int)
        depth = self.program.arch.token_depth

        def ready(step: Step) -> bool:
            name = step.instruction
            return all(tokens[queue, name.queue] for queue in name.pop) and all(
                tokens[name.queue, queue] < depth for queue in name.push
            )

        def retire(step: Step) -> None:
            name = step.instruction
            for queue in name.pop:
                tokens[queue, name.queue] -= 1
            for queue in name.push:
                tokens[name.queue, queue] += 1

        if seed is None:
            for step in self.steps:
                if not ready(step):
                    raise InputError("SNN368", f"instruction {step.index} waits for a token in program order")
                yield step
                retire(step)
            return
        draw = random.Random(seed)
        queues = in_queues(self.steps)
        heads = dict.fromkeys(QUEUES, 0)
        while True:
            waiting = [queue for queue in QUEUES if heads[queue] < len(queues[queue])]
            if not waiting:
                return
            able = [queue for queue in waiting if ready(queues[queue][heads[queue]])]
            if not able:
                stuck = [queues[queue][heads[queue]].index for queue in waiting]
                raise InputError("SNN368", f"deadlock: instructions {stuck} wait for tokens")
            queue = draw.choice(able)
            step = queues[queue][heads[queue]]
            heads[queue] += 1
            yield step
            retire(step)

    def _execute(self, step: Step) -> tuple[Mapping[str, Array], Array | None]:
        name = step.instruction.name
        if name in _FRAME:
            return {}, None
        form = step.instruction.form
        given = {field: self.look(place) for field, place in step.operands.items()}
        result = SEMANTICS[name](step, given, self.serial)
        target = step.operands[form.operands("writes", "updates")[0]]
        view = self.look(target, writable=True)
        if result.dtype != view.dtype and result.size:
            limits = np.iinfo(view.dtype)
            if result.dtype.itemsize > view.itemsize or result.dtype.kind != view.dtype.kind:
                low, high = int(result.min()), int(result.max())
                if low < limits.min or high > limits.max:
                    raise InputError(
                        "SNN368",
                        f"instruction {step.index}, {name}: {low} .. {high} does not fit {target.dtype}",
                    )
        view[...] = result.reshape(view.shape)
        return given, view
