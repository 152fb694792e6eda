"""The table of settings of a conversion.

Adding one: a row here and a field of the same name and default in ``snnc.options.ConvertOptions``. The flag
of ``snnc convert``, the recipe key, the environment variable and their checks follow from the row; a test
compares them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from snnc.errors import UsageError, Where

__all__ = ["SETTINGS", "Kind", "Setting", "by_name", "check", "is_text"]

#: ``data`` and ``file`` are places: a relative one in a recipe counts from the folder of the recipe.
Kind = Literal["int", "float", "bool", "text", "data", "file", "rule"]

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "text": "a text",
    "data": "a text",
    "file": "a text",
    "rule": "a rule",
}


@dataclass(frozen=True)
class Setting:
    """One thing that a user may choose.

    Attributes:
        name: Field of ``ConvertOptions``.
        kind: Type of its value.
        help: Help text of the flag; one or two sentences.
        default: Value where nobody chooses; None leaves it open, and a list of values starts empty.
        default_text: What the default is, in words, where None does not say it.
        many: Holds any number of values; the flag may be repeated, the recipe has a list.
        low: Smallest number.
        high: Largest number.
        choices: The texts allowed, if they are few.
        pattern: Regular expression of a text.
        metavar: Placeholder of the value in help texts.
        flag: Flag; default ``--`` and the name.
        per_layer: A rule for single layers may set it.
        recorded: It shapes the result, so the converted file records it; data is not recorded.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    default_text: str | None = None
    many: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    metavar: str | None = None
    flag: str = ""
    per_layer: bool = False
    recorded: bool = True

    def __post_init__(self) -> None:
        if not self.flag:
            object.__setattr__(self, "flag", f"--{self.key}")
        if self.many and self.default is None:
            object.__setattr__(self, "default", ())

    @property
    def key(self) -> str:
        """Key in a recipe."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Environment variable."""
        return "SNNC_" + self.flag.removeprefix("--").replace("-", "_").upper()


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "timesteps",
        "int",
        "Time-steps of the spike code, 1 to 16.",
        default_text="the model's own bits, else 8",
        low=1,
        high=16,
        metavar="T",
        per_layer=True,
    ),
    Setting(
        "groups",
        "int",
        "Groups: the most spikes a neuron may send, 1 to T.",
        default_text="the model's own bits, else 4",
        low=1,
        high=16,
        metavar="G",
        per_layer=True,
    ),
    Setting(
        "partition",
        "text",
        "Which time-steps form a group.",
        default="interleaved",
        choices=("interleaved", "contiguous"),
        per_layer=True,
    ),
    Setting(
        "weights",
        "text",
        "Integer form of the weights: int2 to int16, or wide (the finest that stays exact).",
        default="int8",
        pattern=r"int([2-9]|1[0-6])|wide|float",
        metavar="FORM",
        per_layer=True,
    ),
    Setting(
        "layers",
        "rule",
        "Other choices for the layers whose node or tensor names match the glob pattern, such as "
        "'/blocks.0/*:timesteps=6,groups=3' or '*:role=attention,groups=4'. May be repeated; later ones win.",
        many=True,
        metavar="PATTERN:KEY=VALUE,...",
        flag="--layer",
    ),
    Setting(
        "calibrate",
        "data",
        "Samples to calibrate a float network on, and to count spikes and operations on: .npz, .npy, a "
        "folder of .npy, of ONNX test data or of images, file.py:function, or random:N.",
        metavar="DATA",
        recorded=False,
    ),
    Setting(
        "encode_input",
        "bool",
        "Send the input as spikes too, 8-bit images as their pixels: no layer runs on the host.",
        default=False,
    ),
    Setting(
        "attention",
        "text",
        "What attends to what: global, as the network has it; on a grid of tokens grouped, half of the heads "
        "in dilated groups, half in windows, or adjacent, patches with their neighbours; burst, binary "
        "queries and bursts of keys without softmax. That changes what the network computes.",
        default="global",
        choices=("global", "grouped", "adjacent", "burst"),
    ),
    Setting(
        "stride",
        "int",
        "Distance of neighbours in a dilated group, with --attention grouped.",
        default=2,
        low=1,
        high=1024,
        metavar="S",
    ),
    Setting(
        "window",
        "int",
        "Side of a window, with --attention grouped; of a neighbourhood, odd, with adjacent and burst.",
        default_text="the grid divided by the stride; 3 if adjacent, all tokens if burst",
        low=1,
        high=1024,
        metavar="W",
    ),
    Setting(
        "grid",
        "text",
        "Height and width of the grid of tokens, with --attention: for tokens whose map the network does not "
        "show, such as those of a network that is given them.",
        pattern=r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}",
        default_text="that of the map that became tokens",
        metavar="HEIGHTxWIDTH",
    ),
    Setting(
        "bursts",
        "int",
        "Most spikes of a key, with --attention burst.",
        default=3,
        low=1,
        high=255,
        metavar="B",
    ),
    Setting(
        "allow_host",
        "text",
        "Keep an operator, such as LayerNormalization, or a node, by its name, in float on the host; "
        "it is listed and billed. May be repeated.",
        many=True,
        metavar="OP|NODE",
    ),
    Setting(
        "sizes",
        "text",
        "Number of an open size of the inputs other than the batch, by its name in the file (sequence=128) "
        "or by input and axis (x:2=128). May be repeated.",
        default_text="those of the calibration data",
        many=True,
        pattern=r"[ -<>-~]+=[1-9][0-9]{0,8}",
        metavar="NAME=NUMBER",
        flag="--size",
    ),
    Setting(
        "observer",
        "text",
        "How calibration chooses the step of a code: least squared error, reaching 99.99 % of the values, or "
        "least Kullback-Leibler divergence.",
        default="mse",
        choices=("mse", "percentile", "entropy"),
    ),
    Setting(
        "reconstruct",
        "text",
        "What calibration data mend once weights are integers: nothing, the mean of each output channel "
        "(biases), or the rounding of the weights too, layer by layer (slower).",
        default="none",
        choices=("none", "biases", "weights"),
    ),
    Setting(
        "auto",
        "text",
        "Choose T, G and weight bits layer by layer: loss=0.5 (points of accuracy), spikes=0.8 (per neuron), "
        "energy=2uJ (per sample) or energy=0.5x (of the default). T and G given are the most that is used.",
        metavar="TARGET",
        recorded=False,
    ),
    Setting(
        "labels",
        "file",
        "True classes, one integer a sample: .npy, or .npz with one array or one called 'labels'.",
        metavar="FILE",
        recorded=False,
    ),
    Setting("seed", "int", "Seed of random choices.", default=0, low=0, high=2**32 - 1, metavar="N"),
)


def by_name() -> Mapping[str, Setting]:
    """Return the settings by the name of their field."""
    return MappingProxyType({setting.name: setting for setting in SETTINGS})


def check(setting: Setting, value: Any, where: Where | None = None, label: str | None = None) -> Any:
    """Return a value of a setting as it is kept, or refuse it.

    Args:
        setting: The setting; of one that holds many values, this is one of them.
        value: What the user gave.
        where: Place to name.
        label: What to call the setting in messages; default its key.

    Raises:
        UsageError: SNN271, the value has the wrong type; SNN272, it is out of range or none of the choices.
    """
    name = label or setting.key
    types: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool}
    expected = types.get(setting.kind, str)
    if not isinstance(value, expected) or (isinstance(value, bool) and setting.kind != "bool"):
        raise UsageError("SNN271", f"{name} is {_shown(value)}, expected {_WORDS[setting.kind]}", where=where)
    if setting.recorded and isinstance(value, str) and not is_text(value):
        raise UsageError("SNN272", f"{name} is {_shown(value)}, which is not UTF-8", where=where)
    if setting.kind == "float":
        value = float(value)
        if not math.isfinite(value):
            raise UsageError("SNN272", f"{name} is {value}, expected a finite number", where=where)
    low, high = setting.low, setting.high
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"{low:g} to {high:g}" if None not in (low, high) else f"at least {low}"
        raise UsageError("SNN272", f"{name} is {value}, expected {limits}", where=where)
    if setting.choices and value not in setting.choices:
        raise UsageError(
            "SNN272", f"{name} is {_shown(value)}, expected {' or '.join(setting.choices)}", where=where
        )
    if setting.pattern is not None and not re.fullmatch(setting.pattern, value):
        raise UsageError("SNN272", f"{name} is {_shown(value)}, expected {setting.help}", where=where)
    return value


def is_text(value: str) -> bool:
    """Whether a text that the user gave can be written to a file; names of files need not be UTF-8."""
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
