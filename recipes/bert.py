"""BERT encoders (also MiniLM, BGE, E5, GTE-small, …). Oracle: HF `BertModel`."""

from __future__ import annotations

from rlxflow import (
    BertFamilyConfig,
    GgufRecipe,
    ModelFlow,
    Recipe,
    bert_flow,
    bert_places,
    gguf_bert_config,
    gguf_bert_names,
)


class BertConfig(BertFamilyConfig):
    """HF `BertConfig`, as an encoder with absolute positions."""


def flow(config: BertConfig) -> ModelFlow:
    """input_ids, attention_mask, token_type_ids [B, S] → last_hidden_state [B, S, H]."""
    return bert_flow("bert", config)


RECIPE = Recipe(
    "bert",
    BertConfig,
    flow,
    prefixes=("", "bert."),
    unused=("embeddings.position_ids", "pooler.*", "cls.*", "bert.embeddings.position_ids", "bert.pooler.*"),
    expected=lambda config: bert_places(config.num_hidden_layers),
    gguf=GgufRecipe(("bert",), gguf_bert_names(), gguf_bert_config, embeds=True),
)
