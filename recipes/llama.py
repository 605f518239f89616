"""Llama and what is stored as `model_type: llama` (SmolLM2, TinyLlama, …). Oracle: HF `LlamaForCausalLM`."""

from __future__ import annotations

from typing import ClassVar

from rlxflow import DecoderConfig, LlamaDecoderSpec, LlamaDecoderStage, ModelFlow, Recipe, RopeTablesStage


class LlamaConfig(DecoderConfig):
    """HF `LlamaConfig`. Checkpoints written before rope_theta existed used 10000."""

    default_theta: ClassVar[float | None] = 10000.0

    attention_bias: bool = False
    mlp_bias: bool = False


def flow(config: LlamaConfig) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> LlamaDecoderStage:
        return LlamaDecoderStage(
            LlamaDecoderSpec(
                f"model.layers.{i}",
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_heads=config.num_attention_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_size,
                eps=config.rms_norm_eps,
                qkv_bias=config.attention_bias,
                out_bias=config.attention_bias,
                mlp_bias=config.mlp_bias,
                activation=config.activation,
            )
        )

    rope = config.rope
    return (
        ModelFlow("llama")
        .decoder_inputs()
        .token_embed(config.vocab_size, config.hidden_size)
        .rope_tables(RopeTablesStage(rope.rotary_dim, rope.theta, rope.scaling))
        .repeat_layers(config.num_hidden_layers, layer)
        .final_norm(config.rms_norm_eps, config.hidden_size)
        .output("last_hidden_state")
        .lm_head(config.vocab_size, config.hidden_size, tied=config.tie_word_embeddings)
    )


RECIPE = Recipe("llama", LlamaConfig, flow, unused=("*.rotary_emb.inv_freq",))
