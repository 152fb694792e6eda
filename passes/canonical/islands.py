"""Float64 that depends on data, inside a model of another type, becomes float32."""

from __future__ import annotations

from snnc.ir import DataType, Node, Value
from snnc.ir.rewrite import set_attribute
from snnc.passes.editing import Editor, is_standard

__all__ = ["narrow_islands"]

#: Their results say how large their input is, not what it holds.
_SIZES = ("Shape", "Size")


def narrow_islands(editor: Editor) -> int:
    """Compute in float32 what is cast from data to float64, such as the mean square of a norm.

    Args:
        editor: Of the model. Sorted, without functions; types may be unknown.

    Returns:
        How many values were of float64.
    """
    dependent = {id(value) for value in editor.graph.inputs}
    doubles: set[int] = set()
    for node in list(editor.graph):
        if is_standard(node, *_SIZES) or not any(id(value) in dependent for value in node.inputs):
            continue
        dependent |= {id(value) for value in node.outputs}
        casts = is_standard(node, "Cast", "CastLike")
        if is_standard(node, "Cast") and _is_to_double(node):
            set_attribute(node, "to", int(DataType.FLOAT))
            made = list(node.outputs)
        elif not casts and any(id(value) in doubles for value in node.inputs):
            _join(editor, node, doubles)
            # Places, truth values and numbers of samples are of other types, which the model declares.
            made = [value for value in node.outputs if value.dtype in (None, DataType.DOUBLE)]
        else:
            continue
        for value in made:
            doubles.add(id(value))
            if value.dtype == DataType.DOUBLE:
                value.dtype = DataType.FLOAT
    return len(doubles)


def _is_to_double(cast: Node) -> bool:
    attribute = cast.attributes.get("to")  # any number: what names no type is refused later
    return attribute is not None and attribute.value == int(DataType.DOUBLE)


def _join(editor: Editor, node: Node, doubles: set[int]) -> None:
    """Cast what meets a narrowed value to float32; only constants and sizes are still of float64."""
    for place, value in enumerate(node.inputs):
        if value is None or id(value) in doubles or not _is_double(value):
            continue
        narrow = editor.add(
            node,
            "Cast",
            [value],
            {"to": int(DataType.FLOAT)},
            name=f"{value.name}.float32",
            shape=value.shape,
        )
        node.replace_input_with(place, narrow)


def _is_double(value: Value) -> bool:
    if value.dtype is not None:
        return value.dtype == DataType.DOUBLE
    maker = value.producer()
    if is_standard(maker, "Cast") and maker is not None:
        return _is_to_double(maker)
    held = maker.attributes.get("value") if is_standard(maker, "Constant") and maker is not None else None
    return getattr(getattr(held, "value", None), "dtype", None) == DataType.DOUBLE
