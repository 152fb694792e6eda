"""Resize by every rule for the places of the new elements: onnxruntime computes the same before and after."""

from __future__ import annotations

from typing import Any

import pytest

from snnc.passes.canonical.write_out_moves import WriteOutMoves

PLACES = [
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
    "tf_half_pixel_for_nn",
]
MODES = ['mode = "nearest"', 'mode = "linear"', 'mode = "cubic"', 'mode = "cubic", exclude_outside = 1']


def resized(parse: Any, attributes: str, height: int, width: int, opset: int = 19) -> Any:
    return parse(
        f'<ir_version: 9, opset_import: ["" : {opset}]> '
        f"g (float[N, 2, 4, 5] x) => (float[N, 2, {height}, {width}] y) "
        f"<int64[2] z = {{{height}, {width}}}> {{ y = Resize<axes = [2, 3], {attributes}>(x, , , z) }}"
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("places", PLACES)
def test_the_same_numbers(parse: Any, check: Any, ops: Any, places: str, mode: str) -> None:
    """Larger, smaller, and down to one element, where the rules differ most."""
    for height, width in ((8, 7), (3, 1)):
        model = resized(parse, f'{mode}, coordinate_transformation_mode = "{places}"', height, width)
        assert check(WriteOutMoves(), model, tolerance=1e-5).rewrites
        assert "Resize" not in ops(model)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor"])
@pytest.mark.parametrize("places", PLACES)
def test_the_nearest_element_where_places_lie_beside_one(
    parse: Any, check: Any, places: str, rounding: str
) -> None:
    """From five to three the second place is two, or less by what float32 loses."""
    for height, width in ((2, 3), (3, 4)):
        mode = f'mode = "nearest", nearest_mode = "{rounding}", coordinate_transformation_mode = "{places}"'
        assert check(WriteOutMoves(), resized(parse, mode, height, width), tolerance=0.0).rewrites


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ('antialias = 1, mode = "linear"', "it filters before it shrinks (antialias)"),
        ('nearest_mode = "middle"', "its nearest_mode is not known"),
        ('mode = "lanczos"', "its mode lanczos is not known"),
        ('coordinate_transformation_mode = "tf_crop_and_resize"', "cuts a region out"),
        ('coordinate_transformation_mode = "there"', "its coordinate_transformation_mode there is not known"),
    ],
)
def test_what_is_left_has_a_reason(parse: Any, ops: Any, attributes: str, reason: str) -> None:
    model = resized(parse, attributes, 8, 7)
    (entry,) = WriteOutMoves().run(model).not_matched
    assert reason in entry.reason
    assert ops(model) == ["Resize"]
