"""Pass ``recognise-activations``: activation functions written as arithmetic become one op each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnc.ir import AI_SNNC, Model, Node, Value, attributes
from snnc.passes.editing import Editor, is_standard
from snnc.passes.recognise.normal_form import Form, normal_form, variables
from snnc.passes.recognise.piecewise import recognise_choice
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["FUSED", "PATTERNS", "Pattern", "RecogniseActivations"]

_CLOSE = 1e-3
_ROOT = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Free:
    """A number that may be anything positive, and is the op's alpha when divided by ``factor``."""

    factor: float = 1.0


@dataclass(frozen=True)
class Pattern:
    """One way to write an activation function.

    Attributes:
        name: For records and reports.
        text: What it looks like.
        structure: Its normal form without numbers (see `normal_form`).
        numbers: The numbers, in the order of the structure.
        op_type: Op that takes its place, of the domain ``ai.snnc`` unless ``standard``.
        attrs: Attributes of that op.
        standard: The op is a standard one.
    """

    name: str
    text: str
    structure: str
    numbers: tuple[float | Free, ...]
    op_type: str
    attrs: tuple[tuple[str, int], ...] = ()
    standard: bool = False

    def alpha(self, found: list[float]) -> float | None:
        """Return the number that is free; None if there is none."""
        for wanted, number in zip(self.numbers, found, strict=True):
            if isinstance(wanted, Free):
                return number / wanted.factor
        return None

    def deviation(self, found: list[float]) -> tuple[float, str]:
        """Return the largest relative deviation of the numbers from the pattern's, and what deviates."""
        worst, text = 0.0, ""
        for wanted, number in zip(self.numbers, found, strict=True):
            if isinstance(wanted, Free):
                away = 0.0 if number / wanted.factor > 0 else math.inf
            else:
                away = abs(number / wanted - 1)
            if away > worst:
                expected = "a positive number" if isinstance(wanted, Free) else f"{wanted:.7g}"
                worst, text = away, f"{number:.7g} stands where {expected} should"
        return worst, text


PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        "gelu-erf",
        "x / 2 * (1 + erf(x / sqrt 2)), factors in any order",
        "x + x*Erf(x)",
        (0.5, 0.5, math.sqrt(0.5)),
        "Gelu",
        (("tanh", 0),),
    ),
    Pattern(
        "gelu-tanh",
        "x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), with Pow or products",
        "x + x*Tanh(x + x^3)",
        (0.5, 0.5, _ROOT, _ROOT * 0.044715),
        "Gelu",
        (("tanh", 1),),
    ),
    Pattern(
        "gelu-sigmoid",
        "x * sigmoid(2 sqrt(2 / pi) * (x + 0.044715 x^3))",
        "x*Sigmoid(x + x^3)",
        (1.0, 2 * _ROOT, 2 * _ROOT * 0.044715),
        "Gelu",
        (("tanh", 1),),
    ),
    Pattern("silu", "x * sigmoid(alpha x), SiLU and QuickGELU", "x*Sigmoid(x)", (1.0, Free()), "Silu"),
    Pattern(
        "silu-exp",
        "x / (1 + exp(-alpha x))",
        "x*Reciprocal(1 + Exp(x))",
        (1.0, 1.0, 1.0, Free(-1.0)),
        "Silu",
    ),
    Pattern("silu-tanh", "x / 2 * (1 + tanh(alpha x / 2))", "x + x*Tanh(x)", (0.5, 0.5, Free(0.5)), "Silu"),
    Pattern(
        "hard-swish",
        "x * clip(x / 6 + 1 / 2, 0, 1), x * clip(x + 3, 0, 6) / 6, x * hardsigmoid(x)",
        "x*Clip(1 + x)",
        (1.0, 0.5, 1 / 6),
        "HardSwish",
    ),
    Pattern("mish", "x * tanh(softplus(x))", "x*Tanh(Softplus(x))", (1.0, 1.0, 1.0), "Mish"),
    Pattern("mish-log", "x * tanh(log(1 + exp(x)))", "x*Tanh(Log(1 + Exp(x)))", (1.0,) * 5, "Mish"),
    Pattern("softplus-log", "log(1 + exp(x))", "Log(1 + Exp(x))", (1.0,) * 4, "Softplus", standard=True),
    Pattern(
        "softsign-abs",
        "x / (1 + abs(x))",
        "x*Reciprocal(1 + Abs(x))",
        (1.0, 1.0, 1.0, 1.0),
        "Softsign",
        standard=True,
    ),
)
#: Fused ops: domain and op type, op that takes their place, its attributes, alpha where it has one.
FUSED: dict[tuple[str, str], tuple[str, dict[str, int], float | None]] = {
    ("com.microsoft", "Gelu"): ("Gelu", {"tanh": 0}, None),
    ("com.microsoft", "BiasGelu"): ("Gelu", {"tanh": 0}, None),
    ("com.microsoft", "FastGelu"): ("Gelu", {"tanh": 1}, None),
    ("com.microsoft", "QuickGelu"): ("Silu", {}, 1.702),
    ("", "Gelu"): ("Gelu", {}, None),
}


@dataclass(frozen=True)
class RecogniseActivations:
    """Replace activation functions that exporters write as several ops, and fused ones of other domains.

    The function is the same in real arithmetic, up to the digits of the constants in the file, which are
    taken as what they stand for: 0.70710677 is the square root of 1/2. A neuron holds the function in its
    table, exactly.

    Matches:
        The patterns of `PATTERNS`, in every order of their factors and summands; the ops of `FUSED`; a Where
        between a value and a function of it that make Relu, LeakyRelu, Elu or a guarded Softplus.
    Leaves alone:
        Expressions of the same structure with other numbers ("... stands where ... should"); Erf without a
        GELU around it.
    Keeps:
        The name of the function's result.
    """

    name: ClassVar[str] = "recognise-activations"
    requires: ClassVar[frozenset[str]] = frozenset(
        {"sorted", "constants-folded", "unique-names", "shapes-known"}
    )
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recognise; see the class."""
        editor = Editor(model)
        for node in list(model.graph):
            if (node.domain, node.op_type) in FUSED:
                _unfuse(editor, node)
            elif is_standard(node, "Mul", "Div", "Add", "Sub", "Log"):
                _recognise(editor, node)
            elif is_standard(node, "Where"):
                recognise_choice(editor, node)
        for node in model.graph:
            if is_standard(node, "Erf"):
                editor.fail("no GELU around it", node)
        return editor.result()


def _recognise(editor: Editor, node: Node) -> None:
    reason = None
    for variable in variables(node):
        form = normal_form(node.outputs[0], variable)
        if form is None or not form.functions:
            continue
        for pattern in PATTERNS:
            if pattern.structure != form.structure:
                continue
            away, text = pattern.deviation(form.numbers)
            if away <= _CLOSE:
                _replace(editor, node, variable, form, pattern, away)
                return
            reason = f"{pattern.name}: {text}"
    if reason is not None:
        editor.fail(reason, node)


def _replace(editor: Editor, node: Node, variable: Value, form: Form, pattern: Pattern, away: float) -> None:
    out = node.outputs[0]
    name = editor.take_name(node)
    alpha = pattern.alpha(form.numbers)
    attrs = dict(pattern.attrs)
    made = _add(editor, node, variable, name, pattern.op_type, attrs, alpha, standard=pattern.standard)
    note = f"its constants are within {away:.1g} of the function's" if away > 1e-6 else ""
    editor.replace(pattern.name, out, made, removed=form.nodes.values(), note=note)
    editor.notes.append(f"{made.name}: {pattern.text}{': ' + note if note else ''}")


def _add(
    editor: Editor,
    node: Node,
    source: Value | None,
    name: str,
    op_type: str,
    attrs: dict[str, Any],
    alpha: float | None,
    *,
    standard: bool = False,
) -> Value:
    inputs = [source]
    if alpha is not None:
        inputs.append(editor.constant(f"{name}.alpha", np.asarray(alpha, dtype=np.float32)))
    out = node.outputs[0]
    domain = "" if standard else AI_SNNC
    return editor.add(
        node, op_type, inputs, attrs, name=name, domain=domain, dtype=out.dtype, shape=out.shape
    )


def _unfuse(editor: Editor, node: Node) -> None:
    op_type, attrs, alpha = FUSED[node.domain, node.op_type]
    given = attributes(node)
    if not node.domain:
        attrs = {"tanh": int(given.get("approximate", "none") == "tanh")}
    if alpha is not None:
        alpha = float(given.get("alpha", alpha))
        if alpha <= 0:
            editor.fail("its alpha is not positive", node)
            return
    kind, name = node.op_type, editor.take_name(node)
    source, out = node.inputs[0], node.outputs[0]
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        source = editor.add(
            node, "Add", [source, node.inputs[1]], name=f"{name}.bias", dtype=out.dtype, shape=out.shape
        )
    made = _add(editor, node, source, name, op_type, attrs, alpha)
    editor.replace(f"{node.domain or 'standard'} {kind}", out, made)
    form = f", alpha {alpha:g}" if alpha is not None else ", by tanh" if attrs["tanh"] else ", by erf"
    editor.notes.append(f"{made.name}: {kind}{form}")
