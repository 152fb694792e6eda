"""write-out-moves of ScatterND, GatherND and GatherElements: onnxruntime computes the same, or the reason."""

from __future__ import annotations

from typing import Any

import pytest

from snnc.passes.canonical.write_out_moves import WriteOutMoves

WEIGHTS = (
    "int64 none = {0}, int64 one = {1}, int64[2] behind = {1, 2}, int64[2] rest = {3, 1}, "
    "int64[1] three = {3}, float[1, 1] zero = {0}, float[1, 1, 1] cube = {0}, int64[1] first = {0}, "
    "int64[1, 3, 1] columns = {0, 1, 2}, "
    "int64[1, 3, 1] again = {2, 2, 0}, int64[1, 3, 1] outside = {0, 1, 5}, int64[2, 1] rows = {-1, 0}, "
    "int64[3, 1] every = {0, 1, 2}, int64[1, 1] fourth = {3}, int64[1, 2] corner = {0, 1}, "
    "int64[1, 1, 1] row = {2}, int64[2] single = {1, 1}, "
    "int64[3, 2] cells = {0, 1, 2, -1, 0, 0}, int64[1, 3] deep = {0, 1, 0}, float step = {0.5}, int8 z = {0}"
)


def places(columns: str = "columns", samples: str = "r") -> str:
    """Return nodes that make ``places``, the numbers of a sample and of a column, of the shape of x."""
    return (
        "shape = Shape(x) n = Gather(shape, none) n1 = Gather(shape, first) "
        "extents = Concat<axis = 0>(n1, rest) whole = Concat<axis = 0>(n1, three) r = Range(none, n, one) "
        f"last = Sub(n, one) back = Sub(last, r) r3 = Unsqueeze({samples}, behind) a = Expand(r3, extents) "
        f"b = Expand({columns}, extents) b3 = Unsqueeze({samples}, behind) c = Expand(b3, extents) "
        "places = Concat<axis = -1>(a, b) diagonal = Concat<axis = -1>(a, c)"
    )


ROWS = "float[N, 3] x, float[N, 3] u"
#: The axis of rows was brought in front of the batch.
TURNED = "float[N, 3, 4] x, float[N, 2, 4] u"
TURN = (
    "t = Transpose<perm = [1, 0, 2]>(x) v = Transpose<perm = [1, 0, 2]>(u) made = Shape(t) given = Shape(v)"
)
FRONT = "t = Transpose<perm = [1, 2, 0]>(x)"
#: Inputs, body that makes s, shape of s.
SAME = {
    "some columns": (ROWS, f"{places('again')} s = ScatterND(x, places, u)", "N, 3"),
    "all columns": (ROWS, f"{places()} s = ScatterND(x, places, u)", "N, 3"),
    "all by zeros": (ROWS, f"{places()} o = Expand(zero, whole) s = ScatterND(x, places, o)", "N, 3"),
    "some by zeros": (ROWS, f"{places('again')} o = Expand(zero, whole) s = ScatterND(x, places, o)", "N, 3"),
    "zeros by some": (ROWS, f"{places('again')} o = Expand(zero, whole) s = ScatterND(o, places, u)", "N, 3"),
    "taken": (ROWS, f"{places('again')} s = GatherND(x, places)", "N, 3"),
    "taken within samples": (ROWS, f"{places('again')} s = GatherND<batch_dims = 1>(x, b)", "N, 3"),
    "rows taken": (TURNED, f"{TURN} s = GatherND(t, rows)", "2, N, 4"),
    "rows written": (TURNED, f"{TURN} s = ScatterND(t, rows, v)", "3, N, 4"),
    "rows of zeros": (TURNED, f"{TURN} o = Expand(cube, given) s = ScatterND(t, rows, o)", "3, N, 4"),
    "rows on zeros": (TURNED, f"{TURN} o = Expand(cube, made) s = ScatterND(o, rows, v)", "3, N, 4"),
    "all rows zeros": (TURNED, f"{TURN} o = Expand(cube, made) s = ScatterND(t, every, o)", "3, N, 4"),
    "cells in front": ("float[N, 3, 4] x", f"{FRONT} s = GatherND(t, cells)", "3, N"),
    "cells in front, two samples": ("float[2, 3, 4] x", f"{FRONT} s = GatherND(t, cells)", "3, 2"),
    "quantised cells in front": (
        "float[2, 3, 4] x",
        f"{FRONT} q = QuantizeLinear(t, step, z) d = DequantizeLinear(q, step, z) s = GatherND(d, cells)",
        "3, 2",
    ),
}


def built(parse: Any, inputs: str, body: str, shape: str) -> Any:
    return parse(f"g ({inputs}) => (float[{shape}] y) <{WEIGHTS}> {{ {body} y = Relu(s) }}")


@pytest.mark.parametrize(("inputs", "body", "shape"), SAME.values(), ids=SAME)
def test_the_same_numbers(parse: Any, check: Any, ops: Any, inputs: str, body: str, shape: str) -> None:
    model = built(parse, inputs, body, shape)
    assert check(WriteOutMoves(), model).rewrites
    assert not {"ScatterND", "GatherND"} & set(ops(model))


def test_what_overwrites_all_is_what_it_writes(parse: Any, check: Any, ops: Any) -> None:
    """MViTv2 adds position biases in place, to all scores where there is no class token."""
    model = built(parse, ROWS, f"{places()} s = ScatterND(x, places, u)", "N, 3")
    check(WriteOutMoves(), model)
    relu = next(node for node in model.graph if node.op_type == "Relu")
    above = {relu.inputs[0]}
    while producers := {value.producer() for value in above if value.producer() is not None}:
        assert {node.op_type for node in producers} <= {"Reshape", "Identity"}
        above = {node.inputs[0] for node in producers}
    assert {value.name for value in above} == {"u"}


NOT_ALIKE = "its places differ from sample to sample"
#: Inputs, body, reason.
REFUSED = {
    "sums": (ROWS, f'{places()} s = ScatterND<reduction = "add">(x, places, u)', "it adds to"),
    "open updates": ("float[N, 3] x, float[N, K] u", f"{places()} s = ScatterND(x, places, u)", "not static"),
    "read places": (f"{ROWS}, int64[N, 3, 2] i", "s = ScatterND(x, i, u)", "its places are not constant"),
    "computed places": (
        f"{ROWS}, float[N, 3, 2] f", "i = Cast<to = 7>(f) s = ScatterND(x, i, u)", "places are not constant",
    ),
    "of one sample": ("float[N, 3] x, float[1] u", "s = ScatterND(x, corner, u)", NOT_ALIKE),
    "samples exchanged": (ROWS, f"{places(samples='back')} s = GatherND(x, places)", NOT_ALIKE),
    "on a diagonal": ("float[N, 7] x", f"{places()} s = GatherND(x, diagonal)", NOT_ALIKE),
    "by their number": (
        ROWS,
        (
            f"{places()} d = Expand(last, extents) m = Mod(d, three) e = Concat<axis = -1>(a, m) "
            "s = GatherND(x, e)"
        ),
        NOT_ALIKE,
    ),
    "by what is read": (
        ROWS,
        f"{places()} nz = NonZero(x) k = Shape(nz) h = Gather(k, one) i = Mul(places, h) s = GatherND(x, i)",
        "its places are not constant",
    ),
    "by places outside a table": (
        ROWS,
        f"{places()} h = Gather(three, one) i = Mul(places, h) s = GatherND(x, i)",
        "its places are not constant",
    ),
    "outside": (ROWS, f"{places('outside')} s = GatherND(x, places)", "its places lie outside"),
    "two axes of samples": (
        "float[N, 3, 4] x", f"{places()} s = GatherND<batch_dims = 2>(x, b)", "it has too many elements",
    ),
    "large": ("float[N, 3000, 3000] x", f"{places()} s = GatherND(x, places)", "it has too many elements"),
    "rows of an input": (f"{TURNED}, int64[2, 1] i", f"{TURN} s = GatherND(t, i)", "places are not constant"),
    "rows outside": (TURNED, f"{TURN} s = GatherND(t, fourth)", "its places lie outside"),
    "cells of rows": (TURNED, f"{TURN} s = GatherND(t, corner)", NOT_ALIKE),
    "rows of constants": (
        TURNED,
        (
            f"{TURN} o = Expand(cube, made) p = Expand(cube, given) q = Transpose<perm = [1, 0, 2]>(o) "
            "r = Transpose<perm = [1, 0, 2]>(q) s = ScatterND(r, rows, p)"
        ),
        "it is made of constants",
    ),
    "cells outside": ("float[N, 2, 4] x", f"{FRONT} s = GatherND(t, cells)", NOT_ALIKE),
    "cells and samples": ("float[N, 3, 4] x", f"{FRONT} s = GatherND(t, deep)", NOT_ALIKE),
    "cells of none turned": ("float[3, 3, 4] x", "s = GatherND(x, cells)", NOT_ALIKE),
    "open": ("float[N, K, 4] x", "s = GatherND(x, rows)", "its sizes are not static"),
    "samples of an open one": (
        "float[N, K, 4] x", "s = GatherND<batch_dims = 1>(x, rows)", "it changes the batch",
    ),
    "elements outside": (
        "float[N, 3] x",
        f"{places()} i = Expand(fourth, whole) s = GatherElements<axis = 1>(x, i)",
        "its places lie outside",
    ),
    "elements of samples": ("float[N, 3] x", "s = GatherElements<axis = 0>(x, corner)", NOT_ALIKE),
    "elements left out": (
        "float[N, 3, 4] x",
        (
            f"{places()} few = Concat<axis = 0>(n1, single) i = Expand(row, few) "
            "s = GatherElements<axis = 2>(x, i)"
        ),
        "it leaves places out",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_left_has_a_reason(parse: Any, ops: Any, inputs: str, body: str, reason: str) -> None:
    model = built(parse, inputs, body, "A, B")
    before = ops(model)
    (entry,) = WriteOutMoves().run(model).not_matched
    assert reason in entry.reason
    assert ops(model) == before
