"""The machine: cores with memories, four queues and tokens; messages between them; shared DRAM."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snnc.errors import InputError, InternalError, Where
from snnc.isa.codec import decode_all
from snnc.isa.order import GIVES, TAKES, Queue, cores_of, in_queues, peer
from snnc.isa.program import Descriptor, Port, Program, Step, Tap, follow, strided
from snnc.isa.table import MEMORIES
from snnc.runtimes.expg1.semantics import SEMANTICS

__all__ = ["Machine", "Retired"]

Array = npt.NDArray[Any]
Order = Literal["parallel", "serial"]
_FRAME = frozenset({"NOP", "HALT", "TDESC", "TSTRIDE"})
Host = Callable[[str, Mapping[str, Array]], Array]
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
        cores = cores_of(self.steps)
        if cores > len(program.sites):
            raise InputError("SNN366", f"words for {cores} cores, the program has {len(program.sites)}")
        touched = [place for step in self.steps for place, _ in step.accesses() if place.memory == "DRAM"]
        touched += [port.place for port in (*program.inputs, *program.outputs)]
        size = max([len(program.image), *(place.span[1] for place in touched)])
        if size > arch.dram:
            raise InputError("SNN366", f"the program reaches byte {size} of {arch.dram} bytes of DRAM")
        dram = np.zeros(-(-size // 8) * 8, np.uint8)
        dram[: len(program.image)] = np.frombuffer(program.image, np.uint8)
        #: Memories of each core by name; DRAM is the same for all.
        self.memory = [{"DRAM": dram, **memories} for memories in self._memories(cores)]
        self._host: Host | None = None
        self._taken: dict[str, Array] = {}
        self._messages: dict[tuple[int, int], deque[tuple[int, Array | None]]] = defaultdict(deque)

    def _memories(self, cores: int) -> list[dict[str, npt.NDArray[np.uint8]]]:
        """Return the memories of each core, as far as its program reaches into them."""
        places = [(step.core, place) for step in self.steps for place, _ in step.accesses()]
        places += [(self.steps[pc].core, tap.place) for pc, taps in self._taps.items() for tap in taps]
        reach = [dict.fromkeys(MEMORIES[1:], 0) for _ in range(cores)]
        for core, place in places:
            if place.memory != "DRAM":
                reach[core][place.memory] = max(reach[core][place.memory], place.span[1])
        arch = self.program.arch
        return [
            {
                name: np.zeros(-(-min(arch.capacity(name), most) // 8) * 8, np.uint8)
                for name, most in own.items()
            }
            for own in reach
        ]

    def look(self, place: Descriptor, *, core: int = 0, writable: bool = False) -> Array:
        """Return the elements of a descriptor, in the memory of a core or in DRAM."""
        return strided(self.memory[core][place.memory], place, writable=writable)

    def write(self, port: Port, array: Array) -> None:
        """Write a tensor that the host gives.

        Raises:
            InputError: SNN367, its shape or its values are not what the program was made for.
        """
        where = Where(tensor=port.tensor)
        if array.shape != port.place.shape:
            raise InputError("SNN367", f"has shape {array.shape}, not {port.place.shape}", where=where)
        lows, highs = port.limits()
        if array.size and bool(((array < lows) | (array > highs)).any()):
            raise InputError("SNN367", f"has values beyond {port.low} .. {port.high}", where=where)
        self.look(port.place, writable=True)[...] = array

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        taps: Collection[str] | None = (),
        seed: int | None = None,
        watch: Retired | None = None,
        host: Host | None = None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Execute the program once.

        Args:
            inputs: What the host gives, by tensor.
            taps: Tensors wanted beside the outputs; None for all.
            seed: None executes in program order; a number draws a legal interleaving of the queues.
            watch: Called behind each instruction with its operands and what it wrote.
            host: Returns what the host puts for a tensor, from what it has taken, by tensor.

        Returns:
            Outputs by tensor, and tapped tensors by name.

        Raises:
            InputError: SNN367, an input is wrong; SNN368, the program breaks the rules of the machine.
        """
        self._host, self._taken = host, {}
        for port in self.program.inputs:
            if port.late:
                continue
            if port.tensor not in inputs:
                raise InputError("SNN367", "is not given", where=Where(tensor=port.tensor))
            self.write(port, np.asarray(inputs[port.tensor]))
        seen: dict[str, Array] = {}
        self._messages.clear()
        for step in self._schedule(seed):
            given, written = self._execute(step)
            if watch is not None:
                watch(step, given, written)
            for tap in self._taps.get(step.index, ()):
                if taps is None or tap.tensor in taps:
                    self._keep(tap, step.core, seen)
        outputs = {port.tensor: self.look(port.place).copy() for port in self.program.outputs}
        return outputs, seen

    def _keep(self, tap: Tap, core: int, seen: dict[str, Array]) -> None:
        part = self.look(tap.place, core=core)
        whole = seen.setdefault(tap.tensor, np.zeros(tap.shape, part.dtype))
        whole[tuple(slice(b, b + n) for b, n in zip(tap.begin, part.shape, strict=True))] = part

    def _schedule(self, seed: int | None) -> Iterator[Step]:
        """Yield instructions in an order that tokens and messages allow."""
        tokens: dict[tuple[Queue, str], int] = defaultdict(int)
        depth, inbox = self.program.arch.token_depth, self.program.arch.inbox

        def ready(step: Step) -> bool:
            core, name = step.core, step.instruction
            if name.name in TAKES and not self._messages[peer(step), core]:
                return False
            if name.name in GIVES and len(self._messages[core, peer(step)]) >= inbox:
                return False
            return all(tokens[(core, queue), name.queue] for queue in name.pop) and all(
                tokens[(core, name.queue), queue] < depth for queue in name.push
            )

        def retire(step: Step) -> None:
            core, name = step.core, step.instruction
            for queue in name.pop:
                tokens[(core, queue), name.queue] -= 1
            for queue in name.push:
                tokens[(core, name.queue), queue] += 1

        lines = self._lines(seed)
        heads = [0] * len(lines)
        draw = random.Random(seed)
        while True:
            waiting = [line for line, steps in enumerate(lines) if heads[line] < len(steps)]
            if not waiting:
                return
            able = [line for line in waiting if ready(lines[line][heads[line]])]
            if not able:
                stuck = [lines[line][heads[line]].index for line in waiting]
                raise InputError("SNN368", f"deadlock: instructions {stuck} wait for tokens or messages")
            # Without a seed every core goes on as far as it can.
            line = able[0] if seed is None else draw.choice(able)
            while heads[line] < len(lines[line]) and ready(lines[line][heads[line]]):
                step = lines[line][heads[line]]
                heads[line] += 1
                yield step
                retire(step)
                if seed is not None:
                    break

    def _lines(self, seed: int | None) -> list[list[Step]]:
        """Return what is executed in order: the text of each core, or with a seed each of its queues."""
        if seed is not None:
            return list(in_queues(self.steps).values())
        lines: list[list[Step]] = [[] for _ in self.memory]
        for step in self.steps:
            lines[step.core].append(step)
        return lines

    def _execute(self, step: Step) -> tuple[Mapping[str, Array], Array | None]:
        name = step.instruction.name
        if name in _FRAME:
            return {}, None
        form = step.instruction.form
        given = {field: self.look(place, core=step.core) for field, place in step.operands.items()}
        if name in GIVES:
            content = given["src"].copy() if given else None
            self._messages[step.core, peer(step)].append((step.instruction.fields["tag"], content))
            return given, None
        if name in ("HGET", "HPUT"):
            return given, self._hand_over(step, given)
        try:
            result = self._take(step, given) if name in TAKES else SEMANTICS[name](step, given, self.serial)
        except InternalError as error:
            # A sum that 64 bits may not hold: no fault of snnc, as nobody has proved these words.
            raise InputError("SNN368", f"instruction {step.index}, {name}: {error.message}") from error
        if result is None:
            return given, None
        target = step.operands[form.operands("writes", "updates")[0]]
        view = self.look(target, core=step.core, writable=True)
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

    def _hand_over(self, step: Step, given: Mapping[str, Array]) -> Array | None:
        """Let the host take or put a tensor."""
        number = step.instruction.fields["port"]
        ports = self.program.outputs if step.instruction.name == "HGET" else self.program.inputs
        if number >= len(ports):
            raise InputError("SNN368", f"instruction {step.index}: the program has no tensor {number}")
        port = ports[number]
        if step.instruction.name == "HGET":
            self._taken[port.tensor] = self.look(port.place).copy()
            return None
        if self._host is None:
            raise InputError("SNN367", "is computed by the host between", where=Where(tensor=port.tensor))
        self.write(port, self._host(port.tensor, self._taken))
        return given["dst"]

    def _take(self, step: Step, given: Mapping[str, Array]) -> Array | None:
        """Return the elements of the next message, or None if it has none."""
        tag, content = self._messages[peer(step), step.core].popleft()
        wanted = given.get("dst")
        same = (content is None) == (wanted is None)
        if content is not None and wanted is not None:
            same = (content.shape, content.dtype) == (wanted.shape, wanted.dtype)
        if not same or tag != step.instruction.fields["tag"]:
            raise InputError("SNN368", f"instruction {step.index}: message {tag} is not the one it waits for")
        return content
