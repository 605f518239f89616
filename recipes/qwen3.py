"""Qwen3 (dense): RMSNorm on each head of q and k. Oracle: HF `Qwen3ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from rlxflow import (
    GgufRecipe,
    GgufValues,
    ModelFlow,
    Qwen3DecoderSpec,
    Qwen3DecoderStage,
    Recipe,
    Size,
    WindowedDecoderConfig,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Qwen3Config(WindowedDecoderConfig):
    """HF `Qwen3Config`; a config without head_dim means 128."""

    default_theta: ClassVar[float | None] = 10000.0

    head_dim: Size = 128
    attention_bias: bool = False


def flow(config: Qwen3Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> Qwen3DecoderStage:
        spec = Qwen3DecoderSpec.hf(f"model.layers.{i}", config)
        return Qwen3DecoderStage(
            replace(
                spec, qkv_bias=config.attention_bias, out_bias=config.attention_bias, window=config.window(i)
            )
        )

    return decoder_flow("qwen3", config, layer)


def expected(config: Qwen3Config) -> dict[str, int]:
    """How many places each fusion rule finds."""
    bias = config.attention_bias
    return decoder_places(config, qkv_bias=bias, out_bias=bias, qk_norm=True)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `Qwen3Config`."""
    return gguf_decoder_config(values) | {"attention_bias": values.has_tensor("blk.0.attn_q.bias")}


RECIPE = Recipe(
    "qwen3",
    Qwen3Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("qwen3",), gguf_decoder_names(qk_norm=True), from_gguf),
)
