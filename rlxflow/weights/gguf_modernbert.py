"""ModernBERT in GGUF files: the table of names and the config."""

from __future__ import annotations

from typing import Any

from rlxflow.weights.gguf_config import check_causal, gguf_sizes
from rlxflow.weights.gguf_rope import rope_parameters
from rlxflow.weights.gguf_values import GgufValues
from rlxflow.weights.names import GgufName


def gguf_modernbert_names() -> tuple[GgufName, ...]:
    """The rows of a pre-norm encoder without biases, under the names of HF's `ModernBertModel`."""
    rows = {"embeddings.tok_embeddings": "token_embd", "embeddings.norm": "token_embd_norm"}
    rows["final_norm"] = "output_norm"
    layers = {"attn_norm": "attn_norm", "attn.Wqkv": "attn_qkv", "attn.Wo": "attn_output"}
    layers |= {"mlp_norm": "ffn_norm", "mlp.Wi": "ffn_up", "mlp.Wo": "ffn_down"}
    rows |= {f"layers.{{i}}.{hf}": f"blk.{{i}}.{own}" for hf, own in layers.items()}
    return tuple(GgufName(f"{hf}.weight", f"{own}.weight") for hf, own in rows.items())


def gguf_modernbert_config(values: GgufValues) -> dict[str, Any]:
    """The config as HF's `ModernBertConfig` has it; the activation, which GGUF does not keep, is GELU.

    Without a window all layers are global, as in llama.cpp.
    """
    config = gguf_sizes(values)
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    check_causal(values, False)
    rope = rope_parameters(values, head_dim, config["max_position_embeddings"])
    local = values.number("rope.freq_base_swa", rope["rope_theta"])
    window = values.integer("attention.sliding_window", 0, low=0)
    every = values.integer("attention.sliding_window_pattern", 3)
    return config | {
        "hidden_act": "gelu",
        "layer_norm_eps": values.number("attention.layer_norm_epsilon"),
        "local_attention": window or 1,
        "global_attn_every_n_layers": every if window else 1,
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope | {"rope_theta": local}},
    }
