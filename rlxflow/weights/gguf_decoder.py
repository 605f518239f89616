"""Decoders in GGUF files: the table of names and the config that Llama and its kin share."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from rlxflow.weights.gguf_config import check_causal, gguf_head_dim, gguf_sizes
from rlxflow.weights.gguf_rope import rope_parameters
from rlxflow.weights.gguf_values import CONVERT_AGAIN, GgufValues
from rlxflow.weights.names import GgufName, Heads

_HF, _GGUF = "model.layers.{i}", "blk.{i}"


# HF's name of a norm in a layer → GGUF's, for each way to place norms.
_PRE = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_POST = {
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_SANDWICH = {"input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm", **_POST}
_ONE = {"input_layernorm": "attn_norm"}
NormPlaces: TypeAlias = Literal["before", "after", "both", "one"]
_NORMS: dict[NormPlaces, dict[str, str]] = {
    "before": _PRE,
    "after": _POST,
    "both": _SANDWICH,
    "one": _ONE,
}


def gguf_decoder_names(
    *,
    permuted: bool = False,
    qk_norm: bool = False,
    norms: NormPlaces = "before",
    norm_added: float = 0.0,
) -> tuple[GgufName, ...]:
    """The rows of a decoder with a gated FFN, with biases where the file has them.

    `permuted`: the converter interleaves the halves of each head of q and k (it does for Llama and for what
    its converter class inherits from it). `qk_norm`: q and k have norms. `norms`: whether layers have norms
    before their blocks, after them, both, or one for two parallel blocks. `norm_added`: what the converter
    adds to the weights of norms.
    """
    q: Heads = "q" if permuted else ""
    kv: Heads = "kv" if permuted else ""
    rows = [
        GgufName("model.embed_tokens.weight", "token_embd.weight"),
        GgufName("model.norm.weight", "output_norm.weight", added=norm_added),
        GgufName("lm_head.weight", "output.weight"),
        *(
            GgufName(f"{_HF}.{hf}.weight", f"{_GGUF}.{gguf}.weight", added=norm_added)
            for hf, gguf in _NORMS[norms].items()
        ),
    ]
    for part in ("weight", "bias"):
        rows += [
            GgufName(f"{_HF}.self_attn.q_proj.{part}", f"{_GGUF}.attn_q.{part}", q),
            GgufName(f"{_HF}.self_attn.k_proj.{part}", f"{_GGUF}.attn_k.{part}", kv),
            GgufName(f"{_HF}.self_attn.v_proj.{part}", f"{_GGUF}.attn_v.{part}"),
            GgufName(f"{_HF}.self_attn.o_proj.{part}", f"{_GGUF}.attn_output.{part}"),
            GgufName(f"{_HF}.mlp.gate_proj.{part}", f"{_GGUF}.ffn_gate.{part}"),
            GgufName(f"{_HF}.mlp.up_proj.{part}", f"{_GGUF}.ffn_up.{part}"),
            GgufName(f"{_HF}.mlp.down_proj.{part}", f"{_GGUF}.ffn_down.{part}"),
        ]
    if qk_norm:
        rows += [
            GgufName(f"{_HF}.self_attn.{x}_norm.weight", f"{_GGUF}.attn_{x}_norm.weight", added=norm_added)
            for x in ("q", "k")
        ]
    return tuple(rows)


def gguf_decoder_config(
    values: GgufValues, *, default_theta: float = 10000.0, eps: str = "layer_norm_rms_epsilon"
) -> dict[str, Any]:
    """Sizes, head counts, the norms' eps, rotary settings and the tied head of a decoder with SwiGLU.

    `tie_word_embeddings` is true where the file has no `output.weight`. A file with `rope_freqs.weight`
    (llama3 scaling, whose settings GGUF does not keep) gives a longrope with equal factors for all lengths,
    which computes the same angles.
    """
    config = gguf_sizes(values)
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    kv_heads = values.per_layer("attention.head_count_kv", layers, heads)
    if kv_heads > heads or heads % kv_heads:
        message = f"{heads} attention heads do not divide among {kv_heads} key-value heads"
        values.fail("RLX-C043", message, CONVERT_AGAIN)
    head_dim = gguf_head_dim(values, config["hidden_size"], heads)
    check_causal(values, True)
    max_positions = config["max_position_embeddings"]
    return config | {
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": values.number(f"attention.{eps}"),
        "rope_parameters": rope_parameters(values, head_dim, max_positions, default_theta),
        "tie_word_embeddings": not values.has_tensor("output.weight"),
    }
