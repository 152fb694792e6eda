"""Encoding rules believe typing; where it proved nothing, the error names the node and is ours."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from snnc.errors import InternalError
from snnc.passes.spike.typed import given, of_kind

NODE = ir.Node("", "Conv", [], name="conv")


def test_what_is_there_is_returned() -> None:
    assert given(0, NODE) == 0
    assert of_kind("text", str, NODE) == "text"


@pytest.mark.parametrize("ask", [lambda: given(None, NODE), lambda: of_kind(1, str, NODE)])
def test_what_is_missing_is_our_bug(ask) -> None:
    with pytest.raises(InternalError) as caught:
        ask()
    assert caught.value.code == "SNN156"
    assert (caught.value.where.node, caught.value.message) == ("conv", "an untyped Conv was encoded")
