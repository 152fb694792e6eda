"""A process that gives every native operator malformed nodes; the test that starts it finds what kills it.

Run as ``python -m tests.runtimes.malformed FIRST STEP``: every STEP-th case from number FIRST on, one line of
JSON before each case and one after it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from snnc.errors import SnncError
from snnc.ops import OPS
from snnc.runtimes.onnxruntime_runtime import open_session
from tests.runtimes.native_rows import CASES, Case, message, reference

__all__ = ["malformed", "run"]

SECONDS = 60
MEMORY = 12 << 30  # a reservation of more than this fails in place of taking the machine's memory
INTEGERS = (-1, 0, 7, 31, 2**31, 2**62, -(2**63))
TYPES = (np.float32, np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint16, np.bool_)
DECLARED = (TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64, TensorProto.STRING)


def _of_wrong_type(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [3, [1, 2]]
    return ["word", 0.5, [0.5], 1 if isinstance(value, list) else [1], ["word"]]


def _changed(value: Any) -> list[Any]:
    if isinstance(value, list):
        shorter, longer = value[:-1], [*value, value[-1]]
        filled: list[Any] = [[number] * len(value) for number in INTEGERS]
        mixed = [[*value[:-1], number] for number in INTEGERS]
        return [[], shorter, longer, value * 3, *filled, *mixed]
    return list(INTEGERS) if isinstance(value, int) else ["", "no partition"]


def _attributes(case: Case) -> Iterator[Case]:
    for name, value in case.attrs.items():
        rest = {other: given for other, given in case.attrs.items() if other != name}
        yield replace(case, label=f"{name} absent", attrs=rest)
        for kind, values in (("type", _of_wrong_type(value)), ("value", _changed(value))):
            for number, wrong in enumerate(values):
                if isinstance(wrong, list) and not wrong and kind == "type":
                    continue
                yield replace(case, label=f"{name} {kind} {number}", attrs={**case.attrs, name: wrong})


def _shapes(array: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if array.size:
        yield "rank 0", array.reshape(-1)[:1].reshape(())
    yield "flat", array.reshape(-1)
    yield "rank + 1", array[None]
    yield "rank + 4", array[None, None, None, None]
    if array.size and array.ndim:
        yield "rank - 1", array[0]
    for axis in range(array.ndim if array.size else 0):
        yield f"axis {axis} empty", np.take(array, [], axis=axis)
        yield f"axis {axis} of 1", np.take(array, [0], axis=axis)
        yield f"axis {axis} + 1", np.concatenate([array, np.take(array, [0], axis=axis)], axis=axis)
        yield f"axis {axis} - 1", np.take(array, np.arange(array.shape[axis] - 1), axis=axis)


def _values(array: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        for number in (info.min, info.max, -1 if info.min else 1):
            yield f"all {number}", np.full_like(array, number)
        yield "descending", np.sort(array, axis=-1)[..., ::-1] if array.ndim else array
    elif array.dtype.kind == "f":
        for value in (np.nan, np.inf, -np.inf):
            yield f"all {value}", np.full_like(array, value)
    else:
        bits = np.full(array.shape, 0xFE, np.uint8)
        yield "bits", bits.view(np.bool_)


def _inputs(case: Case) -> Iterator[Case]:
    for place, array in enumerate(case.inputs):
        changed = [*_shapes(array), *_values(array)]
        with np.errstate(invalid="ignore"):
            changed += [
                (np.dtype(dtype).name, array.astype(dtype)) for dtype in TYPES if dtype != array.dtype
            ]
        for what, wrong in changed:
            inputs = (*case.inputs[:place], wrong, *case.inputs[place + 1 :])
            yield replace(case, label=f"input {place} {what}", inputs=inputs)
            if place in case.constants:
                fed = case.constants - {place}
                yield replace(case, label=f"input {place} {what}, fed", inputs=inputs, constants=fed)
    last = len(case.inputs) - 1
    if last:
        short = case.inputs[:-1]
        yield replace(case, label="an input missing", inputs=short, constants=case.constants - {last})
    yield replace(case, label="an input too many", inputs=(*case.inputs, case.inputs[-1]))
    yield replace(case, label="all inputs of nothing", inputs=tuple(a.reshape(-1)[:0] for a in case.inputs))


def malformed() -> Iterator[Case]:
    """Iterate over the cases, always in the same order."""
    for cases in CASES.values():
        # The last case has most of what is special: groups, windows, axes.
        for case in (cases[0], cases[-1]):
            yield from _attributes(case)
            yield from _inputs(case)
            for kind in DECLARED:
                if kind != case.output:
                    yield replace(case, label=f"output declared {kind}", output=kind)


def run(case: Case, native: bool) -> npt.NDArray[Any] | str:
    """Run a case; return its output, or why there is none."""
    try:
        content = message(case, native=native)
    except (ValueError, TypeError) as error:
        return f"no node: {error}"
    try:
        session = open_session(content, "all", 1, native=native)
        return np.asarray(session.run(None, case.feeds())[0])
    except SnncError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds
        return f"refused: {type(error).__name__}: {error}"


def _judge(case: Case, well_formed: bool) -> str:
    found = run(case, True)
    if isinstance(found, str):
        return found
    # A shape that still fits its operator must give what the function body gives. Where there is nothing to
    # add up numpy says what that is: onnxruntime's own MatMul leaves stacks of such products unwritten.
    if well_formed and case.op in OPS:
        nothing = any(array.size == 0 for array in case.inputs)
        wanted = np.asarray(reference(case)) if nothing else run(case, False)
        if isinstance(wanted, str) or (wanted.size == found.size == 0 and not nothing):
            return "ran"
        if wanted.dtype != found.dtype or not np.array_equal(wanted, found):
            return f"DIFFERS: {found.dtype}{found.shape} from {wanted.dtype}{wanted.shape}"
        return "ran, as numpy" if nothing else "ran, as the body"
    return "ran"


def main(first: int, step: int) -> None:
    """Run every ``step``-th case from number ``first`` on."""
    if "ASAN_OPTIONS" not in os.environ:  # the address sanitizer reserves terabytes
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number, case in islice(enumerate(malformed()), first, None, step):
        print(json.dumps({"case": number, "op": case.op, "label": case.label}), flush=True)
        signal.alarm(SECONDS)
        label = case.label.removesuffix(", fed")
        # onnxruntime's own reductions over no elements keep the axis.
        shaped = label.startswith("input") and ("axis" in label or "rank" in label) and "empty" not in label
        print(json.dumps({"case": number, "verdict": _judge(case, shaped)}), flush=True)
    signal.alarm(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
