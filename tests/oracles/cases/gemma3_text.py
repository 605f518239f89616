"""Gemma 3: five local layers for each full one, and rope settings of their own for both kinds."""

from collections.abc import Iterator
from typing import Any

from hf_cases import ABSENT, IDLE_FIELDS, YARN_LONG, Case, Config, llama
from perturb import flipped

OTHER = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}


def gemma3(**fields: Any) -> Config:
    base = {
        "rms_norm_eps": 0.5,
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "rope_theta": 3000.0,
    }
    sizes = {"head_dim": 16, "num_key_value_heads": 2, "query_pre_attn_scalar": 24, "sliding_window": 5}
    act = {"hidden_act": ABSENT, "hidden_activation": "gelu_pytorch_tanh", "sliding_window_pattern": 2}
    return llama(
        **{
            **base,
            "vocab_size": 53,
            **sizes,
            **act,
            "rope_theta": 3000.0,
            "rope_local_base_freq": 300.0,
            **fields,
        }
    )


def by_kind(full: Config, local: Config) -> Config:
    ropes = {"full_attention": full, "sliding_attention": local}
    return {"rope_theta": ABSENT, "rope_local_base_freq": ABSENT, "rope_parameters": ropes}


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield from flipped(config, "attention_bias")
    yield from flipped(config, "tie_word_embeddings", usual=True)
    cap = config.get("final_logit_softcapping")
    yield "final_logit_softcapping", {**config, "final_logit_softcapping": 0.7 * cap if cap else 20.0}
    yield "query_pre_attn_scalar", {**config, "query_pre_attn_scalar": 3 * config["query_pre_attn_scalar"]}
    yield "sliding_window", {**config, "sliding_window": config["sliding_window"] + 1}
    layers, pattern = config["num_hidden_layers"], config.get("sliding_window_pattern", 6)
    default = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)]
    types = config.get("layer_types") or default
    yield "layer_types", {**config, "layer_types": [OTHER[kind] for kind in types]}
    if "layer_types" not in config and layers >= pattern > 1:
        yield "sliding_window_pattern", {**config, "sliding_window_pattern": pattern - 1}
    if "rope_parameters" in config:
        ropes = config["rope_parameters"]
        for kind in sorted(set(types)):
            theta = ropes[kind]["rope_theta"]
            other = {**ropes, kind: {**ropes[kind], "rope_theta": 2 * theta}}
            yield f"{kind} rope_theta", {**config, "rope_parameters": other}
            if ropes[kind]["rope_type"] != "default":
                plain = {**ropes, kind: {"rope_type": "default", "rope_theta": theta}}
                yield f"{kind} type", {**config, "rope_parameters": plain}
    elif "sliding_attention" in types:
        local = config.get("rope_local_base_freq", 1e4)
        yield "rope_local_base_freq", {**config, "rope_local_base_freq": 2 * local}


CASES = [
    Case("plain", gemma3()),
    Case("left_padding_mha", gemma3(num_key_value_heads=4, rope_scaling=None), pad="left"),
    Case(
        "pattern_absent", gemma3(sliding_window_pattern=ABSENT, num_hidden_layers=6, hidden_size=32), (18, 9)
    ),
    Case("linear_old", gemma3(rope_scaling={"rope_type": "linear", "factor": 8.0}), (21, 6)),
    Case(
        "new_ropes",
        gemma3(
            **by_kind(
                {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
                {"rope_type": "default", "rope_theta": 200.0},
            )
        ),
        (12, 17),
        "left",
    ),
    Case(
        "yarn_and_layer_types",
        gemma3(
            **by_kind({**YARN_LONG, "rope_theta": 1000.0}, {"rope_type": "default", "rope_theta": 400.0}),
            num_hidden_layers=3,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
        ),
        (18, 23),
    ),
    Case("softcap_untied", gemma3(final_logit_softcapping=20.0, tie_word_embeddings=False), (14, 8)),
    Case(
        "attention_bias_silu",
        gemma3(attention_bias=True, hidden_activation="silu", num_key_value_heads=1),
        (9,),
    ),
    Case(
        "usual_eps",
        gemma3(rms_norm_eps=1e-6, hidden_size=64, head_dim=32, cache_implementation="hybrid", **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]
