"""What must hold of a drawn network: all runtimes give the oracle's bits, and these are near the source."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from snnc.compile import Conversion, ConvertOptions, convert
from snnc.cost.audit import audit
from snnc.errors import InputError, SnncError, UnsupportedError
from tests import agreement
from tests.agreement import NearTie, compare_with_float64
from tests.campaign.bounds import Claim, Deviations, claims, on_edges, run_node
from tests.campaign.coded import images, sequences
from tests.campaign.dialects import DIALECTS, UNSIGNED, Dressed
from tests.campaign.floats import Builder
from tests.campaign.soup import Soup
from tests.conftest import Net

Array = npt.NDArray[Any]
#: Levels of onnxruntime beside the highest.
LEVELS = ("none", "basic", "extended")
#: What T = G = 8 reaches on random weights: a wrong rewrite is far below.
DECIBEL = 20.0
#: Roundings of one operator each leave so little of a network's outputs that these say nothing.
CHAOS = 3.0
#: So many draws of roundings are made: few outputs hang on single ones.
_DRAWS = 8
SAMPLES = 12


@dataclass(frozen=True)
class Verdict:
    """What came of one network.

    Attributes:
        family: Who drew it.
        seed: From what.
        kind: ``right``, ``refused``, ``wrong`` or ``crash``.
        text: Code of the refusal, or what is wrong.
        seconds: Processor time.
        decibel: Of the first output against the source, if a float network was converted at T = G = 8.
        edges: Samples with a value on the edge between two codes, not compared with float64.
        rounded: Samples with a value that float32 sums may put on either side of an edge, not compared with
            what onnxruntime makes of the source.
        samples: Samples compared or left out.
        bound_of_error: Median bound on the distance to float64, in median distances; None if most are zero.
    """

    family: str
    seed: int
    kind: str
    text: str = ""
    seconds: float = 0.0
    decibel: float | None = None
    edges: int = 0
    rounded: int = 0
    samples: int = 0
    bound_of_error: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in ("", None, 0)}


def choices(seed: int) -> Callable[[int, int], int]:
    """Draw from a seed."""
    return Random(seed).randint


def one_of(choose: Callable[[int, int], int], *options: Any) -> Any:
    return options[choose(0, len(options) - 1)]


def everywhere(
    conversion: Conversion, feeds: dict[str, Array], seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Require equal bits from the oracle and all runtimes, and no multiplication.

    Each network runs in onnxruntime fully optimised and, in turns, at another level; each second one as
    instructions too.
    """
    other = LEVELS[seed % len(LEVELS)]
    outputs, codes = agreement.everywhere(
        conversion, feeds, levels=(other, "all"), tapped=(other,), words=seed % 2 == 0
    )
    report = audit(conversion.model)
    assert report.clean, report
    for name, array in outputs.items():
        assert np.isfinite(array).all(), f"{name} is not finite"
    return outputs, codes


def options_of(choose: Callable[[int, int], int]) -> ConvertOptions:
    """Draw options: half of all at T = G = 8, where the distance to the source says something."""
    if choose(0, 1):
        return ConvertOptions(8, 8)
    timesteps = choose(1, 8)
    return ConvertOptions(
        timesteps,
        choose(1, timesteps),
        one_of(choose, "interleaved", "contiguous"),
        weights=one_of(choose, "int8", "int8", "int4", "int6", "int16"),
        observer=one_of(choose, "mse", "percentile", "entropy"),
        encode_input=choose(0, 2) == 0,
        reconstruct=one_of(choose, "none", "none", "biases", "weights"),
    )


def source_outputs(path: Path, feeds: dict[str, Array]) -> list[Array]:
    settings = SessionOptions()
    settings.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    session = InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def decibel(wanted: Array, found: Array) -> float:
    noise = float(((wanted - found).astype(np.float64) ** 2).sum())
    power = float((wanted.astype(np.float64) ** 2).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(max(power, 1e-30) / noise))


def float_network(seed: int, *, tokens: bool) -> dict[str, Any]:
    """A float network, calibrated: near its source at T = G = 8."""
    choose = choices(seed)
    builder = Builder(choose, tokens)
    proto = builder.build()
    feeds = builder.samples(24, 1)
    options = options_of(choose)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(proto, path)
        conversion = convert(path, options, calibration=feeds)
        seen = {name: array[:4] for name, array in feeds.items()}
        outputs, _ = everywhere(conversion, seen, seed)
        if options != ConvertOptions(8, 8):
            return {"samples": 4}
        (wanted,) = source_outputs(path, seen)
    (found,) = outputs.values()
    near = decibel(wanted, found)
    if near < DECIBEL:
        # A norm behind products of products amplifies what rounding leaves of small samples.
        reachable = noisy(proto, feeds, 4)
        assert near >= reachable, f"{near:.1f} dB, {reachable:.1f} by rounding: {builder.log}"
    return {"decibel": round(min(near, 200.0), 1), "samples": 4}


def coded_network(seed: int, *, tokens: bool) -> dict[str, Any]:
    """A network of codes: float64 gives the very same codes, unless a comparison is too close."""
    choose = choices(seed)
    net, partition = (sequences if tokens else images)(choose, Net)
    feeds = net.feeds(batch=3, spread=one_of(choose, 0.1, 1.0, 30.0))
    weights = one_of(choose, "int8", "int8", "int4", "int16", "wide")
    conversion = convert(net.model(), ConvertOptions(weights=weights, partition=partition))
    outputs, codes = everywhere(conversion, feeds, seed)
    try:
        compare_with_float64(conversion.quantised, feeds, outputs, codes, 1e-4)
    except NearTie:
        return {"samples": 3, "edges": 3}
    return {"samples": 3}


def dressed(seed: int, dialect: str, **variant: Any) -> tuple[Dressed, onnx.ModelProto]:
    choose = choices(seed)
    tokens, opset = choose(0, 1) == 1, choose(13, 20)
    made = Dressed(choose, dialect, opset=opset, **variant)
    return made, made.build(tokens=tokens)


def reference(
    seed: int, *, unsigned: bool, x: Array, said: Sequence[Claim]
) -> tuple[Array, list[tuple[Array, npt.NDArray[np.bool_]]]]:
    """Outputs in float64; how far exact and float32 sums may be off, and which samples are on an edge."""
    made, proto = dressed(seed, "round-clamp", wide=True, unsigned=unsigned)
    feeds = {"x": x.astype(np.float64)}
    exact = Deviations(proto, said, sums=False).run(feeds)
    (output,) = (value.name for value in proto.graph.output)
    # Halves are edges; the shift of what rounds by a floor is in the network.
    shift = 0.0 if unsigned else 0.5
    limits = [
        (found.errors[output], on_edges(found, made.rounded, shift, len(x)))
        for found in (exact, Deviations(proto, said).run(feeds, exact))
    ]
    return exact.values[output], limits


def samples_of(made: Dressed, count: int = SAMPLES) -> Array:
    return np.random.default_rng(1).standard_normal((count, *made.shape)).astype(np.float32)


def dialect_network(seed: int) -> dict[str, Any]:
    """A quantised network in one dialect: equal to what it means, but for samples on an edge."""
    dialect = DIALECTS[seed % len(DIALECTS)]
    unsigned = dialect in UNSIGNED
    made, proto = dressed(seed, dialect, unsigned=unsigned)
    x = samples_of(made)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(proto, path)
        conversion = convert(path, ConvertOptions())
        outputs, _ = everywhere(conversion, {"x": x}, seed)
        (found,) = outputs.values()
        notes = [note for record in conversion.records for note in record.notes]
        wanted, limits = reference(seed, unsigned=unsigned, x=x, said=claims(proto, notes))
        compared = [("float64", wanted, *limits[0])]
        if dialect != "qonnx":
            compared.append(("source", source_outputs(path, {"x": x})[0], *limits[1]))
    for what, array, limit, on_edge in compared:
        wrong = (np.abs(found - array) > limit).any(axis=1) & ~on_edge
        assert not wrong.any(), (
            f"{dialect}: {int(wrong.sum())} of {len(x)} samples differ from {what} by up to "
            f"{float(np.abs(found - array)[wrong].max()):.3g} of {float(np.abs(wanted).max()):.3g}"
        )
    limit, on_edge = limits[0]
    counts: dict[str, Any] = {"samples": len(x), "edges": int(on_edge.sum())}
    error = float(np.median(np.abs(found - wanted)[~on_edge])) if not on_edge.all() else 0.0
    if error:
        # A bound that is far above what happens would say nothing.
        counts["bound_of_error"] = round(float(np.median(limit[~on_edge])) / error, 2)
    return counts if dialect == "qonnx" else {**counts, "rounded": int(limits[1][1].sum())}


def noisy(proto: onnx.ModelProto, feeds: dict[str, Array], few: int) -> float:
    """Return how near the source stays to itself in dB, if inputs and results are rounded to 8 bits.

    Networks drawn at random may amplify any rounding: a hyperbolic sine of a cube in front of a softmax. A
    root of a sum of squares is three operators: of a sample far smaller than others little is left squared.

    Args:
        proto: The source.
        feeds: Samples that tell the ranges.
        few: Of so many samples the outputs are compared.
    """
    random = np.random.default_rng(0)
    ways = []
    for scale in (0.0, *(1.0,) * _DRAWS):

        def rounded(value: Array, scale: float = scale) -> Array:
            if value.dtype != np.float32:
                return value
            reach = float(np.abs(value).max(initial=0.0))
            off = value + scale * random.uniform(-1, 1, value.shape).astype(np.float32) * reach / 255
            # A code does not leave the range of what was seen: roots stay those of positive numbers.
            return np.clip(off, value.min(), value.max()) if value.size else off

        values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        values.update({name: rounded(array) for name, array in feeds.items()})
        for node in proto.graph.node:
            read = [values[name] for name in node.input]
            if node.op_type == "ReduceL2":
                squares = rounded(read[0] ** 2)
                (axis,) = read[1]
                value = np.sqrt(np.maximum(rounded(squares.sum(axis=int(axis), keepdims=True)), 0))
            else:
                (value,) = run_node(node, read, proto)
            values[node.output[0]] = rounded(value)
        ways.append(values[proto.graph.output[0].name][:few])
    return min(decibel(ways[0], way) for way in ways[1:])


def soup_network(seed: int) -> dict[str, Any]:
    """Operators of ONNX at random: right where it converts."""
    soup = Soup(choices(seed))
    feeds = soup.samples(24, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        proto = soup.build()
        onnx.save(proto, path)
        wanted = source_outputs(path, feeds)[0]
        if not np.isfinite(wanted).all() or np.abs(wanted).max() > 1e6:
            return {"text": "not finite"}
        conversion = convert(path, ConvertOptions(8, 8), calibration=feeds)
        seen = {name: array[:4] for name, array in feeds.items()}
        outputs, _ = everywhere(conversion, seen, seed)
    (found,) = outputs.values()
    near = decibel(wanted[:4], found)
    if near < DECIBEL:
        reachable = noisy(proto, feeds, 4)
        # Where rounding alone leaves as much noise as signal, or no number (a divisor that rounds to zero),
        # nothing can be said of how much more there is.
        fair = not reachable > CHAOS or near >= min(DECIBEL, reachable - 6)
        assert fair, f"{near:.1f} dB, {reachable:.1f} by rounding: {soup.log}"
    return {"decibel": round(min(near, 200.0), 1), "samples": 4}


FAMILIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "float tokens": lambda seed: float_network(seed, tokens=True),
    "float images": lambda seed: float_network(seed, tokens=False),
    "coded tokens": lambda seed: coded_network(seed, tokens=True),
    "coded images": lambda seed: coded_network(seed, tokens=False),
    "dialects": dialect_network,
    "soup": soup_network,
}


def judge(family: str, seed: int, run: Callable[[int], dict[str, Any]] | None = None) -> Verdict:
    """Draw, convert and compare one network; whatever happens is a verdict."""
    begin = time.process_time()
    kind, found = "right", {}
    try:
        found = (run or FAMILIES[family])(seed)
    except (UnsupportedError, InputError) as error:
        kind, found = "refused", {"text": error.code}
    except AssertionError as error:
        kind, found = "wrong", {"text": str(error)[:500]}
    except SnncError as error:
        kind, found = "crash", {"text": f"{error.code}: {error.message}"[:500]}
    except Exception as error:  # noqa: BLE001 - a crash is a verdict
        kind, found = "crash", {"text": f"{type(error).__name__}: {error}"[:500]}
    return Verdict(family, seed, kind, seconds=round(time.process_time() - begin, 3), **found)
