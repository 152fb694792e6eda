"""The pipelines snnc is made of, as explicit lists of passes in the order they run."""

from __future__ import annotations

from snnc.coding import CodeBook, Partition
from snnc.ir import AI_SNNC, Model, attributes
from snnc.passes.attention.keep_batch_apart import KeepBatchApart
from snnc.passes.canonical.check_consistency import CheckConsistency
from snnc.passes.canonical.conv_transpose_to_conv import ConvTransposeToConv
from snnc.passes.canonical.drop_dead_code import DropDeadCode
from snnc.passes.canonical.drop_expansions import DropExpansions
from snnc.passes.canonical.einsum_to_matmul import EinsumToMatmul
from snnc.passes.canonical.evaluate_constants import EvaluateConstants
from snnc.passes.canonical.fix_sizes import FixSizes
from snnc.passes.canonical.fold_batch_norm import FoldBatchNorm
from snnc.passes.canonical.fold_constants import FoldConstants
from snnc.passes.canonical.fold_repeated import FoldRepeated
from snnc.passes.canonical.fold_scales import FoldScales
from snnc.passes.canonical.fold_shapes import FoldShapes
from snnc.passes.canonical.fold_tiles import FoldTiles
from snnc.passes.canonical.freeze_defaults import FreezeDefaults
from snnc.passes.canonical.gemm_to_matmul import GemmToMatmul
from snnc.passes.canonical.infer_shapes import InferShapes
from snnc.passes.canonical.inline_functions import InlineFunctions
from snnc.passes.canonical.keep_on_host import KeepOnHost
from snnc.passes.canonical.keep_tail_on_host import KeepTailOnHost
from snnc.passes.canonical.lift_constants import LiftConstants
from snnc.passes.canonical.merge_late import MergeLate
from snnc.passes.canonical.name_nodes import NameNodes
from snnc.passes.canonical.norms_to_layer_norm import NormsToLayerNorm
from snnc.passes.canonical.postpone_expand import PostponeExpand
from snnc.passes.canonical.raise_opset import RaiseOpset
from snnc.passes.canonical.remove_identity import RemoveIdentity
from snnc.passes.canonical.resolve_padding import ResolvePadding
from snnc.passes.canonical.settle_shapes import SettleShapes
from snnc.passes.canonical.sort_nodes import SortNodes
from snnc.passes.canonical.split_products import SplitProducts
from snnc.passes.canonical.take_branches import TakeBranches
from snnc.passes.canonical.to_float32 import ToFloat32
from snnc.passes.canonical.turn_products import TurnProducts
from snnc.passes.canonical.unroll_loops import UnrollLoops
from snnc.passes.canonical.unstack_time import UnstackTime
from snnc.passes.canonical.write_out_fused import WriteOutFused
from snnc.passes.canonical.write_out_moves import WriteOutMoves
from snnc.passes.canonical.write_out_pools import WriteOutPools
from snnc.passes.canonical.write_out_recurrent import WriteOutRecurrent
from snnc.passes.canonical.write_out_squares import WriteOutSquares
from snnc.passes.canonical.write_out_variadic import WriteOutVariadic
from snnc.passes.quantise.align_membranes import AlignMembranes
from snnc.passes.quantise.encode_input import EncodeInput
from snnc.passes.quantise.fixed_point_input import FixedPointInput
from snnc.passes.quantise.gate_masks import GateMasks
from snnc.passes.quantise.insert_quantisers import InsertQuantisers
from snnc.passes.quantise.integer_weights import IntegerWeights
from snnc.passes.quantise.introduce_gains import IntroduceGains
from snnc.passes.quantise.invert_divisors import InvertDivisors
from snnc.passes.quantise.require_integers import RequireIntegers
from snnc.passes.quantise.round_constants import RoundConstants
from snnc.passes.quantise.round_tables import RoundTables
from snnc.passes.quantise.select_places import SelectPlaces
from snnc.passes.quantise.silence_channels import SilenceChannels
from snnc.passes.quantise.split_softmax import SplitSoftmax
from snnc.passes.recognise.absorb_activations import AbsorbActivations
from snnc.passes.recognise.check_layers import CheckLayers
from snnc.passes.recognise.check_quantisers import CheckQuantisers
from snnc.passes.recognise.drop_repeated_quantisers import DropRepeatedQuantisers
from snnc.passes.recognise.lift_dynamic import LiftDynamic
from snnc.passes.recognise.lift_qoperators import LiftQoperators
from snnc.passes.recognise.recode import Recode
from snnc.passes.recognise.recode_exactly import RecodeExactly
from snnc.passes.recognise.recognise_activations import RecogniseActivations
from snnc.passes.recognise.recognise_norms import RecogniseNorms
from snnc.passes.recognise.recognise_quantisers import RecogniseQuantisers
from snnc.passes.recognise.recognise_steps import RecogniseSteps
from snnc.passes.recognise.recognise_weights import RecogniseWeights
from snnc.passes.recognise.refuse_unsupported import RefuseUnsupported
from snnc.passes.recognise.remove_straight_through import RemoveStraightThrough
from snnc.passes.recognise.require_quantised import RequireQuantised
from snnc.passes.recognise.tabulate_products import TabulateProducts
from snnc.pipeline.contract import Pass

__all__ = ["front_end", "quantisers_of"]

_MANY_TIMESTEPS = 6


def canonical(allow_host: tuple[str, ...] = (), sizes: tuple[str, ...] = ()) -> tuple[Pass, ...]:
    """Clean-up of any ONNX graph; what can never be converted is refused before shapes are inferred."""
    return (
        FreezeDefaults(),
        FixSizes(sizes),
        NameNodes(),
        SortNodes(),
        InlineFunctions(),
        ToFloat32(),
        LiftDynamic(),
        WriteOutFused(allow_host),
        LiftQoperators(),
        TakeBranches(),
        UnrollLoops(),
        RefuseUnsupported(allow_host),
        LiftConstants(),
        CheckConsistency(),
        InferShapes(),
        # Once before shapes are inferred, which would fail, once with them.
        CheckConsistency(),
        FoldShapes(),
        FoldConstants(),
        PostponeExpand(),
        # What the first round made constant tells more shapes: position embeddings are cut to their length.
        InferShapes(),
        FoldShapes(),
        FoldConstants(),
        SettleShapes(),
        FoldConstants(),
        FoldTiles(),
        RaiseOpset(),
        WriteOutRecurrent(allow_host),
        # Names the recurrent layers that stayed, before anything is measured.
        RefuseUnsupported(allow_host),
        KeepOnHost(allow_host),
        # What nothing reads must not keep the end of a network from being seen as its end.
        DropDeadCode(),
        KeepTailOnHost(),
        ResolvePadding(),
        DropExpansions(),
        FoldConstants(),
        RemoveIdentity(),
        DropDeadCode(),
    )


def front_end(
    timesteps: int | None,
    groups: int | None,
    partition: Partition,
    weights: str,
    insert: InsertQuantisers | None = None,
    encode_input: EncodeInput | None = None,
    allow_host: tuple[str, ...] = (),
    layers: tuple[str, ...] = (),
    sizes: tuple[str, ...] = (),
    integers: IntegerWeights | None = None,
    attention: Pass | None = None,
) -> tuple[Pass, ...]:
    """Everything before the network is encoded: all approximations are made here.

    Args:
        timesteps: T asked for, or None.
        groups: G asked for, or None.
        partition: Partition of time-steps into groups.
        weights: Weight format.
        insert: What gives a float network its quantisers; default refuses such networks.
        encode_input: What turns the network input into codes; default leaves the first layer on the host.
        allow_host: Operators and nodes that stay in float on the host.
        layers: Rules for single layers.
        sizes: Numbers of open sizes of the inputs.
        integers: What makes weights integers; default rounds each to the nearest.
        attention: What rewrites global attention; default leaves it global.
    """
    insert = insert or InsertQuantisers()
    regroup: tuple[Pass, ...] = ()
    if attention is not None:
        # Once for what exporters merged, once for what attention was written apart from.
        keep = (KeepBatchApart(), DropDeadCode())
        regroup = (*keep, attention, SortNodes(), *keep)
    return (
        *canonical(allow_host, sizes),
        EvaluateConstants(),
        UnstackTime(),
        FoldTiles(),
        FoldRepeated(),
        DropExpansions(),
        DropDeadCode(),
        GemmToMatmul(),
        EinsumToMatmul(),
        SplitProducts(),
        MergeLate(),
        TurnProducts(),
        WriteOutMoves(),
        WriteOutSquares(),
        WriteOutPools(),
        WriteOutVariadic(),
        ConvTransposeToConv(),
        NormsToLayerNorm(),
        FoldBatchNorm(),
        FoldScales(),
        CheckQuantisers(),
        RemoveStraightThrough(),
        RecogniseNorms(),
        RecogniseActivations(),
        RecogniseQuantisers(),
        RecogniseSteps(),
        RecogniseWeights(),
        FoldConstants(),
        # Once more for what the first round made constant behind a Split or a Gather.
        RecogniseWeights(),
        FoldConstants(),
        # A Relu between two quantisers of one grid must go before the second of them does.
        AbsorbActivations(),
        DropRepeatedQuantisers(),
        TabulateProducts(),
        CheckLayers(layers),
        RecodeExactly(timesteps, groups, partition, layers),
        Recode(timesteps, groups, partition, layers),
        *regroup,
        SplitSoftmax(
            insert.timesteps,
            _attention_groups(insert.timesteps, insert.groups),
            insert.partition,
            layers=layers,
        ),
        SelectPlaces(),
        GateMasks(),
        *([encode_input] if encode_input is not None else []),
        InvertDivisors(),
        insert,
        # What no neuron holds is a table of the code that now stands in front of it.
        TabulateProducts(),
        AbsorbActivations(),
        DropDeadCode(),
        InferShapes(),
        RequireQuantised(),
        FixedPointInput(),
        integers or IntegerWeights(weights, layers),
        SilenceChannels(),
        RoundTables(),
        # Once for the steps of the sums that constants are added to, once for the constants.
        AlignMembranes(),
        RoundConstants(),
        AlignMembranes(),
        IntroduceGains(),
        SortNodes(),
        DropDeadCode(),
        InferShapes(),
        RequireIntegers(),
    )


def _attention_groups(timesteps: int, groups: int) -> int:
    """Return G of a softmax numerator: two spikes tell a weight well enough where time-steps are many."""
    return min(groups, 2) if timesteps >= _MANY_TIMESTEPS else groups


def quantisers_of(model: Model) -> dict[str, CodeBook]:
    """Return the code book of every coded tensor, by name."""
    return {
        node.outputs[0].name or "": CodeBook.from_attributes(attributes(node))
        for node in model.graph
        if node.domain == AI_SNNC and node.op_type in ("Quantise", "ExpGIF", "ExpGIFGain", "Encode")
    }
