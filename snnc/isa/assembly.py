"""Assembly text: one instruction a line, every field named, so that text and words say the same.

    C  SMM      acc=2, lhs=0, rhs=1, t=4, add=0, sub=0          ?L !S   ; comment

The first column is the queue, ``?`` takes tokens from queues, ``!`` gives tokens to queues.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from snnc.errors import InputError, Where
from snnc.isa.codec import Instruction, encode
from snnc.isa.table import FORMS, QUEUES, VERSION

__all__ = ["assemble", "disassemble", "header", "line_of"]

_LONGEST = 1000
_LINE = re.compile(
    r"^(?P<queue>[LCNS])\s+(?P<name>[A-Z]+)(?P<fields>(?:\s+[a-z0-9]+=[A-Za-z0-9-]+,?)*)"
    r"(?:\s+\?(?P<pop>[LCNS]{1,3}))?(?:\s+!(?P<push>[LCNS]{1,3}))?$"
)
_VERSION = re.compile(r"^\.expg\s+([0-9]{1,6})\.([0-9]{1,6})$")


def header() -> str:
    """Return the first line of every assembly file."""
    return f".expg {VERSION[0]}.{VERSION[1]}"


def line_of(instruction: Instruction) -> str:
    """Return the assembly of one instruction."""
    shown = []
    for item in instruction.form.fields:
        value = instruction.fields[item.name]
        shown.append(f"{item.name}={item.choices[value] if item.choices else value}")
    text = f"{instruction.queue}  {instruction.name:<8}{', '.join(shown)}"
    tokens = [f"?{instruction.pop}"] * bool(instruction.pop) + [f"!{instruction.push}"] * bool(
        instruction.push
    )
    return " ".join([text.rstrip(), *tokens]) if tokens else text.rstrip()


def disassemble(instructions: Iterable[Instruction]) -> str:
    """Return the assembly of a program; where it is for several cores, a comment says whose lines follow."""
    lines, core, ended = [header()], 0, False
    for instruction in instructions:
        if ended:
            core += 1
            lines.append(f"; core {core}")
        lines.append(line_of(instruction))
        ended = instruction.name == "HALT"
    return "\n".join(lines) + "\n"


def assemble(text: str, *, file: str | None = None) -> list[Instruction]:
    """Read assembly.

    Args:
        text: Assembly; what follows a semicolon is a comment.
        file: Its name, for messages.

    Raises:
        InputError: SNN362, a line cannot be read; SNN363, the version is missing or another one.
    """
    found: list[Instruction] = []
    versioned = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition(";")[0].strip()
        if not line:
            continue
        version = _VERSION.match(line)
        if version is not None:
            if (int(version[1]), int(version[2])) != VERSION:
                raise InputError(
                    "SNN363",
                    f"line {number}: this is ExpG {version[1]}.{version[2]}; this snnc speaks {header()[6:]}",
                    where=Where(file=file),
                )
            versioned = True
            continue
        if not versioned:
            raise InputError(
                "SNN363", f"line {number}: the first line must be '{header()}'", where=Where(file=file)
            )
        found.append(_instruction(line, number, file))
    if not versioned:
        raise InputError(
            "SNN363", f"holds nothing; the first line must be '{header()}'", where=Where(file=file)
        )
    return found


def _instruction(line: str, number: int, file: str | None) -> Instruction:
    def refuse(why: str) -> InputError:
        return InputError("SNN362", f"line {number}: {why}", where=Where(file=file))

    match = _LINE.match(line) if len(line) <= _LONGEST else None
    if match is None:
        raise refuse(f"not an instruction: {line[:80]!r}")
    form = FORMS.get(match["name"])
    if form is None:
        raise refuse(f"there is no instruction {match['name']}")
    queue = match["queue"]
    if form.queue not in ("any", queue):
        raise refuse(f"{form.name} runs on queue {form.queue}, not on {queue}")
    written = dict(part.split("=") for part in match["fields"].replace(",", " ").split())
    names = [item.name for item in form.fields]
    if list(written) != names:
        raise refuse(f"{form.name} takes {', '.join(names) or 'no fields'}, in this order")
    fields = {}
    for item in form.fields:
        value = written[item.name]
        if item.choices and value in item.choices:
            fields[item.name] = item.choices.index(value)
        elif not item.choices and re.fullmatch(r"-?[0-9]{1,20}", value):
            fields[item.name] = int(value)
        else:
            raise refuse(f"{item.name}={value[:40]} has no meaning")
        if not item.low <= fields[item.name] <= item.high:
            raise refuse(f"{item.name}={value} is not in {item.low}..{item.high}")
    pop, push = match["pop"] or "", match["push"] or ""
    for tokens in (pop, push):
        if (
            queue in tokens
            or sorted(tokens, key=QUEUES.index) != list(tokens)
            or len(set(tokens)) != len(tokens)
        ):
            raise refuse(f"tokens go to other queues, each once, in the order {QUEUES}")
    instruction = Instruction(form.name, fields, queue, pop, push)
    encode(instruction)
    return instruction
