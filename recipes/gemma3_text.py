"""Gemma 3 (text): norms of q and k, local layers with a rope of their own. Oracle: HF `Gemma3ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlxflow import (
    Gemma2DecoderSpec,
    GemmaDecoderStage,
    GgufRecipe,
    GgufValues,
    ModelFlow,
    PatternedDecoderConfig,
    Recipe,
    RopeConfig,
    Size,
    activation,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Gemma3TextConfig(PatternedDecoderConfig):
    """HF `Gemma3TextConfig`. Rope settings are given for each kind of layer, or in the old spelling by
    `rope_theta`, `rope_scaling` (both of full attention) and `rope_local_base_freq`."""

    default_pattern: ClassVar[int] = 6
    ignored: ClassVar[frozenset[str]] = frozenset(["cache_implementation"])

    num_key_value_heads: Size | None = 4
    head_dim: Size = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: float = Field(default=256.0, gt=0, allow_inf_nan=False)
    attn_logit_softcapping: None = None  # HF reads it and does not use it
    final_logit_softcapping: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    sliding_window_pattern: Size | None = None
    rope_local_base_freq: float | None = None
    use_bidirectional_attention: Literal[False] | None = None

    @property
    def activation(self) -> Any:
        return activation(self.hidden_activation)

    @property
    def rope(self) -> RopeConfig:
        return self.rope_of("full_attention", self.rope_theta or None, self.rope_scaling, 1e6)

    @property
    def rope_tables(self) -> dict[str, RopeConfig]:
        local = self.rope_of("sliding_attention", self.rope_local_base_freq, None, 1e4)
        return {"rope": self.rope, "local": local}


def flow(config: Gemma3TextConfig) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> GemmaDecoderStage:
        spec = replace(
            Gemma2DecoderSpec.hf(f"model.layers.{i}", config),
            qk_norm=True,
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias,
            scale=config.query_pre_attn_scalar**-0.5,
            window=config.window(i),
            rope_table="local" if config.window(i) else "rope",
        )
        return GemmaDecoderStage(spec)

    return decoder_flow(
        "gemma3_text",
        config,
        layer,
        embedding_scale=config.hidden_size**0.5,
        norm_offset=True,
        logit_softcap=config.final_logit_softcapping or 0.0,
    )


def expected(config: Gemma3TextConfig) -> dict[str, int]:
    """How many places each fusion rule finds."""
    bias = config.attention_bias
    return decoder_places(config, qkv_bias=bias, out_bias=bias, qk_norm=True)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `Gemma3TextConfig`. llama.cpp knows the 27B model, by its 62 layers."""
    config = gguf_decoder_config(values, default_theta=1e6)
    large = config["num_hidden_layers"] == 62
    width = config["hidden_size"] / config["num_attention_heads"] if large else config["head_dim"]
    local = {"rope_theta": values.number("rope.freq_base_swa", 1e4)}
    if not values.has("attention.sliding_window"):  # llama.cpp then has no local layers
        config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]
    return config | {
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": {"full_attention": config["rope_parameters"], "sliding_attention": local},
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
        "query_pre_attn_scalar": float(width),
        "sliding_window": values.integer("attention.sliding_window", 4096),
        "sliding_window_pattern": values.integer("attention.sliding_window_pattern", 6),
        "final_logit_softcapping": values.number("final_logit_softcapping", 0.0, positive=False) or None,
    }


GGUF_NAMES = gguf_decoder_names(norm_added=1.0, norms="both", qk_norm=True)
RECIPE = Recipe(
    "gemma3_text",
    Gemma3TextConfig,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("gemma3",), GGUF_NAMES, from_gguf),
)
