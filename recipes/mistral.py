"""Mistral: Llama with a sliding window on every layer. Oracle: HF `MistralForCausalLM`.

GGUF files of such models say "llama" and are read by that recipe; llama.cpp keeps no window in them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rlxflow import (
    DecoderConfig,
    LlamaDecoderSpec,
    LlamaDecoderStage,
    ModelFlow,
    Recipe,
    Size,
    decoder_flow,
    decoder_places,
)


class MistralConfig(DecoderConfig):
    """HF `MistralConfig`. A config that does not name a window means 4096; null means none."""

    default_theta: ClassVar[float | None] = 10000.0

    num_key_value_heads: Size | None = 8
    sliding_window: Size | None = 4096


def flow(config: MistralConfig) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> LlamaDecoderStage:
        spec = LlamaDecoderSpec.hf(f"model.layers.{i}", config)
        return LlamaDecoderStage(replace(spec, window=config.sliding_window or 0))

    return decoder_flow("mistral", config, layer)


RECIPE = Recipe("mistral", MistralConfig, flow, unused=("*.rotary_emb.inv_freq",), expected=decoder_places)
