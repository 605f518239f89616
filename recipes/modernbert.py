"""ModernBERT (arXiv 2412.13663; also GTE-ModernBERT, …). Oracle: HF `ModernBertModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from rlxflow import (
    EncoderLayerStage,
    Eps,
    GatedMlpStage,
    GgufRecipe,
    LayerType,
    LayerTypesConfig,
    ModelFlow,
    Recipe,
    RopeConfig,
    RopeTablesStage,
    RotaryEncoderConfig,
    SelfAttentionSpec,
    SelfAttentionStage,
    Size,
    gguf_modernbert_config,
    gguf_modernbert_names,
)


class ModernBertConfig(LayerTypesConfig, RotaryEncoderConfig):
    """HF `ModernBertConfig`: global attention in every third layer, local elsewhere, each with its rope."""

    # the heads are not part of the encoder
    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("tie_word_embeddings", "decoder_bias", "classifier_pooling", "classifier_bias"),
            *("classifier_activation", "deterministic_flash_attn", "sparse_prediction", "reference_compile"),
            *("sparse_pred_ignore_index", "repad_logits_with_grad", "position_embedding_type"),
        ]
    )
    renamed: ClassVar[Mapping[str, str]] = {"norm_eps": "layer_norm_eps", "hidden_activation": "hidden_act"}

    max_position_embeddings: Size = 8192
    layer_norm_eps: Eps = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    local_attention: Size = 128
    global_attn_every_n_layers: Size = 3
    global_rope_theta: float = Field(default=160000.0, gt=0, allow_inf_nan=False)
    local_rope_theta: float = Field(default=10000.0, gt=0, allow_inf_nan=False)
    rope_parameters: dict[LayerType, dict[str, Any] | None] | None = None

    def layer_type(self, layer: int) -> LayerType:
        usual: LayerType = (
            "sliding_attention" if layer % self.global_attn_every_n_layers else "full_attention"
        )
        return usual if self.layer_types is None else self.layer_types[layer]

    def rope(self, kind: LayerType) -> RopeConfig:
        theta = self.global_rope_theta if kind == "full_attention" else self.local_rope_theta
        return self.rope_of(None, (self.rope_parameters or {}).get(kind), default_theta=theta)


def flow(config: ModernBertConfig) -> ModelFlow:
    """input_ids, attention_mask [B, S] → last_hidden_state [B, S, H]."""
    hidden, eps = config.hidden_size, config.layer_norm_eps
    first_bias, last_bias = ("embeddings.norm.bias", "final_norm.bias") if config.norm_bias else (None, None)

    def layer(i: int) -> EncoderLayerStage:
        p, kind = f"layers.{i}", config.layer_type(i)
        attention = SelfAttentionSpec.encoder(
            f"{p}.attn",
            config,
            ("Wqkv", "Wo"),
            bias=config.attention_bias,
            window=config.local_attention // 2 if kind == "sliding_attention" else 0,
            rope_table=kind,
            mask_input="attention_mask",
        )
        keys, size = (f"{p}.mlp.Wi.weight", None, f"{p}.mlp.Wo.weight"), config.intermediate_size
        mlp = GatedMlpStage(*keys, size, config.activation, config.mlp_bias, hidden)
        norms = (f"{p}.attn_norm" if i else None, f"{p}.mlp_norm")
        return EncoderLayerStage(
            SelfAttentionStage(attention), mlp, norms, hidden, eps, pre_norm=True, norm_bias=config.norm_bias
        )

    flow = ModelFlow("modernbert").encoder_inputs()
    flow = flow.embed("embeddings.tok_embeddings.weight", config.vocab_size, hidden)
    flow = flow.layer_norm("embeddings.norm.weight", first_bias, eps, hidden)
    for kind in sorted({config.layer_type(i) for i in range(config.num_hidden_layers)}):
        flow = flow.rope_tables(RopeTablesStage.of(config.rope(kind), kind, cached=False))
    flow = flow.repeat_layers(config.num_hidden_layers, layer)
    return flow.layer_norm("final_norm.weight", last_bias, eps, hidden).output("last_hidden_state")


def expected(config: ModernBertConfig) -> dict[str, int]:
    """How many places each fusion rule finds: only the last norm alone reads the sum before it."""
    layers = config.num_hidden_layers
    return {
        "fuse-embedding-norm": 1,
        "fuse-residual-ln": 1,
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": 2 * layers,
        "fused-gate-up": layers,
        "fuse-swiglu": 0 if config.mlp_bias else layers,
        "fuse-matmul-bias-act": (4 * config.attention_bias + (3 if config.mlp_bias else 1)) * layers,
    }


RECIPE = Recipe(
    "modernbert",
    ModernBertConfig,
    flow,
    prefixes=("", "model."),
    unused=("*head.*", "*decoder.*", "*classifier.*"),
    expected=expected,
    gguf=GgufRecipe(("modern-bert",), gguf_modernbert_names(), gguf_modernbert_config, embeds=True),
)
