"""Phi-3: joined projections; a part of each head is rotated, with longrope."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, LONGROPE_BEYOND, LONGROPE_WITHIN, Case, Config, llama, longrope
from perturb import flipped


def phi3(**fields: Any) -> Config:
    base = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "rope_theta": 1000.0}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # the defaults are beyond the vocabulary
    return llama(
        **{**base, "vocab_size": 53, **ids, "num_key_value_heads": 2, "sliding_window": None, **fields}
    )


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "tie_word_embeddings")
    window = config.get("sliding_window")
    yield "sliding_window", {**config, "sliding_window": window + 1 if window else 7}
    rope = config.get("rope_scaling") or {}
    if "long_factor" not in rope:
        part = config.get("partial_rotary_factor", 1.0)
        yield "partial_rotary_factor", {**config, "partial_rotary_factor": part / 2}


SHORT = {"original_max_position_embeddings": 32}

CASES = [
    Case("plain", phi3()),
    Case("left_padding_mha", phi3(num_key_value_heads=None, rope_theta=ABSENT), pad="left"),
    Case(
        "window_mqa_tied",
        phi3(sliding_window=5, num_key_value_heads=1, tie_word_embeddings=True),
        (19, 13, 4),
    ),
    Case("partial", phi3(hidden_size=64, partial_rotary_factor=0.75), (12, 17), "left"),
    Case("partial_half_gelu", phi3(hidden_size=64, partial_rotary_factor=0.5, hidden_act="gelu"), (9, 16)),
    Case("longrope_within", phi3(**SHORT, rope_scaling=longrope(6)), (31, 17), idle=LONGROPE_WITHIN),
    Case(
        "longrope_beyond",
        phi3(
            original_max_position_embeddings=20, rope_scaling=longrope(6, rope_type=ABSENT, type="longrope")
        ),
        (35,),
        tags=("long_rope",),
        idle=LONGROPE_BEYOND,
    ),
    Case(
        "su_partial",
        phi3(
            **SHORT,
            hidden_size=64,
            partial_rotary_factor=0.75,
            rope_scaling=longrope(6, rope_type=ABSENT, type="su", **SHORT),
            num_hidden_layers=3,
        ),
        (22, 8),
        idle=LONGROPE_WITHIN,
    ),
    Case(
        "usual_eps",
        phi3(
            **{**IDLE_FIELDS, "eos_token_id": 2},
            rms_norm_eps=1e-5,
            hidden_size=64,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attention_bias=False,
        ),
        tags=("usual_eps",),
    ),
]
