"""The words do what the numpy definition does, on every tensor, in every order."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from snnc.compile import ConvertOptions, convert
from snnc.data import load_samples
from snnc.debug.verify import coded_tensors
from snnc.emit.compiled import compile_program
from snnc.errors import InputError, UnsupportedError
from snnc.isa.arch import Arch
from snnc.isa.assembly import assemble, disassemble
from snnc.isa.codec import decode_all, encode_all
from snnc.isa.program import follow
from snnc.runtimes import NumpyPacked
from snnc.runtimes.expg1 import Machine

SHIPPED = ("fashion_cnn_t4g2.onnx", "fashion_transformer_t4g2.onnx")


def same_everywhere(made: Any, order: str, seed: int | None, samples: int = 1) -> int:
    """Compare every tensor with numpy; return how many there were."""
    runtime = made.runtime(order=order, seed=seed)
    feeds = load_samples(f"random:{samples}", runtime.inputs, seed=4)
    names = list(runtime.tensors)
    expected = NumpyPacked(made.model).run(feeds, [name for name in names if name not in runtime.outputs])
    found = runtime.run(feeds, names)
    for name in (*runtime.outputs, *names):
        assert np.array_equal(found[name].reshape(expected[name].shape), expected[name]), (order, seed, name)
    return len(names)


@pytest.mark.parametrize("small", [False, True], ids=["standard", "tiny"])
@pytest.mark.parametrize("name", ["residual", "attention"])
def test_every_tensor_is_that_of_numpy(compiled, tiny, name, small):
    made = compiled(name, tiny if small else None)
    for order, seed in (("parallel", None), ("parallel", 1), ("serial", 2)):
        assert same_everywhere(made, order, seed) >= 15
    on_machine = {
        node.outputs[0].name for node in made.model.graph if node.op_type.startswith(("Spike", "ExpGIF"))
    }
    assert on_machine <= {tap.tensor for tap in made.program.taps}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks(compiled, name):
    made = compiled(name)
    assert encode_all(assemble(disassemble(decode_all(made.binary)))) == made.binary
    assert same_everywhere(made, "parallel", None) >= 20
    assert same_everywhere(made, "serial", 7) >= 20


def test_a_small_machine_moves_more(compiled, tiny):
    large, small = compiled("residual").program, compiled("residual", tiny).program
    count = [Counter(item.name for item in program.instructions) for program in (large, small)]
    assert count[1]["LD"] > count[0]["LD"] and count[1]["ST"] > count[0]["ST"]
    for program in (large, small):
        for memory, (peak, bound) in program.bounds.items():
            assert bound <= peak <= program.arch.capacity(memory)


def test_programs_are_the_same_every_time_and_round_trip(compiled):
    made = compiled("residual")
    assert compiled("residual", again=True).binary == made.binary
    assert encode_all(assemble(disassemble(decode_all(made.binary)))) == made.binary


def test_every_instruction_names_its_node(compiled):
    made = compiled("residual")
    names = {node.name for node in made.model.graph}
    lines = made.program.lines
    assert len(lines) == len(made.program.instructions)
    assert {line.node for line in lines[:-1]} <= names
    computing = {
        node.name for node in made.model.graph if node.op_type.startswith(("Spike", "ExpGIF", "Membrane"))
    }
    assert computing <= {line.node for line in lines}


@pytest.mark.parametrize(("memory", "size"), [("wmem", 16), ("smem", 16), ("amem", 16), ("tmem", 16)])
def test_what_does_not_fit_is_named(compiled, memory, size):
    with pytest.raises(UnsupportedError) as caught:
        compiled("residual", Arch(**{memory: size}))
    error = caught.value
    assert error.code in ("SNN480", "SNN481")
    assert memory.upper() in error.message and str(size) in error.message
    assert error.where.node or error.where.tensor
    assert error.hint is not None and "--arch" in error.hint


def test_the_simulator_executes_words_and_nothing_else(compiled):
    """A changed threshold address, a changed shift, a changed sign: other results."""
    made = compiled("residual")
    runtime = made.runtime()
    feeds = load_samples("random:1", runtime.inputs, seed=0)
    ports = runtime.ports(feeds)
    right, _ = runtime.machine.run(ports)
    instructions = list(made.program.instructions)
    place = next(i for i, item in enumerate(instructions) if item.name == "SMM")
    changed = {**instructions[place].fields, "sub": 1}
    instructions[place] = type(instructions[place])(
        "SMM", changed, "C", instructions[place].pop, instructions[place].push
    )
    wrong, _ = Machine(made.program, encode_all(instructions)).run(ports)
    (name,) = right
    assert np.array_equal(wrong[name], -right[name]) and right[name].any()


def test_a_missing_token_stops_the_machine(compiled):
    made = compiled("residual")
    instructions = list(made.program.instructions)
    giver = next(i for i, item in enumerate(instructions) if item.push == "C")
    item = instructions[giver]
    instructions[giver] = type(item)(item.name, item.fields, item.queue, item.pop, "")
    runtime = made.runtime()
    ports = runtime.ports(load_samples("random:1", runtime.inputs, seed=0))
    machine = Machine(made.program, encode_all(instructions))
    for seed in (None, 3):
        with pytest.raises(InputError, match="SNN368"):
            machine.run(ports, seed=seed)


def test_inputs_beyond_the_declared_range_are_refused(compiled):
    made = compiled("residual")
    machine = made.runtime().machine
    port = made.program.inputs[0]
    for bad in (np.full(port.place.shape, port.high + 1, np.int64), np.zeros((1, 1), np.int64)):
        with pytest.raises(InputError, match="SNN367"):
            machine.write(port, bad)


def test_descriptors_that_were_never_set_are_refused(compiled):
    made = compiled("residual")
    kept = [item for item in made.program.instructions if item.name != "TDESC"]
    with pytest.raises(InputError, match="SNN365"):
        list(follow(kept))


def test_the_page_about_attention_quotes_the_program(compiled):
    path = Path(__file__).resolve().parents[2] / "docs" / "make_listing.py"
    spec = importlib.util.spec_from_file_location("make_listing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert page.count("SMM ") >= 2 and page.count("```expg1 ") == 7
    assert module.filled(page, compiled("fashion_transformer_t4g2.onnx").program) == page


def test_a_table_of_more_rows_than_an_extent_holds(net):
    """70,000 rows are two blocks of 35,000; the last rows and negative indices are found too."""
    made = net(9)
    made.inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 5]))
    rows = made.op("Gather", [made.const(made.normal(70_000, 2)), "ids"])
    coded = made.quantise(made.matmul(rows, (2, 3)), 0.3, (4, 2))
    model = made.output(made.matmul(coded, (3, 2))).model()
    converted = convert(model, ConvertOptions(calibrate="random:4")).model
    feeds = {"ids": np.array([[0, 69_999, 35_000, -1, -70_000]])}
    expected = NumpyPacked(converted).run(feeds)
    found = compile_program(converted).runtime().run(feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_codes_that_the_host_writes_can_be_tapped(net):
    made = net(11)
    code = made.quantise(made.input(["N", 2, 6, 6]), 0.2, (4, 2))
    deep = made.quantise(made.conv(code, (4, 2, 3, 3)), 0.4, (4, 2))
    model = convert(
        made.output(made.matmul(made.op("Flatten", [made.op("GlobalAveragePool", [deep])]), (4, 3))).model()
    ).model
    runtime, taps = compile_program(model).runtime(), list(coded_tensors(model))
    feeds = load_samples("random:3", runtime.inputs, seed=4)
    assert len(taps) == 2 and runtime.tensors[0] == taps[0]  # the encoder's code comes through a port
    found, wanted = runtime.run(feeds, taps), NumpyPacked(model).run(feeds, taps)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
