"""Every pass there is, by name: what ``snnc opt`` and ``snnc passes`` know."""

from __future__ import annotations

from snnc.passes.attention.adjacent_attention import AdjacentAttention
from snnc.passes.attention.burst_attention import BurstAttention
from snnc.passes.attention.group_attention import GroupAttention
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
from snnc.passes.spike.encode import Encode
from snnc.pipeline.contract import Pass

__all__ = ["ALL_PASSES"]

#: In the order in which a conversion first uses them.
ALL_PASSES: tuple[type[Pass], ...] = (
    FreezeDefaults,
    FixSizes,
    NameNodes,
    SettleShapes,
    SortNodes,
    InlineFunctions,
    ToFloat32,
    WriteOutFused,
    LiftDynamic,
    LiftQoperators,
    TakeBranches,
    KeepOnHost,
    KeepTailOnHost,
    LiftConstants,
    CheckConsistency,
    InferShapes,
    FoldShapes,
    FoldTiles,
    FoldConstants,
    PostponeExpand,
    RaiseOpset,
    WriteOutRecurrent,
    ResolvePadding,
    DropExpansions,
    RemoveIdentity,
    DropDeadCode,
    RefuseUnsupported,
    EvaluateConstants,
    UnrollLoops,
    UnstackTime,
    FoldRepeated,
    GemmToMatmul,
    EinsumToMatmul,
    SplitProducts,
    MergeLate,
    TurnProducts,
    WriteOutMoves,
    WriteOutSquares,
    WriteOutPools,
    WriteOutVariadic,
    ConvTransposeToConv,
    NormsToLayerNorm,
    FoldBatchNorm,
    FoldScales,
    RemoveStraightThrough,
    RecogniseNorms,
    RecogniseActivations,
    RecogniseQuantisers,
    RecogniseSteps,
    RecogniseWeights,
    DropRepeatedQuantisers,
    TabulateProducts,
    CheckQuantisers,
    CheckLayers,
    RecodeExactly,
    Recode,
    AbsorbActivations,
    RequireQuantised,
    KeepBatchApart,
    GroupAttention,
    AdjacentAttention,
    BurstAttention,
    SplitSoftmax,
    SelectPlaces,
    GateMasks,
    EncodeInput,
    InvertDivisors,
    InsertQuantisers,
    FixedPointInput,
    IntegerWeights,
    SilenceChannels,
    RoundTables,
    RoundConstants,
    AlignMembranes,
    IntroduceGains,
    RequireIntegers,
    Encode,
)
