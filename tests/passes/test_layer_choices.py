"""Which codes and weights a rule means: names and roles, and rules that match nothing."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.errors import UsageError
from snnc.passes.layers import Chooser, book_of
from snnc.passes.recognise.check_layers import CheckLayers, places

TEXT = """g (float[N, 4, 6] x) => (float[N, 4, 3] y)
<float[6, 6] q.weight, float[6, 6] k.weight, float[6, 3] head.weight, float[6] scale, float[6] shift,
 float third = {0.33}, float[6] bias>
{
  [stem] a0 = MatMul(x, stem.weight)
  [stem_bias] a = Add(a0, bias)
  [norm] n = LayerNormalization<axis = -1>(a, scale, shift)
  [q] qs = MatMul(n, q.weight)
  [k] ks = MatMul(n, k.weight)
  [turn] kt = Transpose<perm = [0, 2, 1]>(ks)
  [scores] s = MatMul(qs, kt)
  [scaled] t = Mul(s, third)
  [attention] p = Softmax<axis = -1>(t)
  [mixed] m = MatMul(p, qs)
  [head] y = MatMul(m, head.weight)
}"""


@pytest.fixture(name="network")
def network_fixture(parse):
    text = TEXT
    shapes = {"q.weight": (6, 6), "k.weight": (6, 6), "head.weight": (6, 3), "scale": (6,), "shift": (6,)}
    for name, shape in {**shapes, "bias": (6,), "stem.weight": (6, 6)}.items():
        numbers = ", ".join(["1"] * int(np.prod(shape)))
        form = f"float[{', '.join(map(str, shape))}] {name.replace('.', '_')}"
        if f"] {name}" in text:
            text = text.replace(f"float[{', '.join(map(str, shape))}] {name}", f"{form} = {{{numbers}}}")
        else:
            text = text.replace("float third", f"{form} = {{{numbers}}}, float third")
        text = text.replace(f", {name})", f", {name.replace('.', '_')})")
    return parse(text)


def value(model, name):
    return next(out for node in model.graph for out in node.outputs if out.name == name)


@pytest.mark.parametrize(
    ("name", "roles", "known"),
    [
        ("a", {"first"}, {"stem", "stem_bias", "stem_weight", "bias", "a0", "a", "a_code"}),
        ("n", {"norm"}, {"norm", "scale", "shift", "n_code"}),
        ("qs", {"operand"}, {"q", "q_weight", "qs_code"}),
        ("ks", {"operand"}, {"k", "ks_code"}),
        ("p", {"attention"}, {"attention", "p.code"}),
        ("m", {"last"}, {"mixed", "m_code"}),
    ],
)
def test_codes_have_names_and_roles(network, name, roles, known):
    place = Chooser(network, ()).place_of_code(value(network, name))
    assert place.roles == roles
    assert known <= place.names


@pytest.mark.parametrize(
    ("name", "roles", "known"),
    [
        ("stem", {"first"}, {"stem", "stem_weight", "stem_bias", "bias"}),
        ("q", {"hidden"}, {"q", "q_weight"}),
        ("head", {"last"}, {"head", "head_weight", "y"}),
    ],
)
def test_weights_have_names_and_roles(network, name, roles, known):
    place = Chooser(network, ()).place_of_weights(network.graph.node(name))
    assert place.roles == roles
    assert known <= place.names


def test_a_later_rule_wins_and_without_rules_nothing_is_chosen(network):
    rules = ("*:timesteps=5", "norm:timesteps=3,groups=2", "*:role=last,timesteps=7")
    chooser = Chooser(network, rules)
    assert chooser.code(value(network, "n"))["timesteps"] == 3
    assert chooser.code(value(network, "qs"))["timesteps"] == 5
    assert chooser.code(value(network, "m"))["timesteps"] == 7
    assert Chooser(network, ()).code(value(network, "n")) == {}
    assert Chooser(network, ()).weights(network.graph.node("q")) == {}


def test_modules_of_the_exporter_are_names(network):
    node = network.graph.node("q")
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'blocks.0', 'blocks.0.attn']"
    node.metadata_props["snnc.source"] = "query.replaced"
    names = Chooser(network, ()).place_of_weights(node).names
    assert {"blocks.0", "blocks.0.attn", "query"} <= names and "" not in names
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "no list ["
    assert "blocks.0" not in Chooser(network, ()).place_of_weights(node).names


def test_groups_are_at_most_the_time_steps():
    book = book_of({"timesteps": 2}, 8, 4, "interleaved", signed=True, tensor="t")
    assert (book.timesteps, book.groups, book.signed) == (2, 2, True)
    chosen = book_of({"groups": 3, "partition": "contiguous"}, 8, 4, "interleaved", signed=False, tensor="t")
    assert (chosen.timesteps, chosen.groups, chosen.partition) == (8, 3, "contiguous")
    with pytest.raises(UsageError, match="a rule asks for 5 groups of 2 time-steps") as caught:
        book_of({"timesteps": 2, "groups": 5}, 8, 4, "interleaved", signed=False, tensor="t")
    assert (caught.value.code, caught.value.where.tensor) == ("SNN277", "t")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("hed:weights=int4", "matches no layer with float weights; did you mean"),
        ("*:role=attention,weights=int4", "matches no layer with float weights; their roles are"),
        ("zzzzzzzz:weights=int4", "; there are stem, q, k and others"),
    ],
)
def test_a_rule_that_matches_nothing_is_refused(network, rule, message):
    with pytest.raises(UsageError) as caught:
        CheckLayers((rule,)).run(network)
    assert caught.value.code == "SNN276"
    assert message in str(caught.value)


def test_a_rule_for_a_network_without_layers_is_refused(parse):
    model = parse("g (float[N, 2] x) => (float[N, 2] y) { y = Neg(x) }")
    with pytest.raises(UsageError) as caught:
        CheckLayers(("*:weights=int4",)).run(model)
    wanted = "matches no layer with float weights; integer weights of the source stay as they are"
    assert caught.value.message.endswith(wanted)


def test_a_rule_that_matches_is_counted(network):
    result = CheckLayers(("q:weights=int4",)).run(network)
    assert result.notes and result.notes[0].endswith("1 layers with float weights")
    assert not CheckLayers().run(network).notes
    assert [place.name for place in places(network)[1]] == ["stem", "q", "k", "head"]
