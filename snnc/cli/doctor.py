"""``snnc doctor``: what this machine has, and what of it will not work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnc.cli.options import command as make_command
from snnc.cli.output import Output
from snnc.cli.tables import bytes_text, show_note, show_pairs

if TYPE_CHECKING:
    from snnc.debug.environment import Environment

__all__ = ["command"]


@make_command(
    "doctor",
    "Look at versions, onnxruntime, native kernels, tools and folders; exit 6 if something will not work.",
    "snnc doctor\nsnnc doctor --json",
)
def command(output: Output) -> int:
    """Look at the environment."""
    from snnc.debug.environment import look_around
    from snnc.errors import EnvironmentFailure, Problem

    found = look_around()
    _show(output, found)
    output.document(_document(found))
    if not found.findings:
        return 0
    count = len(found.findings)
    problems = [Problem(f"{each.what}; {each.do}" if each.do else each.what) for each in found.findings]
    output.complain(
        EnvironmentFailure(
            "SNN620",
            f"{count} finding{'' if count == 1 else 's'}",
            problems=problems,
        )
    )
    return 6


def _show(output: Output, found: Environment) -> None:
    output.table(
        ["package", "version", "needed", ""],
        [[each.name, each.version or "none", each.needed, each.note] for each in found.versions],
    )
    output.result()
    pairs = [("native kernels", found.native or f"none: {found.native_reason}")]
    if found.limits is not None:
        limits = found.limits
        pairs.append(("providers", ", ".join(limits.providers)))
        pairs.append(("onnxruntime", f"loads up to IR {limits.runtime_ir}, opset {limits.runtime_opset}"))
    pairs += [(name, f"{path or 'none'} ({note})") for name, path, note in found.tools]
    for place in found.places:
        free = "" if place.free is None else f", {bytes_text(place.free)} free"
        pairs.append((place.name, f"{place.path}, {'writable' if place.writable else 'NOT writable'}{free}"))
    show_pairs(output, pairs)
    for note in found.notes:
        show_note(output, f"note: {note}")
    if not found.findings:
        output.prose("healthy: nothing found that will not work")


def _document(found: Environment) -> dict[str, Any]:
    limits = found.limits
    return {
        "healthy": not found.findings,
        "versions": [
            {"name": each.name, "version": each.version, "needed": each.needed, "note": each.note}
            for each in found.versions
        ],
        "native_library": {
            "found": found.native is not None,
            "path": found.native,
            "reason": found.native_reason,
        },
        "onnx_limits": None
        if limits is None
        else {
            "ir_written": limits.written,
            "opset_read_from": limits.oldest,
            "opset_read_to": limits.newest,
            "ir_of_onnx": limits.onnx_ir,
            "ir_of_onnxruntime": limits.runtime_ir,
            "opset_of_onnxruntime": limits.runtime_opset,
            "providers": [*limits.providers],
        },
        "tools": [{"name": name, "path": path, "note": note} for name, path, note in found.tools],
        "places": [
            {"name": each.name, "path": each.path, "writable": each.writable, "free_bytes": each.free}
            for each in found.places
        ],
        "findings": [{"what": each.what, "do": each.do} for each in found.findings],
        "notes": [*found.notes],
    }
