"""Files that are no models, and models whose weights lie where they must not be read."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.hostile.rows import FLOAT, PRODUCT, Row, field, good, info, model, node, tensor

#: Content of a file that no model may reach; a row fails if it is ever opened.
SECRET = np.ones((4, 3), np.float32).tobytes()
Make = Callable[[Path], onnx.ModelProto | bytes | None]


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch PWNED",)


def _zipped(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    return stream.getvalue()


def _tar(folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("model.onnx")
        archive.addfile(entry)
    return stream.getvalue()


def _numpy(folder: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(4))
    return stream.getvalue()


def _truncated(share: float) -> Make:
    def make(_: Path) -> bytes:
        content = good().SerializeToString()
        return content[: int(len(content) * share)]

    return make


def _folder(folder: Path) -> None:
    (folder / "bad.onnx").mkdir()


def _nothing(folder: Path) -> None:
    (folder / "bat.onnx").write_bytes(good().SerializeToString())


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad.onnx")


def _link(target: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "bad.onnx").symlink_to(target)

    return make


def _sparse_file(size: int, start: bytes = b"") -> Make:
    def make(folder: Path) -> None:
        with (folder / "bad.onnx").open("wb") as stream:
            stream.write(start)
            stream.truncate(size)

    return make


def _long_field(folder: Path) -> bytes:
    """A field that claims 2^50 bytes."""
    return b"\x08\x08" + bytes([7 << 3 | 2]) + b"\x80\x80\x80\x80\x80\x80\x80\x01"


def _many_empty(folder: Path) -> bytes:
    """Sixteen megabytes that are eight million empty nodes, each of which costs a hundred bytes of memory."""
    return b"\x08\x08" + field(8, b"\x10\x11") + field(7, b"\x0a\x00" * 8_000_000)


def _many_attributes(folder: Path) -> bytes:
    return b"\x08\x08" + field(8, b"\x10\x11") + field(7, field(1, b"\x2a\x00" * 8_000_000))


_IS_NO_MODEL: dict[str, tuple[Make, tuple[str, ...]]] = {
    "empty": (lambda _: b"", ("empty",)),
    "random bytes": (lambda _: np.random.default_rng(1).bytes(5000), ()),
    "zeros": (lambda _: bytes(5000), ()),
    "ones": (lambda _: b"\xff" * 5000, ()),
    **{f"cut after {share:.0%}": (_truncated(share), ("cut short",)) for share in (0.1, 0.5, 0.9, 0.99)},
    "zeros behind": (lambda _: good().SerializeToString() + bytes(16), ()),
    "text behind": (lambda _: good().SerializeToString() + b"hello world", ()),
    "fields behind": (lambda _: good().SerializeToString() + field(1000, b"hello"), ("1000",)),
    "a name that is no text": (
        lambda _: good().SerializeToString().replace(b"relu", b"re\xff\xfe"),
        ("UTF-8",),
    ),
    "a web page": (lambda _: b"\n<!doctype HTML><html>404</html>", ("HTML",)),
    "a web page in XHTML": (lambda _: b"\xef\xbb\xbf<?xml version='1.0'?><html/>", ("XML",)),
    "a Git LFS pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        ("git lfs pull",),
    ),
    "gzip": (lambda _: gzip.compress(good().SerializeToString()), ("gunzip",)),
    "a zip archive": (_zipped, ("torch.onnx.export",)),
    **{
        f"a pickle of protocol {protocol}": (lambda _, p=protocol: pickle.dumps(Bomb(), p), ("pickle",))
        for protocol in (2, 4, 5)
    },
    "a tar archive": (_tar, ("tar",)),
    "numpy": (_numpy, ("numpy",)),
    "safetensors": (lambda _: (2).to_bytes(8, "little") + b"{}", ("safetensors",)),
    "Keras": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100), ("HDF5",)),
    "TensorFlow Lite": (lambda _: b"\x1c\0\0\0TFL3" + bytes(100), ("TensorFlow Lite",)),
    "onnxruntime's own format": (lambda _: b"\x18\0\0\0ORTM" + bytes(100), ("onnxruntime",)),
    "text": (lambda _: b'{"nodes": []}', ("JSON",)),
    "a field of 2^50 bytes": (_long_field, ("cut short",)),
}

FILES = [
    *(
        Row(1 if name == "empty" else 3 if words else 2, name, make, 3, "SNN302", words)
        for name, (make, words) in _IS_NO_MODEL.items()
    ),
    Row(2, "4 GiB of nothing", _sparse_file(4 << 30), 3, "SNN302", ("large",), bomb=True),
    Row(2, "2 GiB less a byte of nothing", _sparse_file((2 << 30) - 1), 3, "SNN302", (), bomb=True),
    Row(
        2,
        "8,000,000 empty nodes",
        _many_empty,
        3,
        "SNN324",
        ("nodes",),
        bomb=True,
    ),
    Row(2, "8,000,000 empty attributes", _many_attributes, 3, "SNN324", (), seconds=30, bomb=True),
    Row(4, "a folder", _folder, 3, "SNN301", ("regular file",)),
    Row(4, "missing", _nothing, 3, "SNN301", ("bat.onnx",)),
    Row(4, "a name that is too long", lambda _: None, 3, "SNN301", (), ("inspect", "{}/" + "bad.onnx" * 600)),
    Row(4, "a name with NUL", lambda _: None, 3, "SNN301", (), ("inspect", "{}/bad.onnx\0")),
    Row(5, "a pipe", _pipe, 3, "SNN301", ("regular file",), seconds=1),
    Row(5, "a link to /dev/zero", _link("/dev/zero"), 3, "SNN301", ("regular file",), seconds=1),
    Row(5, "a link to itself", _link("bad.onnx"), 3, "SNN301", ()),
    Row(5, "a link to nothing", _link("nowhere.onnx"), 3, "SNN301", ()),
]


# --- external data -----------------------------------------------------------------------------------------


def _outside(**items: object) -> TensorProto:
    made = TensorProto(name="w", data_type=FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    for key, value in items.items():
        made.external_data.add(key=key, value=str(value))
    return made


def _in_initializer(entry: TensorProto) -> onnx.ModelProto:
    return model([PRODUCT], [entry])


def _in_constant(entry: TensorProto) -> onnx.ModelProto:
    return model([node("Constant", output="w", value=entry), PRODUCT])


def _in_sparse(entry: TensorProto) -> onnx.ModelProto:
    made = model([PRODUCT])
    sparse = made.graph.sparse_initializer.add(dims=[4, 3])
    sparse.values.CopyFrom(entry)
    sparse.values.dims[:] = [12]
    sparse.indices.CopyFrom(tensor(np.arange(12), "i", np.int64))
    return made


def _in_branch(entry: TensorProto) -> onnx.ModelProto:
    then = helper.make_graph(
        [node("MatMul", "x", "w", output="o", name="inner")], "then", [], [info("o", None)], [entry]
    )
    other = helper.make_graph(
        [node("MatMul", "x", "v", output="e", name="else")], "else", [], [info("e", None)]
    )
    branch = helper.make_node("If", ["c"], ["y"], name="branch", then_branch=then, else_branch=other)
    return model([branch], [tensor(np.ones((4, 3)), "v"), tensor(True, "c", np.bool_)])


def _in_function(entry: TensorProto) -> onnx.ModelProto:
    body = [
        helper.make_node("Constant", [], ["w"], value=entry),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
    ]
    made = helper.make_function("f", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("F", ["x"], ["y"], domain="f", name="call")
    return model([call], functions=[made])


def _in_training(entry: TensorProto) -> onnx.ModelProto:
    made = good()
    made.training_info.add().algorithm.initializer.append(entry)
    return made


PLACES = {
    "an initializer": _in_initializer,
    "a constant": _in_constant,
    "a sparse tensor": _in_sparse,
    "a branch": _in_branch,
    "a function": _in_function,
    "training": _in_training,
}


def _escaping(location: str, place: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "secret").write_bytes(SECRET)
        (folder / "in" / "sub").mkdir(parents=True)
        found = location.replace("{}", str(folder))
        (folder / "in" / "bad.onnx").write_bytes(PLACES[place](_outside(location=found)).SerializeToString())

    return make


def _beside(
    content: bytes | None = None, prepare: Callable[[Path], None] | None = None, **items: object
) -> Make:
    def make(folder: Path) -> onnx.ModelProto:
        if content is not None:
            (folder / "w.bin").write_bytes(content)
        if prepare is not None:
            prepare(folder)
        return _in_initializer(_outside(**{"location": "w.bin", **items}))

    return make


def _linked(folder: Path) -> None:
    (folder / "secret").write_bytes(SECRET)
    (folder / "in").mkdir()
    (folder / "in" / "w.bin").symlink_to(folder / "secret")
    (folder / "in" / "bad.onnx").write_bytes(_in_initializer(_outside(location="w.bin")).SerializeToString())


def _linked_folder(folder: Path) -> None:
    (folder / "private").mkdir()
    (folder / "private" / "secret").write_bytes(SECRET)
    (folder / "in").mkdir()
    (folder / "in" / "sub").symlink_to(folder / "private")
    (folder / "in" / "bad.onnx").write_bytes(
        _in_initializer(_outside(location="sub/secret")).SerializeToString()
    )


def _hard_link(folder: Path) -> None:
    (folder / "secret").write_bytes(SECRET)
    os.link(folder / "secret", folder / "w.bin")


def _cache(folder: Path) -> None:
    """The cache of the Hugging Face hub: links into one folder of blobs."""
    blobs, shown = folder / "blobs", folder / "snapshots" / "1"
    blobs.mkdir()
    shown.mkdir(parents=True)
    (blobs / "aa").write_bytes(_in_initializer(_outside(location="w.bin")).SerializeToString())
    (blobs / "bb").write_bytes(SECRET)
    (shown / "bad.onnx").symlink_to("../../blobs/aa")
    (shown / "w.bin").symlink_to("../../blobs/bb")


IN = ("convert", "{}/in/bad.onnx", "-o", "{}/out.onnx", "--calibrate", "random:4", "--quiet")
EXTERNAL = [
    *(
        Row(8, f"{location} in {place}", _escaping(location, place), 3, "SNN307", ("'w'",), IN)
        for place in PLACES
        for location in ("../secret", "{}/secret", "sub/../../secret")
    ),
    *(
        Row(8, f"the location {location!r}", _beside(SECRET, location=location), 3, "SNN307", ("'w'",))
        for location in ("", "C:\\w.bin", "\\\\host\\w.bin", "w.bin\0")
    ),
    Row(9, "a link to the outside", _linked, 3, "SNN307", ("'w'", "outside"), IN),
    Row(9, "a folder that is a link", _linked_folder, 3, "SNN307", ("'w'", "outside"), IN),
    Row(10, "a hard link", _beside(None, _hard_link), 3, "SNN307", ("'w'", "--allow-hardlinks")),
    Row(
        11,
        "the cache of a hub",
        _cache,
        0,
        command=(
            "convert",
            "{}/snapshots/1/bad.onnx",
            "-o",
            "{}/out.onnx",
            "--calibrate",
            "random:4",
            "--quiet",
        ),
    ),
    Row(12, "no data file", _beside(), 3, "SNN304", ("'w'", "w.bin", "copy")),
    Row(13, "a negative offset", _beside(SECRET, offset=-4), 3, "SNN308", ("'w'", "offset", "-4")),
    Row(13, "an offset past the end", _beside(SECRET, offset=4096), 3, "SNN308", ("'w'", "4096")),
    Row(13, "a length past the end", _beside(SECRET[:40], length=48), 3, "SNN308", ("'w'", "40")),
    Row(13, "a length of 2^50", _beside(SECRET, length=2**50), 3, "SNN308", ("'w'",), bomb=True),
    Row(13, "an offset of 2^63", _beside(SECRET, offset=2**63), 3, "SNN308", ("'w'",)),
    Row(13, "an offset that is no number", _beside(SECRET, offset="1e3"), 3, "SNN308", ("'w'", "1e3")),
    Row(13, "a short file", _beside(SECRET[:-1]), 3, "SNN308", ("'w'", "47")),
    Row(13, "an empty file", _beside(b""), 3, "SNN308", ("'w'",)),
    Row(14, "__class__", _beside(SECRET, __class__="x"), 3, "SNN307", ("'w'", "__class__")),
    Row(14, "basepath", _beside(SECRET, basepath="/etc"), 3, "SNN307", ("'w'", "basepath")),
    Row(
        15, "a pipe as data", _beside(None, lambda f: os.mkfifo(f / "w.bin")), 3, "SNN307", ("'w'", "regular")
    ),
    Row(
        15,
        "a folder as data",
        _beside(None, lambda f: (f / "w.bin").mkdir()),
        3,
        "SNN307",
        ("'w'", "regular"),
    ),
    Row(15, "the model as data", _beside(None, location="bad.onnx"), 3, "SNN307", ("'w'", "itself")),
    Row(
        21,
        "NaN in external data",
        _beside(np.full(12, np.nan, np.float32).tobytes()),
        3,
        "SNN323",
        ("'w'", "12 values"),
    ),
]
