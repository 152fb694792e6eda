"""``snnc emit``: compile a spiking model to a bundle of ExpG-1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from snnc.cli import options
from snnc.cli.output import Output
from snnc.cli.tables import bytes_text, show_pairs

__all__ = ["command"]


@options.command(
    "emit",
    "Compile a spiking model to instructions of ExpG-1, prove them, and write a bundle.",
    "snnc emit model.snn.onnx -o bundle/\nsnnc emit model.snn.onnx -o bundle/ --arch arch.json --data x.npz\n"
    "snnc emit model.snn.onnx -o model.nir --format nir",
)
@click.argument("model", metavar="OUT.snn.onnx")
@click.option(
    "-o", "--output", "target", required=True, metavar="DIR", help="Folder of the bundle, or NIR file."
)
@click.option("--arch", metavar="FILE", help="Sizes of the machine, JSON; default the reference sizes.")
@click.option("--cores", type=click.IntRange(1, 256), help="Number of cores; default what --arch says, or 1.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["expg1", "nir"]),
    default="expg1",
    show_default=True,
    help="What to write.",
)
@options.data
@options.seed
def command(
    output: Output,
    *,
    model: str,
    target: str,
    arch: str | None,
    cores: int | None,
    form: str,
    data: str | None,
    seed: int,
) -> None:
    """Emit a bundle."""
    from snnc.compile import load_spiking
    from snnc.data import load_samples, source_files
    from snnc.emit.bundle import check_folder, write_bundle
    from snnc.emit.compiled import compile_program
    from snnc.emit.profile import profile
    from snnc.emit.report import report
    from snnc.errors import UsageError
    from snnc.isa.arch import Arch, read_arch
    from snnc.runtimes.common import one_sample

    if form == "nir":
        if arch is not None or cores is not None or data is not None:
            raise UsageError(
                "SNN287", "a NIR file has no machine and no sample", hint="leave out --arch, --cores, --data"
            )
        _nir(output, model, target)
        return
    inputs: list[str | Path] = [model, *filter(None, [arch]), *source_files(data or "")]
    check_folder(target, force=output.settings.force, inputs=inputs)
    machine = Arch() if arch is None else read_arch(arch)
    machine = machine if cores is None else replace(machine, cores=cores)
    compiled = compile_program(load_spiking(model), machine)
    runtime = compiled.runtime()
    source = data or "random:1"
    feeds = one_sample(load_samples(source, runtime.inputs, seed=seed), runtime.inputs)
    counted = profile(compiled, feeds)
    hashes = write_bundle(compiled, counted, feeds, target, force=output.settings.force)
    found = report(compiled, counted)
    many = len(found["cores"]) > 1
    for memory, use in found["memory_bytes"].items():
        which = ", of the core that needs most" if many and memory != "DRAM" else ""
        output.say(
            f"{memory}: peak {bytes_text(use['peak'])} of {bytes_text(use['capacity'])}, lower bound "
            f"{bytes_text(use['lower_bound'])}{which}"
        )
    for name in found["host"]["before"] + found["host"]["after"]:
        output.say(f"on the host: {name}")
    if data is None:
        output.say("note: the golden sample is random, and so are its spikes; for real ones add --data")
    cycles, energy = found["cycles"], found["picojoules"]
    show_pairs(
        output,
        [
            ("instructions", f"{found['instructions']:,}"),
            *([("cores", _cores_text(found))] if many else []),
            ("cycles", f"{cycles['counted']:,} (expected {cycles['expected']:,}, worst {cycles['worst']:,})"),
            ("latency", f"{found['latency_time_steps']} time-steps"),
            ("SOPs", f"{found['sops']:,}"),
            ("energy, papers", f"{energy['papers'] / 1e6:.4g} µJ (0.9 pJ per SOP)"),
            ("energy, datapath", f"{energy['datapath'] / 1e6:.4g} µJ (integer additions, comparisons)"),
            ("energy, full", f"{energy['full'] / 1e6:.4g} µJ (memories and instructions too)"),
            ("proved", "tokens, deadlock, races, memory, overflow" + (", messages, routes" if many else "")),
            ("written", f"{target} ({len(hashes)} files)"),
        ],
    )
    output.document({"model": model, "written": target, "files": sorted(hashes), **found})


def _nir(output: Output, model: str, target: str) -> None:
    """Write a NIR file, and say what is lost."""
    from snnc.compile import load_spiking
    from snnc.emit.nir_export import export_nir
    from snnc.files import atomic_write, check_output

    force = output.settings.force
    check_output(target, force=force, inputs=[model])
    found = export_nir(load_spiking(model))
    atomic_write(target, lambda stream: _put(stream, found.content), force=force)
    output.table(
        ["node", "operator", "in NIR", "lost"],
        [[item.node, item.op, str(len(item.nir)), item.lost or "nothing"] for item in found.losses],
        right=(2,),
    )
    show_pairs(
        output,
        [
            *(("input", f"{name}: {tensor}") for tensor, name in found.inputs.items()),
            *(("output", f"{name}: {tensor}") for tensor, name in found.outputs.items()),
            ("run it", "one step a sample, no batch axis; neurons start at rest"),
            (
                "written",
                f"{target}, {found.nodes} nodes, {bytes_text(len(found.content))}; reads back the same",
            ),
        ],
    )
    output.document(
        {
            "model": model,
            "written": target,
            "format": "nir",
            "inputs": dict(found.inputs),
            "outputs": dict(found.outputs),
            "nir_nodes": found.nodes,
            "nodes": [
                {"node": item.node, "op": item.op, "nir": list(item.nir), "lost": item.lost}
                for item in found.losses
            ],
        }
    )


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def _cores_text(found: dict[str, Any]) -> str:
    """Say what several cores send each other, and how busy they are."""
    cores = found["cores"]
    sent = sum(core["bytes_sent"] for core in cores)
    busy = [100 * core["utilisation"]["C"] for core in cores]
    return (
        f"{len(cores)}, computing {min(busy):.0f} to {max(busy):.0f} % of the time; "
        f"{sum(core['messages'] for core in cores):,} messages, {bytes_text(sent)}"
    )
