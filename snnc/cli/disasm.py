"""``snnc disasm``: words to assembly."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from snnc.cli import options
from snnc.cli.output import Output

__all__ = ["command"]


@options.command(
    "disasm",
    "Disassemble words of ExpG-1, a binary file or a bundle.",
    "snnc disasm bundle/\nsnnc disasm model.bin -o model.s",
)
@click.argument("source", metavar="FILE.bin|BUNDLE")
@click.option("-o", "--output", "target", metavar="FILE.s", help="Text file; default stdout.")
def command(output: Output, *, source: str, target: str | None) -> None:
    """Disassemble."""
    from snnc.errors import InputError
    from snnc.files import atomic_write, check_output, open_regular
    from snnc.isa.assembly import disassemble
    from snnc.isa.codec import decode_all

    path = Path(source) / "model.bin" if Path(source).is_dir() else Path(source)
    if target is not None:
        check_output(target, force=output.settings.force, inputs=[path])
    with open_regular(path) as stream:
        try:
            content = stream.read()
            if not content:
                raise InputError("SNN361", "is empty: it holds no words")
            instructions = list(decode_all(content))
        except InputError as error:
            error.in_file(str(path))
            raise
    text, words = disassemble(instructions), len(instructions)
    if target is None:
        output.results(text.rstrip("\n"))
    else:
        content = text.encode()
        atomic_write(target, lambda stream: _put(stream, content), force=output.settings.force, inputs=[path])
        output.result(f"written: {target}, {words} instructions")
    output.document({"source": source, "written": target, "instructions": words})


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
