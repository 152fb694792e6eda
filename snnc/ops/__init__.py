"""The ops of the domain ``ai.snnc``: one frozen `OpDef` each, listed here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from snnc.errors import UnsupportedError
from snnc.ir import Function, Model
from snnc.ir.functions import parse_function
from snnc.ir.hosting import unseal
from snnc.ops.activation import GELU, HARD_SWISH, MISH, SILU
from snnc.ops.gain import EXPG_IF_GAIN, MEMBRANE_MAX, NORM_GAIN, NORM_POTENTIAL
from snnc.ops.gate import GATE, HOST_QUOTIENT, MASK_ROW, MEMBRANE_MASK, SPIKE_GATE, SPIKE_MUL_HELD
from snnc.ops.host import ENCODE, FIXED_POINT_ENCODE, HOST_CONV, HOST_MATMUL
from snnc.ops.layout import LAYOUT, SPIKE_PAD, LayoutOp
from snnc.ops.legal import check_codes
from snnc.ops.membrane import MEMBRANE_ADD, MEMBRANE_ROUND, MEMBRANE_SCALE, MEMBRANE_SUM, READOUT
from snnc.ops.merge import SPIKE_SUM, SPIKE_SUM_POOL
from snnc.ops.neuron import EXPG_IF
from snnc.ops.normalise import FLOOR_QUOTIENT, NORMALISE, RMS_NORM
from snnc.ops.pool import MEMBRANE_MAX_POOL, MEMBRANE_SUM_POOL, SPIKE_MAX_POOL
from snnc.ops.quantise import FIXED_POINT, QUANTISE, RESCALE, ROUND_MEMBRANE, WEIGHT
from snnc.ops.schema import DOMAIN, VERSION, Attribute, OpDef
from snnc.ops.signal import Signal, SpikeTrain, book_of
from snnc.ops.synapse import CHARGE, CODE_SLICE, SPIKE_CONV, SPIKE_MATMUL, SPIKE_MATMUL_HELD
from snnc.ops.tables import BIPOLAR, TABLE

__all__ = [
    "DOMAIN",
    "LAYOUT",
    "OPS",
    "VERSION",
    "Attribute",
    "LayoutOp",
    "OpDef",
    "Signal",
    "SpikeTrain",
    "attach_functions",
    "book_of",
    "check_codes",
    "function_for",
    "functions_for",
    "get_op",
]

_ALL = (
    QUANTISE,
    WEIGHT,
    RESCALE,
    FIXED_POINT,
    ROUND_MEMBRANE,
    FLOOR_QUOTIENT,
    NORMALISE,
    RMS_NORM,
    GELU,
    SILU,
    MISH,
    HARD_SWISH,
    TABLE,
    BIPOLAR,
    FIXED_POINT_ENCODE,
    HOST_CONV,
    HOST_MATMUL,
    MEMBRANE_ROUND,
    ENCODE,
    SPIKE_CONV,
    SPIKE_MATMUL,
    CODE_SLICE,
    SPIKE_MATMUL_HELD,
    CHARGE,
    MEMBRANE_ADD,
    MEMBRANE_SCALE,
    MEMBRANE_SUM,
    MEMBRANE_SUM_POOL,
    MEMBRANE_MAX_POOL,
    SPIKE_MAX_POOL,
    SPIKE_PAD,
    SPIKE_SUM_POOL,
    SPIKE_SUM,
    MEMBRANE_MAX,
    GATE,
    MASK_ROW,
    MEMBRANE_MASK,
    SPIKE_GATE,
    SPIKE_MUL_HELD,
    HOST_QUOTIENT,
    NORM_POTENTIAL,
    NORM_GAIN,
    EXPG_IF,
    EXPG_IF_GAIN,
    READOUT,
)

OPS: Mapping[str, OpDef] = MappingProxyType({op.name: op for op in _ALL})
"""Every op of the domain, by name."""


def get_op(name: str) -> OpDef:
    """Return the definition of an op of the domain ``ai.snnc``.

    Raises:
        UnsupportedError: SNN410, there is no such op.
    """
    try:
        return OPS[name]
    except KeyError:
        raise UnsupportedError(
            "SNN410", f"the domain {DOMAIN} has no op '{name}'", hint=f"it has {', '.join(sorted(OPS))}"
        ) from None


def function_for(op: OpDef, opset: int = 17) -> Function:
    """Return a fresh ONNX function of standard ops that does what an op does.

    Args:
        op: The op.
        opset: Version of the standard ops; that of the model which gets the function.
    """
    return parse_function(op.function_text(opset))


def functions_for(names: Iterable[str], opset: int = 17) -> list[Function]:
    """Return fresh functions for some ops, each once, in order of name.

    Args:
        names: Op names of the domain ``ai.snnc``.
        opset: Version of the standard ops.

    Raises:
        UnsupportedError: SNN410, there is no such op.
    """
    return [function_for(get_op(name), opset) for name in sorted(set(names))]


def attach_functions(model: Model) -> None:
    """Give a model the functions of exactly those ``ai.snnc`` ops that its graph uses, in place.

    Nodes that stay on the host become the standard ops that they are, so that the model runs.

    Raises:
        UnsupportedError: SNN410, a node names an op that does not exist.
    """
    unseal(model.graph)
    used = [node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN]
    for key in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[key]
    opset = model.graph.opset_imports.get("", 17)
    for function in functions_for(used, opset):
        model.functions[function.identifier()] = function
    if used:
        model.graph.opset_imports.setdefault(DOMAIN, VERSION)
