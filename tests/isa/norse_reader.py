"""Execute a NIR file with norse, sample by sample, and compare with snnc.

python norse_reader.py FILE.nir INPUTS.npy OUTPUTS.npy

As a program this is norse's side: norse is under the LGPL, so nothing of snnc imports it; `make exchange`
installs it into a folder beside snnc. What others import from here is the other side: it starts the program.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np


def main(file: Path, inputs: Path, outputs: Path) -> None:
    """Read, execute, write."""
    warnings.simplefilter("ignore")
    import nir
    import nirtorch
    import torch
    from norse.torch.utils.import_nir import _import_norse_module

    kinds = (nir.Affine, nir.Conv2d, nir.Flatten, nir.IF)
    # norse.torch.from_nir walks depth first, which meets sums before both of their sides; this one does not.
    network = nirtorch.nir_to_torch(nir.read(file), dict.fromkeys(kinds, _import_norse_module))
    found = []
    with torch.no_grad():
        for sample in np.load(inputs, allow_pickle=False):
            result, _ = network(torch.from_numpy(sample.astype(np.float32)))
            found.append(result.numpy())
    np.save(outputs, np.stack(found), allow_pickle=False)


def norse_path() -> str | None:
    """Return what the reader's path needs, or None if norse is not there."""
    beside = Path(sys.prefix) / "norse"
    if (beside / "norse").is_dir() and (beside / "nirtorch").is_dir():
        return str(beside)
    there = all(importlib.util.find_spec(name) is not None for name in ("norse", "nirtorch"))
    return "" if there else None


def difference(model: Any, data: str, folder: Path, limit: int | None = None) -> tuple[float, float]:
    """Export a network, let norse execute it, and return the largest difference and the largest output."""
    from snnc.data import load_samples
    from snnc.emit.nir_export import export_nir
    from snnc.runtimes import create

    found, runtime = export_nir(model), create("numpy", model)
    samples = load_samples(data, runtime.inputs, seed=3, limit=limit)
    (tensor,), (result,) = found.inputs, found.outputs
    wanted = {**samples, **runtime.run(samples, [tensor] if tensor not in samples else [])}
    file, inputs, outputs = (folder / name for name in ("network.nir", "inputs.npy", "outputs.npy"))
    file.write_bytes(found.content)
    np.save(inputs, wanted[tensor], allow_pickle=False)
    done = subprocess.run(
        [sys.executable, __file__, str(file), str(inputs), str(outputs)],
        env={**os.environ, "PYTHONPATH": norse_path() or os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"norse ends with {done.returncode}: {done.stderr[-2000:]}")
    logits, expected = np.load(outputs, allow_pickle=False), wanted[result]
    assert logits.shape == expected.shape
    return float(np.abs(logits - expected).max()), float(np.abs(expected).max())


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:4]))
