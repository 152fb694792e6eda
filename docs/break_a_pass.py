"""Run a command of snnc while one pass makes a deliberate mistake; the walk of docs/debugging.md uses it.

    python docs/break_a_pass.py convert vit_mnist_d64x6.onnx --calibrate calibration.npz

The pass einsum-to-matmul exchanges queries and keys in the fourth block: its scores come out transposed.
"""

from __future__ import annotations

import sys

from snnc.cli import main
from snnc.ir import Model
from snnc.passes.canonical.einsum_to_matmul import EinsumToMatmul
from snnc.pipeline import PassResult

BLOCK = "/transformer/layers.3.0/fn"


def break_it() -> None:
    """Exchange two operands behind the back of the pass."""
    run = EinsumToMatmul.run

    def broken(self: EinsumToMatmul, model: Model) -> PassResult:
        result = run(self, model)
        nodes = {node.name: node for node in model.graph}
        product, turned = nodes[f"{BLOCK}/Einsum.matmul"], nodes[f"{BLOCK}/Einsum.transpose"]
        queries, keys = product.inputs[0], turned.inputs[0]
        product.replace_input_with(0, keys)
        turned.replace_input_with(0, queries)
        return result

    EinsumToMatmul.run = broken  # type: ignore[method-assign]


if __name__ == "__main__":
    break_it()
    sys.exit(main())
