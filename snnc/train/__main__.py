"""``python -m snnc.train``: train a network on one's own data and export it for ``snnc convert``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from snnc.data.python import ProcessEnd, without_ways_out
from snnc.errors import EnvironmentFailure, InputError, SnncError, UsageError
from snnc.failures import error_block, unexpected
from snnc.files import atomic_write
from snnc.frontends.torch_export import export
from snnc.train.checkpoint import digest, load_state, read, require_folder, start_from, write
from snnc.train.data import Arrays, TrainingData, open_data
from snnc.train.device import enough_memory
from snnc.train.loop import FitOptions, accuracy, fit
from snnc.train.networks import blame, build, parse_settings, require_logits
from snnc.train.processes import begin, end, rank, world
from snnc.train.stop import Interrupted

__all__ = ["main"]

_MOST_THREADS = 1024
_SPEAKS_FIRST = 3  # seconds by which processes start at different times

_EXAMPLES = """examples:
  python -m snnc.train --train train.npz --test test.npz --model ge2mst-small --set groups=4 --out runs/a
  python -m snnc.train --train folder/train --test folder/val --size 224 --mean 0.5 --out runs/b
  python -m snnc.train --train mine.npz --model net.py:build --init runs/a/network.pt --epochs 5 --out runs/c
  torchrun --nproc-per-node 2 -m snnc.train --train train.npz --batch 256 --out runs/d
then:
  snnc convert runs/a/network.onnx
An interrupted run (Ctrl-C, SIGTERM, a crash) goes on when the same command is given again.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m snnc.train",
        description="Train a network of ExpG neurons on labelled data and export it to ONNX.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("data: .npz with x and y, or a folder with a folder of images a class")
    data.add_argument("--train", required=True, metavar="DATA")
    data.add_argument("--test", metavar="DATA", help="evaluated with after each epoch and at the end")
    data.add_argument("--size", type=int, help="height and width of images from folders")
    data.add_argument("--mean", type=float, nargs="+", help="subtracted per channel, of pixels in [0, 1]")
    data.add_argument("--deviation", type=float, nargs="+", help="divides per channel")
    data.add_argument("--shift", type=int, default=2, help="augmentation of arrays, in pixels (default 2)")
    data.add_argument("--no-mirror", action="store_true", help="do not mirror images in training")
    data.add_argument("--limit", type=int, help="only the first so many training samples of an .npz")
    model = parser.add_argument_group("network")
    model.add_argument(
        "--model", default="ge2mst-small", help="ge2mst-small, -base, -large or FILE.py:FUNCTION"
    )
    model.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the model"
    )
    model.add_argument("--float", action="store_true", dest="is_float", help="ReLU in place of ExpG")
    model.add_argument(
        "--init", type=Path, help="checkpoint to start from; its last layer may differ in size"
    )
    model.add_argument(
        "--teacher", type=Path, help="network.pt of a float run with the same model, to distil from"
    )
    model.add_argument(
        "--teacher-set", action="append", default=[], metavar="NAME=VALUE", help="where it differs"
    )
    training = parser.add_argument_group("training")
    defaults = FitOptions()
    for field in fields(FitOptions):
        default = getattr(defaults, field.name)
        kind: Any = int if default is None else type(default)
        flag = f"--{field.name.replace('_', '-')}"
        training.add_argument(flag, type=kind, default=default, help=f"default {default}")
    training.add_argument("--threads", type=int, help="threads of torch; default torch's")
    training.add_argument("--restart", action="store_true", help="begin anew, whatever the folder holds")
    out = parser.add_argument_group("output")
    out.add_argument(
        "--out", type=Path, required=True, help="checkpoint.pt, network.pt, network.onnx, metrics"
    )
    out.add_argument("--exporter", choices=("dynamo", "torchscript"), default="dynamo")
    out.add_argument("--no-export", action="store_true")
    out.add_argument("--quiet", action="store_true")
    return parser


def _open(
    arguments: argparse.Namespace,
    place: str,
    limit: int | None = None,
    names: Sequence[str] | None = None,
) -> TrainingData:
    return open_data(
        place,
        size=arguments.size,
        mean=arguments.mean,
        deviation=arguments.deviation,
        shift=arguments.shift,
        mirror=not arguments.no_mirror,
        limit=limit,
        names=names,
    )


def _note(text: str) -> None:
    if rank() == 0:
        print(text, file=sys.stderr)


def _note_absent(train: TrainingData) -> None:
    """Say so if classes have no samples: often a label like 255 stands for none."""
    if not isinstance(train, Arrays):
        return
    absent = train.classes - len(torch.unique(train.labels))
    if absent:
        _note(f"note: {absent} of {train.classes} classes have no training samples; labels count from 0")


def _teacher(arguments: argparse.Namespace, classes: int, shape: tuple[int, ...]) -> nn.Module | None:
    if arguments.teacher is None:
        return None
    settings = parse_settings([*arguments.set, *arguments.teacher_set])
    network = build(arguments.model, settings, classes=classes, shape=shape, is_float=True)
    try:
        load_state(network, read(arguments.teacher)["network"], str(arguments.teacher))
    except InputError as error:
        error.hint = error.hint or "a teacher is trained with --float, by the same --model"
        raise
    return network


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as the command line says; returns the record of the run.

    Raises:
        SnncError: What is wrong with options, data or checkpoints.
    """
    if arguments.threads is not None:
        if not 1 <= arguments.threads <= _MOST_THREADS:
            raise UsageError("SNN218", f"threads must lie between 1 and {_MOST_THREADS}: {arguments.threads}")
        torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    named = {field.name: getattr(arguments, field.name) for field in fields(FitOptions)}
    FitOptions(**named)
    require_folder(arguments.out, () if arguments.no_export else ("network.onnx",))
    device = begin(arguments.device)
    options = FitOptions(**{**named, "device": str(device)})
    train = _open(arguments, arguments.train, arguments.limit)
    _note_absent(train)
    names = getattr(train, "names", None)
    test = _open(arguments, arguments.test, names=names) if arguments.test else None
    if test is not None and (test.shape != train.shape or test.classes > train.classes):
        raise UsageError(
            "SNN218",
            f"test data are {test.shape} of {test.classes} classes, "
            f"training data {train.shape} of {train.classes}",
        )
    torch.manual_seed(options.seed)
    settings = parse_settings(arguments.set)
    network = build(
        arguments.model, settings, classes=train.classes, shape=train.shape, is_float=arguments.is_float
    )
    identity = {"model": arguments.model, "settings": str(sorted(settings.items())), "init": None}
    identity["float"] = str(arguments.is_float)
    if arguments.init is not None:
        if new := start_from(network, arguments.init):
            _note(f"new, since their sizes differ from {arguments.init}: {', '.join(new)}")
        identity["init"] = digest(read(arguments.init)["network"])
    teacher = _teacher(arguments, train.classes, train.shape)
    two = train.batch(torch.arange(min(2, len(train))), None)[0]
    for name, each in ((arguments.model, network), ("of the teacher", teacher)):
        if each is not None:
            require_logits(name, each, two, train.classes)
    started = time.perf_counter()
    finished = fit(
        network,
        train,
        options,
        folder=arguments.out,
        test=test,
        teacher=teacher,
        resume=not arguments.restart,
        quiet=arguments.quiet,
        identity=identity,
    )
    result: dict[str, Any] = {
        "epochs": options.epochs,
        "finished": finished,
        "minutes_of_this_call": round((time.perf_counter() - started) / 60, 2),
        "model": arguments.model,
        "options": options.identity,
        "parameters": sum(part.numel() for part in network.parameters()),
        "processes": world(),
        "settings": {key: str(value) for key, value in settings.items()},
        "torch": torch.__version__,
    }
    if names is not None:
        result["classes"] = list(names)
    if not finished or rank():
        return result
    if test is not None:
        result["accuracy"] = round(accuracy(network, test, device=str(device)), 3)
        result["test_samples"] = len(test)
    write(arguments.out / "network.pt", {"network": network.state_dict()})
    if not arguments.no_export:
        network = network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        export(
            network, torch.zeros(1, *train.shape), arguments.out / "network.onnx", exporter=arguments.exporter
        )
    text = json.dumps(result, indent=2, sort_keys=True) + "\n"
    atomic_write(arguments.out / "result.json", lambda stream: _put(stream, text.encode()), force=True)
    return result


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, that of the error class if there is an error."""
    arguments = _parser().parse_args(words)
    try:
        return _status(arguments, sys.argv[1:] if words is None else words)
    finally:
        end()


def _status(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    # Of the processes of one machine, that all fail alike, one speaks; but an image may fail in one alone.
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    failure: SnncError
    try:
        with enough_memory(), without_ways_out():
            result = run(arguments)
    except SnncError as error:
        failure = error
    except OSError as error:
        failure = EnvironmentFailure("SNN600", f"{error.filename or 'a file'}: {error.strerror or error}")
    except (SystemExit, ProcessEnd) as error:
        # Only the code of the network may want to end here, perhaps with status 0.
        failure = UsageError("SNN218", f"--model {arguments.model} ended the process: {error or 'sys.exit'}")
    except Interrupted as error:
        where = f"from step {error.steps + 1}" if error.is_kept else "from the beginning"
        if is_first:
            print(f"interrupted; the same command goes on {where}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        if is_first:
            print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the last line of defence
        failure = blame(arguments.model, error) or unexpected(error, words)
    else:
        _say_what_is_done(arguments, result)
        return 0
    if is_first or failure.code == "SNN352":
        print(error_block(failure), end="", file=sys.stderr)
    else:  # torchrun ends all of them as soon as one has ended, the one that speaks too
        time.sleep(_SPEAKS_FIRST)
    return failure.exit_code


def _say_what_is_done(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    if rank() == 0 and int(os.environ.get("RANK", "0")) == 0 and not arguments.quiet:
        if not result["finished"]:
            print("stopped; the same command goes on")
        else:
            if "accuracy" in result:
                print(f"accuracy {result['accuracy']} % of {result['test_samples']} test samples")
            if not arguments.no_export:
                print(f"written: {arguments.out / 'network.onnx'}")
                print(f"next:    snnc convert {arguments.out / 'network.onnx'}")


if __name__ == "__main__":
    raise SystemExit(main())
