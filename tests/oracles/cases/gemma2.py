"""Gemma 2: soft caps of 50 and 30, and a window on every other layer, unless the config says otherwise."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, Case, Config, llama, new_rope
from perturb import flipped

OTHER = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}


def gemma2(**fields: Any) -> Config:
    base = {
        "rms_norm_eps": 0.5,
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "rope_theta": 1000.0,
    }
    sizes = {"head_dim": 16, "num_key_value_heads": 2, "query_pre_attn_scalar": 24, "sliding_window": 5}
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 20.0}
    act = {"hidden_act": ABSENT, "hidden_activation": "gelu_pytorch_tanh"}
    return llama(**{**base, "vocab_size": 53, "rms_norm_eps": 0.5, **sizes, **caps, **act, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias")
    yield from flipped(config, "tie_word_embeddings", usual=True)
    for field, usual in (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)):
        value = config.get(field, usual)
        yield field, {**config, field: 5.0 if value is None else 0.7 * value}
    yield "query_pre_attn_scalar", {**config, "query_pre_attn_scalar": 3 * config["query_pre_attn_scalar"]}
    yield "sliding_window", {**config, "sliding_window": config["sliding_window"] + 1}
    types = config.get("layer_types") or [
        "full_attention" if i % 2 else "sliding_attention" for i in range(config["num_hidden_layers"])
    ]
    yield "layer_types", {**config, "layer_types": [OTHER[kind] for kind in types]}


CASES = [
    Case("plain", gemma2()),
    Case("left_padding_mha", gemma2(num_key_value_heads=4, rope_theta=ABSENT), pad="left"),
    Case("no_caps", gemma2(attn_logit_softcapping=None, final_logit_softcapping=None), (18, 9)),
    Case(
        "usual_caps",
        gemma2(
            attn_logit_softcapping=ABSENT,
            final_logit_softcapping=ABSENT,
            query_pre_attn_scalar=8,
            hidden_act="gelu",
        ),
        (21, 6),
    ),
    Case("untied_bias", gemma2(tie_word_embeddings=False, attention_bias=True), (12, 17), "left"),
    Case(
        "layer_types",
        gemma2(
            num_hidden_layers=3,
            layer_types=["full_attention", "full_attention", "sliding_attention"],
            head_dim=8,
        ),
        (18, 23),
    ),
    Case("silu_mqa", gemma2(hidden_activation="silu", num_key_value_heads=1, sliding_window=3), (14, 8)),
    Case("linear", gemma2(**new_rope(rope_type="linear", factor=2.0)), (16, 11)),
    Case(
        "usual_eps",
        gemma2(rms_norm_eps=1e-6, hidden_size=64, cache_implementation="hybrid", **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]
