"""Gemma: the activation "gelu" means its tanh form, and heads are 256 wide unless the config says."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, Case, Config, llama, new_rope
from perturb import flipped


def gemma(**fields: Any) -> Config:
    base = {"model_type": "gemma", "architectures": ["GemmaForCausalLM"], "rope_theta": 1000.0}
    act = {"hidden_act": "gelu_pytorch_tanh", "head_dim": 16, "num_key_value_heads": 1}
    return llama(**{**base, "vocab_size": 53, **act, "rms_norm_eps": 0.5, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias")
    yield from flipped(config, "tie_word_embeddings", usual=True)
    yield "hidden_size", {**config, "hidden_size": config["hidden_size"] * 4 // 3}


CASES = [
    Case("plain", gemma()),
    Case("mha_left_padding", gemma(num_key_value_heads=4, rope_theta=ABSENT), pad="left"),
    Case("untied_gqa", gemma(num_key_value_heads=2, tie_word_embeddings=False), (11, 20)),
    Case("narrow_heads", gemma(head_dim=6, rms_norm_eps=0.9), (9, 16), "left"),
    Case("attention_bias", gemma(attention_bias=True, num_hidden_layers=3), (12, 5)),
    Case("silu", gemma(hidden_act="silu", hidden_activation=None), (8, 21, 13)),
    Case("relu_odd", gemma(hidden_act="relu", intermediate_size=71, vocab_size=67), (1, 14)),
    Case("linear", gemma(**new_rope(rope_type="linear", factor=2.0)), pad="left"),
    Case(
        "usual_eps",
        gemma(rms_norm_eps=1e-6, hidden_size=64, hidden_act="gelu", **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]
