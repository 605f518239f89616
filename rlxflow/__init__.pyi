"""The public names: the one list, read by type checkers and by the lazy `__getattr__`."""

from rlxflow.errors import ConfigError as ConfigError, RlxError as RlxError
from rlxflow.flow.built import BuiltModel as BuiltModel
from rlxflow.flow.config import (
    Eps as Eps,
)
from rlxflow.flow.config import (
    LayerCount as LayerCount,
)
from rlxflow.flow.config import (
    RecipeConfig as RecipeConfig,
)
from rlxflow.flow.config import (
    Size as Size,
)
from rlxflow.flow.config import (
    activation as activation,
)
from rlxflow.flow.decoder_config import (
    DecoderConfig as DecoderConfig,
)
from rlxflow.flow.decoder_config import (
    WindowedDecoderConfig as WindowedDecoderConfig,
)
from rlxflow.flow.decoder_flow import decoder_flow as decoder_flow
from rlxflow.flow.decoder_flow import decoder_places as decoder_places
from rlxflow.flow.emit import Emit as Emit
from rlxflow.flow.emit import Problem as Problem
from rlxflow.flow.flow import InputSpec as InputSpec
from rlxflow.flow.flow import ModelFlow as ModelFlow
from rlxflow.flow.layer_stack import LayerStack as LayerStack
from rlxflow.flow.recipe import (
    ModelRecipe as ModelRecipe,
)
from rlxflow.flow.recipe import (
    Recipe as Recipe,
)
from rlxflow.flow.recipe import (
    find_recipe as find_recipe,
)
from rlxflow.flow.recipe import (
    recipe_names as recipe_names,
)
from rlxflow.flow.rope_config import RopeConfig as RopeConfig
from rlxflow.flow.rope_config import rope_config as rope_config
from rlxflow.flow.stage import FlowValue as FlowValue
from rlxflow.flow.stage import Stage as Stage
from rlxflow.flow.state import FlowState as FlowState
from rlxflow.profile.model import CompileProfile as CompileProfile
from rlxflow.runtime.load import load as load
from rlxflow.runtime.model import Model as Model
from rlxflow.stages.bert import (
    BertEncoderLayerSpec as BertEncoderLayerSpec,
)
from rlxflow.stages.bert import (
    BertEncoderLayerStage as BertEncoderLayerStage,
)
from rlxflow.stages.bert import (
    BertQkvStyle as BertQkvStyle,
)
from rlxflow.stages.custom import CustomStage as CustomStage
from rlxflow.stages.decoder import (
    DecoderLayerSpec as DecoderLayerSpec,
)
from rlxflow.stages.decoder import (
    DecoderLayerStage as DecoderLayerStage,
)
from rlxflow.stages.embed import (
    AddPositionsStage as AddPositionsStage,
)
from rlxflow.stages.embed import (
    EmbedStage as EmbedStage,
)
from rlxflow.stages.embed import (
    GatherAddStage as GatherAddStage,
)
from rlxflow.stages.embed import (
    GatherFromInputStage as GatherFromInputStage,
)
from rlxflow.stages.ffn import GatedMlpStage as GatedMlpStage
from rlxflow.stages.ffn import MlpStage as MlpStage
from rlxflow.stages.head import GatherLastTokenStage as GatherLastTokenStage
from rlxflow.stages.head import LmHeadStage as LmHeadStage
from rlxflow.stages.linear import LinearStage as LinearStage
from rlxflow.stages.llama import LlamaDecoderSpec as LlamaDecoderSpec
from rlxflow.stages.llama import LlamaDecoderStage as LlamaDecoderStage
from rlxflow.stages.norm import LayerNormStage as LayerNormStage
from rlxflow.stages.norm import RmsNormStage as RmsNormStage
from rlxflow.stages.output import OutputStage as OutputStage
from rlxflow.stages.pool import (
    ClsTokenPoolStage as ClsTokenPoolStage,
)
from rlxflow.stages.pool import (
    L2NormalizeStage as L2NormalizeStage,
)
from rlxflow.stages.pool import (
    MeanPoolStage as MeanPoolStage,
)
from rlxflow.stages.qwen3 import (
    Qwen3DecodeLayerSpec as Qwen3DecodeLayerSpec,
)
from rlxflow.stages.qwen3 import (
    Qwen3DecodeLayerStage as Qwen3DecodeLayerStage,
)
from rlxflow.stages.qwen3 import (
    Qwen3DecoderSpec as Qwen3DecoderSpec,
)
from rlxflow.stages.qwen3 import (
    Qwen3DecoderStage as Qwen3DecoderStage,
)
from rlxflow.stages.residual import (
    ResidualAddStage as ResidualAddStage,
)
from rlxflow.stages.residual import (
    ResidualSaveStage as ResidualSaveStage,
)
from rlxflow.stages.rope import RopeTablesStage as RopeTablesStage
from rlxflow.stages.stream import LoadStreamStage as LoadStreamStage
from rlxflow.stages.stream import StoreStreamStage as StoreStreamStage
from rlxflow.weights.plan import WeightPlan as WeightPlan
from rlxflow.weights.plan import WeightSpec as WeightSpec
from rlxflow.weights.report import LoadReport as LoadReport
from rlxflow.weights.source import (
    MapWeights as MapWeights,
)
from rlxflow.weights.source import (
    TensorInfo as TensorInfo,
)
from rlxflow.weights.source import (
    WeightSource as WeightSource,
)

__version__: str
