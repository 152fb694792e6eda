"""Pass ``keep-on-host``: what the user lets the host compute in float is set apart from all other passes."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np

from snnc.errors import Problem, UnsupportedError, UsageError, Where
from snnc.ir import Model, Node, Shape, Value, attributes, constant, make_node
from snnc.ir.hosting import is_known_operator, is_sealed, seal
from snnc.ir.rewrite import has_subgraph, set_attribute
from snnc.passes.analysis.layout import LAYOUT_OPS
from snnc.passes.editing import Editor, rank_of
from snnc.pipeline.contract import PassResult, Semantics

__all__ = ["KeepOnHost"]

_NOT_REPRODUCIBLE = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_WINDOWS = frozenset(
    {"AveragePool", "Conv", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"}
)
#: Attributes of windows, with what an extra axis in front of the others adds to each half.
_EXTRA_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0}


@dataclass(frozen=True)
class KeepOnHost:
    """Seal the nodes that the user allows to stay in float, so that no other pass looks into them.

    Windows over two axes get a third one: in two dimensions onnxruntime's optimiser chooses other kernels for
    them, which round differently.

    Matches: nodes of an operator, or with a name, of the list.
    Leaves alone: all others; without a list, all.
    Keeps: names, values.

    Attributes:
        allowed: Operators and node names.

    Raises:
        UnsupportedError: SNN463, a node cannot be kept: its domain is not the standard one, it holds graphs,
            or it draws random numbers. All such nodes are listed.
    """

    allowed: tuple[str, ...] = ()

    name: ClassVar[str] = "keep-on-host"
    requires: ClassVar[frozenset[str]] = frozenset({"no-functions", "types-known"})
    establishes: ClassVar[frozenset[str]] = frozenset()
    invalidates: ClassVar[frozenset[str]] = frozenset()
    semantics: ClassVar[Semantics] = "exact"

    def run(self, model: Model) -> PassResult:
        """Seal; see the class."""
        editor = Editor(model)
        nodes = [node for node in model.graph if not is_sealed(node)]
        chosen: dict[int, tuple[Node, str]] = {}
        for asked in self.allowed:
            found = [node for node in nodes if is_asked(node, (asked,))]
            chosen.update({id(node): (node, asked) for node in found})
            if not found and not any(is_sealed(node) for node in model.graph):
                editor.notes.append(f"nothing of {asked} is in the model that could stay on the host")
        problems = [
            Problem(reason, Where(node=node.name))
            for node, _ in chosen.values()
            if (reason := why_not_hosted(node)) is not None
        ]
        if problems:
            raise UnsupportedError(
                "SNN463",
                f"{len(problems)} nodes cannot stay on the host",
                where=Where(pass_name=self.name),
                problems=problems,
                hint="only operators of the standard domain can: every runtime has to compute the same",
            )
        for node, asked in chosen.values():
            node.metadata_props.setdefault("snnc.source", node.name or "")
            op = node.op_type
            if op in _WINDOWS and _spatial(node) == 2 and len(node.outputs) == 1:
                _widen(editor, node)
            seal(node, asked)
            editor.adopt(node)
            editor.record("keep on the host", note=f"{op} {node.name!r} stays in float")
        return editor.result()


def check_allowed(model: Model, allowed: tuple[str, ...]) -> None:
    """Check that every name is a node or an operator of a source model, or an operator that ONNX has.

    Raises:
        UsageError: SNN278, one is not; with names like it.
    """
    nodes = [*model.graph.all_nodes(), *(node for f in model.functions.values() for node in f.all_nodes())]
    names = {text for node in nodes for text in (node.name, node.op_type, _qualified(node)) if text}
    # A node without a name gets that of its first output.
    names |= {node.outputs[0].name for node in nodes if not node.name and node.outputs[0].name}
    for asked in allowed:
        if asked in names or is_known_operator(asked):
            continue
        near = get_close_matches(asked, sorted(names), n=3)
        ops = ", ".join(sorted({node.op_type for node in nodes}))
        raise UsageError(
            "SNN278",
            f"--allow-host {asked!r} is no node and no operator of the model",
            hint=f"did you mean {', '.join(near)}?" if near else f"its operators: {ops}",
        )


def is_asked(node: Node, allowed: tuple[str, ...]) -> bool:
    """Return whether a node is meant by one of the names that the user gave."""
    if node.name in allowed or node.op_type in allowed or _qualified(node) in allowed:
        return True
    # An older form of the node was rewritten: moves around it are none of its business.
    return node.metadata_props.get("snnc.source") in allowed and node.op_type not in LAYOUT_OPS


def _qualified(node: Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def why_not_hosted(node: Node) -> str | None:
    """Return why a node cannot stay in float on the host; None if it can."""
    if node.domain not in ("", "ai.onnx") or not is_known_operator(node.op_type):
        domain = f"{node.domain}::" if node.domain else ""
        return f"{domain}{node.op_type} is not an operator of the standard domain, so no runtime need have it"
    if has_subgraph(node):
        return f"{node.op_type} holds graphs of its own: unroll it, or export the part in it as nodes"
    if node.op_type in _NOT_REPRODUCIBLE:
        return f"{node.op_type} draws random numbers: export the model in eval mode"
    return None


def _spatial(node: Node) -> int | None:
    kernel = attributes(node).get("kernel_shape")
    if kernel is not None:
        return len(kernel)
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    rank = rank_of(node.inputs[0])
    return weight.ndim - 2 if weight is not None else rank - 2 if rank is not None else None


def _widen(editor: Editor, node: Node) -> None:
    """Let windows over two axes run over three, the first of size 1."""
    attrs: dict[str, Any] = attributes(node)
    for name, extra in _EXTRA_AXIS.items():
        if name in attrs:
            half = len(attrs[name]) // 2 if name == "pads" else 0
            parts = [attrs[name][:half], attrs[name][half:]] if half else [attrs[name]]
            set_attribute(node, name, [size for part in parts for size in (extra, *part)])
    axis = editor.constant(f"{node.name}_axis", np.array([2], dtype=np.int64))
    places = [0, 1] if node.op_type == "Conv" else [0]
    for place in places:
        value = node.inputs[place]
        held = constant(value)
        assert value is not None
        if held is not None:
            editor.set_constant(node, place, f"{node.name}_wide", np.expand_dims(held, 2))
        else:
            name = f"{node.name}_wide_{place}"
            shape = _wide(value)
            wide = editor.add(node, "Unsqueeze", [value, axis], name=name, dtype=value.dtype, shape=shape)
            node.replace_input_with(place, wide)
    out = node.outputs[0]
    meant, shape = out.name, out.shape
    narrow = make_node(
        editor.graph,
        "Squeeze",
        [out, axis],
        name=f"{node.name}_narrow",
        dtype=out.dtype,
        shape=shape,
        source=node,
    )
    out.replace_all_uses_with(narrow.outputs[0], replace_graph_outputs=True)
    narrow.replace_input_with(0, out)
    out.name, out.shape = narrow.outputs[0].name, _wide(out)
    narrow.outputs[0].name = meant
    editor.graph.insert_after(node, narrow)
    editor.adopt(narrow)


def _wide(value: Value) -> Shape | None:
    if value.shape is None:
        return None
    dims = list(value.shape)
    return Shape([*dims[:2], 1, *dims[2:]])
