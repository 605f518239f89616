"""OLMo 2: norms behind the blocks, and over all heads of q and k. Oracle: HF `Olmo2ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from rlxflow import (
    DecoderConfig,
    DecoderLayerSpec,
    DecoderLayerStage,
    GgufRecipe,
    GgufValues,
    ModelFlow,
    Recipe,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Olmo2Config(DecoderConfig):
    """HF `Olmo2Config`."""

    default_theta: ClassVar[float | None] = 10000.0

    attention_bias: bool = False


def flow(config: Olmo2Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> DecoderLayerStage:
        spec = replace(
            DecoderLayerSpec.hf(f"model.layers.{i}", config),
            norms=(None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
            qk_norm=True,
            qk_norm_whole=True,
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias,
        )
        return DecoderLayerStage(spec)

    return decoder_flow("olmo2", config, layer)


def expected(config: Olmo2Config) -> dict[str, int]:
    """How many places each fusion rule finds: only the last norm follows a sum, and the norms between
    projections and heads keep an attention from being one op."""
    bias = config.attention_bias
    places = decoder_places(config, qkv_bias=bias, out_bias=bias)
    last = min(config.num_hidden_layers, 1)
    return {**places, "fuse-attention-block": 0, "fuse-residual-rms-norm": last}


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `Olmo2Config`."""
    return gguf_decoder_config(values) | {"attention_bias": values.has_tensor("blk.0.attn_q.bias")}


RECIPE = Recipe(
    "olmo2",
    Olmo2Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("olmo2",), gguf_decoder_names(qk_norm=True, norms="after"), from_gguf),
)
