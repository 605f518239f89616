"""SmolLM3: Llama with layers that have no rotary embedding. Oracle: HF `SmolLM3ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from rlxflow import (
    ConfigError,
    GgufRecipe,
    GgufValues,
    LlamaDecoderSpec,
    LlamaDecoderStage,
    ModelFlow,
    Recipe,
    Size,
    WindowedDecoderConfig,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class SmolLM3Config(WindowedDecoderConfig):
    """HF `SmolLM3Config`: `no_rope_layers` has 0 for each layer without rope, by default every fourth; those
    are the ones with a window, where there is one. HF does not read `max_window_layers`."""

    default_theta: ClassVar[float | None] = 2000000.0

    num_key_value_heads: Size | None = 4
    sliding_window: Size | None = None
    no_rope_layers: list[Literal[0, 1]] | None = None
    no_rope_layer_interval: Size = 4
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = True

    def has_rope(self, layer: int) -> bool:
        if self.no_rope_layers is not None:
            return bool(self.no_rope_layers[layer])
        return (layer + 1) % self.no_rope_layer_interval != 0

    def window(self, layer: int) -> int:
        if not self.use_sliding_window or self.sliding_window is None:
            return 0
        by_rope = "full_attention" if self.has_rope(layer) else "sliding_attention"
        kind = self.layer_types[layer] if self.layer_types else by_rope
        return self.sliding_window if kind == "sliding_attention" else 0

    @model_validator(mode="after")
    def _rope_of_every_layer(self) -> Self:
        given = self.no_rope_layers
        if given is not None and len(given) < self.num_hidden_layers:
            message = f"no_rope_layers has {len(given)} entries for {self.num_hidden_layers} layers"
            raise ConfigError(message, code="RLX-C010", hint="give one for each layer")
        return self


def flow(config: SmolLM3Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> LlamaDecoderStage:
        spec = replace(
            LlamaDecoderSpec.hf(f"model.layers.{i}", config),
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias,
            mlp_bias=config.mlp_bias,
            window=config.window(i),
            rope_table="rope" if config.has_rope(i) else None,
        )
        return LlamaDecoderStage(spec)

    return decoder_flow("smollm3", config, layer)


def expected(config: SmolLM3Config) -> dict[str, int]:
    """How many places each fusion rule finds."""
    bias = config.attention_bias
    return decoder_places(config, qkv_bias=bias, out_bias=bias, mlp_bias=config.mlp_bias)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `SmolLM3Config`; llama.cpp leaves rope out in every fourth layer."""
    return gguf_decoder_config(values) | {
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
        "mlp_bias": values.has_tensor("blk.0.ffn_gate.bias"),
        "no_rope_layer_interval": 4,
    }


RECIPE = Recipe(
    "smollm3",
    SmolLM3Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("smollm3",), gguf_decoder_names(permuted=True), from_gguf),
)
