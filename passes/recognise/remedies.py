"""What cannot be converted, and what its author can do: tables for the refusing passes."""

from __future__ import annotations

from snnc.ir import Node, constant
from snnc.passes.analysis.activations import ACTIVATION_OPS
from snnc.passes.quantise.jumps import TABULATED
from snnc.passes.recognise.qonnx import QONNX_DOMAINS, QONNX_REFUSED

__all__ = ["REFUSED", "activation_remedy", "refusal"]

_STATIC = (
    "quantise with onnxruntime's quantize_static(..., quant_format=QuantFormat.QDQ): scales must not depend "
    "on the data"
)
_QDQ = "quantise again with quant_format=QuantFormat.QDQ: the QOperator format has no float graph to read"
_BLOCKS = (
    "its weights have a scale in each block: convert the float model with --calibrate, or quantise with "
    "quantize_static"
)
_STEPS = "unroll it: export the module with a fixed number of iterations (128 at most, no condition)"

#: Ops of the standard domain and of onnxruntime's that no later pass can take, and the remedy.
REFUSED: dict[str, str] = {
    **dict.fromkeys(("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"), _STATIC),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM"), _STATIC),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul"), _QDQ),
    **dict.fromkeys(
        ("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "QLinearWhere"), _QDQ
    ),
    **dict.fromkeys(("QLinearSigmoid", "QLinearSoftmax", "QLinearLeakyRelu", "QLinearReduceMean"), _QDQ),
    "MatMulNBits": _BLOCKS,
    **dict.fromkeys(("MatMulBnb4", "MatMulFpQ4", "GatherBlockQuantized"), _BLOCKS),
    **dict.fromkeys(("QAttention", "QEmbedLayerNormalization", "QMoE"), _STATIC),
    **dict.fromkeys(("If", "Loop", "Scan"), _STEPS),
    **dict.fromkeys(
        ("PackedAttention", "PackedMultiHeadAttention", "RemovePadding", "RestorePadding"),
        "how many tokens it packs depends on the data: convert the model that convert_to_packing_mode read",
    ),
    **dict.fromkeys(
        (
            "DecoderAttention",
            "DecoderMaskedMultiHeadAttention",
            "DecoderMaskedSelfAttention",
            "PagedAttention",
            "SparseAttention",
            "SparsePagedAttention",
            "TensorScatter",
        ),
        "it keeps keys and values from call to call: export the model without a cache (use_cache=False)",
    ),
    **dict.fromkeys(
        ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
        "it runs a network in a loop: convert the network that it runs",
    ),
    **dict.fromkeys(("Inverse", "Det"), "no neuron inverts a matrix: cut the model in front of it"),
    **dict.fromkeys(
        ("MoE", "DynamicSparseAttention", "LongformerAttention"),
        "what it computes depends on which values are large: use dense layers in its place",
    ),
    **dict.fromkeys(
        (
            "RandomNormal",
            "RandomUniform",
            "RandomNormalLike",
            "RandomUniformLike",
            "Bernoulli",
            "Multinomial",
        ),
        "a network that is run must not draw random numbers: export it in eval mode",
    ),
}

_KNOWN_DOMAINS = ("", "ai.onnx", "ai.snnc", "com.microsoft")
_MICROSOFT = ("QuantizeLinear", "DequantizeLinear", "Gelu", "BiasGelu", "FastGelu", "QuickGelu")

_QUANTISED = "put a quantiser (snnc.nn.ExpG, or a fake quantiser of 16 bits or fewer) behind it"
_REPLACE = "train with ReLU or with snnc.nn.ExpG in its place"
_BATCH_NORM = "train with batch normalisation in its place, which folds into the layer before it"

#: Activation functions and normalisations by op type, with what to do.
_ACTIVATIONS: dict[str, str] = {
    **dict.fromkeys(sorted(ACTIVATION_OPS), _QUANTISED),
    **dict.fromkeys((*sorted(TABULATED), "Shrink"), _REPLACE),
    **dict.fromkeys(
        ("Softmax", "LogSoftmax", "Hardmax"),
        "if it only turns logits into probabilities, leave it out of the model; in attention, train with "
        "snnc.nn.ExpG in its place",
    ),
    **dict.fromkeys(
        (
            "LayerNormalization",
            "GroupNormalization",
            "InstanceNormalization",
            "RMSNormalization",
            "LpNormalization",
        ),
        _BATCH_NORM,
    ),
    "BatchNormalization": "export the model in eval mode, with constant statistics",
    "Dropout": "export the model in eval mode: it draws random numbers, or its mask is read",
    "Round": "it is not part of a quantiser that snnc knows",
    "Floor": "it is not part of a quantiser that snnc knows",
    "Ceil": "rounding up has no form as rounding to nearest: use Round or Floor",
    "QuantizeLinear": "it needs a DequantizeLinear behind it that alone reads its integers",
    "DequantizeLinear": "its integers must come from QuantizeLinear or be constant",
    "Attention": "export with opset_version=20, or train with snnc.nn.ExpG instead of softmax",
    "ConvTranspose": "export it with constant weights and fixed sizes for every dimension but the batch",
    "Cast": "export the model in float32 throughout: in other types it rounds between its operators",
    "Resize": "export it with constant sizes of all but the batch (mode nearest, linear or cubic)",
    **dict.fromkeys(
        ("LpPool", "GlobalLpPool", "LRN", "ReduceL2", "ReduceSumSquare"),
        "squares of what the network computes have no form with spikes: use AveragePool, MaxPool or batch "
        "normalisation in its place",
    ),
    **dict.fromkeys(
        (
            "GatherElements",
            "GatherND",
            "ScatterElements",
            "ScatterND",
            "NonZero",
            "TopK",
            "NonMaxSuppression",
        ),
        "what it takes or writes must be constant: use Gather or Slice with constant places, or cut "
        "the model in front of it",
    ),
    "Einsum": "write it with MatMul, Mul, ReduceSum, Transpose and Reshape",
}


def _draws(node: Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    held = constant(training) if training is not None else None
    return held is not None and bool(held.reshape(-1)[0])


def refusal(node: Node, left: str | None = None) -> str | None:
    """Return why a node can never be converted, whatever stands around it; None if it may be.

    Args:
        node: Any node of a model whose functions are inlined.
        left: Why it was not written out with standard operators, where it could have been.

    Returns:
        The reason with the remedy.
    """
    if left is not None:
        return f"{node.op_type} cannot be written with standard operators: {left}"
    if node.domain in QONNX_DOMAINS:
        if node.op_type in ("Quant", "IntQuant", "BipolarQuant", "Trunc"):
            return None
        return f"{node.op_type} of QONNX is not supported: {QONNX_REFUSED.get(node.op_type, 'use Quant')}"
    if node.op_type == "Dropout" and _draws(node):
        return "Dropout in training mode draws random numbers: export the model in eval mode"
    if node.op_type == "Dropout" and any(
        value.uses() or value.is_graph_output() for value in node.outputs[1:]
    ):
        return "Dropout whose mask is read: export the model in eval mode, without the mask"
    remedy = REFUSED.get(node.op_type)
    if remedy is not None:
        return f"{node.op_type} is not supported: {remedy}"
    if node.domain == "com.microsoft.nchwc":
        return (
            f"{node.op_type} is laid out for one processor: save the optimised model at level extended, or "
            "convert the model that was optimised"
        )
    known = node.domain in _KNOWN_DOMAINS and (node.domain != "com.microsoft" or node.op_type in _MICROSOFT)
    if not known:
        return (
            f"{node.domain}::{node.op_type} is not known: write it with standard ops, export it with its "
            "function body, or convert the model that an optimiser took it from"
        )
    return None


def activation_remedy(op_type: str) -> str | None:
    """Return what to do about an activation function or normalisation that was left over; None for others."""
    return _ACTIVATIONS.get(op_type)
