"""Qwen3 (dense): RMSNorm on each head of q and k. Oracle: HF `Qwen3ForCausalLM`."""

from __future__ import annotations

from typing import ClassVar

from rlxflow import (
    ModelFlow,
    Qwen3DecoderSpec,
    Qwen3DecoderStage,
    Recipe,
    RopeTablesStage,
    Size,
    WindowedDecoderConfig,
)


class Qwen3Config(WindowedDecoderConfig):
    """HF `Qwen3Config`; a config without head_dim means 128."""

    default_theta: ClassVar[float | None] = 10000.0

    head_dim: Size = 128
    attention_bias: bool = False


def flow(config: Qwen3Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> Qwen3DecoderStage:
        return Qwen3DecoderStage(
            Qwen3DecoderSpec(
                f"model.layers.{i}",
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_heads=config.num_attention_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_size,
                eps=config.rms_norm_eps,
                qkv_bias=config.attention_bias,
                out_bias=config.attention_bias,
                activation=config.activation,
                window=config.window(i),
            )
        )

    rope = config.rope
    return (
        ModelFlow("qwen3")
        .decoder_inputs()
        .token_embed(config.vocab_size, config.hidden_size)
        .rope_tables(RopeTablesStage(rope.rotary_dim, rope.theta, rope.scaling))
        .repeat_layers(config.num_hidden_layers, layer)
        .final_norm(config.rms_norm_eps, config.hidden_size)
        .output("last_hidden_state")
        .lm_head(config.vocab_size, config.hidden_size, tied=config.tie_word_embeddings)
    )


RECIPE = Recipe("qwen3", Qwen3Config, flow, unused=("*.rotary_emb.inv_freq",))
