"""Granite: Llama with four multipliers."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama, new_rope
from perturb import flipped, times

MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.6,
    "logits_scaling": 0.7,
}


def granite(**fields: Any) -> Config:
    base = {"model_type": "granite", "architectures": ["GraniteForCausalLM"], "rope_theta": 1000.0}
    return llama(**{**base, "vocab_size": 53, "num_key_value_heads": 2, **MULTIPLIERS, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias", "mlp_bias", "tie_word_embeddings")
    yield from times(config, *MULTIPLIERS)
    for field in set(MULTIPLIERS) - set(config):
        yield field, {**config, field: 1.3}


NO_MULTIPLIERS = dict.fromkeys(MULTIPLIERS, ABSENT)

CASES = [
    Case("plain", granite()),
    Case("multipliers_absent", granite(**NO_MULTIPLIERS), (12, 7)),
    Case("left_padding_mha", granite(num_key_value_heads=None, residual_multiplier=1.5), pad="left"),
    Case("tied_mqa", granite(tie_word_embeddings=True, num_key_value_heads=1, logits_scaling=2), (22, 5)),
    Case("attention_bias", granite(attention_bias=True, embedding_multiplier=1), (14, 9)),
    Case(
        "all_biases", granite(attention_bias=True, mlp_bias=True, attention_multiplier=0.5), (16, 3), "left"
    ),
    Case("mlp_bias_gelu", granite(mlp_bias=True, hidden_act="gelu", num_hidden_layers=3), (13, 8)),
    Case("yarn", granite(hidden_size=64, **new_rope(**YARN_LONG)), (18, 26)),
    Case(
        "usual_eps",
        granite(rms_norm_eps=1e-5, hidden_size=64, rope_scaling=None, **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]
