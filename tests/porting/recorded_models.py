"""The tiny models whose activations Hugging Face recorded: their configs, weights, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_weights import tiny_weights

FOLDER = Path(__file__).parent.parent / "goldens" / "activations"
SEED = 5

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
Config = dict[str, Any]

DECODER: Config = {
    "vocab_size": 37,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-3,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
}


def _decoder(model_type: str, architecture: str, **fields: Any) -> Config:
    config = {**DECODER, "model_type": model_type, "architectures": [architecture], **fields}
    return {name: value for name, value in config.items() if value is not None}


def _bert(**fields: Any) -> Config:
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": 37,
        "hidden_size": 32,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        **fields,
    }


CONFIGS: dict[str, Config] = {
    "llama": _decoder("llama", "LlamaForCausalLM"),
    "llama_biased_tied": _decoder(
        "llama", "LlamaForCausalLM", attention_bias=True, mlp_bias=True, tie_word_embeddings=True
    ),
    "llama_scaled_rope": _decoder(
        "llama", "LlamaForCausalLM", rope_scaling={"rope_type": "linear", "factor": 4.0}
    ),
    "qwen2_window": _decoder(
        "qwen2", "Qwen2ForCausalLM", use_sliding_window=True, sliding_window=4, max_window_layers=0
    ),
    "qwen3": _decoder("qwen3", "Qwen3ForCausalLM", head_dim=12),
    "granite": _decoder(
        "granite", "GraniteForCausalLM", embedding_multiplier=3.0, attention_multiplier=0.7,
        residual_multiplier=0.4, logits_scaling=8.0,
    ),
    "gemma2": _decoder(
        "gemma2", "Gemma2ForCausalLM", head_dim=8, query_pre_attn_scalar=24, sliding_window=4,
        attn_logit_softcapping=2.0, final_logit_softcapping=5.0, hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True, hidden_act=None,
    ),
    "phi3": _decoder("phi3", "Phi3ForCausalLM", pad_token_id=0),
    "bert": _bert(),
    "bert_causal": _bert(is_decoder=True),
}  # fmt: skip


def file_of(name: str) -> Path:
    """The recorded activations."""
    return FOLDER / f"{name}.safetensors"


def weights_of(shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """The checkpoint of a model with these parameters."""
    return dict(tiny_weights(shapes, SEED))
