"""Nomic BERT (nomic-embed-text v1 and v1.5). Oracle: HF `NomicBertModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlxflow import (
    GgufRecipe,
    ModelFlow,
    NomicEncoderLayerSpec,
    NomicEncoderLayerStage,
    Recipe,
    RopeConfig,
    RopeTablesStage,
    RotaryEncoderConfig,
    Size,
    gguf_nomic_config,
    gguf_nomic_names,
)


class NomicBertConfig(RotaryEncoderConfig):
    """HF `NomicBertConfig`, and the config of the model's own code."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("tie_word_embeddings", "fused_bias_fc"),
            *("use_flash_attn", "use_xentropy", "max_trained_positions"),
            *("pad_vocab_size_multiple", "dense_seq_output", "reorder_and_upcast_attn"),
            *("summary_activation", "summary_proj_to_labels"),
            *("summary_type", "summary_use_proj", "scale_attn_weights"),
        ]
    )

    renamed: ClassVar[Mapping[str, str]] = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
        "rotary_emb_base": "rope_theta",
    }

    max_position_embeddings: Size = 2048
    hidden_act: str = "silu"
    type_vocab_size: Size = 2
    head_dim: Size | None = None
    rope_theta: float = Field(default=0.0, gt=0, allow_inf_nan=False)  # 0: the config gives none
    rope_parameters: dict[str, Any] | None = None
    activation_function: Literal["swiglu"] = "swiglu"  # the name there of a gated MLP with silu
    rotary_emb_fraction: float = Field(default=1.0, ge=1, le=1)
    rotary_emb_interleaved: Literal[False] = False
    rotary_emb_scale_base: None = None
    rotary_scaling_factor: None = None
    prenorm: Literal[False] = False
    use_rms_norm: Literal[False] = False
    causal: Literal[False] = False
    parallel_block: Literal[False] = False
    qkv_proj_bias: Literal[False] = False
    mlp_fc1_bias: Literal[False] = False
    mlp_fc2_bias: Literal[False] = False
    scale_attn_by_inverse_layer_idx: Literal[False] = False

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rope(self) -> RopeConfig:
        return self.rope_of(self.rope_theta or None, self.rope_parameters, default_theta=1000.0)


def flow(config: NomicBertConfig) -> ModelFlow:
    """input_ids, attention_mask, token_type_ids [B, S] → last_hidden_state [B, S, H]."""

    def layer(i: int) -> NomicEncoderLayerStage:
        return NomicEncoderLayerStage(NomicEncoderLayerSpec.hf(f"encoder.layers.{i}", config))

    hidden, types = config.hidden_size, "embeddings.token_type_embeddings.weight"
    return (
        ModelFlow("nomic_bert")
        .encoder_inputs()
        .input("token_type_ids", ("B", "S"), "i64", default=0)
        .embed("embeddings.word_embeddings.weight", config.vocab_size, hidden)
        .gather_add("token_type_ids", types, config.type_vocab_size, hidden)
        .layer_norm("emb_ln.weight", "emb_ln.bias", config.layer_norm_eps, hidden)
        .rope_tables(RopeTablesStage.of(config.rope, cached=False))
        .repeat_layers(config.num_hidden_layers, layer)
        .output("last_hidden_state")
    )


def expected(config: NomicBertConfig) -> dict[str, int]:
    """How many places each fusion rule finds: one norm for the embeddings, the others in each layer."""
    layers = config.num_hidden_layers
    return {
        "fuse-embedding-norm": 1,
        "fuse-residual-ln": 2 * layers + 1,
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": 2 * layers,
        "fused-gate-up": layers,
        "fuse-swiglu": layers,
        "fuse-matmul-bias-act": layers,
    }


RECIPE = Recipe(
    "nomic_bert",
    NomicBertConfig,
    flow,
    prefixes=("", "bert.", "nomic_bert."),
    unused=("*pooler.*", "*cls.*", "*lm_head.*", "*classifier.*", "*inv_freq"),
    expected=expected,
    gguf=GgufRecipe(("nomic-bert",), gguf_nomic_names(), gguf_nomic_config, embeds=True),
)
