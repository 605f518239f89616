"""What BERT, RoBERTa and XLM-RoBERTa share: config fields, flow and fusion counts."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlxflow.flow.config import Size
from rlxflow.flow.encoder_config import EncoderConfig
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.stage import Stage


class BertFamilyConfig(EncoderConfig):
    """Fields of a post-norm encoder with learned absolute positions and token types, with HF's names."""

    # the head over the vocabulary and the pooler are not part of the encoder
    ignored: ClassVar[frozenset[str]] = frozenset(
        [
            *("tie_word_embeddings", "directionality", "pooler_fc_size", "pooler_num_attention_heads"),
            *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
        ]
    )

    vocab_size: Size
    intermediate_size: Size
    max_position_embeddings: Size
    type_vocab_size: Size = 2
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False

    @property
    def first_position(self) -> int:
        """The row of the position table that a sequence's first token gets."""
        return 0

    @property
    def max_tokens(self) -> int:
        return self.max_position_embeddings - self.first_position


def bert_flow(name: str, config: BertFamilyConfig) -> ModelFlow:
    """input_ids, attention_mask, token_type_ids [B, S] → last_hidden_state [B, S, H], under HF's keys."""
    from rlxflow.stages.bert import BertEncoderLayerSpec, BertEncoderLayerStage, BertQkvStyle

    def layer(i: int) -> Stage:
        return BertEncoderLayerStage(
            BertEncoderLayerSpec.hf(
                f"encoder.layer.{i}",
                BertQkvStyle.BERT,
                hidden_size=config.hidden_size,
                num_heads=config.num_attention_heads,
                intermediate_size=config.intermediate_size,
                eps=config.layer_norm_eps,
                activation=config.activation,
            )
        )

    hidden, norm = config.hidden_size, "embeddings.LayerNorm"
    positions, types = (f"embeddings.{kind}_embeddings.weight" for kind in ("position", "token_type"))
    return (
        ModelFlow(name)
        .encoder_inputs()
        .input("token_type_ids", ("B", "S"), "i64", default=0)
        .embed("embeddings.word_embeddings.weight", config.vocab_size, hidden)
        .add_positions(positions, config.max_position_embeddings, hidden, config.first_position)
        .gather_add("token_type_ids", types, config.type_vocab_size, hidden)
        .layer_norm(f"{norm}.weight", f"{norm}.bias", config.layer_norm_eps, hidden)
        .repeat_layers(config.num_hidden_layers, layer)
        .output("last_hidden_state")
    )


def bert_places(num_layers: int, *, token_types: bool = True) -> dict[str, int]:
    """How many places each fusion rule finds: one for the embeddings, the others in each layer.

    Token types are as long as the sum they are added to, so that sum and its norm are a place too.
    """
    return {
        "fuse-transformer-layer": num_layers,
        "fuse-attention-block": num_layers,
        "fuse-shared-input-matmul": num_layers,
        "fuse-matmul-bias-act": 6 * num_layers,
        "fuse-residual-ln": 2 * num_layers + token_types,
        "fuse-embedding-norm": 1,
    }
