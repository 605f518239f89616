"""BERT encoders (also MiniLM, BGE, E5, GTE-small, …). Oracle: HF `BertModel`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from rlxflow import (
    BertEncoderLayerSpec,
    BertEncoderLayerStage,
    BertQkvStyle,
    ConfigError,
    Eps,
    GgufRecipe,
    LayerCount,
    ModelFlow,
    Recipe,
    RecipeConfig,
    Size,
    activation,
    gguf_bert_config,
    gguf_bert_names,
)


class BertConfig(RecipeConfig):
    """HF `BertConfig`, as an encoder with absolute positions."""

    # the head over the vocabulary and the pooler are not part of the encoder
    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("tie_word_embeddings", "directionality", "pooler_fc_size", "pooler_num_attention_heads"),
            *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
        ]
    )

    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: LayerCount
    num_attention_heads: Size
    intermediate_size: Size
    hidden_act: str = "gelu"
    max_position_embeddings: Size
    type_vocab_size: Size = 2
    layer_norm_eps: Eps = 1e-12
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{self.num_attention_heads} attention heads do not divide hidden_size {self.hidden_size}",
                code="RLX-C010",
                hint="correct the field, or download the file again",
            )
        activation(self.hidden_act)
        return self


def flow(config: BertConfig) -> ModelFlow:
    """input_ids, attention_mask, token_type_ids [B, S] → last_hidden_state [B, S, H]."""

    def layer(i: int) -> BertEncoderLayerStage:
        return BertEncoderLayerStage(
            BertEncoderLayerSpec.hf(
                f"encoder.layer.{i}",
                BertQkvStyle.BERT,
                hidden_size=config.hidden_size,
                num_heads=config.num_attention_heads,
                intermediate_size=config.intermediate_size,
                eps=config.layer_norm_eps,
                activation=activation(config.hidden_act),
            )
        )

    hidden = config.hidden_size
    return (
        ModelFlow("bert")
        .input("input_ids", ("B", "S"), "i64")
        .input("attention_mask", ("B", "S"), "i64", default=1)
        .input("token_type_ids", ("B", "S"), "i64", default=0)
        .embed("embeddings.word_embeddings.weight", config.vocab_size, hidden)
        .add_positions("embeddings.position_embeddings.weight", config.max_position_embeddings, hidden)
        .gather_add(
            "token_type_ids", "embeddings.token_type_embeddings.weight", config.type_vocab_size, hidden
        )
        .layer_norm("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias", config.layer_norm_eps, hidden)
        .repeat_layers(config.num_hidden_layers, layer)
        .output("last_hidden_state")
    )


def expected(config: BertConfig) -> dict[str, int]:
    """How many places each fusion rule finds: one for the embeddings, the others in each layer."""
    layers = config.num_hidden_layers
    return {
        "fuse-transformer-layer": layers,
        "fuse-attention-block": layers,
        "fuse-shared-input-matmul": layers,
        "fuse-matmul-bias-act": 6 * layers,
        "fuse-residual-ln": 2 * layers + 1,
        "fuse-embedding-norm": 1,
    }


RECIPE = Recipe(
    "bert",
    BertConfig,
    flow,
    prefixes=("", "bert."),
    unused=("embeddings.position_ids", "pooler.*", "cls.*", "bert.embeddings.position_ids", "bert.pooler.*"),
    expected=expected,
    gguf=GgufRecipe(("bert",), gguf_bert_names(), gguf_bert_config, embeds=True),
)
