"""The public names: the one list, read by type checkers and by the lazy `__getattr__`."""

from rlxflow.errors import (
    ConfigError as ConfigError,
    RlxError as RlxError,
    TruncationWarning as TruncationWarning,
)
from rlxflow.flow.bert_family import (
    BertFamilyConfig as BertFamilyConfig,
    bert_flow as bert_flow,
    bert_places as bert_places,
)
from rlxflow.flow.built import BuiltModel as BuiltModel
from rlxflow.flow.composition import LayerComposition as LayerComposition
from rlxflow.flow.config import (
    Eps as Eps,
    LayerCount as LayerCount,
    RecipeConfig as RecipeConfig,
    Size as Size,
    activation as activation,
)
from rlxflow.flow.decode_bindings import DecodeBindings as DecodeBindings
from rlxflow.flow.decoder_config import (
    DecoderConfig as DecoderConfig,
    PatternedDecoderConfig as PatternedDecoderConfig,
    WindowedDecoderConfig as WindowedDecoderConfig,
)
from rlxflow.flow.decoder_flow import decoder_flow as decoder_flow, decoder_places as decoder_places
from rlxflow.flow.emit import Emit as Emit, Problem as Problem
from rlxflow.flow.encoder_config import (
    EncoderConfig as EncoderConfig,
    RotaryEncoderConfig as RotaryEncoderConfig,
)
from rlxflow.flow.extensions import FlowExtensionPlan as FlowExtensionPlan, graph_extension as graph_extension
from rlxflow.flow.flow import ModelFlow as ModelFlow
from rlxflow.flow.hybrid_pattern import HybridPattern as HybridPattern
from rlxflow.flow.input_spec import InputSpec as InputSpec
from rlxflow.flow.layer_protocols import (
    AttentionStage as AttentionStage,
    BlockAsLayer as BlockAsLayer,
    FfnStage as FfnStage,
    KvCacheContract as KvCacheContract,
    LayerStage as LayerStage,
    NormStage as NormStage,
    StageArtifacts as StageArtifacts,
)
from rlxflow.flow.layer_stack import LayerStack as LayerStack
from rlxflow.flow.layer_types import LayerType as LayerType, LayerTypesConfig as LayerTypesConfig
from rlxflow.flow.recipe import (
    ModelRecipe as ModelRecipe,
    Recipe as Recipe,
    find_recipe as find_recipe,
    recipe_names as recipe_names,
)
from rlxflow.flow.rope_config import RopeConfig as RopeConfig, rope_config as rope_config
from rlxflow.flow.stage import FlowStage as FlowStage, FlowValue as FlowValue, Stage as Stage
from rlxflow.flow.state import FlowState as FlowState
from rlxflow.flow.vision_config import VisionConfig as VisionConfig
from rlxflow.flow.vision_flow import vision_flow as vision_flow
from rlxflow.profile.execution_preset import ExecutionPreset as ExecutionPreset
from rlxflow.profile.kinds import (
    FusionPolicyKind as FusionPolicyKind,
    FusionTargetKind as FusionTargetKind,
    MixedPrecisionKind as MixedPrecisionKind,
    PrecisionKind as PrecisionKind,
)
from rlxflow.profile.model import CompileProfile as CompileProfile
from rlxflow.profile.sections import (
    BackendOverrides as BackendOverrides,
    CpuBackendProfile as CpuBackendProfile,
    FusionProfile as FusionProfile,
    MetalBackendProfile as MetalBackendProfile,
    PassProfile as PassProfile,
    PrecisionProfile as PrecisionProfile,
)
from rlxflow.runtime.continuation import Generation as Generation
from rlxflow.runtime.execution import ModelExecutionConfig as ModelExecutionConfig
from rlxflow.runtime.load import load as load
from rlxflow.runtime.model import Model as Model
from rlxflow.runtime.prompt_cache import PromptCache as PromptCache
from rlxflow.runtime.request import Request as Request
from rlxflow.stages.attention import (
    SelfAttentionSpec as SelfAttentionSpec,
    SelfAttentionStage as SelfAttentionStage,
)
from rlxflow.stages.bert import (
    BertEncoderLayerSpec as BertEncoderLayerSpec,
    BertEncoderLayerStage as BertEncoderLayerStage,
    BertQkvStyle as BertQkvStyle,
)
from rlxflow.stages.clamped import ClampedMlpStage as ClampedMlpStage
from rlxflow.stages.cohere import CohereDecoderStage as CohereDecoderStage
from rlxflow.stages.custom import CustomStage as CustomStage, PluginStage as PluginStage
from rlxflow.stages.decoder import (
    DecoderLayerSpec as DecoderLayerSpec,
    DecoderLayerStage as DecoderLayerStage,
)
from rlxflow.stages.double_stream import (
    AxisRopeTablesStage as AxisRopeTablesStage,
    DoubleStreamBlockSpec as DoubleStreamBlockSpec,
    DoubleStreamBlockStage as DoubleStreamBlockStage,
)
from rlxflow.stages.embed import (
    AddPositionsStage as AddPositionsStage,
    EmbedStage as EmbedStage,
    GatherAddStage as GatherAddStage,
    GatherFromInputStage as GatherFromInputStage,
)
from rlxflow.stages.encoder import EncoderLayerStage as EncoderLayerStage
from rlxflow.stages.ffn import GatedMlpStage as GatedMlpStage, MlpStage as MlpStage
from rlxflow.stages.gated_delta import GdnInputSlots as GdnInputSlots, GdnScanStage as GdnScanStage
from rlxflow.stages.gemma import (
    Gemma2DecoderSpec as Gemma2DecoderSpec,
    GemmaDecoderSpec as GemmaDecoderSpec,
    GemmaDecoderStage as GemmaDecoderStage,
)
from rlxflow.stages.head import GatherLastTokenStage as GatherLastTokenStage, LmHeadStage as LmHeadStage
from rlxflow.stages.linear import LinearStage as LinearStage
from rlxflow.stages.llama import LlamaDecoderSpec as LlamaDecoderSpec, LlamaDecoderStage as LlamaDecoderStage
from rlxflow.stages.nomic import (
    NomicEncoderLayerSpec as NomicEncoderLayerSpec,
    NomicEncoderLayerStage as NomicEncoderLayerStage,
)
from rlxflow.stages.norm import LayerNormStage as LayerNormStage, RmsNormStage as RmsNormStage
from rlxflow.stages.output import OutputStage as OutputStage
from rlxflow.stages.pool import (
    ClsTokenPoolStage as ClsTokenPoolStage,
    L2NormalizeStage as L2NormalizeStage,
    MeanPoolStage as MeanPoolStage,
)
from rlxflow.stages.qwen3 import (
    Qwen3DecodeLayerSpec as Qwen3DecodeLayerSpec,
    Qwen3DecodeLayerStage as Qwen3DecodeLayerStage,
    Qwen3DecoderSpec as Qwen3DecoderSpec,
    Qwen3DecoderStage as Qwen3DecoderStage,
)
from rlxflow.stages.relative import RelativePositionBiasStage as RelativePositionBiasStage
from rlxflow.stages.residual import (
    ResidualAddStage as ResidualAddStage,
    ResidualSaveStage as ResidualSaveStage,
)
from rlxflow.stages.rope import RopeTablesStage as RopeTablesStage
from rlxflow.stages.scale import EmbedScaleStage as EmbedScaleStage
from rlxflow.stages.side_outputs import SideOutputs as SideOutputs, SideOutputsStage as SideOutputsStage
from rlxflow.stages.stream import (
    BindInputsToStreamsStage as BindInputsToStreamsStage,
    DualStreamStage as DualStreamStage,
    LoadStreamStage as LoadStreamStage,
    StoreStreamStage as StoreStreamStage,
    dual_stream_stage as dual_stream_stage,
    stream_id as stream_id,
)
from rlxflow.stages.vision import (
    AttentionPoolStage as AttentionPoolStage,
    PatchTokensStage as PatchTokensStage,
)
from rlxflow.stages.vit import (
    LayerScaleStage as LayerScaleStage,
    VisionSwiGluFfnStage as VisionSwiGluFfnStage,
    VitSelfAttnSpec as VitSelfAttnSpec,
    VitSelfAttnStage as VitSelfAttnStage,
    dinov2_layer_fused as dinov2_layer_fused,
    nomic_vision_layer_fused as nomic_vision_layer_fused,
)
from rlxflow.weights.directory import open_weights as open_weights
from rlxflow.weights.gguf_bert import gguf_bert_config as gguf_bert_config, gguf_bert_names as gguf_bert_names
from rlxflow.weights.gguf_config import (
    GgufRecipe as GgufRecipe,
    gguf_head_dim as gguf_head_dim,
    gguf_sizes as gguf_sizes,
)
from rlxflow.weights.gguf_decoder import (
    gguf_decoder_config as gguf_decoder_config,
    gguf_decoder_names as gguf_decoder_names,
)
from rlxflow.weights.gguf_modernbert import (
    gguf_modernbert_config as gguf_modernbert_config,
    gguf_modernbert_names as gguf_modernbert_names,
)
from rlxflow.weights.gguf_nomic import (
    gguf_nomic_config as gguf_nomic_config,
    gguf_nomic_names as gguf_nomic_names,
)
from rlxflow.weights.gguf_packed import (
    GgufPackedLinear as GgufPackedLinear,
    GgufPackedParams as GgufPackedParams,
)
from rlxflow.weights.gguf_values import GgufValues as GgufValues
from rlxflow.weights.names import GgufName as GgufName
from rlxflow.weights.plan import WeightPlan as WeightPlan, WeightSpec as WeightSpec
from rlxflow.weights.report import LoadReport as LoadReport
from rlxflow.weights.source import (
    MapWeights as MapWeights,
    TensorInfo as TensorInfo,
    WeightSource as WeightSource,
)

__version__: str
