"""The public compiler: a model in, a spiking model out, with a record of every pass."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from snnc import strict
from snnc.calibration import Calibration, observe_inputs
from snnc.data import Samples, open_samples
from snnc.errors import InputError, SnncError, UnsupportedError, UsageError, Where
from snnc.grouping import Regrouped, attention_pass, with_cost
from snnc.ir import Model, clone, constant, keep_provenance, load, model_digest_meanwhile
from snnc.ir.hosting import DECLARED
from snnc.ops import attach_functions, check_codes
from snnc.options import ConvertOptions
from snnc.passes import front_end, quantisers_of
from snnc.passes.canonical.keep_on_host import check_allowed
from snnc.passes.quantise.encode_input import EncodeInput
from snnc.passes.quantise.insert_quantisers import Choice, InsertQuantisers
from snnc.passes.quantise.integer_weights import REPAIRS, IntegerWeights
from snnc.passes.quantise.reconstruct import Repair
from snnc.passes.quantise.require_integers import RequireIntegers
from snnc.passes.recognise.require_quantised import RequireQuantised
from snnc.passes.spike.encode import Encode
from snnc.pipeline import Instrument, PassRecord, format_pipeline, run_pipeline
from snnc.pipeline.contract import Pass
from snnc.recorded import CalibrationRecord, ChosenQuantisers, choices_of_file, repairs_of_file, write_choices
from snnc.settings import SETTINGS
from snnc.shown import ShownConversion
from snnc.sizes import any_sizes, require_sizes, sizes_of_samples
from snnc.survey import AnyChoice, Survey, survey

__all__ = [
    "FORMAT_VERSION",
    "Conversion",
    "ConvertOptions",
    "choices_of_file",
    "convert",
    "load_spiking",
    "look_through",
    "options_of_file",
    "pipeline",
    "quantise",
    "repairs_of_file",
    "stage_before_quantisers",
]

#: Version of the ``.snn.onnx`` format: readers accept older minor versions and refuse newer ones.
FORMAT_VERSION = (1, 0)
#: Code of the activations of a float network unless the user chooses.
DEFAULT_TIMESTEPS = 8
DEFAULT_GROUPS = 4
#: More weights than that are not put on integer grids only to see what becomes of the nodes.
_MANY_WEIGHTS = 100_000


@dataclass(frozen=True, repr=False)
class Conversion(ShownConversion):
    """A converted model. It shows itself in a notebook.

    Attributes:
        model: The spiking model, functions attached, ready to be saved.
        quantised: The same network in the quant dialect: the oracle's input.
        records: One record a pass.
        options: What was asked for.
        calibration: What the quantisers were chosen from, None for a network that brought its own.
        samples: The calibration data, to be read again.
    """

    model: Model
    quantised: Model
    records: tuple[PassRecord, ...]
    options: ConvertOptions
    calibration: CalibrationRecord | None = None
    samples: Samples | None = None

    @property
    def approximations(self) -> tuple[PassRecord, ...]:
        """The passes that changed values: everything between the source and the quantised network."""
        return tuple(
            record for record in self.records if record.semantics == "approximate" and record.changed
        )


class _Snapshot(Instrument):
    """Keeps a copy of the model as it is before a pass."""

    def __init__(self, before: str) -> None:
        self._before = before
        self.model: Model | None = None

    def before(self, index: int, step: Pass, model: Model) -> None:
        """Copy the model if this is the pass."""
        if step.name == self._before:
            self.model = clone(model)


def pipeline(options: ConvertOptions) -> tuple[Pass, ...]:
    """Return the passes of a conversion, in order."""
    return (*_front_end(options, None, None), Encode())


def _front_end(
    options: ConvertOptions,
    observer: Calibration | None,
    choices: Mapping[str, Choice] | None,
    repairs: Mapping[str, Repair] | None = None,
) -> tuple[Pass, ...]:
    sampler = observer.sample if observer is not None else None
    insert = InsertQuantisers(
        options.timesteps if options.timesteps is not None else DEFAULT_TIMESTEPS,
        options.groups
        if options.groups is not None
        else min(DEFAULT_GROUPS, options.timesteps or DEFAULT_GROUPS),
        options.partition,
        observer,
        choices,
        options.observer,
        options.weights,
        options.layers,
        sampler,
    )
    encoder = EncodeInput(sampler, choices) if options.encode_input else None
    seen = partial(observe_inputs, observer) if observer is not None else None
    integers = IntegerWeights(options.weights, options.layers, options.reconstruct, seen, repairs)
    return front_end(
        options.timesteps,
        options.groups,
        options.partition,
        options.weights,
        insert,
        encoder,
        options.allow_host,
        options.layers,
        options.sizes,
        integers,
        attention_pass(options, observer.each_batch if observer is not None else None, choices),
    )


def convert(
    source: str | os.PathLike[str] | Model,
    options: ConvertOptions | None = None,
    *,
    calibration: Any = None,
    instruments: Sequence[Instrument] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> Conversion:
    """Convert a quantised network into a spiking one that computes the same, bit for bit.

    Args:
        source: ONNX file or model; a model is not changed.
        options: Choices; default all defaults.
        calibration: Calibration data from Python in place of ``options.calibrate``: an array or a mapping of
            arrays by input name, an iterable of batches, an onnxruntime CalibrationDataReader, or a function
            that gives one of these.
        instruments: Observers: progress, dumps.
        progress: Called during calibration with samples done and samples in all, None where that is unknown.

    Returns:
        The spiking model with its record.

    Raises:
        InputError: SNN3xx, the file is refused.
        UnsupportedError: SNN401 and others, with every node that cannot be converted.
        UsageError: SNN2xx, the options are wrong.
    """
    options = options or ConvertOptions()
    if options.auto is not None:
        raise UsageError(
            "SNN284",
            "a target is no choice yet",
            hint="snnc.auto.choose(source, options).options has the choice",
        )
    model, digest = _open(source, options)
    original = clone(model)
    observer = _observer(options, calibration, progress)
    options = _sized(options, model, observer)
    steps = (*_front_end(options, observer, None), Encode())
    snapshot = _Snapshot(Encode.name)
    chosen, regrouped = ChosenQuantisers(), Regrouped()
    try:
        if observer is None:
            require_sizes(model, options.sizes)
        result = run_pipeline(model, steps, instruments=[snapshot, chosen, regrouped, *instruments])
    except SnncError as error:
        _name_file(error, source)
        refusal = _whole_refusal(error, original, options, source)
        if refusal is not None:
            raise refusal from None
        raise
    if snapshot.model is None:
        raise UnsupportedError("SNN449", "the pipeline ended before the network was encoded")
    attach_functions(model)
    _require_numbers(model)
    _describe(model, options, steps, digest())
    record = None
    if chosen.choices:
        model.metadata_props["snnc.quantisers"] = write_choices(chosen.choices)
    if observer is not None and observer.count:
        codes = {name: choice.measured for name, choice in chosen.choices.items()}
        record = CalibrationRecord(observer.samples.kind, observer.count, observer.digest, codes)
        kept = {key: value for key, value in record.to_dict().items() if key != "codes"}
        model.metadata_props["snnc.calibration"] = json.dumps(kept, sort_keys=True)
    samples = observer.samples if observer is not None else None
    records = with_cost(result.records, regrouped, samples)
    return Conversion(model, snapshot.model, records, options, record, samples)


def _require_numbers(model: Model) -> None:
    """Refuse a network whose own constants compute to NaN; a file with one could not be read again."""
    for name, value in model.graph.initializers.items():
        array = constant(value)
        if array is not None and array.dtype.kind == "f" and bool(np.isnan(array).any()):
            raise InputError(
                "SNN323",
                "is computed from constants of the model and is not a number",
                where=Where(tensor=name),
            )


def look_through(
    source: str | os.PathLike[str] | Model,
    options: ConvertOptions | None = None,
    *,
    encode: bool = False,
) -> Survey:
    """Find out what of a network can be converted, and what becomes of each node, without data.

    Args:
        source: ONNX file or model; it is not changed.
        options: Choices; default all defaults.
        encode: Whether to go on to the spiking network.
    """
    options = options or ConvertOptions()
    model, _ = _open(source, options)
    options = replace(options, sizes=any_sizes(model, options.sizes))
    weights = sum(int(v.const_value.size) for v in model.graph.initializers.values() if v.const_value)
    # Choosing the integers of many weights takes long, and hardly ever decides anything.
    last = RequireQuantised.name if weights > _MANY_WEIGHTS else RequireIntegers.name
    return _survey(model, options, Encode.name if encode else last)


def _survey(model: Model, options: ConvertOptions, last: str) -> Survey:
    def steps(allowed: tuple[str, ...]) -> Sequence[Pass]:
        chosen = (
            *_front_end(replace(options, allow_host=allowed, reconstruct="none"), None, AnyChoice(model)),
            Encode(),
        )
        return chosen[: 1 + next(place for place, step in enumerate(chosen) if step.name == last)]

    return survey(model, steps, options.allow_host)


def _whole_refusal(
    error: SnncError, model: Model, options: ConvertOptions, source: str | os.PathLike[str] | Model
) -> UnsupportedError | None:
    """Return one error that lists all that cannot be converted, where a stage listed what it found."""
    if error.code == "SNN464":
        return None
    if not (isinstance(error, UnsupportedError) and error.problems) and error.code != "SNN261":
        return None
    late = isinstance(error, UnsupportedError) and error.where.pass_name == RequireIntegers.name
    try:
        refusal = _survey(model, options, (RequireIntegers if late else RequireQuantised).name).refusal()
    except SnncError:
        return None
    if refusal is None or (isinstance(error, UnsupportedError) and _loses(error, refusal)):
        return None
    _name_file(refusal, source)
    return refusal


def _loses(error: UnsupportedError, refusal: UnsupportedError) -> bool:
    """Whether the whole list lacks something that one stage has found."""
    return len(refusal.problems) < len(error.problems)


def quantise(
    source: str | os.PathLike[str] | Model,
    options: ConvertOptions | None = None,
    choices: Mapping[str, Choice] | None = None,
    repairs: Mapping[str, Repair] | None = None,
    instruments: Sequence[Instrument] = (),
) -> Model:
    """Return a network in the quant dialect: all approximations made, nothing encoded yet.

    Args:
        source: ONNX file or model; a model is not changed.
        options: Choices; default all defaults.
        choices: Quantisers of a calibrated network, as its file records them; see `choices_of_file`.
        repairs: What calibration changed of weights and biases; see `repairs_of_file`.
        instruments: Observers.
    """
    options = options or ConvertOptions()
    model, _ = _open(source, options)
    observer = _observer(options, None, None) if choices is None else None
    options = _sized(options, model, observer)
    try:
        run_pipeline(model, _front_end(options, observer, choices, repairs), instruments=instruments)
    except SnncError as error:
        _name_file(error, source)
        raise
    return model


def stage_before_quantisers(
    source: str | os.PathLike[str] | Model, options: ConvertOptions, calibration: Any
) -> Model:
    """Return a recognised network in float, just before it is given quantisers.

    Args:
        source: ONNX file or model; a model is not changed.
        options: Choices.
        calibration: Calibration data; see `convert`.
    """
    model, _ = _open(source, options)
    observer = _observer(options, calibration, None)
    steps = _front_end(_sized(options, model, observer), observer, None)
    names = [step.name for step in steps]
    try:
        run_pipeline(model, steps[: names.index(InsertQuantisers.name)])
    except SnncError as error:
        _name_file(error, source)
        raise
    return model


def _name_file(error: SnncError, source: str | os.PathLike[str] | Model) -> None:
    """Say in an error which file it is about; a remedy that quotes a command quotes this file."""
    name = "MODEL.onnx" if isinstance(source, Model) else os.fspath(source)
    if not isinstance(source, Model):
        error.in_file(name)
    if error.code == "SNN261":
        error.hint = f"snnc convert {name} --calibrate x.npz"


def _observer(
    options: ConvertOptions, given: Any, progress: Callable[[int, int | None], None] | None
) -> Calibration | None:
    """Return what observes a float network on the calibration data, if there are any."""
    if options.calibrate is not None and given is not None:
        raise UsageError("SNN262", "calibration data are given twice, by name and as an object")
    source = options.calibrate if given is None else given
    if source is None:
        return None
    return Calibration(open_samples(source, seed=options.seed), progress)


def _sized(options: ConvertOptions, model: Model, observer: Calibration | None) -> ConvertOptions:
    """Give open sizes that nobody named the numbers that the calibration data have."""
    if observer is None:
        return options
    return replace(options, sizes=sizes_of_samples(model, options.sizes, observer.samples))


def _open(source: str | os.PathLike[str] | Model, options: ConvertOptions) -> tuple[Model, Callable[[], str]]:
    """Return a model that may be changed, and what waits for the digest of the source."""
    model = clone(source) if isinstance(source, Model) else load(source)
    name = None if isinstance(source, Model) else os.fspath(source)
    if "snnc.format" in model.metadata_props:
        chosen = model.metadata_props.get("snnc.options", "")
        raise UnsupportedError(
            "SNN402",
            f"is already converted (snnc {model.metadata_props.get('snnc.version')}, {chosen})",
            where=Where(file=name),
            hint="give the model it was made from",
        )
    check_allowed(model, options.allow_host)
    digest = model_digest_meanwhile(model)
    model.metadata_props.pop(REPAIRS, None)
    for node in model.graph.all_nodes():
        node.metadata_props.pop(DECLARED, None)  # what is on the host the user decides, not the file
    return model, digest


def _describe(model: Model, options: ConvertOptions, steps: Sequence[Pass], digest: str) -> None:
    """Make the file self-describing."""
    from snnc import __version__

    chosen = {setting.name: getattr(options, setting.name) for setting in SETTINGS if setting.recorded}
    books = {
        name: f"T={book.timesteps} G={book.groups} {book.partition}{' signed' if book.signed else ''}"
        for name, book in quantisers_of(model).items()
    }
    repairs = model.metadata_props.get(REPAIRS)
    keep_provenance(model)
    model.metadata_props.clear()
    if repairs is not None:
        model.metadata_props[REPAIRS] = repairs
    model.metadata_props.update(
        {
            "snnc.format": ".".join(map(str, FORMAT_VERSION)),
            "snnc.version": __version__,
            "snnc.options": json.dumps(chosen, sort_keys=True),
            "snnc.pipeline": format_pipeline(steps),
            "snnc.source": digest,
            "snnc.codes": json.dumps(books, sort_keys=True),
        }
    )
    model.producer_name = "snnc"
    model.producer_version = __version__
    model.doc_string = None
    model.ir_version = 10


def load_spiking(path: str | os.PathLike[str]) -> Model:
    """Read a converted model; SNN305 or SNN322 if it is none, SNN306 if its format is newer."""
    model = load(path)
    options_of_file(model, os.fspath(path))
    check_codes(model, os.fspath(path))
    return model


def options_of_file(model: Model, file: str | None = None) -> ConvertOptions:
    """Return the options that a converted model was made with; errors as of `load_spiking`."""
    props: Mapping[str, str] = model.metadata_props
    where = Where(file=file)
    if "snnc.format" not in props:
        raise InputError(
            "SNN305",
            "is not a converted model",
            where=where,
            hint="convert it first: snnc convert MODEL.onnx",
        )
    try:
        version = tuple(int(part) for part in props["snnc.format"].split("."))
        content: dict[str, Any] = strict.loads(props.get("snnc.options", "{}"))
        known = {key: value for key, value in content.items() if key in ConvertOptions.__dataclass_fields__}
    except (ValueError, TypeError, AttributeError):
        raise InputError("SNN305", "its description is damaged", where=where) from None
    if version > FORMAT_VERSION:
        raise InputError(
            "SNN306",
            f"has format {props['snnc.format']}, newer than {'.'.join(map(str, FORMAT_VERSION))}",
            where=where,
            hint="update snnc",
        )
    try:
        return ConvertOptions(**known)
    except (UsageError, TypeError) as error:
        what = error.message if isinstance(error, UsageError) else str(error)
        raise InputError("SNN305", f"its description is damaged: {what}", where=where) from None
