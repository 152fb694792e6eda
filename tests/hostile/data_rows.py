"""Broken samples, labels, recipes, and the formats of other commands: bundles, listings, machines."""

# ruff: noqa: PLW0108 - what makes a row is defined anywhere in the module

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from click.testing import CliRunner
from onnx import helper
from PIL import Image

from snnc.isa.table import VERSION
from tests.hostile.file_rows import Bomb
from tests.hostile.rows import Row, good, tensor

#: First line of a listing that this snnc reads.
_HEAD = b".expg %d.%d\n" % VERSION


@cache
def kit() -> dict[str, bytes]:
    """A converted network and its bundle, by the place of each file."""
    from snnc.cli.group import cli

    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "good.onnx").write_bytes(good().SerializeToString())
        for line in (
            "convert {}/good.onnx -o {}/good.snn.onnx --calibrate random:4",
            "emit {}/good.snn.onnx -o {}/bundle",
        ):
            result = CliRunner().invoke(cli, line.format(folder, folder).split())
            assert result.exit_code == 0, result.output
        places = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in places}


def prepared(*starts: str) -> Callable[[Path], None]:
    """Return what writes the files of the kit whose place begins so."""

    def write(folder: Path) -> None:
        for name, content in kit().items():
            if name.startswith(starts):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)

    return write


def npy(array: Any = None, header: bytes | None = None, version: tuple[int, int] = (1, 0)) -> bytes:
    """An array in npy form, or a header laid by hand."""
    if header is None:
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()
    text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text


def npz(compress: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compress) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/") + ".npy", content)
    return stream.getvalue()


def _odd(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, npy(np.ones((4, 4), np.float32)))
    return stream.getvalue()


def _bomb() -> bytes:
    """Many megabytes of zeros in a few kilobytes."""
    stream = io.BytesIO()
    header = npy(header=b"{'descr': '<f4', 'fortran_order': False, 'shape': (8388608, 4), }")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header)
        for _ in range(32):
            member.write(bytes(4 << 20))
    return stream.getvalue()


def _shape(text: str) -> bytes:
    return npy(header=f"{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}".encode()) + bytes(64)


def _behind() -> bytes:
    """An archive whose directory claims a member before the beginning of the file."""
    content = bytearray(npz(x=npy(X)))
    end = content.rindex(b"PK\x05\x06")
    content[end + 16 : end + 20] = struct.pack("<I", 1 << 20)
    return bytes(content)


def _damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(8) + content[middle + 8 :]


X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def _with(index: tuple[int, int], value: float) -> np.ndarray[Any, Any]:
    array = X.copy()
    array[index] = value
    return array


def _pickled() -> bytes:
    return npy(np.array([Bomb(), {}], dtype=object))


def data(
    name: str, content: Callable[[], bytes], code: str, *words: str, file: str = "bad.npz", **more: Any
) -> Row:
    def make(folder: Path) -> None:
        (folder / "good.onnx").write_bytes(good().SerializeToString())
        (folder / file).write_bytes(content())

    command = ("convert", "{}/good.onnx", "-o", "{}/out.onnx", "--calibrate", f"{{}}/{file}", "--quiet")
    return Row(46, name, make, 3, code, words, command, file, **more)


def _folder_of(content: dict[str, bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "good.onnx").write_bytes(good().SerializeToString())
        for place, text in content.items():
            (folder / "bad" / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / "bad" / place).write_bytes(text)

    return make


def data_folder(name: str, content: dict[str, bytes], code: str, *words: str) -> Row:
    command = ("convert", "{}/good.onnx", "-o", "{}/out.onnx", "--calibrate", "{}/bad", "--quiet")
    return Row(46, name, _folder_of(content), 3, code, words, command, "bad")


def _pb(**fields: Any) -> bytes:
    made = onnx.TensorProto(name="x", data_type=1)
    for key, value in fields.items():
        if key == "raw_data":
            made.raw_data = value
        elif key == "data_type":
            made.data_type = value
        else:
            getattr(made, key).extend(value)
    return made.SerializeToString()


def _external_pb() -> bytes:
    made = onnx.TensorProto(name="x", data_type=1, dims=[4, 4], data_location=onnx.TensorProto.EXTERNAL)
    made.external_data.add(key="location", value="/etc/passwd")
    return made.SerializeToString()


def _png(side: int) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


_PREPARATION = b'{"size": 8, "crop_size": 8, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'


def _claiming(side: int) -> bytes:
    """A picture whose header claims many dots, with next to nothing in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


def _images(content: dict[str, bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        content.setdefault("preprocess.json", _PREPARATION)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
                helper.make_node("Relu", ["c"], ["r"], name="relu"),
                helper.make_node("Conv", ["r", "v"], ["y"], name="last"),
            ],
            "g",
            [helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info("y", 1, None)],
            [tensor(np.ones((4, 3, 3, 3))), tensor(np.ones((2, 4, 3, 3)), "v")],
        )
        made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        (folder / "good.onnx").write_bytes(made.SerializeToString())
        (folder / "bad").mkdir()
        for place, text in content.items():
            (folder / "bad" / place).write_bytes(text)

    return make


def images(name: str, content: dict[str, bytes], code: str, *words: str, **more: Any) -> Row:
    command = ("convert", "{}/good.onnx", "-o", "{}/out.onnx", "--calibrate", "{}/bad", "--quiet")
    return Row(46, name, _images(content), 3, code, words, command, "bad", **more)


DATA = [
    data("pickled objects", _pickled, "SNN331", "pickle", file="bad.npy"),
    data("pickled objects in an archive", lambda: npz(x=_pickled()), "SNN331", "'x'", "pickle"),
    data("a pickle", lambda: pickle.dumps(Bomb()), "SNN331", "pickle", file="bad.npy"),
    data("a pickle of torch", lambda: npz(data=pickle.dumps(Bomb())), "SNN331", file="bad.pt"),
    data(
        "16 TiB", lambda: _shape("(1099511627776, 4)"), "SNN332", "17592186044416", file="bad.npy", bomb=True
    ),
    data("a shape beyond int64", lambda: _shape("(4611686018427387904, 16)"), "SNN332", file="bad.npy"),
    data("a shape of 10^4000", lambda: _shape("(1" + "0" * 4000 + ",)"), "SNN33", file="bad.npy"),
    data("a negative shape", lambda: _shape("(-4, 4)"), "SNN33", file="bad.npy"),
    data("a shape of text", lambda: _shape("'abcd'"), "SNN331", file="bad.npy"),
    data("a shape that is true", lambda: _shape("(True, 16)"), "SNN33", file="bad.npy"),
    data("a shape of 10,000 axes", lambda: _shape("(" + "1," * 10000 + ")"), "SNN33", file="bad.npy"),
    data("a shape of 100 axes", lambda: _shape("(16," + "1," * 100 + ")"), "SNN33", file="bad.npy"),
    data(
        "a header of code",
        lambda: npy(header=b"__import__('os').system('touch PWNED')"),
        "SNN331",
        file="bad.npy",
    ),
    data("nested brackets", lambda: npy(header=b"(" * 5000), "SNN331", file="bad.npy"),
    data("a type of records", lambda: npy(np.zeros(4, "f4,i4")), "SNN331", file="bad.npy"),
    data("a type of no size", lambda: npy(np.zeros((4, 4), "S0")), "SNN331", file="bad.npy"),
    data("dates", lambda: npy(np.zeros((4, 4), "M8[s]")), "SNN331", file="bad.npy"),
    data("version 9", lambda: npy(header=b"{}", version=(9, 0)), "SNN331", file="bad.npy"),
    data("a cut header", lambda: npy(X)[:40], "SNN331", file="bad.npy"),
    data("a cut array", lambda: npy(X)[:-4], "SNN332", file="bad.npy"),
    data("bytes behind", lambda: npy(X) + b"more", "SNN332", file="bad.npy"),
    data("nothing", lambda: b"", "SNN331", file="bad.npy"),
    data("a cut archive", lambda: npz(x=npy(X))[:-30], "SNN331"),
    data("a damaged archive", lambda: _damaged(npz(zipfile.ZIP_DEFLATED, x=npy(X))), "SNN331"),
    data("128 megabytes in few", _bomb, "SNN332", "unpack", bomb=True),
    data("an archive that points outside of itself", _behind, "SNN331"),
    data("a member outside", lambda: _odd("../../pwned.npy"), "SNN3", "pwned"),
    data("a member that is no array", lambda: _odd("x.exe"), "SNN331", "x.exe"),
    data("no arrays", lambda: npz(), "SNN33"),
    data("other names", lambda: npz(a=npy(X), b=npy(X)), "SNN335", "'x'", "'a'"),
    data("another shape", lambda: npz(x=npy(np.ones((6, 5), np.float32))), "SNN336", "'x'", "[6, 5]"),
    data("another rank", lambda: npz(x=npy(np.ones(4, np.float32))), "SNN336", "'x'"),
    data("a single number", lambda: npz(x=npy(np.float32(1))), "SNN336", "'x'"),
    data("complex numbers", lambda: npz(x=npy(np.ones((6, 4), np.complex64))), "SNN337", "'x'", "complex64"),
    data("text", lambda: npz(x=npy(np.full((6, 4), "a"))), "SNN331", "'x'"),
    data("NaN", lambda: npz(x=npy(_with((2, 1), np.nan))), "SNN333", "'x'", "[2, 1]"),
    data("infinity", lambda: npz(x=npy(_with((5, 3), -np.inf))), "SNN333", "'x'", "[5, 3]"),
    data("doubles beyond float", lambda: npz(x=npy(np.full((6, 4), 1e300))), "SNN333", "'x'"),
    data("no samples", lambda: npz(x=npy(X[:0])), "SNN338", "no samples"),
    data_folder("an empty folder", {"readme.txt": b"x"}, "SNN334"),
    data_folder("a folder of broken arrays", {"a.npy": b"x"}, "SNN331", "a.npy"),
    data_folder(
        "test data that is no tensor", {"test_data_set_0/input_0.pb": b"\xff\xff"}, "SNN3", "input_0.pb"
    ),
    data_folder("an empty tensor file", {"test_data_set_0/input_0.pb": b""}, "SNN3", "input_0.pb"),
    data_folder(
        "test data of 2^60 elements",
        {"test_data_set_0/input_0.pb": _pb(dims=[2**30, 2**30])},
        "SNN3",
        "input_0.pb",
    ),
    data_folder(
        "test data that is too short",
        {"test_data_set_0/input_0.pb": _pb(dims=[4, 4], raw_data=b"\0" * 60)},
        "SNN3",
        "input_0.pb",
    ),
    data_folder(
        "test data of no type",
        {"test_data_set_0/input_0.pb": _pb(dims=[4, 4], raw_data=b"\0" * 64, data_type=77)},
        "SNN3",
        "input_0.pb",
    ),
    data_folder("test data elsewhere", {"test_data_set_0/input_0.pb": _external_pb()}, "SNN3", "input_0.pb"),
    images("a broken image", {"a.png": b"\x89PNG\r\n\x1a\n" + bytes(40)}, "SNN3", "a.png"),
    images("a cut image", {"a.png": _png(40)[:900]}, "SNN3", "a.png"),
    images("an image of 10^10 dots", {"a.png": _claiming(100_000)}, "SNN3", "a.png", bomb=True),
    images(
        "preparation that is no JSON",
        {"a.png": _png(8), "preprocess.json": b"{"},
        "SNN3",
        "preprocess.json",
    ),
    images(
        "preparation to a huge size",
        {"a.png": _png(8), "preprocess.json": b'{"size": {"height": 1000000, "width": 1000000}}'},
        "SNN3",
        bomb=True,
    ),
    images(
        "preparation by NaN",
        {"a.png": _png(8), "preprocess.json": b'{"image_mean": [NaN, 0, 0], "image_std": [0, 0, 0]}'},
        "SNN3",
        "preprocess.json",
    ),
]


# --- recipes -----------------------------------------------------------------------------------------------


def recipe(name: str, content: bytes, status: int, code: str, *words: str, **more: Any) -> Row:
    def make(folder: Path) -> None:
        (folder / "good.onnx").write_bytes(good().SerializeToString())
        (folder / "bad.toml").write_bytes(content)

    command = (
        *("convert", "{}/good.onnx", "-o", "{}/out.onnx", "--calibrate", "random:4"),
        *("--recipe", "{}/bad.toml", "--quiet"),
    )
    return Row(46, name, make, status, code, words, command, "bad.toml", **more)


RECIPES = [
    recipe("an unknown key", b"gropus = 8\n", 2, "SNN270", "gropus", "did you mean", "groups"),
    recipe("NaN for a number", b"timesteps = nan\n", 2, "SNN271", "timesteps"),
    recipe("text for a number", b'timesteps = "4"\n', 2, "SNN271", "timesteps"),
    recipe("a huge number", b"timesteps = 9223372036854775808\n", 2, "SNN27", "timesteps"),
    recipe("a negative number", b"timesteps = -1\n", 2, "SNN2"),
    recipe("a number of 10,000 digits", b"timesteps = " + b"9" * 10_000 + b"\n", 3, "SNN350"),
    recipe("a line of 1,999 dots", b"." * 1999, 3, "SNN350"),
    recipe("a number of 5,000 binary digits", b"timesteps = " + b"\\\n" + b"9" * 1900, 3, "SNN350"),
    recipe(
        "deep keys on many lines",
        b"".join(b"a" * (n + 1) + b".a" * 900 + b" = 1\n" for n in range(100)),
        3,
        "SNN350",
    ),
    recipe("deep brackets on many lines", b"timesteps = " + (b"[" * 1900 + b"\n") * 20, 3, "SNN350"),
    recipe("a key twice", b"timesteps = 4\ntimesteps = 8\n", 2, "SNN275", "twice"),
    recipe("a table for a number", b"[timesteps]\na = 1\n", 2, "SNN271", "timesteps"),
    recipe("YAML with a tag", b"!!python/object/apply:os.system ['touch PWNED']\n", 3, "SNN350", "TOML"),
    recipe("JSON with keys twice", b'{"timesteps": 4, "timesteps": 8}', 3, "SNN350", "TOML"),
    recipe("bytes that are no text", b"\xff\xfe\x00", 3, "SNN350", "UTF-8"),
    recipe("brackets without end", b"timesteps = " + b"[" * 100_000, 3, "SNN350"),
    recipe("tables without end", b"[" + b"a." * 100_000 + b"a]\n", 3, "SNN350"),
    recipe("keys without end", b"a." * 100_000 + b"a = 1\n", 3, "SNN350"),
    recipe("five megabytes", b"# " + b"x" * (5 << 20), 3, "SNN350", "larger"),
    recipe(
        "an unknown key in a rule", b'[[layers]]\nmatch = "*"\nweigths = "int8"\n', 2, "SNN270", "weigths"
    ),
    recipe("a list for a rule", b"layers = [1, 2]\n", 2, "SNN271", "layers"),
]


# --- other commands ----------------------------------------------------------------------------------------


def other(
    name: str,
    command: str,
    make: Callable[[Path], Any],
    status: int,
    code: str,
    *words: str,
    file: str = "bad.onnx",
    **more: Any,
) -> Row:
    return Row(46, name, make, status, code, words, tuple(command.split()), file, **more)


def _spiking(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], onnx.ModelProto]:
    def make(folder: Path) -> onnx.ModelProto:
        np.savez(folder / "x.npz", x=X)
        proto = onnx.ModelProto.FromString(kit()["good.snn.onnx"])
        change(proto)
        return proto

    return make


def _property(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        kept = {entry.key: entry.value for entry in proto.metadata_props} | {key: value}
        del proto.metadata_props[:]
        helper.set_model_props(proto, kept)

    return change


def _without_function(proto: onnx.ModelProto) -> None:
    del proto.functions[:]


def _set(op: str, attribute: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        node = next(node for node in proto.graph.node if node.op_type == op)
        kept = [entry for entry in node.attribute if entry.name != attribute]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(attribute, value))

    return change


def _bundle(
    place: str, change: Callable[[bytes], bytes | None], *, rehash: bool = True
) -> Callable[[Path], None]:
    """A bundle of which one file is changed; its manifest vouches for the changed one."""

    def make(folder: Path) -> None:
        prepared("bundle/")(folder)
        (folder / "bundle").rename(folder / "bad")
        path = folder / "bad" / place
        content = change(path.read_bytes())
        if content is None:
            path.unlink()
            return
        path.write_bytes(content)
        if rehash and place != "MANIFEST.json":
            manifest = json.loads((folder / "bad/MANIFEST.json").read_text())
            manifest["sha256"][place] = hashlib.sha256(content).hexdigest()
            (folder / "bad/MANIFEST.json").write_text(json.dumps(manifest))

    return make


def _text(content: bytes, name: str = "bad.s") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return make


def bundle(name: str, place: str, change: Callable[[bytes], bytes | None], *words: str, **more: Any) -> Row:
    make = _bundle(place, change, rehash=more.pop("rehash", True))
    return Row(46, name, make, 3, "SNN3", words, ("sim", "{}/bad", "--quiet"), "bad", **more)


def _json(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        found = json.loads(content)
        changed = change(found)
        return json.dumps(found if changed is None else changed).encode()

    return edit


def _machine(name: str, content: bytes, *words: str) -> Row:
    def make(folder: Path) -> None:
        prepared("good.snn.onnx")(folder)
        (folder / "bad.json").write_bytes(content)

    command = ("emit", "{}/good.snn.onnx", "-o", "{}/out", "--arch", "{}/bad.json")
    return Row(46, name, make, 3, "SNN364", words, command, "bad.json")


RUN = "run {}/bad.onnx --input {}/x.npz --output {}/y.npz"
SPIKING = [
    *(
        other(f"{what}: {verb}", command, _spiking(change), 3, code, *words)
        for what, change, code, words in (
            ("no format", _property("snnc.format", "x"), "SNN305", ()),
            ("a newer format", _property("snnc.format", "9.0"), "SNN306", ("9.0",)),
            ("options that are no JSON", _property("snnc.options", "{"), "SNN305", ()),
            ("options that are a list", _property("snnc.options", "[1]"), "SNN305", ()),
            (
                "options of other types",
                _property("snnc.options", '{"timesteps": "x", "layers": 3}'),
                "SNN305",
                (),
            ),
            ("options nested without end", _property("snnc.options", "[" * 100_000), "SNN305", ()),
            ("0 time-steps", _set("ExpGIF", "timesteps", 0), "SNN3", ("ExpGIF",)),
            ("2^40 time-steps", _set("ExpGIF", "timesteps", 2**40), "SNN3", ("ExpGIF",)),
            ("no time-steps", _set("ExpGIF", "timesteps", None), "SNN3", ("ExpGIF",)),
            ("codes that are no list", _set("ExpGIF", "codes", 3), "SNN3", ("ExpGIF",)),
        )
        for verb, command in (
            ("run", RUN),
            *(
                (("audit", "audit {}/bad.onnx"), ("emit", "emit {}/bad.onnx -o {}/out"))
                if "format" in what or "codes" in what
                else ()
            ),
        )
    ),
    *(
        other(
            f"an unconverted model: {command.split()[0]}",
            command,
            lambda folder: good(),
            3,
            "SNN305",
            "convert",
        )
        for command in (
            "run {}/bad.onnx --input random:4",
            "audit {}/bad.onnx",
            "emit {}/bad.onnx -o {}/out",
            "verify {}/bad.onnx {}/bad.onnx --data random:4",
        )
    ),
    *(
        other(f"random bytes: {command.split()[0]}", command, lambda _: b"\xff" * 100, 3, "SNN302")
        for command in (
            "run {}/bad.onnx --input random:4",
            "audit {}/bad.onnx",
            "emit {}/bad.onnx -o {}/out",
            "verify {}/bad.onnx {}/bad.onnx --data random:4",
            "inspect {}/bad.onnx",
            "compare {}/bad.onnx {}/bad.onnx --data random:4",
            "opt {}/bad.onnx --passes sort-nodes -o {}/out.onnx",
        )
    ),
    other(
        "opt: a cycle",
        "opt {}/bad.onnx --passes sort-nodes -o {}/out.onnx",
        lambda _: _cycle(),
        3,
        "SNN321",
        "one",
    ),
    other("inspect: a cycle", "inspect {}/bad.onnx", lambda _: _cycle(), 3, "SNN321", "one"),
    other(
        "run: broken samples",
        "run {}/good.snn.onnx --input {}/bad.npz",
        lambda f: _samples(f),
        3,
        "SNN333",
        "'x'",
        file="bad.npz",
    ),
    other(
        "verify: broken labels",
        "verify {}/good.onnx {}/good.snn.onnx --data random:4 --labels {}/bad.npy --quiet",
        lambda f: _labels(f),
        3,
        "SNN339",
        file="bad.npy",
    ),
    other(
        "an output of another kind",
        "run {}/good.snn.onnx --input random:4 --output {}/y.csv",
        lambda f: prepared("good")(f),
        2,
        "SNN233",
        file="y.csv",
    ),
]


def _cycle() -> onnx.ModelProto:
    made = good()
    made.graph.node[0].name, made.graph.node[1].name = "one", "two"
    made.graph.node[0].input[0] = "r"
    return made


def _samples(folder: Path) -> None:
    prepared("good")(folder)
    np.savez(folder / "bad.npz", x=_with((0, 0), np.nan))


def _labels(folder: Path) -> None:
    prepared("good")(folder)
    np.save(folder / "bad.npy", np.ones((4, 4)))


def _added(name: str, manifest: bytes | None = None) -> Callable[[Path], None]:
    """A bundle in a folder with a file more, or such a folder with another manifest."""

    def make(folder: Path) -> None:
        prepared("bundle/", "good.snn.onnx")(folder)
        (folder / "bundle").rename(folder / "bad")
        (folder / "bad" / name).write_bytes(b"precious")
        if manifest is not None:
            (folder / "bad/MANIFEST.json").write_bytes(manifest)

    return make


AUDIT = ("audit", "{}/bad", "--quiet")
EMIT_OVER = ("emit", "{}/good.snn.onnx", "-o", "{}/bad", "--force")
FORMATS = [
    *(
        Row(46, f"audit: {name}", make, 3, "SNN369", words, AUDIT, "bad")
        for name, make, words in (
            ("another memory map", _bundle("memmap.csv", lambda c: c + b"x", rehash=False), ("memmap.csv",)),
            ("another listing", _bundle("model.lst", lambda _: b"", rehash=False), ("model.lst",)),
            ("vectors that are missing", _bundle("rtl/fire/count.hex", lambda _: None), ("is missing",)),
            ("a file more", _added("notes.txt"), ("'notes.txt' is not in the manifest",)),
            (
                "a file outside",
                _bundle(
                    "MANIFEST.json", _json(lambda m: {**m, "sha256": m["sha256"] | {"../secret": "0" * 64}})
                ),
                ("'../secret' is missing",),
            ),
        )
    ),
    *(
        Row(47, f"emit over {name}", make, 2, "SNN286", words, EMIT_OVER, "bad")
        for name, make, words in (
            ("a bundle with a file more", _added("notes.txt"), ("notes.txt", "lost")),
            ("a folder with another manifest", _added("notes.txt", b'{"files": 3}'), ("not a bundle",)),
            ("a folder with a list as manifest", _added("notes.txt", b"[]"), ("not a bundle",)),
        )
    ),
    bundle("an empty manifest", "MANIFEST.json", lambda _: b""),
    bundle("a manifest that is a list", "MANIFEST.json", lambda _: b"[]"),
    bundle("a manifest nested without end", "MANIFEST.json", lambda _: b"[" * 100_000),
    bundle("a manifest that is no text", "MANIFEST.json", lambda _: b"\xff\xfe{"),
    bundle("no words", "model.bin", lambda _: None),
    bundle("other words", "model.bin", lambda c: bytes(16) + c, rehash=False),
    bundle("half a word", "model.bin", lambda c: c[:-3]),
    bundle("words of no instruction", "model.bin", lambda c: b"\xff" * len(c)),
    bundle("words of zeros", "model.bin", lambda c: bytes(len(c)), "HALT"),
    bundle("fewer words", "model.bin", lambda c: c[:-16]),
    Row(
        46,
        "no memory",
        _bundle("mem/dram.bin", lambda _: b""),
        5,
        "SNN540",
        ("golden",),
        ("sim", "{}/bad", "--quiet"),
        "bad",
    ),
    bundle("a record that is a list", "program.json", lambda _: b"[]"),
    bundle(
        "a record without ports", "program.json", _json(lambda r: {k: v for k, v in r.items() if k == "arch"})
    ),
    bundle("a record nested without end", "program.json", lambda _: b"[" * 100_000),
    bundle("a golden sample that is cut", "golden/in.safetensors", lambda c: c[:20], rehash=False),
    bundle(
        "a golden sample of 2^60 bytes",
        "golden/in.safetensors",
        lambda c: b"\xff" * 7 + b"\x0f" + c,
        rehash=False,
    ),
    bundle("a broken network", "host.snn.onnx", lambda c: c[: len(c) // 2], "host.snn.onnx"),
    Row(46, "no bundle", lambda f: (f / "bad").mkdir(), 3, "SNN369", ("emit",), ("sim", "{}/bad"), "bad"),
    Row(46, "a file as a bundle", _text(b"x", "bad"), 3, "SNN3", (), ("sim", "{}/bad"), "bad"),
    Row(
        46,
        "run: no bundle",
        lambda f: (f / "bad").mkdir(),
        3,
        "SNN369",
        (),
        ("run", "{}/bad", "--runtime", "expg1", "--input", "random:1"),
        "bad",
    ),
    *(
        other(f"asm: {name}", "asm {}/bad.s -o {}/out.bin", _text(content), 3, code, *words, file="bad.s")
        for name, content, code, words in (
            ("nothing", b"", "SNN363", ()),
            ("no version", b"C  HALT\n", "SNN363", ("line 1",)),
            ("another version", b".expg 9.9\n", "SNN363", ("9.9",)),
            ("a version of 10,000 digits", b".expg " + b"9" * 10_000 + b".1\n", "SNN363", ()),
            ("no instruction", _HEAD + b"C  FLY\n", "SNN362", ("line 2", "FLY")),
            ("bytes that are no text", b"\xff\xfe", "SNN362", ("text",)),
            (
                "a number of 10,000 digits",
                _HEAD + b"C  SMM acc=" + b"9" * 10_000 + b"\n",
                "SNN362",
                ("line 2",),
            ),
            (
                "a line of a megabyte",
                _HEAD + b"C  SMM " + b"a=1, " * 200_000 + b"\n",
                "SNN362",
                ("line 2",),
            ),
            (
                "a line that almost matches",
                _HEAD + b"C  SMM " + b" a=1" * 30_000 + b" !\n",
                "SNN362",
                ("line 2",),
            ),
            ("a web page", b"<html>", "SNN363", ()),
        )
    ),
    *(
        other(
            f"disasm: {name}",
            "disasm {}/bad.bin -o {}/out.s",
            _text(content, "bad.bin"),
            3,
            code,
            file="bad.bin",
        )
        for name, content, code in (
            ("nothing", b"", "SNN361"),
            ("half a word", b"\0" * 15, "SNN361"),
            ("no instruction", b"\xff" * 16, "SNN360"),
            ("text", b"0123456789abcdef", "SNN360"),
        )
    ),
    _machine("arch: no JSON", b"{"),
    _machine("arch: a list", b"[]"),
    _machine("arch: unknown", b'{"wings": 2}', "wings"),
    _machine("arch: nothing", b'{"lanes": 0}', "lanes"),
    _machine("arch: huge", b'{"dram": 1e400}', "dram"),
    _machine("arch: a truth", b'{"cores": true}', "cores"),
    _machine("arch: digits", b'{"cores": ' + b"9" * 10_000 + b"}"),
    _machine("arch: nested without end", b"[" * 100_000),
    _machine("arch: a key twice", b'{"lanes": 4, "lanes": 8}', "lanes"),
]
