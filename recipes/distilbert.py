"""DistilBERT encoders (also msmarco-distilbert, …). Oracle: HF `DistilBertModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from rlxflow import (
    BertEncoderLayerSpec,
    BertEncoderLayerStage,
    BertQkvStyle,
    EncoderConfig,
    ModelFlow,
    Recipe,
    Size,
    bert_places,
)


class DistilBertConfig(EncoderConfig):
    """HF `DistilBertConfig`; eps is a constant, sinusoidal positions are stored like others."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        ["sinusoidal_pos_embds", "tie_weights_", "tie_word_embeddings"]
    )
    renamed: ClassVar[Mapping[str, str]] = {
        "dim": "hidden_size",
        "hidden_dim": "intermediate_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "activation": "hidden_act",
    }

    vocab_size: Size
    intermediate_size: Size
    max_position_embeddings: Size
    layer_norm_eps: float = Field(default=1e-12, ge=1e-12, le=1e-12)


def flow(config: DistilBertConfig) -> ModelFlow:
    """input_ids, attention_mask [B, S] → last_hidden_state [B, S, H]."""

    def layer(i: int) -> BertEncoderLayerStage:
        return BertEncoderLayerStage(
            BertEncoderLayerSpec.hf(
                f"transformer.layer.{i}",
                BertQkvStyle.DISTILBERT,
                hidden_size=config.hidden_size,
                num_heads=config.num_attention_heads,
                intermediate_size=config.intermediate_size,
                eps=config.layer_norm_eps,
                activation=config.activation,
            )
        )

    hidden, norm = config.hidden_size, "embeddings.LayerNorm"
    positions = "embeddings.position_embeddings.weight"
    return (
        ModelFlow("distilbert")
        .encoder_inputs()
        .embed("embeddings.word_embeddings.weight", config.vocab_size, hidden)
        .add_positions(positions, config.max_position_embeddings, hidden)
        .layer_norm(f"{norm}.weight", f"{norm}.bias", config.layer_norm_eps, hidden)
        .repeat_layers(config.num_hidden_layers, layer)
        .output("last_hidden_state")
    )


RECIPE = Recipe(
    "distilbert",
    DistilBertConfig,
    flow,
    prefixes=("", "distilbert."),
    unused=("*vocab_*", "*classifier.*", "*qa_outputs.*", "*embeddings.position_ids"),
    expected=lambda config: bert_places(config.num_hidden_layers, token_types=False),
)
