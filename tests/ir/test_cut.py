"""Cutting parts out of graphs; and what holds for every model: attributes, taps, tables, records, weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import EnvironmentFailure, InputError, InternalError
from snnc.ir import files, hosting, read_tensor, table_rows, tensors, to_bytes, to_text
from snnc.ir.bodies import body_of
from snnc.ir.cut import Known, bypass, cut_out
from snnc.ir.edit import as_attribute
from snnc.ir.host_nodes import reopened
from snnc.ir.provenance import keep_provenance
from snnc.ir.taps import with_outputs
from snnc.ir.weights import take_weights

X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
CHAIN = "a = Neg(x) b = Abs(a) c = Add(b, w) d = MatMul(c, m) y = Relu(d)"


def parsed(body: str, outputs: str = "float[N, 2] y", more: str = "") -> ir.Model:
    held = f"float[3] w = {{1, 2, 3}}, float[3, 2] m = {{1, 2, 3, 4, 5, 6}}{more}"
    header = '<ir_version: 10, opset_import: ["" : 17]>'
    return ir.from_proto(
        onnx.parser.parse_model(f"{header} g (float[N, 3] x) => ({outputs}) <{held}> {{ {body} }}")
    )


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(to_bytes(model))
    return dict(zip([entry.name for entry in session.get_outputs()], session.run(None, feeds), strict=True))


def known(**values: np.ndarray) -> dict[str, Known]:
    return {name: Known(array, ("N", *array.shape[1:])) for name, array in values.items()}


# --- cut_out and bypass ---


@pytest.mark.parametrize("constants", [False, True])
def test_a_part_computes_what_the_whole_does(constants: bool) -> None:
    model = parsed(CHAIN)
    before = {"b": np.abs(X), "y": run(model, {"x": X})["y"]}
    part = cut_out(model, [2, 3, 4], ["y"], known(**before), constants=constants)
    assert part is not None and [node.op_type for node in part.graph] == ["Add", "MatMul", "Relu"]
    assert [value.name for value in part.graph.inputs] == ([] if constants else ["b"])
    found = run(part, {} if constants else {"b": before["b"]})
    np.testing.assert_array_equal(found["y"], before["y"])
    assert next(node.op_type for node in model.graph) == "Neg"


@pytest.mark.parametrize(
    ("keep", "outputs", "given"),
    [
        ([2, 3, 4], ["y"], []),  # what is cut is not known
        ([2], ["y"], ["b"]),  # the output is computed by a node that goes
        ([2, 3], ["c"], ["b"]),  # nobody knows the type of the new output
        ([0], ["nowhere"], []),
    ],
)
def test_what_cannot_be_cut(keep: list[int], outputs: list[str], given: list[str]) -> None:
    values = {name: array for name, array in {"b": np.abs(X)}.items() if name in given}
    assert cut_out(parsed(CHAIN), keep, outputs, known(**values)) is None


def test_an_output_without_a_type_gets_the_known_one() -> None:
    part = cut_out(parsed(CHAIN), [2], ["c"], known(b=np.abs(X), c=X))
    assert part is not None
    (output,) = part.graph.outputs
    assert (output.name, output.dtype, list(output.shape or ())) == ("c", ir.DataType.FLOAT, ["N", 3])


@pytest.mark.parametrize("branch", ["a", "w"])
def test_what_a_branch_reads_stays(branch: str) -> None:
    text = (
        "a = Neg(x) b = Abs(x) k = ReduceMax<keepdims = 0>(x) o = Greater(k, zero) "
        "t = If(o) <then_branch = p () => (float[N, 3] q) { q = Identity(a) }, "
        "else_branch = r () => (float[N, 3] s) { s = Add(a, w) }> y = MatMul(t, m)"
    )
    model = parsed(text, more=", float zero = {0}")
    part = cut_out(model, [0, 2, 3, 4, 5], ["y"], {})
    assert part is not None and next(node.op_type for node in part.graph) == "Neg"
    assert "w" in part.graph.initializers
    np.testing.assert_array_equal(run(part, {"x": X})["y"], run(model, {"x": X})["y"])
    # What only the branches read has to be known too where it is cut.
    assert cut_out(model, [2, 3, 4, 5], ["y"], {}) is None


def test_a_node_is_bypassed_by_the_input_of_its_shape() -> None:
    model = parsed(CHAIN)
    values = known(x=X, a=-X, b=np.abs(X), c=np.abs(X) + 1, d=np.zeros((2, 2), np.float32))
    part = bypass(model, 2, values)
    assert part is not None and [node.op_type for node in part.graph] == ["Neg", "Abs", "MatMul", "Relu"]
    assert bypass(model, 3, values) is None  # of another shape
    assert bypass(model, 4, values) is None  # an output of the graph
    assert bypass(model, 2, known(c=np.abs(X))) is None  # no input is known
    assert bypass(model, 1, {}) is None


# --- attributes, names, records ---


def test_arrays_are_attributes_and_lines() -> None:
    attr = as_attribute("value", np.arange(6, dtype=np.int64).reshape(2, 3))
    assert attr.as_tensor().numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    model = parsed("k = Constant<value = float[2] {1, 2}>() d = MatMul(x, m) y = Add(d, k)")
    assert "Constant<value=float32[2]>()" in to_text(model)


def test_a_node_without_a_body() -> None:
    model = parsed(CHAIN)
    assert body_of(model.graph[0]) is None and body_of(model.graph[0], "then_branch") is None


def test_text_of_a_tensor_goes_and_its_content_stays() -> None:
    proto = ir.to_proto(parsed(CHAIN))
    proto.graph.initializer[0].doc_string = "where it was trained"
    model = ir.from_proto(proto)
    keep_provenance(model)
    name = proto.graph.initializer[0].name
    held = model.graph.initializers[name].const_value
    assert held is not None and not held.doc_string
    np.testing.assert_array_equal(held.numpy(), numpy_helper.to_array(proto.graph.initializer[0]))


@pytest.mark.parametrize("text", ["[1, 2]", '{"op": 3, "asked": "y"}', '{"op": "Erf"}', "{"])
def test_a_damaged_declaration_declares_nothing(text: str) -> None:
    node = ir.Node("", "Erf", [], name="n", metadata_props={hosting.DECLARED: text})
    assert hosting.declared(node) == {}


def test_a_node_of_no_graph_is_sealed_and_opened_again() -> None:
    node = ir.Node("", "Dropout", [], num_outputs=2, name="n")
    hosting.seal(node, "Dropout")
    assert hosting.is_sealed(node) and hosting.declared(node) == {"op": "Dropout", "asked": "Dropout"}
    made = reopened(parsed(CHAIN).graph, node, [], [("left", ir.DataType.FLOAT, None), None])
    assert (made.op_type, made.name, [value.name for value in made.outputs]) == ("Dropout", "n", ["left", ""])


def test_taps_are_outputs_once() -> None:
    tapped, _ = with_outputs(parsed(CHAIN), ["b", "y", "b"])
    assert [value.name for value in tapped.graph.output] == ["y", "b"]
    with pytest.raises(InternalError, match="no such tensor to tap"):
        with_outputs(parsed(CHAIN), ["nowhere"])


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("i = Cast<to = 7>(x) y = Gather(m, i)", {"x": 3}),
        ("i = Cast<to = 7>(x) r = Relu(m) y = Gather(r, i)", {}),
        ("k = Constant<value = float[5] {1, 2, 3, 4, 5}>() i = Cast<to = 7>(x) y = Gather(k, i)", {"x": 5}),
        ("a = Neg(x) i = Cast<to = 7>(a) y = Gather(m, i)", {}),
        ("i = Constant<value_ints = [1, 2]>() y = Gather(m, i)", {}),
    ],
)
def test_rows_of_tables(body: str, rows: dict[str, int]) -> None:
    assert table_rows(parsed(body)) == rows


# --- tensors and weights in files ---


def test_a_tensor_in_a_file_holds_numbers_of_a_size(tmp_path) -> None:
    path = tmp_path / "x.pb"
    path.write_bytes(helper.make_tensor("x", TensorProto.STRING, [1], [b"text"]).SerializeToString())
    with pytest.raises(InputError, match="expected numbers"):
        read_tensor(path)
    with path.open("wb") as stream:
        stream.truncate(tensors._LARGEST + 1)
    with pytest.raises(InputError, match="more than a tensor in a file may"):
        read_tensor(path)


def test_a_file_holds_two_gigabytes(monkeypatch) -> None:
    model = parsed(CHAIN)
    monkeypatch.setattr(files, "_MAX_PROTO_BYTES", 2**20 + 35)
    with pytest.raises(EnvironmentFailure, match="36 bytes of weights exceed one ONNX file"):
        to_bytes(model)
    monkeypatch.setattr(files, "_MAX_PROTO_BYTES", 2**20 + 36)
    assert to_bytes(model)


def large(name: str) -> TensorProto:
    return numpy_helper.from_array(np.ones(4096, np.float32), name)


def test_large_weights_are_taken_out_once_each() -> None:
    proto = ir.to_proto(parsed(CHAIN))
    proto.graph.initializer.append(large("big"))
    proto.training_info.add()
    proto.metadata_props.add(key="a", value="b")
    small, weights = take_weights(proto, {}, "m.onnx")
    assert list(weights) == ["big"] and weights["big"].size == 4096
    assert small.ByteSize() < 4096 and [entry.key for entry in small.metadata_props] == ["a"]
    assert small.ir_version == proto.ir_version and len(small.graph.node) == 5
    proto.graph.initializer.append(large("big"))
    with pytest.raises(InputError, match="two weights have this name"):
        take_weights(proto, {}, "m.onnx")


def test_a_weight_whose_content_is_of_another_size() -> None:
    proto = ir.to_proto(parsed(CHAIN))
    proto.graph.initializer.append(large("big"))
    proto.graph.initializer[-1].raw_data = b"\0" * 12
    with pytest.raises(InputError, match=r"holds 12 bytes, its shape \[4096\] tells 16384"):
        take_weights(proto, {}, "m.onnx")
