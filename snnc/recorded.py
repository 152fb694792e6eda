"""The quantisers that were chosen for a network, as its converted file records them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snnc import strict
from snnc.coding import CodeBook
from snnc.errors import InputError
from snnc.ir import Model, Node, attributes, constant
from snnc.passes.attention.burst_attention import CHOSEN, BurstAttention
from snnc.passes.editing import only_consumer
from snnc.passes.quantise.encode_input import OFFSET
from snnc.passes.quantise.insert_quantisers import SITE, Choice, InsertQuantisers, levels_at, measured_at
from snnc.passes.quantise.integer_weights import REPAIRS
from snnc.passes.quantise.reconstruct import Repair, read_repairs
from snnc.pipeline import Instrument, PassRecord

__all__ = ["CalibrationRecord", "ChosenQuantisers", "choices_of_file", "repairs_of_file", "write_choices"]


@dataclass(frozen=True)
class CalibrationRecord:
    """What calibration read and what it chose.

    Attributes:
        data: Kind of data, such as ``npz`` or ``random:16 seed 0``; no path.
        samples: Number of samples.
        sha256: Digest of the samples as the network sees them, whatever file or code they came from.
        codes: For each tensor that got a code, what was measured on the samples: ``sqnr_db``, the
            signal-to-noise ratio (None where nothing is lost), and ``clipped``, the share of values beyond
            the largest or smallest code.
    """

    data: str
    samples: int
    sha256: str
    codes: Mapping[str, Mapping[str, float | None]]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-able values."""
        return {
            "data": self.data,
            "samples": self.samples,
            "sha256": self.sha256,
            "codes": {name: dict(numbers) for name, numbers in self.codes.items()},
        }


class ChosenQuantisers(Instrument):
    """Remembers the quantisers that calibration chose, so that the file can record them."""

    def __init__(self) -> None:
        self.choices: dict[str, Choice] = {}

    def after(self, index: int, record: PassRecord, model: Model) -> None:
        """Collect them behind the pass that inserts them."""
        if record.name == BurstAttention.name:
            self.choices.update(_bursts(model))
        if record.name != InsertQuantisers.name:
            return
        for node in model.graph:
            site = node.metadata_props.get(SITE)
            step = constant(node.inputs[1]) if site is not None else None
            if site is not None and step is not None:
                book = CodeBook.from_attributes(attributes(node))
                self.choices[site] = Choice(
                    book, np.array(step), _offset(node), levels_at(node), measured_at(node)
                )


def _bursts(model: Model) -> dict[str, Choice]:
    """Return the steps of burst attention, and gain and constant of its result as step and offset."""
    choices = {}
    for node in model.graph:
        label = node.metadata_props.get(CHOSEN)
        held = constant(node.inputs[1]) if label is not None else None
        if label is None or held is None:
            continue
        if node.op_type == "Quantise":
            choices[label] = Choice(CodeBook.from_attributes(attributes(node)), np.array(held))
            continue
        moved = only_consumer(node.outputs[0])
        offset = constant(moved.inputs[1]) if moved is not None else None
        choices[label] = Choice(CodeBook(1, 1), np.array(held), None if offset is None else np.array(offset))
    return choices


def _offset(quantiser: Node) -> npt.NDArray[Any] | None:
    """Return the value of code 0 that the encoder of an input has, None where it is zero."""
    source = quantiser.inputs[0]
    producer = source.producer() if source is not None else None
    if producer is None or OFFSET not in producer.metadata_props:
        return None
    held = constant(producer.inputs[1])
    return np.array(held) if held is not None else None


def write_choices(choices: Mapping[str, Choice]) -> str:
    """Return chosen quantisers as the text that a converted file records."""
    content = {}
    for name, choice in choices.items():
        content[name] = {
            "book": choice.book.to_attributes(),
            "shape": list(choice.step.shape),
            "step": _base64(choice.step),
        }
        if choice.offset is not None:
            content[name]["offset"] = _base64(choice.offset)
        if choice.levels is not None:
            content[name]["levels"] = _base64(choice.levels)
    return json.dumps(content, sort_keys=True)


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")


def _floats(entry: Mapping[str, Any], key: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(entry[key]), dtype="<f4").reshape(entry["shape"])


def _levels(entry: Mapping[str, Any], book: CodeBook) -> npt.NDArray[Any] | None:
    """Return what the levels of a code stand for; None if each stands for itself."""
    if "levels" not in entry:
        return None
    held = np.frombuffer(base64.b64decode(entry["levels"]), dtype="<f4")
    if held.size != book.largest - book.smallest + 1 or not np.isfinite(held).all():
        raise ValueError("other levels than the code has")
    return held


def choices_of_file(model: Model) -> dict[str, Choice] | None:
    """Return the quantisers that calibration chose for a converted model, or None if it was not calibrated.

    Raises:
        InputError: SNN305, the record is damaged.
    """
    text = model.metadata_props.get("snnc.quantisers")
    if text is None:
        return None
    try:
        return {name: _choice(entry) for name, entry in strict.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError("SNN305", "its record of quantisers is damaged") from None


def _choice(entry: Mapping[str, Any]) -> Choice:
    book = CodeBook.from_attributes(entry["book"])
    offset = _floats(entry, "offset") if "offset" in entry else None
    return Choice(book, _floats(entry, "step"), offset, _levels(entry, book))


def repairs_of_file(model: Model) -> dict[str, Repair] | None:
    """Return what calibration changed of a converted model's weights and biases, or None if nothing.

    Raises:
        InputError: SNN305, the record is damaged.
    """
    text = model.metadata_props.get(REPAIRS)
    return read_repairs(text) if text is not None else None
