"""What runtimes refuse by name: inputs without samples, names that are none, words beyond the rules."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from snnc.errors import EnvironmentFailure, InputError, UnsupportedError
from snnc.ir import Model
from snnc.runtimes import NumpyPacked, OnnxRuntime, environment
from snnc.runtimes.common import InputSpec, check_inputs
from snnc.runtimes.expg1.semantics import SEMANTICS
from snnc.runtimes.nearest import _count


def parsed(text: str) -> Model:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {text}'))


@pytest.mark.parametrize("runtime", [NumpyPacked, OnnxRuntime])
@pytest.mark.parametrize("name", ["x", "z"])
def test_an_input_needs_a_sample_axis(runtime: Any, name: str) -> None:
    with pytest.raises(UnsupportedError, match="shape and a sample axis") as caught:
        _ = runtime(parsed(f"g (int32 {name}) => (int32 y) {{ y = Identity({name}) }}")).inputs
    assert (caught.value.code, caught.value.where.tensor) == ("SNN421", name)


def test_an_input_with_a_default_is_none_that_is_asked_for() -> None:
    model = parsed(
        "g (int32[N, 3] x) => (int32[N, 3] y) <int64[3] i = {1, 0, 2}> { y = Gather<axis = 1>(x, i) }"
    )
    model.graph.inputs.append(model.graph.initializers["i"])
    runtime = NumpyPacked(model)
    assert [spec.name for spec in runtime.inputs] == ["x"]
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.testing.assert_array_equal(runtime.run({"x": x})["y"], x[:, [1, 0, 2]])


def test_names_that_a_model_with_several_inputs_has_not() -> None:
    specs = [InputSpec(name, np.dtype(np.float32), (None, 2)) for name in ("a", "b")]
    x = np.zeros((1, 2), np.float32)
    with pytest.raises(InputError, match="the model has no input 'c', 'd'") as caught:
        check_inputs({"a": x, "b": x, "c": x, "d": x}, specs)
    assert caught.value.code == "SNN335"
    assert set(check_inputs({"a": x, "b": x}, specs)) == {"a", "b"}


def test_what_keeps_onnxruntime_from_starting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a version that it does not load counts as one; a package that is missing is an error."""

    def missing(*_: object, **__: object) -> None:
        raise EnvironmentFailure("SNN610", "onnxruntime is not installed")

    monkeypatch.setattr(environment, "open_session", missing)
    with pytest.raises(EnvironmentFailure, match="onnxruntime is not installed"):
        environment.onnxruntime_limits()


@pytest.mark.parametrize(("value", "count"), [("-1", 0), ("0", 1), ("1/2", 1), ("3/4", 2), ("9", 3)])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_break_points_are_counted_from_any_neighbour(value: str, count: int, start: int) -> None:
    """Points at 0 (closed), 1/2 (open) and 1 (closed)."""
    points = [SimpleNamespace(twice_midpoint=twice, closed=twice != 1) for twice in (0, 1, 2)]
    assert _count(Fraction(value), points, start) == count


def step(**fields: int) -> Any:
    return SimpleNamespace(index=7, instruction=SimpleNamespace(fields=fields))


@pytest.mark.parametrize(
    ("name", "given", "fields", "message"),
    [
        ("ISQRT", {"a": np.array([2**62])}, {}, "instruction 7: a root of what is beyond"),
        (
            "LDX",
            {"table": np.zeros((1, 1, 4, 2)), "index": np.array([0, 4]).reshape(1, 1, 1, 2)},
            {"rows": 4},
            "a row of a table of 4 rows that is not there",
        ),
        (
            "LDX",
            {"table": np.zeros((1, 1, 4, 2)), "index": np.array([-5]).reshape(1, 1, 1, 1)},
            {"rows": 4},
            "a row of a table of 4 rows that is not there",
        ),
    ],
)
def test_words_beyond_the_rules(
    name: str, given: dict[str, Any], fields: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SEMANTICS[name](step(**fields), given, False)


@pytest.mark.parametrize("number", [0, 1, 3, 4, 15, 16, 2**31, 2**62 - 1])
def test_roots_are_those_of_integers(number: int) -> None:
    root = int(SEMANTICS["ISQRT"](step(), {"a": np.array([number])}, False)[0])
    assert root == max(1, int(np.floor(np.sqrt(np.longdouble(number)))))
    assert number == 0 or root**2 <= number < (root + 1) ** 2
