"""Gemma: norms by 1 + w, a scaled embedding, GeGLU. Oracle: HF `GemmaForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from rlxflow import (
    DecoderConfig,
    GemmaDecoderSpec,
    GemmaDecoderStage,
    GgufRecipe,
    GgufValues,
    ModelFlow,
    Recipe,
    Size,
    activation,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class GemmaConfig(DecoderConfig):
    """HF `GemmaConfig`."""

    default_theta: ClassVar[float | None] = 10000.0

    num_key_value_heads: Size | None = 16
    head_dim: Size = 256
    hidden_act: str = "gelu_pytorch_tanh"
    hidden_activation: Literal["gelu_pytorch_tanh"] | None = None
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    use_bidirectional_attention: Literal[False] | None = None

    @property
    def activation(self) -> Any:
        """The first checkpoints say "gelu" and mean its tanh form."""
        return activation("gelu_pytorch_tanh" if self.hidden_act == "gelu" else self.hidden_act)


def flow(config: GemmaConfig) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> GemmaDecoderStage:
        spec = GemmaDecoderSpec.hf(f"model.layers.{i}", config)
        return GemmaDecoderStage(
            replace(spec, qkv_bias=config.attention_bias, out_bias=config.attention_bias)
        )

    scale = config.hidden_size**0.5
    return decoder_flow("gemma", config, layer, embedding_scale=scale, norm_offset=True)


def expected(config: GemmaConfig) -> dict[str, int]:
    """How many places each fusion rule finds."""
    return decoder_places(config, qkv_bias=config.attention_bias, out_bias=config.attention_bias)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `GemmaConfig`."""
    return gguf_decoder_config(values) | {
        "hidden_act": "gelu_pytorch_tanh",
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
    }


RECIPE = Recipe(
    "gemma",
    GemmaConfig,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("gemma",), gguf_decoder_names(norm_added=1.0), from_gguf),
)
