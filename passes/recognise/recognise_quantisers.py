"""Pass ``recognise-quantisers``: quantisers of every dialect become ``ai.snnc::Quantise``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from snnc.ir import Model, Node
from snnc.passes.editing import Editor
from snnc.passes.recognise.chains import match_chain
from snnc.passes.recognise.linear import LINEAR_DOMAINS, match_linear
from snnc.passes.recognise.qonnx import QONNX_DOMAINS, match_quant
from snnc.passes.recognise.trunc import build_bipolar, match_trunc
from snnc.passes.recognise.uniform import Match, build
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["PATTERNS", "Pattern", "RecogniseQuantisers"]


@dataclass(frozen=True)
class Pattern:
    """One form in which quantisers come.

    Attributes:
        name: For records and reports.
        text: What it looks like.
        domains: Domains of the node that the search starts from.
        op_types: Its op types.
        match: Finds the quantiser around that node, or says why there is none.
    """

    name: str
    text: str
    domains: tuple[str, ...]
    op_types: tuple[str, ...]
    match: Callable[[Node], Match | str]

    def starts_at(self, node: Node) -> bool:
        """Return whether the search starts from a node."""
        return node.op_type in self.op_types and node.domain in self.domains


_STANDARD = ("", "ai.onnx")

#: Every pattern, in the order in which they are tried.
PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        "quantize-dequantize",
        "QuantizeLinear -> [Clip] -> DequantizeLinear",
        LINEAR_DOMAINS,
        ("DequantizeLinear",),
        match_linear,
    ),
    Pattern(
        "qonnx-quant", "Quant of QONNX, Brevitas and FINN", QONNX_DOMAINS, ("Quant", "IntQuant"), match_quant
    ),
    Pattern(
        "qonnx-trunc", "Trunc of QONNX and Brevitas, versions 1 and 2", QONNX_DOMAINS, ("Trunc",), match_trunc
    ),
    Pattern(
        "qcfs-chain",
        "floor(clip(u / theta, 0, 1) * L + 1/2) / L * theta, in any order, constants folded or not",
        _STANDARD,
        ("Floor",),
        match_chain,
    ),
    Pattern(
        "round-chain",
        "(round(clip(u / s + z, low, high)) - z) * s, in any order, constants folded or not",
        _STANDARD,
        ("Round",),
        match_chain,
    ),
)


@dataclass(frozen=True)
class RecogniseQuantisers:
    """Replace the quantisers that a model already contains by one op.

    The function is the same in real arithmetic; ``Quantise`` compares with ``midpoint * step`` where the
    source divides, so a value within an ulp of a mid-point may land on the other side.

    Matches:
        The patterns of `PATTERNS` and BipolarQuant of QONNX, on activations.
    Leaves alone:
        Every reason that a pattern gives, such as "its scale is not constant", "it has no finite lower or
        upper bound", "its zero points differ between channels", "its rounding mode CEIL is not rounding to
        the nearest level".
    Keeps:
        The name of the quantiser's output.
    """

    name: ClassVar[str] = "recognise-quantisers"
    requires: ClassVar[frozenset[str]] = frozenset(
        {"sorted", "constants-folded", "unique-names", "shapes-known", "no-identity"}
    )
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "approximate"

    def run(self, model: Model) -> PassResult:
        """Recognise; see the class."""
        editor = Editor(model)
        for pattern in PATTERNS:
            for node in list(model.graph):
                if node.graph is not None and pattern.starts_at(node):
                    self._try(editor, pattern, node)
        for node in list(model.graph):
            if node.domain in QONNX_DOMAINS and node.op_type == "BipolarQuant":
                reason = build_bipolar(editor, node)
                if reason is not None:
                    editor.fail(f"bipolar-quant: {reason}", node)
        if editor.rewrites:
            editor.notes.insert(
                0,
                f"{len(editor.rewrites)} quantisers recognised as they stand; they compare with "
                "midpoint * step instead of dividing by the step: the same up to the last bit of float32",
            )
        return editor.result()

    @staticmethod
    def _try(editor: Editor, pattern: Pattern, node: Node) -> None:
        match = pattern.match(node)
        if isinstance(match, str):
            editor.fail(f"{pattern.name}: {match}", node)
            return
        name = match.result.name
        build(editor, pattern.name, match)
        if match.quantiser.note:
            editor.notes.append(f"{name}: {match.quantiser.note}")
