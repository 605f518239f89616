"""Faults that ports have: each spoils the config or the weights of a model whose original was recorded.

`plant` writes the spoilt model; `rlxflow compare` then sees that directory and the recorded activations, and
should name the module (the first in the graph that is wrong) and the kind of cause.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from model_files import write_model
from recorded_models import CONFIGS, FOLDER, Arrays, Config, weights_of
from tiny_weights import tiny_tensor

L0 = "model.layers.0"
B0 = "encoder.layer.0"
INPUT = " (its input)"


@dataclass(frozen=True)
class Fault:
    """`spoil` changes config and weights in place."""

    name: str
    model: str
    spoil: Callable[[Config, Arrays], None]
    module: str
    cause: str


def setting(**fields: object) -> Callable[[Config, Arrays], None]:
    """A config that says something else."""
    return lambda config, weights: config.update(fields)


def weight(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Config, Arrays], None]:
    """Weights changed in every layer; `key` is that of layer 0, or of a weight outside the layers."""

    def spoil(config: Config, weights: Arrays) -> None:
        for i in range(config["num_hidden_layers"]):
            own = key.replace(".0.", f".{i}.")
            if own != key or i == 0:
                weights[own] = np.ascontiguousarray(change(weights[own]).astype(np.float32))

    return spoil


def swapped(one: str, other: str) -> Callable[[Config, Arrays], None]:
    """Two weights in each other's place."""

    def spoil(config: Config, weights: Arrays) -> None:
        weights[one], weights[other] = weights[other], weights[one]

    return spoil


def for_neighbours(w: np.ndarray, heads: int = 4) -> np.ndarray:
    """Rows as GGUF files hold them for Llama: rotary pairs side by side."""
    return w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def untied(config: Config, weights: Arrays) -> None:
    config["tie_word_embeddings"] = False
    weights["lm_head.weight"] = tiny_tensor("another head", weights["model.embed_tokens.weight"].shape)


FAULTS = (
    Fault("q rows permuted for the other rope pairing", "llama",
          weight(f"{L0}.self_attn.q_proj.weight", for_neighbours), f"{L0}.self_attn.q_proj", "rope pairing"),
    Fault("rope_theta", "llama", setting(rope_theta=500000.0), f"{L0}.self_attn.o_proj{INPUT}", "rope theta"),
    Fault("rope scaling left out", "llama_scaled_rope", setting(rope_scaling=None),
          f"{L0}.self_attn.o_proj{INPUT}", "rope scaling"),
    Fault("rope scaling added", "llama", setting(rope_scaling={"rope_type": "linear", "factor": 2.0}),
          f"{L0}.self_attn.o_proj{INPUT}", "rope scaling"),
    Fault("rms_norm_eps", "llama", setting(rms_norm_eps=1e-6), f"{L0}.input_layernorm", "norm eps"),
    Fault("layer_norm_eps", "bert", setting(layer_norm_eps=1e-3), "embeddings.LayerNorm", "norm eps"),
    Fault("norm weights stored as w - 1", "llama", weight(f"{L0}.input_layernorm.weight", lambda w: w - 1),
          f"{L0}.input_layernorm", "norm offset"),
    Fault("q norm stored as w - 1", "qwen3", weight(f"{L0}.self_attn.q_norm.weight", lambda w: w - 1),
          f"{L0}.self_attn.q_norm", "norm offset"),
    Fault("GELU by tanh", "bert", setting(hidden_act="gelu_new"), f"{B0}.output.dense{INPUT}", "activation"),
    Fault("GELU for SiLU", "llama", setting(hidden_act="gelu"), f"{L0}.mlp.down_proj{INPUT}", "activation"),
    Fault("square weight transposed", "llama", weight(f"{L0}.self_attn.o_proj.weight", np.transpose),
          f"{L0}.self_attn.o_proj", "transposed weight"),
    Fault("weight stored [in, out]", "bert",
          weight(f"{B0}.intermediate.dense.weight", lambda w: w.T.reshape(w.shape)),
          f"{B0}.intermediate.dense", "transposed weight"),
    Fault("heads of v in another order", "llama",
          weight(f"{L0}.self_attn.v_proj.weight", lambda w: w.reshape(2, 8, -1)[::-1].reshape(w.shape)),
          f"{L0}.self_attn.v_proj", "permuted weight"),
    Fault("gate and up swapped", "llama", swapped(f"{L0}.mlp.gate_proj.weight", f"{L0}.mlp.up_proj.weight"),
          f"{L0}.mlp.gate_proj", "swapped weight"),
    Fault("norms of a layer swapped", "llama",
          swapped(f"{L0}.input_layernorm.weight", f"{L0}.post_attention_layernorm.weight"),
          f"{L0}.input_layernorm", "swapped weight"),
    Fault("bias left out", "llama_biased_tied", weight(f"{L0}.self_attn.k_proj.bias", np.zeros_like),
          f"{L0}.self_attn.k_proj", "bias"),
    Fault("norm bias left out", "bert", weight(f"{B0}.output.LayerNorm.bias", np.zeros_like),
          f"{B0}.output.LayerNorm", "bias"),
    Fault("head not tied", "llama_biased_tied", untied, "lm_head", "tied head"),
    Fault("window left out", "qwen2_window", setting(use_sliding_window=False),
          f"{L0}.self_attn.o_proj{INPUT}", "window"),
    Fault("window off by one", "qwen2_window", setting(sliding_window=5),
          f"{L0}.self_attn.o_proj{INPUT}", "window"),
    Fault("causal mask left out", "bert_causal", setting(is_decoder=False),
          f"{B0}.attention.output.dense{INPUT}", "mask"),
    Fault("positions begin at 1", "bert",
          weight("embeddings.position_embeddings.weight", lambda w: np.roll(w, 1, 0)),
          f"embeddings.LayerNorm{INPUT}", "positions"),
    Fault("attention scale", "granite", setting(attention_multiplier=8**-0.5),
          f"{L0}.self_attn.o_proj{INPUT}", "scale"),
    Fault("embedding multiplier", "granite", setting(embedding_multiplier=1.0),
          f"{L0}.input_layernorm{INPUT}", "scale"),
    Fault("residual multiplier", "granite", setting(residual_multiplier=1.0),
          f"{L0}.post_attention_layernorm{INPUT}", "sum"),
    Fault("norm weights stored as 1 + w", "gemma2", weight(f"{L0}.input_layernorm.weight", lambda w: w + 1),
          f"{L0}.input_layernorm", "norm offset"),
    Fault("softcap of scores left out", "gemma2", setting(attn_logit_softcapping=None),
          f"{L0}.self_attn.o_proj{INPUT}", "softcap"),
    Fault("softcap of logits left out", "gemma2", setting(final_logit_softcapping=None), "output logits",
          "softcap"),
    Fault("scale by head_dim", "gemma2", setting(query_pre_attn_scalar=8),
          f"{L0}.self_attn.o_proj{INPUT}", "scale"),
    Fault("gate and up joined in the other order", "phi3",
          weight(f"{L0}.mlp.gate_up_proj.weight", lambda w: np.roll(w, 44, 0)),
          f"{L0}.mlp.gate_up_proj[0:44]", "swapped weight"),
    Fault("logits scaling", "granite", setting(logits_scaling=1.0), "output logits", "scale"),
)  # fmt: skip


def original(model: str) -> tuple[Config, Arrays]:
    """Config and weights as the reference had them."""
    shapes = json.loads((FOLDER / "shapes.json").read_text())[model]
    config = deepcopy(CONFIGS[model])
    return config, weights_of({key: tuple(shape) for key, shape in shapes.items()})


def plant(fault: Fault, folder: Path) -> Path:
    """The directory of the spoilt model."""
    config, weights = original(fault.model)
    fault.spoil(config, weights)
    return write_model(folder, config, weights)
