"""Mistral: a window on every layer, null for none, 4096 where the config does not say."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama, new_rope
from perturb import flipped


def mistral(**fields: Any) -> Config:
    base = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "rope_theta": 1000.0}
    return llama(**{**base, "vocab_size": 53, "num_key_value_heads": 2, "sliding_window": None, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "tie_word_embeddings")
    window = config.get("sliding_window", 4096)
    yield "sliding_window", {**config, "sliding_window": 7 if window in (None, 4096) else window + 1}


CASES = [
    Case("plain", mistral()),
    Case("window", mistral(sliding_window=5), (19, 13, 4)),
    Case("window_left_padding_mha", mistral(sliding_window=3, num_key_value_heads=4), (21, 12), "left"),
    Case("window_absent", mistral(sliding_window=ABSENT, rope_theta=ABSENT), (18, 9)),
    Case("window_two", mistral(sliding_window=2, tie_word_embeddings=True), (11, 6)),
    Case("wide_heads", mistral(head_dim=20, num_key_value_heads=1), (8, 21), "left"),
    Case("head_dim_null_gelu", mistral(head_dim=None, hidden_act="gelu"), (14, 3)),
    Case("yarn", mistral(head_dim=16, sliding_window=6, **new_rope(**YARN_LONG)), (18, 26)),
    Case("linear_old", mistral(rope_scaling={"type": "linear", "factor": 3.0}), pad="left"),
    Case(
        "usual_eps",
        mistral(rms_norm_eps=1e-5, hidden_size=64, num_hidden_layers=3, sliding_window=8, **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]
