"""OLMo 2: norms behind the blocks, norms of q and k over all heads."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama, new_rope
from perturb import flipped


def olmo2(**fields: Any) -> Config:
    base = {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "rope_theta": 1000.0}
    return llama(**{**base, "vocab_size": 53, "num_key_value_heads": 2, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias", "tie_word_embeddings")


CASES = [
    Case("plain", olmo2()),
    Case("left_padding_mha", olmo2(num_key_value_heads=None, rope_theta=ABSENT), pad="left"),
    Case("mqa_tied", olmo2(num_key_value_heads=1, tie_word_embeddings=True), (11, 20)),
    Case("attention_bias", olmo2(attention_bias=True, num_hidden_layers=3), (12, 5), "left"),
    Case("wide_heads", olmo2(head_dim=20, rms_norm_eps=0.1), (8, 21, 13)),
    Case("gelu_odd", olmo2(hidden_act="gelu", intermediate_size=71, vocab_size=67), (1, 14)),
    Case("linear_old", olmo2(rope_scaling={"type": "linear", "factor": 3.0}), (9, 16)),
    Case("yarn", olmo2(hidden_size=64, **new_rope(**YARN_LONG)), (18, 26)),
    Case("usual_eps", olmo2(rms_norm_eps=1e-6, hidden_size=64, **IDLE_FIELDS), tags=("usual_eps",)),
]
