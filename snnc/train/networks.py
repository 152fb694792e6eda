"""Networks by name: those of `snnc.models`, or a function in one's own file."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnc.errors import InputError, SnncError, UsageError, Where
from snnc.models import SIZES, ge2mst
from snnc.nn.activations import float_activation

__all__ = ["blame", "build", "parse_settings", "require_logits"]

_PREFIX = "ge2mst-"


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` texts; values are Python literals, or text where they are none.

    Raises:
        UsageError: SNN218 if a text has no name or no value.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError("SNN218", f"--set takes NAME=VALUE, not {text!r}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what brackets can cause
            found[name] = value
    return found


def _blamed(name: str, error: Exception) -> UsageError:
    """Say what went wrong inside of a user's network, and in which of its lines."""
    file = name.rpartition(":")[0]
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f", line {frame.lineno}" for frame in frames if file and frame.filename.endswith(file)]
    text = str(error).strip().splitlines()[0][:300] if str(error).strip() else ""
    kind = (
        "" if isinstance(error, ImportError | AttributeError | SyntaxError) else f"{type(error).__name__}: "
    )
    return UsageError("SNN218", f"--model {name}{lines[-1] if lines else ''}: {kind}{text}")


def blame(name: str, error: Exception) -> UsageError | None:
    """Return the error for what was raised inside of a user's network in training; None if it was not there.

    Args:
        name: What the network was built by.
        error: What was raised.
    """
    file = name.rpartition(":")[0]
    frames = traceback.extract_tb(error.__traceback__)
    is_theirs = file.endswith(".py") and any(frame.filename.endswith(file) for frame in frames)
    return _blamed(name, error) if is_theirs else None


def _function(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            path = Path(place)
            if not path.is_file():
                raise InputError("SNN301", "no such file", where=Where(file=place))
            # Its neighbours can be imported, as if it were run.
            sys.path.insert(0, str(path.resolve().parent))
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        found = getattr(module, attribute)
    except SnncError:
        raise
    except Exception as error:
        raise _blamed(name, error) from error
    if not callable(found):
        raise UsageError("SNN218", f"--model {name}: is not a function")
    result: Callable[..., Any] = found
    return result


def build(
    name: str, settings: dict[str, Any], *, classes: int, shape: tuple[int, ...], is_float: bool = False
) -> nn.Module:
    """Build a network.

    Args:
        name: ``ge2mst-small`` and its like, or ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``, called with the
            settings and with those of ``classes`` and ``activation`` that it takes.
        settings: Its arguments.
        classes: Number of classes of the data.
        shape: Shape of a sample: channels, or frames and polarities of events, are taken from it.
        is_float: Build the float control.

    Raises:
        UsageError: SNN217 or SNN218 if there is no such network, or it does not take the settings.
    """
    settings = {"classes": classes, **settings}
    if name.startswith(_PREFIX):
        size = name.removeprefix(_PREFIX)
        settings = {**({"channels": shape[0]} if len(shape) == 3 else {"events": shape[:2]}), **settings}
        return ge2mst(size, activation=float_activation if is_float else None, **settings)
    if ":" not in name:
        known = ", ".join(f"{_PREFIX}{size}" for size in SIZES)
        raise UsageError("SNN218", f"there is no network {name!r}", hint=f"{known}, or FILE.py:FUNCTION")
    function = _function(name)
    parameters = inspect.signature(function).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    if is_float:
        settings["activation"] = float_activation
    for key in list(settings):
        if not takes_all and key not in parameters:
            if key == "classes" and settings[key] == classes:
                del settings[key]
                continue
            raise UsageError("SNN218", f"{name} takes no {key!r}", hint=f"it takes {', '.join(parameters)}")
    try:
        network = function(**settings)
    except SnncError:
        raise
    except Exception as error:
        raise _blamed(name, error) from error
    if not isinstance(network, nn.Module):
        raise UsageError("SNN218", f"{name} returns no torch module")
    return network


@torch.no_grad()
def require_logits(name: str, network: nn.Module, inputs: Tensor, classes: int) -> None:
    """Run a network once, so that what does not fit shows before training and not within it.

    Args:
        name: What it was built by, for messages.
        network: Left in training mode; nothing of it is changed.
        inputs: Two samples.
        classes: Number of classes of the data.

    Raises:
        UsageError: SNN218 if it does not take the samples, or gives no logits of so many classes.
    """
    network.eval()
    try:
        logits = network(inputs)
    except SnncError:
        raise
    except Exception as error:
        fault = _blamed(name, error)
        fault.hint = f"samples are {tuple(inputs.shape[1:])}; the network must take (N, *that)"
        raise fault from error
    network.train()
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        raise UsageError("SNN218", f"--model {name} returns {shape}, not logits (N, classes)")
    if not logits.is_floating_point():
        raise UsageError("SNN218", f"--model {name} returns {logits.dtype}, not logits in floating point")
    if logits.shape[1] < classes:
        raise UsageError(
            "SNN218", f"--model {name} has {logits.shape[1]} logits, the labels go up to {classes - 1}"
        )
