"""Config fields that a decoder family does not have, or has in one form only: refused, never ignored."""

from __future__ import annotations

from typing import Any

import goldens
import pytest

from rlxflow import find_recipe
from rlxflow.errors import ConfigError

REFUSED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "mistral": [
        ({"attention_bias": True}, "C003"),
        ({"layer_types": ["sliding_attention"] * 2}, "C003"),
        ({"sliding_window": 0}, "C004"),
    ],
    "granite": [({"residual_multiplier": 0.0}, "C004"), ({"sliding_window": 5}, "C003")],
    "gemma": [
        ({"use_bidirectional_attention": True}, "C004"),
        ({"hidden_activation": "silu"}, "C004"),
        ({"final_logit_softcapping": 30.0}, "C003"),
    ],
    "gemma2": [
        ({"use_bidirectional_attention": True}, "C004"),
        ({"attn_logit_softcapping": -1.0}, "C004"),
        ({"sliding_window": None}, "C004"),
        ({"sliding_window_pattern": 3}, "C003"),
        ({"layer_types": ["full_attention"]}, "C010"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "C004"),
    ],
    "gemma3_text": [
        ({"use_bidirectional_attention": True}, "C004"),
        ({"attn_logit_softcapping": 50.0}, "C004"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "C008"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 7.0}}}, "C009"),
        ({"rope_local_base_freq": -1.0}, "C008"),
        ({"query_pre_attn_scalar": 0}, "C004"),
    ],
    "phi3": [
        ({"attention_bias": True}, "C004"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "C006"),
        ({"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}}, "C008"),
        ({"partial_rotary_factor": 0.3}, "C008"),
    ],
    "olmo2": [({"clip_qkv": 8.0}, "C003"), ({"mlp_bias": True}, "C003"), ({"sliding_window": 5}, "C003")],
    "smollm3": [
        ({"no_rope_layers": [1]}, "C010"),
        ({"no_rope_layers": [1, 2]}, "C004"),
        ({"no_rope_layer_interval": 0}, "C004"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "C010"),
    ],
    "cohere2": [
        ({"use_qk_norm": True}, "C004"),
        ({"use_parallel_block": False}, "C004"),
        ({"use_gated_activation": False}, "C004"),
        ({"rotary_pct": 0.5}, "C004"),
        ({"position_embedding_type": "alibi"}, "C004"),
        ({"head_dim": 20}, "C010"),
        ({"logit_scale": 0.0}, "C004"),
    ],
}
CASES = [(family, change, code) for family, cases in REFUSED.items() for change, code in cases]


@pytest.mark.parametrize(
    ("family", "change", "code"), CASES, ids=[f"{f}-{next(iter(c))}" for f, c, _ in CASES]
)
def test_refused(family: str, change: dict[str, Any], code: str) -> None:
    config = goldens.hf_case(family, "plain").config | change
    with pytest.raises(ConfigError) as caught:
        find_recipe(family).config(config, "config.json")
    assert caught.value.code == f"RLX-{code}" and caught.value.hint and "\n" not in caught.value.message


@pytest.mark.parametrize("family", REFUSED)
def test_a_field_that_nobody_knows(family: str) -> None:
    config = goldens.hf_case(family, "plain").config | {"some_new_switch": True}
    with pytest.raises(ConfigError) as caught:
        find_recipe(family).config(config, "config.json")
    assert caught.value.code == "RLX-C003" and "some_new_switch" in caught.value.message
