"""The fluent names of the built-in stages, shared by `ModelFlow` and `LayerStack`.

Each method appends one stage; what it computes is said at the stage. Stages without a name here, and all
third-party ones, are appended with `.stage(...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from rlxflow.errors import FlowError, RlxError, printable

if TYPE_CHECKING:
    from rlxflow.flow.emit import Emit
    from rlxflow.flow.hybrid_pattern import HybridPattern
    from rlxflow.flow.stage import Stage
    from rlxflow.ir.values import Value
    from rlxflow.stages.attention import SelfAttentionSpec
    from rlxflow.stages.bert import BertEncoderLayerSpec, BertQkvStyle
    from rlxflow.stages.clamped import ClampedMlpStage
    from rlxflow.stages.gated_delta import GdnScanStage
    from rlxflow.stages.rope import RopeTablesStage
    from rlxflow.stages.stream import DualFunction
    from rlxflow.weights.plan import WeightSpec


class StageMethods:
    """Methods that append stages; a subclass provides `append`."""

    def append(self, stages: Iterable[Stage]) -> Self:
        """Append several stages."""
        raise NotImplementedError

    def stage(self, stage: Stage) -> Self:
        """Append any stage, built in or not; raises `FlowError` for what is none."""
        return self.append((stage,))

    def repeat_layers(self, count: int, layer: Callable[[int], Stage], name: str = "layers") -> Self:
        """Append `layer(0)` … `layer(count - 1)`, each under the path `name.i`; `layer` is called now."""
        from rlxflow.flow.layer_stack import LayerStack

        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise FlowError(
                f"cannot repeat {count} times", code="RLX-F017", where=name, hint="give a count of 0 or more"
            )
        paths = [f"{name}.{i}" for i in range(count)]
        return self.append(LayerStack(path, (_made(layer, i, path),)) for i, path in enumerate(paths))

    def hybrid_layers(
        self, pattern: str | HybridPattern, make: Mapping[str, Callable[[int], Stage]], name: str = "layers"
    ) -> Self:
        """Append the layers of a hybrid pattern, `make[symbol](i)` for layer i; see `HybridPattern`."""
        from rlxflow.flow.hybrid_pattern import HybridPattern

        parsed = HybridPattern.parse(pattern) if isinstance(pattern, str) else pattern
        return self.append(parsed.stages(make, name))

    def layer(self, name: str, fill: Callable[[Any], Stage]) -> Self:
        """Append a `LayerStack` named `name`, filled by a function that gets it empty."""
        from rlxflow.flow.layer_stack import LayerStack

        return self.stage(_made(fill, LayerStack(name), name))

    def output(self, name: str) -> Self:
        """Make the active value an output of the flow; it flows on."""
        from rlxflow.stages.output import OutputStage

        return self.stage(OutputStage(name))

    # -- embeddings -------------------------------------------------------------------------------

    def embed(self, key: str, vocab_size: int | None = None, hidden_size: int | None = None) -> Self:
        from rlxflow.stages.embed import EmbedStage

        return self.stage(EmbedStage(key, vocab_size, hidden_size))

    def token_embed(self, vocab_size: int | None = None, hidden_size: int | None = None) -> Self:
        return self.embed("model.embed_tokens.weight", vocab_size, hidden_size)

    def gather_from_input(
        self, input_name: str, key: str, num_rows: int | None = None, hidden_size: int | None = None
    ) -> Self:
        from rlxflow.stages.embed import GatherFromInputStage

        return self.stage(GatherFromInputStage(input_name, key, num_rows, hidden_size))

    def gather_add(
        self, input_name: str, key: str, num_rows: int | None = None, hidden_size: int | None = None
    ) -> Self:
        from rlxflow.stages.embed import GatherAddStage

        return self.stage(GatherAddStage(input_name, key, num_rows, hidden_size))

    def add_positions(
        self, key: str, num_rows: int | None = None, hidden_size: int | None = None, first_row: int = 0
    ) -> Self:
        from rlxflow.stages.embed import AddPositionsStage

        return self.stage(AddPositionsStage(key, num_rows, hidden_size, first_row))

    def rope_tables(self, tables: RopeTablesStage) -> Self:
        return self.stage(tables)

    # -- norms, linear layers, residuals ----------------------------------------------------------

    def rms_norm(
        self, key: str, eps: float, unit_offset: bool = False, hidden_size: int | None = None
    ) -> Self:
        from rlxflow.stages.norm import RmsNormStage

        return self.stage(RmsNormStage(key, eps, unit_offset, hidden_size))

    def final_norm(self, eps: float, hidden_size: int | None = None, unit_offset: bool = False) -> Self:
        return self.rms_norm("model.norm.weight", eps, unit_offset, hidden_size)

    def layer_norm(self, key: str, bias_key: str | None, eps: float, hidden_size: int | None = None) -> Self:
        from rlxflow.stages.norm import LayerNormStage

        return self.stage(LayerNormStage(key, bias_key, eps, hidden_size))

    def embed_scale(self, factor: float) -> Self:
        """Multiply by a number; one of 1 adds no stage."""
        from rlxflow.stages.scale import EmbedScaleStage

        return self if factor == 1 else self.stage(EmbedScaleStage(factor))

    def linear(self, key: str, out_features: int | None = None, bias_key: str | None = None) -> Self:
        from rlxflow.stages.linear import LinearStage

        return self.stage(LinearStage(key, out_features, bias_key))

    def residual_save(self) -> Self:
        from rlxflow.stages.residual import ResidualSaveStage

        return self.stage(ResidualSaveStage())

    def residual_add(self) -> Self:
        from rlxflow.stages.residual import ResidualAddStage

        return self.stage(ResidualAddStage())

    def store_stream(self, stream: str) -> Self:
        from rlxflow.stages.stream import StoreStreamStage

        return self.stage(StoreStreamStage(stream))

    def load_stream(self, stream: str) -> Self:
        from rlxflow.stages.stream import LoadStreamStage

        return self.stage(LoadStreamStage(stream))

    def bind_inputs_to_streams(self, pairs: Iterable[tuple[str, str]]) -> Self:
        """For each pair (input, stream), the declared input becomes that stream."""
        from rlxflow.stages.stream import BindInputsToStreamsStage

        return self.stage(BindInputsToStreamsStage(tuple((i, s) for i, s in pairs)))

    def dual_stream(
        self,
        name: str,
        a: str,
        b: str,
        function: DualFunction,
        weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec] = (),
    ) -> Self:
        """(a, b) ← function(e, a, b) on two streams; list the weights it reads as specs or {key: shape}."""
        from rlxflow.stages.stream import dual_stream_stage

        return self.stage(dual_stream_stage(name, a, b, function, weights))

    def gdn_scan(self, stage: GdnScanStage) -> Self:
        return self.stage(stage)

    def self_attention(self, spec: SelfAttentionSpec) -> Self:
        from rlxflow.stages.attention import SelfAttentionStage

        return self.stage(SelfAttentionStage(spec))

    # -- feed-forward and layers ------------------------------------------------------------------

    def swiglu(self, gate_key: str, up_key: str, down_key: str, intermediate_size: int | None = None) -> Self:
        from rlxflow.stages.ffn import GatedMlpStage

        return self.stage(GatedMlpStage(gate_key, up_key, down_key, intermediate_size))

    def swiglu_hf_mlp(self, prefix: str, intermediate_size: int | None = None) -> Self:
        """SwiGLU with the keys `{prefix}.gate_proj|up_proj|down_proj.weight`; the prefix ends in `.mlp`."""
        from rlxflow.stages.ffn import GatedMlpStage

        return self.stage(GatedMlpStage.hf(prefix, intermediate_size))

    def clamped_mlp(self, stage: ClampedMlpStage) -> Self:
        return self.stage(stage)

    def gelu_ffn(self, prefix: str, intermediate_size: int | None = None) -> Self:
        """BERT's feed-forward: `{prefix}.intermediate.dense.*`, exact GELU, `{prefix}.output.dense.*`."""
        from rlxflow.stages.ffn import MlpStage

        return self.stage(MlpStage.hf_bert(prefix, intermediate_size))

    def bert_encoder_layer(self, spec: BertEncoderLayerSpec) -> Self:
        from rlxflow.stages.bert import BertEncoderLayerStage

        return self.stage(BertEncoderLayerStage(spec))

    def repeat_bert_layers(
        self, count: int, prefix: str, style: BertQkvStyle, hidden_size: int, num_heads: int, eps: float
    ) -> Self:
        """BERT layers `{prefix}.encoder.layer.{i}` (no dot for an empty prefix)."""
        from rlxflow.stages.bert import BertEncoderLayerSpec, BertEncoderLayerStage

        root = f"{prefix}.encoder.layer" if prefix else "encoder.layer"

        def layer(i: int) -> Stage:
            spec = BertEncoderLayerSpec.hf(
                f"{root}.{i}", style, hidden_size=hidden_size, num_heads=num_heads, eps=eps
            )
            return BertEncoderLayerStage(spec)

        return self.repeat_layers(count, layer)

    # -- heads and pooling ------------------------------------------------------------------------

    def gather_last_token(self) -> Self:
        from rlxflow.stages.head import GatherLastTokenStage

        return self.stage(GatherLastTokenStage())

    def lm_head(
        self, vocab_size: int, hidden_size: int, tied: bool = False, scale: float = 1.0, softcap: float = 0.0
    ) -> Self:
        from rlxflow.stages.head import LmHeadStage

        return self.stage(LmHeadStage(vocab_size, hidden_size, tied, scale=scale, softcap=softcap))

    def cls_token_pool(self) -> Self:
        from rlxflow.stages.pool import ClsTokenPoolStage

        return self.stage(ClsTokenPoolStage())

    def mean_pool(self, mask_input: str) -> Self:
        from rlxflow.stages.pool import MeanPoolStage

        return self.stage(MeanPoolStage(mask_input))

    def l2_normalize(self) -> Self:
        from rlxflow.stages.pool import L2NormalizeStage

        return self.stage(L2NormalizeStage())

    # -- raw graph --------------------------------------------------------------------------------

    def custom(
        self,
        emit: Callable[[Emit, Value | None], Value | None],
        weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec] = (),
        name: str = "custom",
    ) -> Self:
        """A stage from a closure; list the weights it reads as specs or as {key: shape}."""
        from rlxflow.stages.custom import CustomStage

        return self.stage(CustomStage.of(emit, weights, name))

    def plugin(
        self,
        emit: Callable[[Emit, Value | None], Value | None],
        weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec] = (),
    ) -> Self:
        """Another name of `custom`."""
        return self.custom(emit, weights, "plugin")

    def plugin_named(
        self,
        name: str,
        emit: Callable[[Emit, Value | None], Value | None],
        weights: Mapping[str, tuple[int | None, ...]] | Iterable[WeightSpec] = (),
    ) -> Self:
        """`custom` with the name first."""
        return self.custom(emit, weights, name)


def _made(make: Callable[[Any], Stage], argument: object, path: str) -> Stage:
    """The stage that a function makes; errors name the place it was made for."""
    from rlxflow.flow.layer_stack import checked_stage

    try:
        return checked_stage(make(argument))
    except RlxError as error:
        error.where = error.where or path
        raise
    except Exception as error:
        message = f"the function that makes {path!r} raised {type(error).__name__}: {printable(error)}"
        raise FlowError(message, code="RLX-F027", where=path, hint="see the cause above") from error
