"""Weights in data files: what is read, and what is refused whatever the model says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import EnvironmentFailure, InputError
from snnc.ir import companion, constant, data_files, hard_links_allowed, load, model_digest, save
from snnc.ir import external as external_module
from snnc.ir.external import DataFiles
from snnc.runtimes import OnnxRuntime

WEIGHT = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)


def entry(tensor: TensorProto, **items: object) -> TensorProto:
    """Turn a tensor into a reference to external data."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in items.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def reference(**items: object) -> TensorProto:
    return entry(numpy_helper.from_array(WEIGHT, "w"), **items)


def product(weight: TensorProto | None, *, node: onnx.NodeProto | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(
        [*([node] if node else []), helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 48])],
        [weight] if weight is not None else [],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def written(folder: Path, location: str = "w.bin", *, offset: int = 0, **items: object) -> Path:
    """Write a model and a good data file, which the model may describe wrongly."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "w.bin").write_bytes(bytes(offset) + WEIGHT.tobytes())
    path = folder / "m.onnx"
    onnx.save(product(reference(**{"location": location, "offset": offset, **items})), path)
    return path


def held(path: Path) -> np.ndarray:
    array = constant(load(path).graph.initializers["w"])
    assert array is not None
    return array


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(path) in str(caught.value) and caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize("length", [None, WEIGHT.nbytes])
def test_external_weights_are_mapped_and_equal_inline_ones(tmp_path: Path, length: int | None) -> None:
    path = written(tmp_path, offset=4096, **({} if length is None else {"length": length}))
    inline = tmp_path / "inline.onnx"
    onnx.save(product(numpy_helper.from_array(WEIGHT, "w")), inline)
    assert np.array_equal(held(path), WEIGHT) and not held(path).flags.owndata
    assert model_digest(load(path)) == model_digest(load(inline))
    assert data_files(load(path)) == (tmp_path / "w.bin",) and data_files(load(inline)) == ()
    x = {"x": np.ones((1, 64), np.float32)}
    results = [OnnxRuntime(each).run(x)["y"] for each in (path, inline)]
    assert np.array_equal(*results)


def test_sixteen_bit_and_four_bit_types_are_read(tmp_path: Path) -> None:
    four = onnx.TensorProto(name="w", dims=[64, 48], data_type=TensorProto.INT4)
    (tmp_path / "w.bin").write_bytes(bytes(range(256)) * 6)
    path = tmp_path / "m.onnx"
    onnx.save(product(entry(four, location="w.bin", length=1536)), path)
    array = held(path)
    assert array.shape == (64, 48) and array.reshape(-1)[:4].astype(int).tolist() == [0, 0, 1, 0]


def files_of(folder: Path) -> DataFiles:
    """The data files of a model that was not admitted before, as any caller may ask for them."""
    (folder / "m.onnx").touch()
    return DataFiles(folder / "m.onnx")


@pytest.mark.parametrize(("kind", "bits"), [("UINT2", 2), ("INT4", 4), ("FLOAT4E2M1", 4), ("FLOAT8E8M0", 8)])
def test_packed_types_take_as_many_bytes_as_they_need(tmp_path: Path, kind: str, bits: int) -> None:
    """An odd number of elements, in a file that ends with them."""
    weight = onnx.TensorProto(name="w", dims=[13], data_type=TensorProto.DataType.Value(kind))
    size = -(-13 * bits // 8)
    for found in (size, size - 1):
        (tmp_path / "w.bin").write_bytes(bytes(found))
        proto = onnx.ModelProto()
        proto.graph.initializer.append(entry(weight, location="w.bin"))
        if found == size:
            files_of(tmp_path).attach(proto)
            assert proto.graph.initializer[0].raw_data == bytes(size)
        else:
            with pytest.raises(InputError, match=f"needs bytes 0 to {size} .* which has {found}"):
                files_of(tmp_path).attach(proto)


def test_text_in_a_data_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(1024))
    proto = onnx.ModelProto()
    weight = onnx.TensorProto(name="w", dims=[2], data_type=TensorProto.STRING)
    proto.graph.initializer.append(entry(weight, location="w.bin"))
    with pytest.raises(InputError, match=r"SNN307.*keeps strings in external data"):
        files_of(tmp_path).attach(proto)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_numbers_in_a_data_file_that_are_none(tmp_path: Path, value: float) -> None:
    """Weights are finite; of what no product reads, a mask, infinity may be part."""
    proto = onnx.ModelProto()
    for name in ("w", "mask"):
        array = np.array([1.0, value], np.float32)
        (tmp_path / name).write_bytes(array.tobytes())
        proto.graph.initializer.append(entry(numpy_helper.from_array(array, name), location=name))
    with pytest.raises(InputError, match=r"SNN323.*'w'.*1 value that is not finite, the first at \[1\]"):
        files_of(tmp_path).attach(proto, ["w"])
    if np.isinf(value):
        arrays = files_of(tmp_path).attach(proto)
        assert [array.tolist() for array in arrays.values()] == [[1.0, value]] * 2
    else:
        with pytest.raises(InputError, match="SNN323"):
            files_of(tmp_path).attach(proto)


@pytest.mark.parametrize("dims", [[-1], [2, -3], [-2, -3]])
def test_a_tensor_of_a_negative_size_is_refused(tmp_path: Path, dims: list[int]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64))
    proto = onnx.ModelProto()
    weight = onnx.TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT)
    proto.graph.initializer.append(entry(weight, location="w.bin"))
    with pytest.raises(InputError, match=r"SNN303.*has the shape"):
        files_of(tmp_path).attach(proto)
    proto.graph.initializer[0].dims[:] = [0, 3]
    (found,) = files_of(tmp_path).attach(proto).values()
    assert found.shape == (0, 3)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("../w.bin", "SNN307"),
        ("sub/../../w.bin", "SNN307"),
        ("", "SNN307"),
        ("a\0b", "SNN307"),
        ("C:\\w.bin", "SNN307"),
        ("/etc/hostname", "SNN307"),
        ("absent.bin", "SNN304"),
        ("m.onnx", "SNN307"),
        ("pipe", "SNN307"),
        ("folder", "SNN307"),
        ("loop", "SNN307"),
        ("empty.bin", "SNN308"),
    ],
)
def test_other_places_are_refused(tmp_path: Path, location: str, code: str) -> None:
    folder = tmp_path / "model"
    path = written(folder, location)
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    (folder / "sub").mkdir()
    (folder / "folder").mkdir()
    (folder / "empty.bin").touch()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    assert refused(path).code == code


def in_attribute(weight: TensorProto) -> onnx.ModelProto:
    return product(None, node=helper.make_node("Constant", [], ["w"], value=weight))


def in_sparse(weight: TensorProto) -> onnx.ModelProto:
    model = product(numpy_helper.from_array(WEIGHT, "w"))
    sparse = model.graph.sparse_initializer.add(dims=[64, 48])
    sparse.values.CopyFrom(weight)
    sparse.values.name = "s"
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(WEIGHT.size), "places"))
    return model


def in_subgraph(weight: TensorProto) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 48])
    branch = helper.make_graph([], "branch", [], [output], [weight])
    node = helper.make_node("If", ["condition"], ["w"], then_branch=branch, else_branch=branch)
    model = product(None, node=node)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    return model


def in_function(weight: TensorProto) -> onnx.ModelProto:
    model = product(numpy_helper.from_array(WEIGHT, "w"))
    body = [helper.make_node("Constant", [], ["v"], value=weight)]
    function = helper.make_function("local", "F", [], ["v"], body, [helper.make_opsetid("", 17)])
    model.functions.append(function)
    return model


@pytest.mark.parametrize("place", [product, in_attribute, in_sparse, in_subgraph, in_function])
def test_no_tensor_anywhere_reaches_outside(
    tmp_path: Path, place: Callable[[TensorProto], onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    path.write_bytes(place(reference(location="../secret")).SerializeToString())
    opened: list[str] = []
    real_open = os.open

    def watched(name: str, *rest: int, **more: int) -> int:
        opened.append(os.fspath(name))
        return real_open(name, *rest, **more)

    monkeypatch.setattr(os, "open", watched)
    assert refused(path).code == "SNN307"
    assert not any("secret" in name for name in opened)


def test_constants_with_external_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    path = tmp_path / "m.onnx"
    onnx.save(in_attribute(reference(location="w.bin")), path)
    model = load(path)
    array = constant(next(iter(model.graph)).outputs[0])
    assert array is not None and np.array_equal(array, WEIGHT)


def attached(folder: Path, tensor: TensorProto, *, init: bool) -> None:
    """Read a tensor's data though nobody has looked at the tensor before."""
    proto = onnx.ModelProto()
    if init:
        proto.graph.initializer.append(tensor)
    else:
        proto.graph.node.add(op_type="Constant").attribute.add(name="value").t.CopyFrom(tensor)
    DataFiles(folder / "m.onnx").attach(proto)


def test_a_tensor_that_nobody_has_checked_is_refused(tmp_path: Path) -> None:
    """Admission has seen types and shapes; whoever reads data without it gets no crash, and no bytes."""
    written(tmp_path)
    for change, text in (
        ({"data_type": 99}, "has the unknown element type 99"),
        ({"dims": [-64, -48]}, r"has the shape \[-64, -48\]"),
    ):
        tensor = reference(location="w.bin")
        tensor.ClearField("dims" if "dims" in change else "data_type")
        tensor.MergeFrom(TensorProto(**change))
        for init in (True, False):
            with pytest.raises(InputError, match=text) as caught:
                attached(tmp_path, tensor, init=init)
            assert caught.value.code == "SNN303"


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = written(tmp_path), os.open

    def closed(file: object, *rest: object, **options: object) -> int:
        if str(file).endswith("w.bin"):
            raise PermissionError(13, "Permission denied")
        return real(file, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(EnvironmentFailure, match=r"no permission to read its data file 'w\.bin'") as caught:
        load(path)
    assert caught.value.code == "SNN601"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_to_outside_are_refused(tmp_path: Path, kind: str) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "w.bin").write_bytes(WEIGHT.tobytes())
    path = written(tmp_path / "model", "link.bin" if kind == "file" else "link/w.bin")
    (path.parent / ("link.bin" if kind == "file" else "link")).symlink_to(
        secrets / "w.bin" if kind == "file" else secrets
    )
    assert refused(path).code == "SNN307"


def test_hard_links_are_read_only_when_allowed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    path = written(tmp_path / "model", "hard.bin")
    os.link(tmp_path / "secret", path.parent / "hard.bin")
    assert "--allow-hardlinks" in str(refused(path))
    with hard_links_allowed():
        assert np.array_equal(held(path), WEIGHT)
    refused(path)


def test_the_cache_of_a_model_hub_is_read(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain")
    blobs, snapshot = tmp_path / "cache/blobs", tmp_path / "cache/snapshots/f00/onnx"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name, blob in (("m.onnx", "aa11"), ("w.bin", "bb22")):
        shutil.copy(plain.parent / name, blobs / blob)
        (snapshot / name).symlink_to(f"../../../blobs/{blob}")
    assert np.array_equal(held(snapshot / "m.onnx"), WEIGHT)
    assert model_digest(load(snapshot / "m.onnx")) == model_digest(load(plain))
    (snapshot / "w.bin").unlink()
    (tmp_path / "cache/w.bin").write_bytes(WEIGHT.tobytes())
    (snapshot / "w.bin").symlink_to("../../../w.bin")
    assert refused(snapshot / "m.onnx").code == "SNN307"


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ({"offset": -4}, "SNN308"),
        ({"offset": "1e3"}, "SNN308"),
        ({"offset": 4}, "SNN308"),
        ({"offset": 2**62}, "SNN308"),
        ({"length": 2**50}, "SNN308"),
        ({"length": WEIGHT.nbytes - 4}, "SNN308"),
        ({"length": WEIGHT.nbytes + 4}, "SNN308"),
        ({"basepath": "/etc"}, "SNN307"),
        ({"__class__": "x"}, "SNN307"),
    ],
)
def test_wrong_places_in_the_file_are_refused(tmp_path: Path, items: dict[str, object], code: str) -> None:
    path = written(tmp_path)
    onnx.save(product(reference(**{"location": "w.bin", **items})), path)
    error = refused(path)
    assert error.code == code and error.where.tensor == "w"


def test_numbers_of_more_than_nineteen_digits_are_none(tmp_path: Path) -> None:
    path = written(tmp_path)
    for digits, words in ((19, f"needs bytes {'9' * 19}"), (20, "has the offset '9")):
        onnx.save(product(reference(location="w.bin", offset="9" * digits)), path)
        assert words in str(refused(path))


def test_a_short_file_without_a_length_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes()[:-1])
    assert refused(path).code == "SNN308"


def test_a_file_swapped_for_a_link_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    path = written(tmp_path / "model")
    contained = external_module.DataFiles._contained

    def swap(self: external_module.DataFiles, *arguments: object) -> None:
        contained(self, *arguments)  # type: ignore[arg-type]
        data = path.parent / "w.bin"
        data.unlink()
        data.symlink_to(tmp_path / "secret")

    monkeypatch.setattr(external_module.DataFiles, "_contained", swap)
    assert refused(path).code == "SNN307"


@pytest.mark.parametrize("left", [True, False], ids=["replaced", "removed"])
def test_a_file_that_changes_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    path = written(tmp_path)
    fstat = os.fstat

    def swap(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        if status.st_size == WEIGHT.nbytes:
            (tmp_path / "w.bin").replace(tmp_path / "old.bin")
            if left:
                (tmp_path / "w.bin").write_bytes(bytes(WEIGHT.nbytes))
        return status

    monkeypatch.setattr(os, "fstat", swap)
    assert "changed while it was opened" in str(refused(path))


def test_inline_weights_of_a_wrong_size_are_refused(tmp_path: Path) -> None:
    for raw in (WEIGHT.tobytes()[:-4], WEIGHT.tobytes() + bytes(4)):
        weight = numpy_helper.from_array(WEIGHT, "w")
        weight.raw_data = raw
        path = tmp_path / "m.onnx"
        path.write_bytes(product(weight).SerializeToString())
        assert refused(path).code == "SNN303"


def test_weights_beyond_the_limit_go_into_a_data_file(tmp_path: Path) -> None:
    onnx.save(product(numpy_helper.from_array(WEIGHT, "w")), tmp_path / "m.onnx")
    model, target = load(tmp_path / "m.onnx"), tmp_path / "out.snn.onnx"
    assert companion(model, target) is None
    assert companion(model, target, limit=100) == tmp_path / "out.snn.onnx.data"
    save(model, target, limit=100)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "m.onnx",
        target.name,
        f"{target.name}.data",
    ]
    assert target.stat().st_size < 1000
    again = load(target)
    assert data_files(again) == (tmp_path / "out.snn.onnx.data",)
    assert np.array_equal(held(target), WEIGHT) and model_digest(again) == model_digest(model)
    first = target.read_bytes()
    save(again, target, limit=100)
    assert target.read_bytes() == first
    onnx.checker.check_model(str(target))


def test_the_model_appears_after_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(product(numpy_helper.from_array(WEIGHT, "w")), tmp_path / "m.onnx")
    model, target = load(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    seen: list[str] = []
    replace = Path.replace

    def watched(self: Path, place: Path) -> Path:
        seen.append(place.name)
        return replace(self, place)

    monkeypatch.setattr(Path, "replace", watched)
    save(model, target, limit=100)
    assert seen == ["out.onnx.data", "out.onnx"]


def test_one_message_holds_the_same_as_protobuf_would_write(tmp_path: Path) -> None:
    proto = product(numpy_helper.from_array(WEIGHT, "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    save(load(tmp_path / "m.onnx"), tmp_path / "out.onnx")
    again = onnx.load(tmp_path / "out.onnx")
    assert np.array_equal(numpy_helper.to_array(again.graph.initializer[0]), WEIGHT)
    again.ClearField("producer_name")
    proto.ClearField("producer_name")
    assert again.graph.node == proto.graph.node and again.graph.initializer == proto.graph.initializer
