"""Metamorphic relations: a model written another way converts to the same network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from snnc.compile import ConvertOptions, convert
from snnc.ir import save
from snnc.runtimes import NumpyPacked
from tests.campaign import judge as rules
from tests.campaign.dialects import UNSIGNED
from tests.campaign.floats import Builder

Array = npt.NDArray[Any]
#: Families that relations are tried on; the last is one dialect.
MUTANTS = ("float tokens", "float images", "dialects")


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def identity(proto: onnx.ModelProto, random: Random) -> None:
    """An Identity behind some node."""
    graph = proto.graph
    place = random.randrange(len(graph.node))
    name = graph.node[place].output[0]
    if name in {value.name for value in graph.output}:
        return
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = f"{name}_same"
    graph.node.insert(place + 1, helper.make_node("Identity", [name], [f"{name}_same"], f"{name}_identity"))


def renamed(proto: onnx.ModelProto, random: Random) -> None:
    """Other names for everything but inputs and outputs."""
    graph = proto.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    names = sorted({name for node in graph.node for name in (*node.input, *node.output)} - kept - {""})
    random.shuffle(names)
    other = {name: f"v{index:04}" for index, name in enumerate(names)}
    for place, node in enumerate(graph.node):
        node.name = f"node {len(graph.node) - place}"
        node.input[:] = [other.get(name, name) for name in node.input]
        node.output[:] = [other.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = other.get(tensor.name, tensor.name)
    del graph.value_info[:]


def reordered(proto: onnx.ModelProto, random: Random) -> None:
    """Another order of nodes that is as good."""
    graph = proto.graph
    waiting = list(graph.node)
    known = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    ordered = []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        node = random.choice(ready)
        waiting.remove(node)
        ordered.append(node)
        known |= set(node.output)
    del graph.node[:]
    graph.node.extend(ordered)


def dead(proto: onnx.ModelProto, random: Random) -> None:
    """Nodes that nobody reads."""
    graph = proto.graph
    name = random.choice([node.output[0] for node in graph.node])
    graph.node.extend(
        [
            helper.make_node("Identity", [name], ["dead_one"], "dead_one"),
            helper.make_node("Shape", ["dead_one"], ["dead_end"], "dead_end"),
        ]
    )


def constants(proto: onnx.ModelProto, random: Random) -> None:
    """Weights as Constant nodes."""
    graph = proto.graph
    nodes = [
        helper.make_node("Constant", [], [tensor.name], f"{tensor.name}_constant", value=tensor)
        for tensor in graph.initializer
    ]
    random.shuffle(nodes)
    held = [*nodes, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.node.extend(held)


def listed(proto: onnx.ModelProto, random: Random) -> None:
    """Weights listed as inputs too, as old exporters do."""
    for tensor in proto.graph.initializer:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        proto.graph.input.append(info)


def function(proto: onnx.ModelProto, random: Random) -> None:
    """A stretch of nodes as a function of the file."""
    graph = proto.graph
    begin = random.randrange(len(graph.node))
    end = random.randrange(begin, len(graph.node)) + 1
    body = list(graph.node[begin:end])
    made = {name for node in body for name in node.output}
    inputs = list(dict.fromkeys(n for node in body for n in node.input if n and n not in made))
    rest = [name for node in (*graph.node[:begin], *graph.node[end:]) for name in node.input]
    after = {*rest, *(value.name for value in graph.output)}
    outputs = [name for node in body for name in node.output if name in after]
    entry = helper.make_function("part.of", "Stretch", inputs, outputs, body, list(proto.opset_import))
    call = helper.make_node("Stretch", inputs, outputs, "stretch", domain="part.of")
    nodes = [*graph.node[:begin], call, *graph.node[end:]]
    del graph.node[:]
    graph.node.extend(nodes)
    proto.functions.append(entry)
    proto.opset_import.append(helper.make_opsetid("part.of", 1))


def watched(proto: onnx.ModelProto, random: Random) -> None:
    """Types and shapes of all values written down."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    proto.graph.value_info.extend(inferred.graph.value_info)


WRITTEN: dict[str, Callable[[onnx.ModelProto, Random], None]] = {
    "identity": identity,
    "renamed": renamed,
    "reordered": reordered,
    "dead code": dead,
    "constants": constants,
    "listed inputs": listed,
    "function": function,
    "value info": watched,
}


def mutants_of(family: str) -> tuple[str, ...]:
    """Names of the relations of a family."""
    common = (*WRITTEN, "external data", "twice", "batch")
    return (*common, "hidden order", "powers of two") if family == "dialects" else common


def relations(family: str, seed: int) -> dict[str, Any]:
    """Try every relation on one network; the outputs must have the same bits."""
    random = Random(seed)
    calibration: dict[str, Array] | None = None
    dialect = "qcdq" if seed % 2 else "round-clamp"
    if family == "dialects":
        made, proto = rules.dressed(seed, dialect, unsigned=dialect in UNSIGNED)
        feeds, options = {"x": rules.samples_of(made)}, ConvertOptions()
    else:
        builder = Builder(rules.choices(seed), family == "float tokens")
        proto = builder.build()
        calibration, options = builder.samples(24, 1), ConvertOptions(4, 2)
        feeds = {name: array[:6] for name, array in calibration.items()}

    def outputs(changed: onnx.ModelProto, *, external: bool = False) -> tuple[list[Array], Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            onnx.save(
                copied(changed), path, save_as_external_data=external, location="net.data", size_threshold=0
            )
            model = convert(path, options, calibration=calibration).model
        return list(NumpyPacked(model).run(feeds).values()), model

    wanted, model = outputs(proto)

    def same(name: str, found: list[Array]) -> None:
        for one, other in zip(wanted, found, strict=True):
            assert one.shape == other.shape, f"{name}: shapes {one.shape}, {other.shape}"
            different = int(np.count_nonzero(one.view(np.int32) != other.view(np.int32)))
            assert not different, f"{name}: {different} of {one.size} numbers differ"

    for name, change in WRITTEN.items():
        changed = copied(proto)
        change(changed, random)
        same(name, outputs(changed)[0])
    same("external data", outputs(proto, external=True)[0])
    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for one in (model, outputs(proto)[1]):
            save(one, Path(folder) / "m.onnx")
            contents.append((Path(folder) / "m.onnx").read_bytes())
            (Path(folder) / "m.onnx").unlink()
        assert contents[0] == contents[1], "twice: other bytes"
    runtime = NumpyPacked(model)
    count = len(next(iter(feeds.values())))
    parts = [runtime.run({name: array[i : i + 1] for name, array in feeds.items()}) for i in range(count)]
    same("batch", [np.concatenate([part[name] for part in parts]) for name in parts[0]])
    if family == "dialects":
        unsigned = dialect in UNSIGNED
        same("hidden order", outputs(rules.dressed(seed, dialect, unsigned=unsigned, permuted=True)[1])[0])
        same("powers of two", outputs(rules.dressed(seed, dialect, unsigned=unsigned, power=3)[1])[0])
    return {"samples": count * (len(mutants_of(family)))}
