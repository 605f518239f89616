"""Cohere 2 (Command A): parallel blocks; full layers have no rope. Oracle: HF `Cohere2ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rlxflow import (
    CohereDecoderStage,
    ConfigError,
    DecoderLayerSpec,
    Eps,
    GgufRecipe,
    GgufValues,
    LayerNormStage,
    ModelFlow,
    PatternedDecoderConfig,
    Recipe,
    Size,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Cohere2Config(PatternedDecoderConfig):
    """HF `Cohere2Config`."""

    default_theta: ClassVar[float | None] = 10000.0
    default_pattern: ClassVar[int] = 4
    ignored: ClassVar[frozenset[str]] = frozenset(["cache_implementation", "layer_switch"])

    layer_norm_eps: Eps
    rms_norm_eps: Eps = 1e-5  # there is no RMSNorm
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    logit_scale: float = Field(default=0.0625, gt=0, allow_inf_nan=False)
    sliding_window_pattern: Size | None = None
    # what the first published configs say beside
    order_of_interleaved_layers: Literal["local_attn_first"] = "local_attn_first"
    position_embedding_type: Literal["rope_gptj"] = "rope_gptj"
    rotary_pct: float = Field(default=1.0, ge=1, le=1)
    use_embedding_sharing: Literal[True] = True
    use_gated_activation: Literal[True] = True
    use_parallel_block: Literal[True] = True
    use_parallel_embedding: Literal[False] = False
    use_qk_norm: Literal[False] = False

    @model_validator(mode="after")
    def _heads_fill_the_width(self) -> Self:
        if self.head_size * self.num_attention_heads != self.hidden_size:
            message = f"head_dim {self.head_size}, but Hugging Face takes hidden_size / num_attention_heads"
            raise ConfigError(message, code="RLX-C010", hint="correct the field, or remove it")
        return self


def flow(config: Cohere2Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> CohereDecoderStage:
        spec = replace(
            DecoderLayerSpec.hf(f"model.layers.{i}", config),
            eps=config.layer_norm_eps,
            qkv_bias=config.attention_bias,
            out_bias=config.attention_bias,
            window=config.window(i),
            rope_table="rope" if config.window(i) else None,
            interleaved_rope=True,
        )
        return CohereDecoderStage(spec)

    norm = LayerNormStage("model.norm.weight", None, config.layer_norm_eps, config.hidden_size)
    return decoder_flow("cohere2", config, layer, final_norm=norm, logit_scale=config.logit_scale)


def expected(config: Cohere2Config) -> dict[str, int]:
    """How many places each fusion rule finds; only the last LayerNorm has the sum before it to itself."""
    places = decoder_places(config, qkv_bias=config.attention_bias, out_bias=config.attention_bias)
    last = min(config.num_hidden_layers, 1)
    return {**places, "fuse-residual-rms-norm": 0, "fuse-residual-ln": last}


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `Cohere2Config`; the window leaves out every fourth layer."""
    config = gguf_decoder_config(values, eps="layer_norm_epsilon")
    return config | {
        "layer_norm_eps": config.pop("rms_norm_eps"),
        "attention_bias": values.has_tensor("blk.0.attn_q.bias"),
        "sliding_window": values.integer("attention.sliding_window"),
        "logit_scale": values.number("logit_scale"),
    }


RECIPE = Recipe(
    "cohere2",
    Cohere2Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=expected,
    gguf=GgufRecipe(("cohere2",), gguf_decoder_names(norms="one"), from_gguf),
)
