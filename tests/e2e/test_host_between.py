"""Nodes on the host in the middle of a network: the words hand over to the host, and go on behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.compile import ConvertOptions, convert
from snnc.emit.compiled import compile_program
from snnc.errors import InputError
from snnc.ir import save
from snnc.isa.arch import Arch
from snnc.isa.codec import Instruction, encode_all
from snnc.isa.proofs import prove
from snnc.runtimes import create
from snnc.runtimes.common import one_sample
from tests.e2e.test_allow_host import NORMALISED, OLD, RECURRENT, RESIZED, WINDOWS, data

CASES = [
    (RESIZED, 18, (3, 8, 8), ("Resize", "Softmax", "n_l")),
    (WINDOWS, 13, (8, 8, 8), ("n_d", "AveragePool")),
    (RECURRENT, 14, (6, 8), ("LSTM", "Sin", "TopK")),
    (NORMALISED, 20, (6, 8), ("Gelu", "n_y", "ArgMax")),
    (NORMALISED, 20, (6, 8), ("LayerNormalization", "Softmax", "ArgMax")),
    (OLD, 9, (3, 5, 5), ("n_u", "n_s")),
]


def converted(network: Any, tmp_path: Path, case: tuple[Any, ...]) -> tuple[Any, Any]:
    text, opset, shape, allowed = case
    samples = data(tmp_path, *shape)
    options = ConvertOptions(calibrate=str(tmp_path / "x.npz"), allow_host=allowed)
    return convert(network(text, opset), options).model, {"x": samples}


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=["resize", "windows", "recurrent", "gelu", "norm", "old"])
def test_the_machine_goes_on_behind_the_host(tmp_path, network, case, cores):
    model, feeds = converted(network, tmp_path, case)
    made = compile_program(model, Arch(cores=cores))
    runtime = made.runtime()
    sample = one_sample(feeds, runtime.inputs)
    reference = create("numpy", model)
    names = [name for name in runtime.tensors if name not in reference.outputs]
    wanted = reference.run(sample, names)
    for seed in (None, 5):
        found = made.runtime(seed=seed, order="serial" if seed else "parallel").run(sample, names)
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name].reshape(array.shape), array)
    # Every op of the spike dialect that is no host op runs on the machine.
    spiking = {
        n.name for n in model.graph if n.domain == "ai.snnc" and n.op_type.startswith(("Spike", "ExpG"))
    }
    assert spiking and spiking <= {line.node for line in made.program.lines}
    used = {item.name for item in made.program.instructions}
    late = [port for port in made.program.inputs if port.late]
    assert bool(late) == ({"HGET", "HPUT"} <= used)


def test_somebody_stands_between(tmp_path, network):
    model, feeds = converted(network, tmp_path, CASES[0])
    made = compile_program(model)
    program = made.program
    (port,) = [port for port in program.inputs if port.late]
    instructions = list(program.instructions)
    place = next(i for i, item in enumerate(instructions) if item.name == "HPUT")
    assert program.inputs[instructions[place].fields["port"]] is port
    assert {"n_z", "n_s", "n_l"} & set(program.host[1])
    # What waits for the host behind it is later than what came before.
    assert program.latency > 4
    runtime = made.runtime()
    with pytest.raises(InputError, match="SNN367"):
        runtime.machine.run(runtime.ports(one_sample(feeds, runtime.inputs)))
    # Without it the tensor is read before anybody has written it.
    item = instructions[place]
    instructions[place] = Instruction("NOP", {}, item.queue, item.pop, item.push)
    found = prove(encode_all(instructions), program.arch, len(program.image), program.inputs)
    assert "unset" in {finding.kind for finding in found}


def test_a_bundle_with_the_host_between(tmp_path, network, monkeypatch):
    from click.testing import CliRunner

    from snnc.cli.group import cli

    model, _ = converted(network, tmp_path, CASES[3])
    save(model, tmp_path / "net.snn.onnx")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, list(arguments))

    assert run("emit", "net.snn.onnx", "-o", "bundle", "--data", "x.npz", "--cores", "2").exit_code == 0
    for options in ([], ["--order", "serial", "--interleaving", "3"]):
        done = run("sim", "bundle", *options)
        assert done.exit_code == 0 and "the same bits" in done.stdout
    done = run("audit", "bundle")
    assert done.exit_code == 0 and "n_e (Gelu)" in done.stdout
