"""Several cores give the bits of one core; what orders them is proved, and nothing of it can be left out."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from snnc.data import load_samples
from snnc.emit.profile import profile
from snnc.emit.report import report
from snnc.emit.routing import routing
from snnc.errors import InputError, UnsupportedError
from snnc.isa.arch import Arch
from snnc.isa.codec import Instruction, encode_all
from snnc.isa.proofs import prove
from snnc.isa.routes import check_routes
from snnc.passes.lower.holdings import boxes
from snnc.passes.lower.sites import sites
from snnc.runtimes import create
from snnc.runtimes.expg1 import Machine

MESSAGES = ("SEND", "RECV", "SIGNAL", "AWAIT")
#: Codes and membranes do not fit and go through DRAM: cores meet there and need signals.
CROWDED = Arch(name="crowded", wmem=2048, smem=256, amem=512, tmem=2048)


def findings(made, instructions):
    program = made.program
    return prove(encode_all(instructions), program.arch, len(program.image), program.inputs)


def changed(made, index, item):
    instructions = list(made.program.instructions)
    instructions[index] = item
    return instructions


def nop(item):
    return Instruction("NOP", {}, item.queue, item.pop, item.push)


@pytest.mark.parametrize(
    ("name", "arch", "cores"),
    [
        ("residual", None, 2),
        ("residual", CROWDED, 3),
        ("attention", None, 5),
        ("attention", CROWDED, 2),
        ("fashion_transformer_t4g2.onnx", None, 4),
    ],
)
def test_every_tensor_has_the_bits_of_numpy_and_of_one_core(compiled, name, arch, cores):
    made = compiled(name, replace(arch or Arch(), cores=cores))
    one = compiled(name).runtime()
    runtime = made.runtime()
    feeds = load_samples("random:1", runtime.inputs, seed=4)
    reference = create("numpy", made.model)
    tensors = list(runtime.tensors)
    assert set(tensors) == set(one.tensors)
    wanted = reference.run(feeds, [tensor for tensor in tensors if tensor not in reference.outputs])
    for order, seed in (("parallel", None), ("serial", None), ("parallel", 1), ("serial", 2)):
        found = made.runtime(order=order, seed=seed).run(feeds, tensors)
        for tensor in {*tensors, *reference.outputs}:
            np.testing.assert_array_equal(found[tensor].reshape(wanted[tensor].shape), wanted[tensor])
    assert {step.core for step in runtime.machine.steps} == set(range(cores))
    names = {item.name for item in made.program.instructions}
    assert {"SEND", "RECV"} <= names and (arch is None or {"SIGNAL", "AWAIT"} <= names)


def test_programs_of_several_cores_are_proved_and_deterministic(compiled):
    arch = replace(CROWDED, cores=3)
    made, again = compiled("residual", arch), compiled("residual", arch, again=True)
    assert made.binary == again.binary and made.program.regions == again.program.regions
    assert findings(made, made.program.instructions) == []
    assert check_routes(made.binary, routing(made.program)) == []


def test_more_cores_are_faster_and_need_less_memory_each(compiled):
    found = {}
    for cores in (1, 4):
        made = compiled("fashion_cnn_t4g2.onnx", Arch(cores=cores))
        feeds = load_samples("random:1", made.runtime().inputs, seed=4)
        found[cores] = report(made, profile(made, feeds))
    assert found[4]["cycles"]["counted"] < 0.5 * found[1]["cycles"]["counted"]
    assert found[4]["memory_bytes"]["AMEM"]["peak"] < 0.5 * found[1]["memory_bytes"]["AMEM"]["peak"]
    assert found[4]["sops"] == found[1]["sops"] == sum(core["sops"] for core in found[4]["cores"])
    assert found[4]["latency_time_steps"] == found[1]["latency_time_steps"]
    assert min(core["utilisation"]["C"] for core in found[4]["cores"]) > 0.4
    for core in found[4]["cores"]:
        for use in core["memory_bytes"].values():
            assert use["lower_bound"] <= use["peak"] <= 1.3 * use["lower_bound"]


def test_removing_any_token_of_any_core_is_detected(compiled):
    made = compiled("residual", Arch(cores=2))
    bits = 0
    for index, item in enumerate(made.program.instructions):
        for field in ("pop", "push"):
            for token in getattr(item, field):
                tokens = {"pop": item.pop, "push": item.push}
                tokens[field] = tokens[field].replace(token, "")
                less = Instruction(item.name, item.fields, item.queue, **tokens)
                assert findings(made, changed(made, index, less)), (index, field, token)
                bits += 1
    assert bits > 50


def test_removing_either_end_of_any_message_is_detected(compiled):
    made = compiled("residual", replace(CROWDED, cores=2))
    ends = [i for i, item in enumerate(made.program.instructions) if item.name in MESSAGES]
    assert len(ends) > 20
    for index in ends:
        item = made.program.instructions[index]
        kinds = {finding.kind for finding in findings(made, changed(made, index, nop(item)))}
        assert kinds & {"stuck", "left over"}, item


def test_removing_both_ends_of_any_message_is_detected(compiled):
    """A signal less is a race; a message less is not what the routing table lists."""
    made = compiled("residual", replace(CROWDED, cores=2))
    table = routing(made.program)
    pairs: dict[int, list[int]] = {}
    for index, item in enumerate(made.program.instructions):
        if item.name in MESSAGES:
            pairs.setdefault(item.fields["tag"], []).append(index)
    signals = 0
    for both in pairs.values():
        instructions = list(made.program.instructions)
        for index in both:
            instructions[index] = nop(instructions[index])
        assert check_routes(encode_all(instructions), table)
        if made.program.instructions[both[0]].name in ("SIGNAL", "AWAIT"):
            signals += 1
            assert "race" in {finding.kind for finding in findings(made, instructions)}, both
    assert signals > 3


def test_messages_that_do_not_match_are_found(compiled):
    made = compiled("residual", Arch(cores=2))
    index, item = next((i, x) for i, x in enumerate(made.program.instructions) if x.name == "RECV")
    for field, value in (("tag", 4000), ("core", 1 - item.fields["core"]), ("core", 77)):
        wrong = Instruction(item.name, {**item.fields, field: value}, item.queue, item.pop, item.push)
        instructions = changed(made, index, wrong)
        assert {f.kind for f in findings(made, instructions)} & {"stuck", "message"}
        assert check_routes(encode_all(instructions), routing(made.program))
    wrong = Instruction(item.name, {**item.fields, "tag": 4000}, item.queue, item.pop, item.push)
    runtime = made.runtime()
    ports = runtime.ports(load_samples("random:1", runtime.inputs, seed=0))
    with pytest.raises(InputError, match="SNN368"):
        Machine(made.program, encode_all(changed(made, index, wrong))).run(ports)


def test_words_for_more_cores_than_there_are_are_refused(compiled):
    made = compiled("residual", Arch(cores=3))
    (found,) = prove(made.binary, Arch(cores=2))
    assert found.kind == "bounds" and "3 cores" in found.text


@pytest.mark.parametrize("way", ["port", "circle", "site", "load", "message", "twice", "cores", "form"])
def test_the_check_of_the_routing_table_finds_what_is_wrong(compiled, way):
    made = compiled("attention", Arch(cores=5))
    table = copy.deepcopy(routing(made.program))
    assert check_routes(made.binary, table) == []
    first = table["tables"][0]
    if way == "port":
        first["ports"] = "C" * 5
    elif way == "circle":
        for row, port in ((table["tables"][0], "E"), (table["tables"][1], "W")):
            row["ports"] = port * 5
    elif way == "site":
        table["sites"][0], table["sites"][1] = table["sites"][1], table["sites"][0]
    elif way == "load":
        table["links"][0]["bytes"] += 1
    elif way == "message":
        del table["messages"][3]
    elif way == "twice":
        table["messages"].append(table["messages"][0])
    elif way == "cores":
        table["cores"] = 4
    else:
        del table["links"]
    assert {finding.kind for finding in check_routes(made.binary, table)} == {"route"}


def test_ways_that_could_wait_for_each_other_are_found(compiled):
    """Four cores in a square, each sending two routers on, all the same way round."""
    words = []
    for core in range(4):
        there, back = (core + 2) % 4, (core - 2) % 4
        words.append(Instruction("SIGNAL", {"core": there, "tag": core}, "N"))
        words.append(Instruction("AWAIT", {"core": back, "tag": back}, "N"))
        words.append(Instruction("HALT", {"code": 0}, "C"))
    places = [[0, 0], [1, 0], [1, 1], [0, 1]]
    turns = ["CEEE", "SCSS", "WWCW", "NNNC"]
    table = {
        "cores": 4,
        "sites": places,
        "tables": [{"router": place, "ports": ports} for place, ports in zip(places, turns, strict=True)],
        "messages": [[core, core, (core + 2) % 4, 0, 0, 1] for core in range(4)],
        "links": [
            {"router": place, "port": turns[core][(core + 1) % 4], "bytes": 0}
            for core, place in enumerate(places)
        ],
    }
    (found,) = check_routes(encode_all(words), table)
    assert "circle" in found.text


def test_what_does_not_fit_a_core_is_named(compiled):
    with pytest.raises(UnsupportedError) as caught:
        compiled("residual", Arch(cores=2, amem=48))
    error = caught.value
    assert error.code == "SNN481" and "of core" in error.message and "has 48" in error.message
    assert error.where.node and "--cores" in error.hint and "--arch" in error.hint


def test_boxes_cover_what_is_true_and_nothing_else():
    dice = np.random.default_rng(3)
    for _ in range(200):
        mask = dice.random(dice.integers(1, 5, dice.integers(1, 4))) < dice.random()
        covered = np.zeros(mask.shape, int)
        for box in boxes(mask):
            covered[tuple(slice(begin, end) for begin, end in box)] += 1
        np.testing.assert_array_equal(covered, mask)


def test_cores_that_speak_much_stand_close():
    traffic = {(0, 5): 1000, (1, 4): 10, (2, 3): 1}
    found = sites(6, traffic)
    assert len(set(found)) == 6 and found == sites(6, traffic)
    assert sum(abs(a - b) for a, b in zip(found[0], found[5], strict=True)) == 1
