"""Llama and what is stored as `model_type: llama` (SmolLM2, TinyLlama, …). Oracle: HF `LlamaForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rlxflow import (
    DecoderConfig,
    LlamaDecoderSpec,
    LlamaDecoderStage,
    ModelFlow,
    Recipe,
    decoder_flow,
    decoder_places,
)


class LlamaConfig(DecoderConfig):
    """HF `LlamaConfig`. Checkpoints written before rope_theta existed used 10000."""

    default_theta: ClassVar[float | None] = 10000.0

    attention_bias: bool = False
    mlp_bias: bool = False


def flow(config: LlamaConfig) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> LlamaDecoderStage:
        spec = LlamaDecoderSpec.hf(f"model.layers.{i}", config)
        return LlamaDecoderStage(
            replace(
                spec, qkv_bias=config.attention_bias, out_bias=config.attention_bias, mlp_bias=config.mlp_bias
            )
        )

    return decoder_flow("llama", config, layer)


def expected(config: LlamaConfig) -> dict[str, int]:
    """How many places each fusion rule finds."""
    bias = config.attention_bias
    return decoder_places(config, qkv_bias=bias, out_bias=bias, mlp_bias=config.mlp_bias)


RECIPE = Recipe("llama", LlamaConfig, flow, unused=("*.rotary_emb.inv_freq",), expected=expected)
