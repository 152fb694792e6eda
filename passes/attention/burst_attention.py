"""Pass ``burst-attention``: softmax attention becomes additions of binary queries and bursts (DBSSA)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from snnc.coding import CodeBook
from snnc.errors import InternalError, UsageError, Where
from snnc.ir import AI_SNNC, Model, Node, Shape, Value
from snnc.passes.attention.burst_fit import Fit, fit
from snnc.passes.attention.grid import sides_of
from snnc.passes.attention.pairs import Pairs, neighbours
from snnc.passes.attention.recognise import Attention
from snnc.passes.attention.rewrite import accepted, attentions, result
from snnc.passes.attention.scores import closed_places, has_bias
from snnc.passes.attention.writer import Writer
from snnc.passes.editing import Editor
from snnc.passes.quantise.insert_quantisers import Choice
from snnc.passes.recognise.uniform import quantise_attributes
from snnc.pipeline.contract import PassResult, Semantics, whole

__all__ = ["CHOSEN", "BurstAttention", "Collect"]

#: Metadata key of nodes whose constants were chosen here: what the choice is called.
CHOSEN = "snnc.chosen_burst"
#: Runs a model on the calibration data and hands on tensors, by name, batch by batch.
Collect = Callable[[Model, Sequence[str], Callable[[str, Any], None]], None]
_KINDS = ("q", "k", "v")


@dataclass(frozen=True)
class BurstAttention:
    """Replace softmax attention by dual-channel burst attention: ``S = M * (Q K^T); O = g S V + b``.

    Q is binary, K counts the spikes of a burst, V is a spike of either sign: both products are additions.
    There is no softmax, so that this is another function; thresholds, and a gain and a constant for each
    channel, are chosen so that the result comes closest to that of softmax on the calibration data. Train the
    network in this form (`snnc.nn.DualChannelAttention`) to recover what it costs.

    Matches:
        What `GroupAttention` matches; without ``window`` the tokens need be no grid. Pairs that a constant
        mask closes stay closed; a bias has nothing to add to where there is no softmax, and is dropped.
    Leaves alone:
        "a mask that the host computes: ...", and as `GroupAttention` does; without ``window`` no grid is
        asked for.
    Keeps:
        The name of the result.

    Attributes:
        bursts: B, the most spikes of a key.
        window: Side of the neighbourhood that a patch sees, odd; 0: all tokens.
        collect: Runs a model on the calibration data.
        choices: What was chosen before, used instead.
        grid: Height and width of the grid of tokens whose map is not seen, ``4x6``; empty: not stated.

    Raises:
        UsageError: SNN291 if there are neither calibration data nor choices.

    Source:
        BSViT (arXiv 2604.23165), DBSSA; semantics note 5.1.
    """

    bursts: int = whole(3, 1, 255)
    window: int = whole(0, 0, 1024)
    collect: Collect | None = field(default=None, compare=False, repr=False)
    choices: Mapping[str, Choice] | None = field(default=None, compare=False, repr=False)
    grid: str = ""

    name: ClassVar[str] = "burst-attention"
    requires: ClassVar[frozenset[str]] = frozenset({"constants-folded", "unique-names"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset({"no-dead-code", "sorted"})
    semantics: ClassVar[Semantics] = "approximate"

    @property
    def books(self) -> tuple[CodeBook, CodeBook, CodeBook]:
        """Codes of queries, keys and values."""
        steps = self.bursts.bit_length()
        return (
            CodeBook(1, 1),
            CodeBook(steps, steps).restricted(0, self.bursts),
            CodeBook(1, 1, signed=True),
        )

    def run(self, model: Model) -> PassResult:
        """Rewrite; see the class."""
        editor = Editor(model)
        found: list[tuple[Attention, list[Pairs]]] = []
        for entry in attentions(editor, grid=self.window > 0, stated=sides_of(self.grid)):
            held = entry if self.window else replace(entry, sides=(0, 0), extra=0, behind=0)
            parts = accepted(editor, held, self._parts(held))
            if parts is not None:
                found.append((held, parts))
        for (entry, parts), chosen in zip(found, self._choose(model, found), strict=True):
            self._write(editor, entry, parts, chosen)
        return result(editor)

    def _choose(self, model: Model, found: Sequence[tuple[Attention, list[Pairs]]]) -> list[Fit]:
        if not found:
            return []
        if self.choices is not None:
            return [self._chosen(self.choices, _operands(entry)[3].name or "") for entry, _ in found]
        if self.collect is None:
            raise UsageError(
                "SNN291",
                "thresholds of burst attention are chosen from calibration data",
                hint="--calibrate x.npz",
            )
        seen: dict[str, list[Any]] = {}
        room: dict[str, int] = {}
        for entry, _ in found:
            names = [value.name or "" for value in _operands(entry)]
            most = max(1, min(32, (1 << 22) // (entry.heads * entry.tokens**2)))
            room.update({name: max(most, room.get(name, 0)) for name in names})

        def take(name: str, array: Any) -> None:
            kept = seen.setdefault(name, [])
            left = room[name] - sum(map(len, kept))
            if left > 0:
                kept.append(np.array(array[:left], np.float32))

        self.collect(model, list(room), take)
        fits = []
        for entry, parts in found:
            arrays = [np.concatenate(seen[value.name or ""]) for value in _operands(entry)]
            if not entry.apart:
                arrays = [array.reshape(-1, entry.heads, *array.shape[-2:]) for array in arrays]
            if entry.turned:
                arrays[2:] = [array.swapaxes(2, 3) for array in arrays[2:]]
            count = min(map(len, arrays))
            mask = np.zeros((entry.tokens, entry.tokens), bool)
            for part in parts:
                for queries, keys in zip(part.queries, part.keys, strict=True):
                    mask[np.ix_(queries, keys)] = True
            mask[entry.others] = True
            open_pairs = mask & ~closed_places(entry.steps, entry.heads, entry.tokens)
            fits.append(fit([array[:count] for array in arrays], open_pairs, self.books))
        return fits

    def _chosen(self, choices: Mapping[str, Choice], name: str) -> Fit:
        labels = [f"{name}.burst.{kind}" for kind in (*_KINDS, "out")]
        if any(label not in choices for label in labels):
            raise InternalError("SNN161", "no quantiser was chosen", where=Where(tensor=labels[0]))
        held = [choices[label] for label in labels]
        gain = held[3].step
        bias = held[3].offset if held[3].offset is not None else np.zeros_like(gain)
        return Fit([float(entry.step) for entry in held[:3]], gain, bias, None)

    def _parts(self, entry: Attention) -> list[Pairs] | str:
        computed = [each for step in entry.biases for each in step.operands if each and each.array is None]
        if computed:
            what = "mask that the host" if computed[0].of_host else "mask or bias that the network"
            return f"a {what} computes: {computed[0].value.name}; bursts have no softmax that it could act on"
        heads, tokens = np.arange(entry.heads), np.arange(entry.tokens)[None]
        if not self.window:
            return [Pairs(heads, tokens, tokens)]
        return neighbours(heads, entry.sides, self.window, entry.extra, entry.behind)

    def _write(self, editor: Editor, entry: Attention, parts: list[Pairs], chosen: Fit) -> None:
        *operands, out = _operands(entry)
        name = out.name or "attention"
        coded: list[Value | None] = []
        for kind, value, book, step in zip(_KINDS, operands, self.books, chosen.steps, strict=True):
            held = editor.constant(f"{name}.burst.{kind}.step", np.asarray(step, np.float32))
            code = editor.add(
                entry.second,
                "Quantise",
                [value, held],
                quantise_attributes(book, "away"),
                domain=AI_SNNC,
                name=f"{name}.burst.{kind}",
                dtype=value.dtype,
                shape=value.shape,
            )
            _mark(code, f"{name}.burst.{kind}")
            coded.append(code)
        writer = Writer(editor, entry, coded, normalise=False)
        mixed = writer.write(parts)
        dims = [entry.batch, entry.heads, entry.tokens, entry.size]
        same: dict[str, Any] = {"dtype": out.dtype, "shape": Shape(dims)}
        gain = editor.constant(f"{name}.burst.gain", chosen.gain.astype(np.float32))
        bias = editor.constant(f"{name}.burst.bias", chosen.bias.astype(np.float32))
        scaled = editor.add(entry.second, "Mul", [mixed, gain], name=f"{name}.burst.scaled", **same)
        _mark(scaled, f"{name}.burst.out")
        moved = editor.add(entry.second, "Add", [scaled, bias], name=f"{name}.burst.moved", **same)
        editor.replace(self.name, out, writer.merged(moved), removed=entry.removed)
        near = f", neighbours in {self.window} x {self.window} patches" if self.window else ""
        dropped = ", the bias of its scores is dropped" if has_bias(entry.steps) else ""
        cost = "" if chosen.explained is None else f"; {100 * chosen.explained:.1f} % of its variance is kept"
        editor.notes.append(
            f"{entry.softmax.name}: binary queries, bursts of {self.bursts}, values of both signs, no softmax"
            f"{near}{dropped}: {100 * writer.share(parts):.1f} % of the pairs are left{cost}"
        )


def _operands(entry: Attention) -> list[Value]:
    values = (*entry.first.inputs, entry.values, entry.second.outputs[0])
    return [value for value in values if value is not None]


def _mark(value: Value, label: str) -> None:
    node: Node | None = value.producer()
    assert node is not None
    node.metadata_props[CHOSEN] = label
