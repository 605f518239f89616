"""MPNet encoders (also all-mpnet-base, multi-qa-mpnet, …). Oracle: HF `MPNetModel`."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from rlxflow import (
    BertEncoderLayerSpec,
    BertEncoderLayerStage,
    BertQkvStyle,
    EncoderConfig,
    ModelFlow,
    Recipe,
    RelativePositionBiasStage,
    Size,
    bert_places,
)

FIRST_POSITION = 2  # row 1 of the position table is for padding, whatever pad_token_id says


class MpnetConfig(EncoderConfig):
    """HF `MPNetConfig`; it computes 32 buckets whatever the config says, so nothing else can be right."""

    ignored: ClassVar[frozenset[str]] = frozenset(["tie_word_embeddings"])

    vocab_size: Size
    intermediate_size: Size
    max_position_embeddings: Size
    relative_attention_num_buckets: Literal[32] = 32

    @property
    def max_tokens(self) -> int:
        return self.max_position_embeddings - FIRST_POSITION


def flow(config: MpnetConfig) -> ModelFlow:
    """input_ids, attention_mask [B, S] → last_hidden_state [B, S, H]."""

    def layer(i: int) -> BertEncoderLayerStage:
        spec = BertEncoderLayerSpec.hf(
            f"encoder.layer.{i}",
            BertQkvStyle.MPNET,
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            eps=config.layer_norm_eps,
            activation=config.activation,
        )
        return BertEncoderLayerStage(replace(spec, position_bias="position_bias"))

    hidden, norm = config.hidden_size, "embeddings.LayerNorm"
    positions = "embeddings.position_embeddings.weight"
    bias = RelativePositionBiasStage("encoder.relative_attention_bias.weight", config.num_attention_heads)
    return (
        ModelFlow("mpnet")
        .encoder_inputs()
        .embed("embeddings.word_embeddings.weight", config.vocab_size, hidden)
        .add_positions(positions, config.max_position_embeddings, hidden, FIRST_POSITION)
        .layer_norm(f"{norm}.weight", f"{norm}.bias", config.layer_norm_eps, hidden)
        .stage(bias)
        .repeat_layers(config.num_hidden_layers, layer)
        .output("last_hidden_state")
    )


def expected(config: MpnetConfig) -> dict[str, int]:
    """As BERT; the fused layer takes no position bias, the attention block does."""
    return bert_places(config.num_hidden_layers, token_types=False) | {"fuse-transformer-layer": 0}


RECIPE = Recipe(
    "mpnet",
    MpnetConfig,
    flow,
    prefixes=("", "mpnet."),
    unused=("*embeddings.position_ids", "*pooler.*", "*lm_head.*", "*classifier.*", "*qa_outputs.*"),
    expected=expected,
)
