"""Granite: Llama with four multipliers. Oracle: HF `GraniteForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from rlxflow import (
    DecoderConfig,
    GgufRecipe,
    GgufValues,
    LlamaDecoderSpec,
    LlamaDecoderStage,
    ModelFlow,
    Recipe,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)

Multiplier: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GraniteConfig(DecoderConfig):
    """HF `GraniteConfig`: multipliers of the embedding, the attention scores, and what a block adds to the
    residual; the logits are divided by theirs."""

    default_theta: ClassVar[float | None] = 10000.0

    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_multiplier: Multiplier = 1.0
    attention_multiplier: Multiplier = 1.0
    residual_multiplier: Multiplier = 1.0
    logits_scaling: Multiplier = 1.0


def flow(config: GraniteConfig) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> LlamaDecoderStage:
        spec = replace(
            LlamaDecoderSpec.hf(f"model.layers.{i}", config),
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias,
            mlp_bias=config.mlp_bias,
            scale=config.attention_multiplier,
            residual_multiplier=config.residual_multiplier,
        )
        return LlamaDecoderStage(spec)

    return decoder_flow(
        "granite",
        config,
        layer,
        embedding_scale=config.embedding_multiplier,
        logit_scale=1 / config.logits_scaling,
    )


def expected(config: GraniteConfig) -> dict[str, int]:
    """How many places each fusion rule finds."""
    bias = config.attention_bias
    return decoder_places(config, qkv_bias=bias, out_bias=bias, mlp_bias=config.mlp_bias)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `GraniteConfig`; llama.cpp takes head_dim^-1/2 where the file has no attention.scale."""
    config = gguf_decoder_config(values)
    return config | {
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
        "mlp_bias": values.has_tensor("blk.0.ffn_gate.bias"),
        "attention_multiplier": values.number("attention.scale", config["head_dim"] ** -0.5),
        "embedding_multiplier": values.number("embedding_scale", 1.0),
        "residual_multiplier": values.number("residual_scale", 1.0),
        "logits_scaling": values.number("logit_scale", 1.0),
    }


RECIPE = Recipe(
    "granite",
    GraniteConfig,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("granite",), gguf_decoder_names(permuted=True), from_gguf),
)
