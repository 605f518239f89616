"""Qwen2 and Qwen2.5: biases on q, k and v. Oracle: HF `Qwen2ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from rlxflow import (
    GgufRecipe,
    ModelFlow,
    Qwen3DecoderSpec,
    Qwen3DecoderStage,
    Recipe,
    WindowedDecoderConfig,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Qwen2Config(WindowedDecoderConfig):
    """HF `Qwen2Config`."""

    default_theta: ClassVar[float | None] = 10000.0

    use_mrope: Literal[False] = False


def flow(config: Qwen2Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> Qwen3DecoderStage:
        spec = Qwen3DecoderSpec.hf(f"model.layers.{i}", config)
        return Qwen3DecoderStage(replace(spec, qk_norm=False, qkv_bias=True, window=config.window(i)))

    return decoder_flow("qwen2", config, layer)


def expected(config: Qwen2Config) -> dict[str, int]:
    """How many places each fusion rule finds."""
    return decoder_places(config, qkv_bias=True)


RECIPE = Recipe(
    "qwen2",
    Qwen2Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("qwen2",), gguf_decoder_names(), gguf_decoder_config),
)
