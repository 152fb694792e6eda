"""``snnc init``: a first example in a folder of its own."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from snnc.cli import options
from snnc.cli.output import Output, printable
from snnc.cli.tables import bytes_text

__all__ = ["command"]


@options.command(
    "init",
    "Write a first example into a folder: two small trained networks, samples, labels and a recipe.",
    "snnc init demo/\nsnnc init demo/ --force",
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
def command(output: Output, *, folder: str) -> None:
    """Write a first example."""
    from snnc.demo import FILES, write_demo

    sizes = write_demo(folder, force=output.settings.force)
    place = Path(folder)
    output.table(
        ["written", "size", "what it is"],
        [[str(place / name), bytes_text(sizes[name]), FILES[name]] for name in sizes],
        right=(1,),
    )
    steps = [
        ["inspect", "vit.onnx"],
        ["convert", "vit.onnx", "--recipe", "recipe.toml"],
        ["verify", "vit.onnx", "vit.snn.onnx", "--data", "calib.npz", "--labels", "labels.npy"],
    ]
    commands = [
        shlex.join(["snnc", *(str(place / word) if "." in word else word for word in step)]) for step in steps
    ]
    for head, line in zip(("next:    ", "then:    ", "and:     "), commands, strict=True):
        output.result(printable(head + line))
    output.document(
        {
            "folder": folder,
            "files": [{"name": name, "bytes": sizes[name], "content": FILES[name]} for name in sizes],
            "next": commands,
        }
    )
