"""Our declaration of onnxruntime's interface against the real headers, where they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "runtimes" / "native"
#: Places of the custom-op record's members, in words; the interface only appends.
MEMBERS = {"GetName": 2, "KernelDestroy": 9, "CreateKernelV2": 17, "KernelComputeV2": 18, "GetEndVersion": 21}
#: Slots of the function table that the library uses, by their names there.
SLOTS = {
    "CreateStatus": 0,
    "CreateCustomOpDomain": 26,
    "CustomOpDomain_Add": 27,
    "AddCustomOpDomain": 28,
    "GetTensorMutableData": 51,
    "GetTensorElementType": 60,
    "GetDimensionsCount": 61,
    "GetDimensions": 62,
    "GetTensorTypeAndShape": 65,
    "KernelInfoGetAttribute_float": 85,
    "KernelInfoGetAttribute_int64": 86,
    "KernelInfoGetAttribute_string": 87,
    "KernelContext_GetInput": 90,
    "KernelContext_GetOutput": 91,
    "ReleaseStatus": 93,
    "ReleaseTensorTypeAndShapeInfo": 99,
    "KernelInfoGetAttributeArray_float": 162,
    "KernelInfoGetAttributeArray_int64": 163,
    "KernelInfo_GetInputCount": 230,
    "KernelInfoGetConstantInput_tensor": 249,
    "KernelContext_ParallelFor": 274,
}


def header() -> Path | None:
    """Find onnxruntime_c_api.h: in $ONNXRUNTIME_INCLUDE or where Debian puts it."""
    folders = [
        os.environ.get("ONNXRUNTIME_INCLUDE", ""),
        "/usr/include/onnxruntime",
        "/usr/local/include/onnxruntime",
    ]
    found = [path for folder in folders if folder for path in Path(folder).rglob("onnxruntime_c_api.h")]
    return found[0] if found else None


def test_slots_are_those_of_the_table() -> None:
    text = (NATIVE / "abi.h").read_text(encoding="utf-8")
    declared = [
        int(number)
        for number in re.findall(r"^  k\w+ = (\d+),$", text.split("enum Slot")[1].split("};")[0], re.M)
    ]
    assert declared == sorted(SLOTS.values())


def test_slots_are_those_of_the_headers(tmp_path: Path) -> None:
    place, compiler = header(), shutil.which("c++")
    if place is None or compiler is None:
        pytest.skip("the headers of onnxruntime are not installed (ONNXRUNTIME_INCLUDE names their folder)")
    lines = ['#include "onnxruntime_c_api.h"', "#include <cstddef>"]
    lines += [
        f'static_assert(offsetof(OrtApi, {name}) == {slot} * sizeof(void*), "{name}");'
        for name, slot in SLOTS.items()
    ]
    lines += [
        f'static_assert(offsetof(OrtCustomOp, {name}) == {word} * sizeof(void*), "{name}");'
        for name, word in MEMBERS.items()
    ]
    source = tmp_path / "check.cpp"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [compiler, "-w", "-fsyntax-only", f"-I{place.parent}", str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
