"""Gemma 2: sandwich norms, soft caps, a window on every other layer. Oracle: HF `Gemma2ForCausalLM`."""

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
    Size,
    activation,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Gemma2Config(PatternedDecoderConfig):
    """HF `Gemma2Config`; caps of null are off. HF does not read `hidden_act`."""

    default_theta: ClassVar[float | None] = 10000.0
    default_pattern: ClassVar[int] = 2
    ignored: ClassVar[frozenset[str]] = frozenset(["cache_implementation"])

    num_key_value_heads: Size | None = 4
    head_dim: Size = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: float = Field(default=256.0, gt=0, allow_inf_nan=False)
    attn_logit_softcapping: float | None = Field(default=50.0, gt=0, allow_inf_nan=False)
    final_logit_softcapping: float | None = Field(default=30.0, gt=0, allow_inf_nan=False)
    use_bidirectional_attention: Literal[False] | None = None

    @property
    def activation(self) -> Any:
        return activation(self.hidden_activation)


def flow(config: Gemma2Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> GemmaDecoderStage:
        spec = replace(
            Gemma2DecoderSpec.hf(f"model.layers.{i}", config),
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias,
            scale=config.query_pre_attn_scalar**-0.5,
            softcap=config.attn_logit_softcapping or 0.0,
            window=config.window(i),
        )
        return GemmaDecoderStage(spec)

    return decoder_flow(
        "gemma2",
        config,
        layer,
        embedding_scale=config.hidden_size**0.5,
        norm_offset=True,
        logit_softcap=config.final_logit_softcapping or 0.0,
    )


def expected(config: Gemma2Config) -> dict[str, int]:
    """How many places each fusion rule finds."""
    return decoder_places(config, qkv_bias=config.attention_bias, out_bias=config.attention_bias)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `Gemma2Config`. llama.cpp knows the 27B model, by its 46 layers."""
    config = gguf_decoder_config(values)
    large = config["num_hidden_layers"] == 46
    width = config["hidden_size"] / config["num_attention_heads"] if large else config["head_dim"]
    return config | {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
        "query_pre_attn_scalar": float(width),
        "sliding_window": values.integer("attention.sliding_window", 4096),
        "attn_logit_softcapping": values.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": values.number("final_logit_softcapping", 30.0),
    }


RECIPE = Recipe(
    "gemma2",
    Gemma2Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("gemma2",), gguf_decoder_names(norm_added=1.0, norms="both"), from_gguf),
)
