"""DistilBERT encoders (also msmarco-distilbert, …). Oracle: HF `DistilBertModel`."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from rlxflow import (
    BertEncoderLayerSpec,
    BertEncoderLayerStage,
    BertQkvStyle,
    ConfigError,
    LayerCount,
    ModelFlow,
    Recipe,
    RecipeConfig,
    Size,
    activation,
    bert_places,
)

EPS = 1e-12  # a constant of the architecture


class DistilBertConfig(RecipeConfig):
    """HF `DistilBertConfig`; sinusoidal positions are stored like learned ones."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("sinusoidal_pos_embds", "dropout", "qa_dropout", "seq_classif_dropout"),
            *("tie_weights_", "tie_word_embeddings"),
        ]
    )

    vocab_size: Size
    max_position_embeddings: Size
    n_layers: LayerCount
    n_heads: Size
    dim: Size
    hidden_dim: Size
    activation: str = "gelu"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.n_heads:
            raise ConfigError(
                f"{self.n_heads} attention heads do not divide dim {self.dim}",
                code="RLX-C010",
                hint="correct the field, or download the file again",
            )
        activation(self.activation)
        return self


def flow(config: DistilBertConfig) -> ModelFlow:
    """input_ids, attention_mask [B, S] → last_hidden_state [B, S, dim]."""

    def layer(i: int) -> BertEncoderLayerStage:
        return BertEncoderLayerStage(
            BertEncoderLayerSpec.hf(
                f"transformer.layer.{i}",
                BertQkvStyle.DISTILBERT,
                hidden_size=config.dim,
                num_heads=config.n_heads,
                intermediate_size=config.hidden_dim,
                eps=EPS,
                activation=activation(config.activation),
            )
        )

    norm = "embeddings.LayerNorm"
    positions = "embeddings.position_embeddings.weight"
    return (
        ModelFlow("distilbert")
        .input("input_ids", ("B", "S"), "i64")
        .input("attention_mask", ("B", "S"), "i64", default=1)
        .embed("embeddings.word_embeddings.weight", config.vocab_size, config.dim)
        .add_positions(positions, config.max_position_embeddings, config.dim)
        .layer_norm(f"{norm}.weight", f"{norm}.bias", EPS, config.dim)
        .repeat_layers(config.n_layers, layer)
        .output("last_hidden_state")
    )


RECIPE = Recipe(
    "distilbert",
    DistilBertConfig,
    flow,
    prefixes=("", "distilbert."),
    unused=("*vocab_*", "*classifier.*", "*qa_outputs.*", "*embeddings.position_ids"),
    expected=lambda config: bert_places(config.n_layers, token_types=False),
)
