"""Llama and what is stored as `model_type: llama` (SmolLM2, TinyLlama, …). Oracle: HF `LlamaForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

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


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `LlamaConfig`."""
    return gguf_decoder_config(values) | {
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
        "mlp_bias": values.has_tensor("blk.0.ffn_gate.bias"),
    }


RECIPE = Recipe(
    "llama",
    LlamaConfig,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("llama",), gguf_decoder_names(permuted=True), from_gguf),
)
