"""Cohere 2: parallel blocks; three layers with window and rope for each full one without."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama, new_rope
from perturb import flipped, times

OTHER = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}


def cohere2(**fields: Any) -> Config:
    base = {"model_type": "cohere2", "architectures": ["Cohere2ForCausalLM"], "rope_theta": 1000.0}
    norm = {"rms_norm_eps": ABSENT, "layer_norm_eps": 0.05, "logit_scale": 0.6}
    window = {"sliding_window": 5, "sliding_window_pattern": 2}
    return llama(**{**base, "vocab_size": 53, **norm, **window, "num_key_value_heads": 2, **fields})


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias")
    yield from flipped(config, "tie_word_embeddings", usual=True)
    yield from times(config, "logit_scale")
    yield "sliding_window", {**config, "sliding_window": config["sliding_window"] + 1}
    layers, pattern = config["num_hidden_layers"], config.get("sliding_window_pattern", 4)
    default = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)]
    types = config.get("layer_types") or default
    yield "layer_types", {**config, "layer_types": [OTHER[kind] for kind in types]}
    if "layer_types" not in config:
        yield "sliding_window_pattern", {**config, "sliding_window_pattern": pattern - 1}


OLD = {
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": False,
    "use_qk_norm": False,
    "cache_implementation": "hybrid",
    "layer_switch": 4,
}

CASES = [
    Case("plain", cohere2()),
    Case("left_padding_mha", cohere2(num_key_value_heads=None, rope_theta=ABSENT), pad="left"),
    Case(
        "pattern_absent",
        cohere2(sliding_window_pattern=ABSENT, num_hidden_layers=4, hidden_size=32, logit_scale=2.0),
        (18, 9),
    ),
    Case("untied_bias", cohere2(tie_word_embeddings=False, attention_bias=True), (12, 17), "left"),
    Case(
        "layer_types",
        cohere2(
            num_hidden_layers=3,
            layer_types=["full_attention", "sliding_attention", "sliding_attention"],
            sliding_window_pattern=ABSENT,
        ),
        (18, 23),
    ),
    Case("gelu_mqa", cohere2(hidden_act="gelu", num_key_value_heads=1, layer_norm_eps=0.2), (14, 8)),
    Case("yarn", cohere2(hidden_size=64, sliding_window=7, **new_rope(**YARN_LONG)), (18, 26)),
    Case(
        "usual_eps",
        cohere2(layer_norm_eps=1e-5, hidden_size=64, logit_scale=0.25, **OLD, **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]
