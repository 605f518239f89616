"""Nomic BERT in GGUF files: the table of names and the config."""

from __future__ import annotations

from typing import Any

from rlxflow.weights.gguf_config import check_causal, embedding_rows, gguf_head_dim, gguf_sizes
from rlxflow.weights.gguf_rope import rope_parameters
from rlxflow.weights.gguf_values import GgufValues
from rlxflow.weights.names import GgufName


def gguf_nomic_names() -> tuple[GgufName, ...]:
    """The rows of a post-norm encoder with rotary positions, under the names of Nomic's checkpoints."""
    rows = [
        GgufName("embeddings.word_embeddings.weight", "token_embd.weight"),
        GgufName("embeddings.token_type_embeddings.weight", "token_types.weight"),
    ]
    linears = [("attn.Wqkv", "attn_qkv"), ("attn.out_proj", "attn_output")]
    linears += [("mlp.fc11", "ffn_up"), ("mlp.fc12", "ffn_gate"), ("mlp.fc2", "ffn_down")]
    rows += [GgufName(f"encoder.layers.{{i}}.{hf}.weight", f"blk.{{i}}.{own}.weight") for hf, own in linears]
    norms = [("emb_ln", "token_embd_norm"), ("encoder.layers.{i}.norm1", "blk.{i}.attn_output_norm")]
    norms.append(("encoder.layers.{i}.norm2", "blk.{i}.layer_output_norm"))
    for hf, own in norms:
        rows += [GgufName(f"{hf}.{part}", f"{own}.{part}") for part in ("weight", "bias")]
    return tuple(rows)


def gguf_nomic_config(values: GgufValues) -> dict[str, Any]:
    """The config as HF's `NomicBertConfig` has it; the activation, which GGUF does not keep, is SiLU."""
    config = gguf_sizes(values)
    head_dim = gguf_head_dim(values, config["hidden_size"], config["num_attention_heads"])
    check_causal(values, False)
    return config | {
        "hidden_act": "silu",
        "head_dim": head_dim,
        "layer_norm_eps": values.number("attention.layer_norm_epsilon"),
        "type_vocab_size": embedding_rows(values, "token_types.weight", config["hidden_size"]),
        "rope_parameters": rope_parameters(values, head_dim, config["max_position_embeddings"], 1000.0),
    }
