"""Files of a training run: the state to go on from, and networks to start from."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnc.errors import EnvironmentFailure, InputError, UsageError, Where

__all__ = ["check_same", "digest", "load_state", "read", "require_folder", "start_from", "write"]

_FORMAT = 1
_FILES = ("checkpoint.pt", "network.pt", "metrics.jsonl", "result.json")


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a file that appears complete or not at all.

    Args:
        path: File to write.
        state: Tensors, numbers, texts, and dicts and lists of them. Tensors are written as ones of the
            processor: a machine without the device that a network was trained on can read them.

    Raises:
        EnvironmentFailure: SNN603 if it cannot be written; what was there before stays.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_on_processor({"format": _FORMAT, **state}), temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer hides the system's error in one of its own
        temporary.unlink(missing_ok=True)
        text = getattr(error, "strerror", None) or "the disk is full, or a limit of the system is reached"
        raise EnvironmentFailure("SNN603", f"cannot write: {text}", where=Where(file=str(path))) from error


def require_folder(folder: Path, more: Sequence[str] = ()) -> None:
    """Refuse a place where a run could not leave its files, before it begins.

    Args:
        folder: Where they will be; it is not made.
        more: Files beside those of every run.

    Raises:
        UsageError: SNN218 if it can be the name of no folder.
        EnvironmentFailure: SNN603 if it is no folder, or one of the files is none.
    """
    if "\0" in str(folder) or any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        text = f"--out {str(folder)!r} is not the name of a folder: it must be text in UTF-8, without NUL"
        raise UsageError("SNN218", text)
    try:
        existing = folder.exists() or folder.is_symlink()
    except OSError as error:
        raise EnvironmentFailure("SNN603", error.strerror or "", where=Where(file=str(folder))) from error
    if existing and not folder.is_dir():
        raise EnvironmentFailure("SNN603", "is not a folder", where=Where(file=str(folder)))
    for name in (*_FILES, *more):
        place = folder / name
        if existing and (place.exists() or place.is_symlink()) and not place.is_file():
            raise EnvironmentFailure("SNN603", "is not a regular file", where=Where(file=str(place)))


def _on_processor(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_processor(each) for key, each in value.items()}
    return [_on_processor(each) for each in value] if isinstance(value, list) else value


def digest(state: dict[str, Any]) -> str:
    """Return a short check sum of tensors and their names."""
    total = 0
    for name, value in sorted(state.items()):
        total = zlib.crc32(name.encode(), total)
        if isinstance(value, torch.Tensor):
            total = zlib.crc32(
                value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, total
            )
    return f"{total:08x}"


def read(path: Path) -> dict[str, Any]:
    """Read a file that `write` wrote, or a bare state dict; no code in it is run.

    Raises:
        InputError: SNN301 if there is no such file, SNN353 if it is no checkpoint.
    """
    name = str(path)
    if not path.is_file():
        raise InputError("SNN301", "no such file", where=Where(file=name))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # bytes that are none make torch's reader raise whatever there is
        raise InputError("SNN353", "is not a checkpoint of torch", where=Where(file=name)) from error
    if not isinstance(state, dict):
        raise InputError("SNN353", "is not a checkpoint of torch", where=Where(file=name))
    if "network" not in state:
        state = {"format": _FORMAT, "network": state}
    if state.get("format") != _FORMAT:
        raise InputError("SNN353", "was written by another version of snnc", where=Where(file=name))
    held = state["network"]
    if not isinstance(held, dict) or not all(
        isinstance(key, str) and (isinstance(value, torch.Tensor) or key.endswith("_extra_state"))
        for key, value in held.items()
    ):
        raise InputError("SNN353", "holds no tensors by name", where=Where(file=name))
    for key, value in held.items():
        if isinstance(value, torch.Tensor) and (fault := _fault(value)):
            raise InputError("SNN353", f"its {key!r} {fault}", where=Where(file=name))
    return state


def _fault(value: torch.Tensor) -> str | None:
    """Return what keeps a tensor from being a weight; None if nothing does."""
    if value.layout != torch.strided or value.is_quantized:
        return f"is no dense tensor but {value.layout}" if not value.is_quantized else "is quantised by torch"
    if value.is_meta:
        return "has no content: it is on torch's device meta"
    if value.is_complex():
        return "is complex"
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        return "holds values that are not finite"
    return None


def load_state(network: nn.Module, state: dict[str, Any], name: str) -> None:
    """Load all of a network's state.

    Raises:
        InputError: SNN353 if it is another network's.
    """
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()
        text = " ".join(line.strip() for line in first[1:2]) or "it is another network's"
        raise InputError("SNN353", f"does not fit this network: {text}", where=Where(file=name)) from error


def start_from(network: nn.Module, path: Path) -> tuple[str, ...]:
    """Start from trained weights, of another number of classes or of the float network too.

    Thresholds that the file does not hold come from the first batch. A last layer of another size stays new.

    Args:
        network: Network to train.
        path: Checkpoint or state dict.

    Returns:
        Names of the tensors that stay new because their shapes differ.

    Raises:
        InputError: SNN301, SNN353 if the file cannot be read, or holds another architecture.
    """
    held = read(path)["network"]
    own = network.state_dict()
    differing = tuple(name for name in own if name in held and held[name].shape != own[name].shape)
    absent = [name for name in own if name not in held and not name.endswith(("log_theta", "initialised"))]
    foreign = [name for name in held if name not in own and not name.endswith(("log_theta", "initialised"))]
    layers = {name.rpartition(".")[0] for name in differing}
    if absent or foreign or len(layers) > 1:
        what = [*absent, *foreign, *differing][:3]
        raise InputError(
            "SNN353",
            f"holds another architecture: {', '.join(what)} differ",
            where=Where(file=str(path)),
            hint="build the network with the same options; only its last layer may differ in size",
        )
    taken = {name: value for name, value in held.items() if name in own and name not in differing}
    network.load_state_dict(taken, strict=False)
    return differing


def check_same(found: object, wanted: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run under other options.

    Raises:
        UsageError: SNN219, naming the options.
        InputError: SNN353 if the file holds none.
    """
    if not isinstance(found, dict):
        raise InputError("SNN353", "is no checkpoint of a run", where=Where(file=str(path)))
    other = sorted(key for key in wanted if found.get(key) != wanted[key])
    if other:
        text = ", ".join(f"{key} was {found.get(key)!r}, is {wanted[key]!r}" for key in other)
        raise UsageError(
            "SNN219",
            f"{path} is of a run with other options: {text}",
            hint="use another folder, or --restart",
        )
