"""BERT in GGUF files: the table of names and the config."""

from __future__ import annotations

from typing import Any

from rlxflow.weights.gguf_config import check_causal, embedding_rows, gguf_head_dim, gguf_sizes
from rlxflow.weights.gguf_values import CONVERT_AGAIN, GgufValues
from rlxflow.weights.names import GgufName


def gguf_bert_names() -> tuple[GgufName, ...]:
    """The rows of a post-norm encoder with learned positions, under the names of HF's `BertModel`."""
    rows = [
        GgufName("embeddings.word_embeddings.weight", "token_embd.weight"),
        GgufName("embeddings.position_embeddings.weight", "position_embd.weight"),
        GgufName("embeddings.token_type_embeddings.weight", "token_types.weight"),
    ]
    for part in ("weight", "bias"):
        rows += [
            GgufName(f"{hf}.{part}", f"{gguf}.{part}")
            for hf, gguf in [
                ("embeddings.LayerNorm", "token_embd_norm"),
                ("encoder.layer.{i}.attention.self.query", "blk.{i}.attn_q"),
                ("encoder.layer.{i}.attention.self.key", "blk.{i}.attn_k"),
                ("encoder.layer.{i}.attention.self.value", "blk.{i}.attn_v"),
                ("encoder.layer.{i}.attention.output.dense", "blk.{i}.attn_output"),
                ("encoder.layer.{i}.attention.output.LayerNorm", "blk.{i}.attn_output_norm"),
                ("encoder.layer.{i}.intermediate.dense", "blk.{i}.ffn_up"),
                ("encoder.layer.{i}.output.dense", "blk.{i}.ffn_down"),
                ("encoder.layer.{i}.output.LayerNorm", "blk.{i}.layer_output_norm"),
            ]
        ]
    return tuple(rows)


def gguf_bert_config(values: GgufValues) -> dict[str, Any]:
    """The config of an encoder as HF's `BertConfig` has it; activation and positions, which GGUF does not
    keep, are those of every BERT that llama.cpp converts."""
    config = gguf_sizes(values)
    heads, width = config["num_attention_heads"], config["hidden_size"]
    if values.per_layer("attention.head_count_kv", config["num_hidden_layers"], heads) != heads:
        values.fail("RLX-C043", "a bert model has as many key-value heads as heads", CONVERT_AGAIN)
    head_dim = gguf_head_dim(values, width, heads)
    if head_dim * heads != width:
        values.fail("RLX-C043", f"{heads} heads of {head_dim} are not {width} wide", CONVERT_AGAIN)
    check_causal(values, False)
    return config | {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": values.number("attention.layer_norm_epsilon"),
        "type_vocab_size": embedding_rows(values, "token_types.weight", width),
    }
