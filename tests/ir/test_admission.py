"""What a parsed model must hold: both sides of every limit, by one small change of a sound model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from snnc.errors import InputError, SnncError, UnsupportedError
from snnc.ir.admission import admit, foreign_to_standard, weight_names

NEWEST = onnx.defs.onnx_opset_version()
Change = Callable[[ModelProto], object]


def node(op: str, inputs: str, output: str, *, domain: str = "", **attributes: object) -> NodeProto:
    return helper.make_node(
        op, inputs.split(), output.split(), name=f"make_{output}", domain=domain, **attributes
    )


def tensor(name: str, *values: float, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def sound(*nodes: NodeProto, opset: int = 17) -> ModelProto:
    """x is scaled, and made positive."""
    graph = helper.make_graph(
        list(nodes) or [node("Mul", "x w", "m"), node("Relu", "m", "y")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [tensor("w", 1, 2)],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])


def refusal(proto: ModelProto) -> SnncError:
    with pytest.raises((InputError, UnsupportedError)) as caught:
        admit(proto, "m.onnx")
    assert caught.value.where is not None and caught.value.where.file == "m.onnx"
    return caught.value


def dim(axis: int, value: int) -> Change:
    return lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[axis], "dim_value", value)


def opset(version: int, domain: str = "") -> Change:
    return lambda m: m.opset_import.append(helper.make_opsetid(domain, version))


def version(number: int) -> Change:
    return lambda m: setattr(m.opset_import[0], "version", number)


def attribute(*items: tuple[str, object]) -> Change:
    return lambda m: m.graph.node[0].attribute.extend(helper.make_attribute(*item) for item in items)


def listed(value: str) -> Change:
    return lambda m: m.graph.input.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [2]))


def branch(name: str, *nodes: NodeProto) -> onnx.GraphProto:
    return helper.make_graph(
        list(nodes), name, [], [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    )


def half_foreign(m: ModelProto) -> None:
    m.graph.node[0].domain = "other"
    m.opset_import.pop()


def only_foreign(m: ModelProto) -> None:
    for each in m.graph.node:
        each.domain = "other"
    m.opset_import.pop()


def standard_inside_foreign(m: ModelProto) -> None:
    only_foreign(m)
    m.graph.node[0].attribute.append(helper.make_attribute("body", branch("b", node("Neg", "x", "p"))))


SOUND: list[Change] = [
    lambda m: None,
    lambda m: setattr(m, "ir_version", 1),
    lambda m: setattr(m, "ir_version", onnx.IR_VERSION),
    version(7),
    version(NEWEST),
    opset(17),
    opset(17, "ai.onnx"),
    opset(1, "other"),
    only_foreign,
    attribute(("one", 1.0), ("two", [1.0, float("inf")])),
    dim(0, 1),
    dim(1, 1),
    listed("w"),
    lambda m: m.graph.input.add(name="w"),
    lambda m: m.graph.initializer.append(tensor("u", np.inf, -np.inf)),
    lambda m: m.graph.node.append(node("Dropout", "m", "d ")),
    lambda m: m.graph.node[0].output.append(""),
]


@pytest.mark.parametrize("number", range(len(SOUND)))
def test_sound(number: int) -> None:
    proto = sound()
    SOUND[number](proto)
    before = proto.SerializeToString(deterministic=True)
    admit(proto, "m.onnx")
    assert proto.SerializeToString(deterministic=True) == before


def behind(value: str, change: Change) -> Change:
    """A change of the first input, in front of which another one is listed."""

    def both(m: ModelProto) -> None:
        change(m)
        first = m.graph.input.pop(0)
        listed(value)(m)
        m.graph.input.append(first)

    return both


def more(op: str, inputs: str, output: str) -> Change:
    return lambda m: m.graph.node.append(node(op, inputs, output))


def sequence(field: str) -> Change:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    return lambda m: getattr(m.graph, field)[0].type.CopyFrom(kind)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda m: setattr(m, "ir_version", 0), "SNN303", "has IR version 0"),
        (lambda m: setattr(m, "ir_version", onnx.IR_VERSION + 1), "SNN303", "has IR version"),
        (version(6), "SNN303", "uses opset 6"),
        (version(NEWEST + 1), "SNN303", f"uses opset {NEWEST + 1}"),
        (opset(16, "ai.onnx"), "SNN303", "imports opsets 17 and 16 of the domain ''"),
        (lambda m: m.opset_import.pop(), "SNN303", "imports no opset"),
        (half_foreign, "SNN303", "imports no opset"),
        (standard_inside_foreign, "SNN303", "imports no opset"),
        (attribute(("one", 1), ("one", 2)), "SNN303", "has the attribute 'one' 2 times"),
        (attribute(("zero", 0), ("one", 1), ("one", 2)), "SNN303", "has the attribute 'one' 2 times"),
        (attribute(("ok", 1.0), ("bad", float("nan"))), "SNN323", "attribute bad"),
        (attribute(("bad", [1.0, float("nan"), 1.0])), "SNN323", "attribute bad"),
        (dim(0, 0), "SNN303", "takes batches of 0 samples"),
        (dim(1, 0), "SNN303", "is an input of size 0 along axis 1"),
        (dim(1, -1), "SNN303", "is an input of the shape ['n', -1]"),
        (behind("w", dim(1, 0)), "SNN303", "is an input of size 0 along axis 1"),
        (listed("x"), "SNN303", "is the name of two inputs"),
        (behind("v", listed("x")), "SNN303", "is the name of two inputs"),
        (lambda m: m.graph.input[0].ClearField("type"), "SNN303", "is an input without a type"),
        (sequence("input"), "SNN403", "is an input that is a sequence, not a tensor"),
        (sequence("output"), "SNN403", "is a sequence, not a tensor"),
        (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "SNN435", "has no shape"),
        (lambda m: m.graph.initializer.append(tensor("x", 1)), "SNN303", "has no input"),
        (lambda m: m.graph.output.pop(), "SNN303", "has no output"),
        (lambda m: m.graph.output.extend(list(m.graph.output)), "SNN303", "is the name of two outputs"),
        (lambda m: m.graph.output.extend(list(m.graph.input)), "SNN303", "is both input and output"),
        (lambda m: setattr(m.graph.output[0], "name", "z"), "SNN303", "is an output that nothing makes"),
        (lambda m: m.graph.initializer.append(tensor("w", 1)), "SNN303", "is the name of two initializers"),
        (more("Neg", "x", "m"), "SNN303", "makes 'm', which node 'make_m' makes"),
        (more("Neg", "x", "w"), "SNN303", "which an input or initializer makes"),
        (more("Neg", "x", "x"), "SNN303", "which an input or initializer makes"),
        (more("Neg", "ghost", "z"), "SNN303", "reads a tensor that nothing makes"),
        (more("Magic", "x", "z"), "SNN461", "1 parts of the model"),
        (more("Bernoulli", "x", "z"), "SNN461", "1 parts of the model"),
    ],
)
def test_refused(change: Change, code: str, words: str) -> None:
    proto = sound()
    change(proto)
    error = refusal(proto)
    assert error.code == code and words in error.message, error


def test_a_list_of_values_that_only_zip_map_makes() -> None:
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
    proto = sound(node("Relu", "x", "r"), node("ZipMap", "r", "y", domain="ai.onnx.ml"))
    proto.graph.output[0].type.CopyFrom(maps)
    error = refusal(proto)
    assert error.message == "is a sequence, not a tensor, made by ZipMap" and "zipmap" in str(error.hint)
    proto.graph.node[1].op_type = "Other"
    error = refusal(proto)
    assert error.message == "is a sequence, not a tensor" and "zipmap" not in str(error.hint)


def test_a_node_without_a_name_is_called_by_what_it_makes() -> None:
    proto = sound()
    attribute(("one", 1), ("one", 2))(proto)
    for change, label in (
        (lambda each: None, "make_m"),
        (lambda each: each.ClearField("name"), "m"),
        (lambda each: each.ClearField("output"), "Mul"),
    ):
        change(proto.graph.node[0])
        error = refusal(proto)
        assert error.where is not None and error.where.node == label


# --- order --------------------------------------------------------------------------------------------------


def test_nodes_are_sorted_and_sound_order_is_kept() -> None:
    nodes = [node("Relu", "c", "y"), node("Add", "a b", "c"), node("Neg", "x", "b"), node("Abs", "x", "a")]
    proto = sound(*nodes)
    admit(proto, "m.onnx")
    assert [each.output[0] for each in proto.graph.node] == ["b", "a", "c", "y"]
    admit(proto, "m.onnx")
    assert [each.output[0] for each in proto.graph.node] == ["b", "a", "c", "y"]
    # Of what the second node reads, one stands in front of it and one behind.
    between = sound(node("Neg", "x", "b"), node("Add", "a b", "y"), node("Abs", "x", "a"))
    admit(between, "m.onnx")
    assert [each.output[0] for each in between.graph.node] == ["b", "a", "y"]


def test_a_circle_is_named_without_what_leads_to_it() -> None:
    proto = sound(
        node("Add", "x c", "a"),
        node("Neg", "a", "b"),
        node("Abs", "b", "c"),
        node("Neg", "x", "s"),
        node("Add", "c s", "y"),
    )
    error = refusal(proto)
    assert error.code == "SNN321"
    names = error.message.removeprefix("the graph has a cycle: ").split(" -> ")
    assert names[0] == names[-1] and len(names) == 4
    start = names.index("make_a") if "make_a" in names[:-1] else 0
    assert [names[(start + i) % 3] for i in range(3)] == ["make_a", "make_b", "make_c"]


def chosen(*then: NodeProto) -> ModelProto:
    choose = node(
        "If", "c", "y", then_branch=branch("t", *then), else_branch=branch("e", node("Neg", "m", "q"))
    )
    proto = sound(choose, node("Mul", "x w", "m"))
    proto.graph.initializer.append(tensor("c", True, dtype=np.bool_))
    return proto


def then_branch(choose: NodeProto) -> onnx.GraphProto:
    return next(each.g for each in choose.attribute if each.name == "then_branch")


def test_inner_graphs_read_outer_values_and_are_sorted_too() -> None:
    proto = chosen(node("Relu", "p", "r"), node("Neg", "m", "p"))
    assert [each.op_type for each in then_branch(proto.graph.node[0]).node] == ["Relu", "Neg"]
    admit(proto, "m.onnx")
    assert [each.op_type for each in proto.graph.node] == ["Mul", "If"]
    inner = then_branch(proto.graph.node[1])
    assert [each.op_type for each in inner.node] == ["Neg", "Relu"]


@pytest.mark.parametrize(
    ("inner", "code", "words"),
    [
        (node("Neg", "ghost", "p"), "SNN303", "reads a tensor that nothing makes"),
        (node("Magic", "m", "p"), "SNN461", "1 parts"),
        (node("RandomNormalLike", "m", "p"), "SNN461", "1 parts"),
        (node("Elu", "m", "p", alpha=float("nan")), "SNN323", "attribute alpha"),
        (node("Constant", "", "p", value=tensor("", np.nan)), "SNN323", "not finite"),
    ],
)
def test_inner_graphs_are_checked(inner: NodeProto, code: str, words: str) -> None:
    error = refusal(chosen(inner))
    assert error.code == code and words in error.message


# --- operators ----------------------------------------------------------------------------------------------


def test_every_operator_that_is_refused_is_listed() -> None:
    random = node("RandomUniformLike", "b", "c")
    proto = sound(node("Magic", "x", "a"), node("Relu", "a", "b"), random, node("Gelu", "c", "y"))
    error = refusal(proto)
    assert error.message.startswith("3 parts")
    assert [problem.message for problem in error.problems] == [
        "Magic is no operator of opset 17",
        "RandomUniformLike is random: there is no reproducible reference",
        "Gelu is no operator of opset 17",
    ]


def function(name: str, *nodes: NodeProto, domain: str = "mine") -> onnx.FunctionProto:
    return helper.make_function(domain, name, ["x"], ["y"], list(nodes), [helper.make_opsetid("", 17)])


def test_operators_of_other_domains_of_functions_and_of_onnxruntime_pass() -> None:
    strange = node("Strange", "a", "b", domain="other")
    proto = sound(node("Magic", "x", "a"), strange, node("LayerNormalization", "b w", "y"), opset=11)
    proto.functions.append(function("Magic", node("Neg", "x", "y"), domain=""))
    admit(proto, "m.onnx")
    del proto.functions[:]
    assert refusal(proto).message.startswith("1 parts")
    proto.graph.node.append(node("Later", "y", "z"))
    assert refusal(proto).message.startswith("2 parts")


def test_operators_that_the_checker_does_not_know_move_to_another_domain() -> None:
    norm = node("LayerNormalization", "x w", "y")
    proto = sound(norm, node("SimplifiedLayerNormalization", "x w", "z"), node("Relu", "x", "r"), opset=16)
    foreign_to_standard(proto)
    assert [each.domain for each in proto.graph.node] == ["com.microsoft", "com.microsoft", ""]
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 16), ("com.microsoft", 1)]
    proto.graph.node[0].domain = ""
    foreign_to_standard(proto)
    assert proto.graph.node[0].domain == "com.microsoft" and len(proto.opset_import) == 2
    known = sound(norm, opset=17)
    foreign_to_standard(known)
    assert known.graph.node[0].domain == "" and len(known.opset_import) == 1
    for number, domain in ((18, "com.microsoft"), (21, "")):
        group = sound(node("GroupNormalization", "x w w", "y", num_groups=1), opset=number)
        foreign_to_standard(group)
        assert group.graph.node[0].domain == domain


# --- functions ----------------------------------------------------------------------------------------------


def tens(depth: int) -> ModelProto:
    """A call that expands to 10^depth nodes: each function calls the next ten times."""
    proto = sound(node("F0", "x", "y", domain="mine"))
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    for level in range(depth):
        last = level == depth - 1
        call = node("Neg", "x", "y") if last else node(f"F{level + 1}", "x", "y", domain="mine")
        proto.functions.append(function(f"F{level}", *[call] * 10))
        for index, each in enumerate(proto.functions[-1].node):
            each.output[0] = "y" if index == 9 else f"v{index}"
    return proto


def test_functions_may_expand_to_a_million_nodes() -> None:
    admit(tens(6), "m.onnx")
    more = tens(6)
    more.graph.node.append(node("Relu", "y", "z"))
    error = refusal(more)
    assert error.code == "SNN320" and "expand to 1,000,001 nodes" in error.message
    assert "expand to 100,000,000,000,000 nodes" in refusal(tens(14)).message
    assert "expand to about 10^15 nodes" in refusal(tens(15)).message


def test_functions_that_share_a_callee_are_no_circle() -> None:
    proto = sound(node("A", "x", "y", domain="mine"))
    proto.functions.extend(
        [
            function("A", node("B", "x", "b", domain="mine"), node("C", "b", "y", domain="mine")),
            function("B", node("C", "x", "y", domain="mine")),
            function("C", node("Neg", "x", "y")),
        ]
    )
    admit(proto, "m.onnx")
    proto.functions[2].node[0].CopyFrom(node("B", "x", "y", domain="mine"))
    error = refusal(proto)
    assert error.code == "SNN320" and "circle: mine::C -> mine::B -> mine::C" in error.message


def test_a_circle_of_functions_is_named_without_what_leads_to_it_or_lies_beside() -> None:
    proto = sound(node("Start", "x", "y", domain="mine"))
    calls = {"Start": "A", "A": "B Aside", "B": "Aside A", "Aside": "Neg"}
    for name, called in calls.items():
        body = [
            node(each, "x", f"v{i}", domain="" if each == "Neg" else "mine")
            for i, each in enumerate(called.split())
        ]
        body[-1].output[0] = "y"
        proto.functions.append(function(name, *body))
    error = refusal(proto)
    assert error.code == "SNN320" and error.message.endswith("circle: mine::A -> mine::B -> mine::A")


def test_names_of_weights() -> None:
    proto = chosen(node("Gemm", "m v", "p"))
    proto.graph.node.append(node("Where", "c mask x", "z"))
    proto.functions.append(function("F", node("Conv", "x k b", "y")))
    assert weight_names(proto) == {"m", "v", "x", "k", "b"}
