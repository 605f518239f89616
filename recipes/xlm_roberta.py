"""XLM-RoBERTa encoders (also multilingual E5, BGE-M3's dense part, …). Oracle: HF `XLMRobertaModel`."""

from __future__ import annotations

from pydantic import Field

from rlxflow import BertFamilyConfig, ModelFlow, Recipe, bert_flow, bert_places


class XlmRobertaConfig(BertFamilyConfig):
    """HF `XLMRobertaConfig`; positions count from pad_token_id + 1."""

    pad_token_id: int = Field(default=1, ge=0, le=2**31)

    @property
    def first_position(self) -> int:
        return self.pad_token_id + 1


def flow(config: XlmRobertaConfig) -> ModelFlow:
    """input_ids, attention_mask, token_type_ids [B, S] → last_hidden_state [B, S, H]."""
    return bert_flow("xlm-roberta", config)


RECIPE = Recipe(
    "xlm-roberta",
    XlmRobertaConfig,
    flow,
    prefixes=("", "roberta."),
    unused=("*embeddings.position_ids", "*pooler.*", "*lm_head.*", "*classifier.*", "*qa_outputs.*"),
    expected=lambda config: bert_places(config.num_hidden_layers),
)
