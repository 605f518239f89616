"""Phi-3 and Phi-4: joined projections, partial rotary embedding, longrope. Oracle: HF `Phi3ForCausalLM`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from rlxflow import (
    ConfigError,
    DecoderConfig,
    DecoderLayerSpec,
    DecoderLayerStage,
    GgufName,
    GgufRecipe,
    GgufValues,
    ModelFlow,
    Recipe,
    Size,
    decoder_flow,
    decoder_places,
    gguf_decoder_config,
    gguf_decoder_names,
)


class Phi3Config(DecoderConfig):
    """HF `Phi3Config`."""

    default_theta: ClassVar[float | None] = 10000.0
    partial_rotary: ClassVar[bool] = True

    original_max_position_embeddings: Size | None = 4096
    sliding_window: Size | None = None
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, raw: Any) -> Any:
        """Longrope was called su, and before that yarn."""
        rope = raw.get("rope_scaling")
        if isinstance(rope, dict) and rope.get("type") in ("su", "yarn"):
            return {**raw, "rope_scaling": {**rope, "type": "longrope"}}
        return raw

    @model_validator(mode="after")
    def _known_rope(self) -> Self:
        kind = dict(self.rope.scaling).get("rope_type", "longrope")
        if kind != "longrope":
            hint = "Phi-3 has default and longrope"
            raise ConfigError(f"rope type {kind!r}", code="RLX-C006", where="rope settings", hint=hint)
        return self


def flow(config: Phi3Config) -> ModelFlow:
    """input_ids [B, S] → logits [B, S, V] and last_logits [B, V]."""

    def layer(i: int) -> DecoderLayerStage:
        spec = DecoderLayerSpec.hf(f"model.layers.{i}", config)
        return DecoderLayerStage(replace(spec, joined=True, window=config.sliding_window or 0))

    return decoder_flow("phi3", config, layer)


def from_gguf(values: GgufValues) -> dict[str, Any]:
    """The fields of `Phi3Config`. llama.cpp reads the window and does not use it."""
    config = gguf_decoder_config(values)
    config["original_max_position_embeddings"] = config["rope_parameters"].get(
        "original_max_position_embeddings"
    )
    if values.has("attention.sliding_window"):
        config["sliding_window"] = values.integer("attention.sliding_window", low=0) or None
    return config


JOINED = (
    GgufName("model.layers.{i}.self_attn.qkv_proj.weight", "blk.{i}.attn_qkv.weight"),
    GgufName("model.layers.{i}.mlp.gate_up_proj.weight", "blk.{i}.ffn_up.weight"),
)
SPLIT = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
NAMES = (*(n for n in gguf_decoder_names() if n.hf.split(".")[-2] not in SPLIT), *JOINED)

RECIPE = Recipe(
    "phi3",
    Phi3Config,
    flow,
    unused=("*.rotary_emb.inv_freq",),
    expected=decoder_places,
    gguf=GgufRecipe(("phi3",), NAMES, from_gguf),
)
