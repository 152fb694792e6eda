"""``snnc asm``: assembly to words."""

from __future__ import annotations

from typing import BinaryIO

import click

from snnc.cli import options
from snnc.cli.output import Output

__all__ = ["command"]


@options.command(
    "asm",
    "Assemble text to the words of ExpG-1.",
    "snnc asm bundle/model.s -o model.bin",
)
@click.argument("source", metavar="FILE.s")
@click.option("-o", "--output", "target", required=True, metavar="FILE", help="Binary file.")
def command(output: Output, *, source: str, target: str) -> None:
    """Assemble."""
    from snnc.errors import InputError, Where
    from snnc.files import atomic_write, check_output, open_regular
    from snnc.isa.assembly import assemble
    from snnc.isa.codec import encode_all

    check_output(target, force=output.settings.force, inputs=[source])
    with open_regular(source) as stream:
        try:
            text = stream.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError("SNN362", "is not text", where=Where(file=source)) from error
    instructions = assemble(text, file=source)
    binary = encode_all(instructions)
    atomic_write(target, lambda stream: _put(stream, binary), force=output.settings.force, inputs=[source])
    output.result(f"written: {target}, {len(instructions)} words")
    output.document({"source": source, "written": target, "words": len(instructions)})


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
