"""Fill the quoted lines of docs/expg1-attention.md from the program of a shipped network.

    python docs/make_listing.py

A block that begins with ``expg1 QUEUE NODE...`` holds the lines of these nodes on this queue.
"""

from __future__ import annotations

import re
from pathlib import Path

from snnc.isa.assembly import line_of
from snnc.isa.program import Program

PAGE = Path(__file__).resolve().parent / "expg1-attention.md"
MODEL = PAGE.parents[1] / "examples" / "models" / "fashion_transformer_t4g2.onnx"
_BLOCK = re.compile(r"```expg1 (\S) ([^\n]+)\n.*?```", re.DOTALL)


def filled(text: str, program: Program) -> str:
    """Return the page with the lines of a program."""

    def block(match: re.Match[str]) -> str:
        nodes = match[2].split()
        lines = [
            line_of(instruction)
            for instruction, line in zip(program.instructions, program.lines, strict=True)
            if line.node in nodes and instruction.queue == match[1]
        ]
        return f"```expg1 {match[1]} {match[2]}\n" + "\n".join(lines) + "\n```"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    from snnc.compile import ConvertOptions, convert
    from snnc.passes.lower.lower import lower

    made = lower(convert(MODEL, ConvertOptions()).model)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
