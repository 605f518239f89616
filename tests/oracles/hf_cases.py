"""The configurations of the tiny random models: per `model_type`, config.json contents and batches.

Configs are written as found on disk, in the old spelling (`rope_theta`, `rope_scaling`) and the new one
(`rope_parameters`), with fields absent, null or explicit. Norm epsilons are large on purpose, so that a wrong
one shows; cases tagged `usual_eps` have the customary ones. Cases tagged `long_rope` run past the original
context of a rope kind whose frequencies depend on the length of the input; they hold one sequence, because
Hugging Face takes the longest of the batch for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One model and one batch.

    `lengths` are the sequences' lengths, `pad` the side that is filled up, `idle` the config fields that by
    their meaning change nothing here.
    """

    name: str
    config: Config
    lengths: tuple[int, ...] = (17, 9, 13)
    pad: str = "right"
    tags: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "position_ids")
    idle: tuple[str, ...] = ()


def llama(**fields: Any) -> Config:
    base = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 53,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 0.05,
        "hidden_act": "silu",
    }
    return _without_absent({**base, **fields})


def qwen2(**fields: Any) -> Config:
    base = llama(num_key_value_heads=2, tie_word_embeddings=False, rope_theta=1000.0)
    return _without_absent({**base, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **fields})


def qwen3(**fields: Any) -> Config:
    base = llama(num_key_value_heads=2, head_dim=16, tie_word_embeddings=False, rope_theta=1000.0)
    return _without_absent({**base, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **fields})


def bert(**fields: Any) -> Config:
    base = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": 101,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
        "layer_norm_eps": 0.05,
        "hidden_act": "gelu",
    }
    return _without_absent({**base, **fields})


ABSENT = object()


def _without_absent(config: Config) -> Config:
    """Drop the fields marked absent, those of a nested rope dict too."""
    kept = {key: value for key, value in config.items() if value is not ABSENT}
    return {key: _without_absent(value) if isinstance(value, dict) else value for key, value in kept.items()}


# Settings that real files carry and that change nothing in inference.
IDLE_FIELDS: Config = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "initializer_range": 0.02,
    "pretraining_tp": 1,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.44.0",
    "use_cache": True,
}

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
YARN_LONG = {**YARN, "original_max_position_embeddings": 64, "beta_fast": 4.0}
YARN_FULL = {**YARN_LONG, "beta_slow": 0.5, "attention_factor": 1.3, "truncate": False}
YARN_MSCALE = {**YARN_LONG, "mscale": 1.5, "mscale_all_dim": 0.7}


def longrope(pairs: int, **fields: Any) -> Config:
    """Rope settings with short and long factors for `pairs` = rotary dims / 2."""
    return {
        "rope_type": "longrope",
        "short_factor": [round(1.0 + 0.13 * i, 2) for i in range(pairs)],
        "long_factor": [round(1.5 + 0.9 * i, 2) for i in range(pairs)],
        **fields,
    }


# Fields that by their meaning change nothing up to the original context, or beyond it.
DYNAMIC_WITHIN = ("rope_type", "factor", "max_position_embeddings")
LONGROPE_WITHIN = ("long_factor",)
LONGROPE_BEYOND = ("short_factor",)


def new_rope(**fields: Any) -> Config:
    return {"rope_parameters": {"rope_theta": 1000.0, "rope_type": "default", **fields}}


LLAMA = [
    Case("plain", llama(vocab_size=113)),
    Case("theta_left_padding", llama(rope_theta=500.0, tie_word_embeddings=False), pad="left"),
    Case(
        "gqa_tied",
        llama(vocab_size=113, num_key_value_heads=2, tie_word_embeddings=True, **new_rope(rope_theta=300.0)),
    ),
    Case("mqa_three_layers", llama(num_key_value_heads=1, num_hidden_layers=3), (11, 16), "left"),
    Case("wide_heads", llama(head_dim=20, num_key_value_heads=2, rope_theta=2000.0), (7, 19, 1)),
    Case("narrow_heads_tied", llama(head_dim=6, num_key_value_heads=4, tie_word_embeddings=True), (23,)),
    Case("attention_bias", llama(attention_bias=True, num_key_value_heads=2), (12, 5), "left"),
    Case(
        "all_biases", llama(attention_bias=True, mlp_bias=True, num_attention_heads=6, num_key_value_heads=3)
    ),
    Case("mlp_bias_nulls", llama(mlp_bias=True, head_dim=None, num_key_value_heads=None, rope_scaling=None)),
    Case("linear_old", llama(rope_theta=1000.0, rope_scaling={"type": "linear", "factor": 3.0}), pad="left"),
    Case("linear_new", llama(num_key_value_heads=2, **new_rope(rope_type="linear", factor=2.5))),
    Case(
        "dynamic_within",
        llama(max_position_embeddings=20, rope_scaling={"type": "dynamic", "factor": 4.0}),
        idle=DYNAMIC_WITHIN,
    ),
    Case(
        "dynamic_beyond",
        llama(max_position_embeddings=12, num_key_value_heads=2, **new_rope(rope_type="dynamic", factor=3.0)),
        (31,),
        tags=("long_rope",),
    ),
    Case("llama3_old", llama(rope_theta=500.0, head_dim=16, rope_scaling=LLAMA3), (33, 21), "left"),
    Case("llama3_new", llama(head_dim=24, num_key_value_heads=1, **new_rope(**LLAMA3)), (29, 30)),
    Case("yarn_old", llama(rope_theta=1000.0, head_dim=16, rope_scaling=YARN), (27, 14)),
    Case("yarn_full", llama(head_dim=16, num_key_value_heads=2, **new_rope(**YARN_FULL)), (18, 26), "left"),
    Case("yarn_mscale", llama(head_dim=16, **new_rope(**YARN_MSCALE)), (25, 3)),
    Case(
        "longrope_within",
        llama(head_dim=16, **new_rope(**longrope(8, factor=4.0, original_max_position_embeddings=32))),
        (31, 17),
        idle=LONGROPE_WITHIN,
    ),
    Case(
        "longrope_beyond",
        llama(
            head_dim=16,
            rope_theta=1000.0,
            original_max_position_embeddings=20,
            rope_scaling=longrope(8, rope_type=ABSENT, type="longrope"),
        ),
        (35,),
        tags=("long_rope",),
        idle=LONGROPE_BEYOND,
    ),
    Case(
        "longrope_attention_factor",
        llama(
            head_dim=12, **new_rope(**longrope(6, attention_factor=1.4, original_max_position_embeddings=20))
        ),
        (28,),
        tags=("long_rope",),
        idle=LONGROPE_BEYOND,
    ),
    Case("gelu", llama(hidden_act="gelu", num_key_value_heads=2)),
    Case("gelu_tanh", llama(hidden_act="gelu_pytorch_tanh"), pad="left"),
    Case("relu", llama(hidden_act="relu", num_attention_heads=3), (10, 6)),
    Case(
        "odd_sizes",
        llama(vocab_size=97, hidden_size=42, intermediate_size=67, num_attention_heads=3),
        (1, 1, 15),
    ),
    Case(
        "usual_eps",
        llama(rms_norm_eps=1e-5, hidden_size=64, num_attention_heads=8, num_key_value_heads=2, **IDLE_FIELDS),
        tags=("usual_eps",),
    ),
]

SLIDING = {"use_sliding_window": True, "sliding_window": 5}

QWEN2 = [
    Case("plain", qwen2(vocab_size=113)),
    Case("mha_left_padding", qwen2(num_key_value_heads=4, rope_theta=ABSENT), pad="left"),
    Case("mqa_tied", qwen2(num_key_value_heads=1, tie_word_embeddings=True, **new_rope()), (11, 20)),
    Case("kv_absent_heads_null", qwen2(num_key_value_heads=None, rope_scaling=None), (8, 21, 13)),
    Case("head_dim", qwen2(head_dim=20), (9, 16), "left"),
    Case("three_layers_tied", qwen2(num_hidden_layers=3, tie_word_embeddings=True, rms_norm_eps=0.1), (22,)),
    Case("linear_old", qwen2(rope_scaling={"type": "linear", "factor": 2.0})),
    Case(
        "dynamic_new",
        qwen2(max_position_embeddings=24, **new_rope(rope_type="dynamic", factor=2.0)),
        idle=DYNAMIC_WITHIN,
    ),
    Case(
        "dynamic_beyond",
        qwen2(max_position_embeddings=16, rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
        (29,),
        tags=("long_rope",),
    ),
    Case("llama3", qwen2(hidden_size=64, **new_rope(**LLAMA3)), (31, 18), "left"),
    Case("yarn_old", qwen2(hidden_size=64, rope_scaling={**YARN, "type": "yarn"}), (30, 12)),
    Case("yarn_full", qwen2(hidden_size=64, **new_rope(**YARN_FULL)), (26,)),
    Case(
        "longrope",
        qwen2(**new_rope(**longrope(6, factor=2.0, original_max_position_embeddings=32))),
        (17, 28),
        idle=LONGROPE_WITHIN,
    ),
    Case("gelu", qwen2(hidden_act="gelu")),
    Case(
        "gelu_tanh_odd", qwen2(hidden_act="gelu_pytorch_tanh", intermediate_size=71, vocab_size=67), (1, 14)
    ),
    Case("relu", qwen2(hidden_act="relu", num_attention_heads=6, num_key_value_heads=3), pad="left"),
    Case("window_from_layer", qwen2(**SLIDING, max_window_layers=1), (19, 13, 4)),
    Case("window_all_layers", qwen2(**SLIDING, max_window_layers=0), (21, 12), "left"),
    Case("window_off", qwen2(use_sliding_window=False, sliding_window=5, max_window_layers=0), (19, 8)),
    Case(
        "layer_types",
        qwen2(
            **{**SLIDING, "sliding_window": 4},
            num_hidden_layers=3,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        (18, 23),
    ),
    Case("usual_eps", qwen2(rms_norm_eps=1e-6, hidden_size=96, **IDLE_FIELDS), tags=("usual_eps",)),
]

QWEN3 = [
    Case("plain", qwen3(vocab_size=113)),
    Case("mha_left_padding", qwen3(num_key_value_heads=4, rope_theta=ABSENT), pad="left"),
    Case("mqa_tied", qwen3(num_key_value_heads=1, tie_word_embeddings=True, **new_rope()), (11, 20)),
    Case("wide_heads", qwen3(head_dim=32, hidden_size=40), (8, 21, 13)),
    Case("narrow_heads", qwen3(head_dim=8, rms_norm_eps=0.1), (9, 16), "left"),
    Case("odd_heads", qwen3(hidden_size=50, num_attention_heads=3, num_key_value_heads=3), (14, 9)),
    Case("attention_bias", qwen3(attention_bias=True, rope_scaling=None), (7, 18), "left"),
    Case(
        "bias_three_layers_tied",
        qwen3(attention_bias=True, num_hidden_layers=3, tie_word_embeddings=True),
        (22,),
    ),
    Case("linear_new", qwen3(**new_rope(rope_type="linear", factor=2.0))),
    Case(
        "dynamic_old",
        qwen3(max_position_embeddings=24, rope_scaling={"type": "dynamic", "factor": 2.0}),
        idle=DYNAMIC_WITHIN,
    ),
    Case(
        "dynamic_beyond",
        qwen3(max_position_embeddings=16, **new_rope(rope_type="dynamic", factor=2.0)),
        (29,),
        tags=("long_rope",),
    ),
    Case("llama3", qwen3(rope_scaling=LLAMA3), (31, 18), "left"),
    Case("yarn_old", qwen3(rope_scaling={**YARN, "rope_type": ABSENT, "type": "yarn"}), (30, 12)),
    Case("yarn_full", qwen3(**new_rope(**YARN_FULL)), (26,)),
    Case(
        "longrope_beyond",
        qwen3(**new_rope(**longrope(8, factor=2.0, original_max_position_embeddings=16))),
        (28,),
        tags=("long_rope",),
        idle=LONGROPE_BEYOND,
    ),
    Case("gelu", qwen3(hidden_act="gelu")),
    Case(
        "gelu_tanh_odd", qwen3(hidden_act="gelu_pytorch_tanh", intermediate_size=71, vocab_size=67), (1, 14)
    ),
    Case("relu", qwen3(hidden_act="relu", num_attention_heads=6, num_key_value_heads=3), pad="left"),
    Case("window_from_layer", qwen3(**SLIDING, max_window_layers=1), (19, 13, 4)),
    Case("window_off", qwen3(use_sliding_window=False, sliding_window=5, max_window_layers=0), (19, 8)),
    Case(
        "layer_types",
        qwen3(**{**SLIDING, "sliding_window": 4}, layer_types=["full_attention", "sliding_attention"]),
        (18, 23),
        "left",
    ),
    Case("usual_eps", qwen3(rms_norm_eps=1e-6, hidden_size=96, **IDLE_FIELDS), tags=("usual_eps",)),
]

TYPED = ("input_ids", "attention_mask", "position_ids", "token_type_ids")

BERT = [
    Case("plain", bert(), inputs=TYPED),
    Case("no_type_ids", bert(), (15, 6)),
    Case("three_layers", bert(num_hidden_layers=3, num_attention_heads=2), (21, 20, 2), inputs=TYPED),
    Case("left_padding", bert(num_attention_heads=6), (16, 9, 5), "left", inputs=TYPED),
    Case("gelu_new", bert(hidden_act="gelu_new"), inputs=TYPED),
    Case("gelu_tanh", bert(hidden_act="gelu_pytorch_tanh"), (9, 18)),
    Case("relu", bert(hidden_act="relu"), (13, 17), inputs=TYPED),
    Case("silu", bert(hidden_act="silu"), (19, 4), "left", inputs=TYPED),
    Case("one_type", bert(type_vocab_size=1), (12, 11), inputs=TYPED),
    Case("three_types", bert(type_vocab_size=3, intermediate_size=61), (17, 14), inputs=TYPED),
    Case("last_position", bert(max_position_embeddings=24), (24, 23), inputs=TYPED),
    Case("one_head", bert(num_attention_heads=1, hidden_size=33), (10, 1), inputs=TYPED),
    Case(
        "odd_sizes",
        bert(hidden_size=45, num_attention_heads=5, intermediate_size=79, vocab_size=97),
        (1, 7, 11),
    ),
    Case("large_eps", bert(layer_norm_eps=0.3), (18, 3), inputs=TYPED),
    Case(
        "one_sequence",
        bert(hidden_size=96, intermediate_size=64, num_attention_heads=12),
        (31,),
        inputs=TYPED,
    ),
    Case(
        "usual_eps",
        bert(
            layer_norm_eps=1e-12,
            hidden_size=64,
            attention_probs_dropout_prob=0.1,
            hidden_dropout_prob=0.1,
            classifier_dropout=None,
            gradient_checkpointing=False,
            initializer_range=0.02,
            pad_token_id=0,
            position_embedding_type="absolute",
            transformers_version="4.8.2",
            use_cache=True,
        ),
        inputs=TYPED,
        tags=("usual_eps",),
    ),
]


CASES: dict[str, list[Case]] = {"bert": BERT, "llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3}
