"""Configs that are refused: what each holds, its code, and a part of the hint."""

from __future__ import annotations

from typing import Any

import goldens

DOWNLOAD, CORRECT = "download", "correct the field"
POSITIVE, ONE_SPELLING, MAY_CHANGE = "positive number", "one of the two spellings", "change the numbers"
ABSENT = object()
DEEP = "[" * 100_000 + "]" * 100_000


def config(base: str, /, **changes: Any) -> dict[str, Any]:
    """The plain golden config of a model type with changes; `ABSENT` removes a field."""
    fields = {**goldens.hf_case(base, "plain").config, **changes}
    return {key: value for key, value in fields.items() if value is not ABSENT}


FILES = {
    "C1-missing": (None, "RLX-C022", "holds config.json"),
    "C1-empty": (b"", "RLX-C024", "get it again"),
    "C1-blank": (b" \n\t ", "RLX-C024", "get it again"),
    "C1-not-json": (b"model_type: llama", "RLX-C024", DOWNLOAD),
    "C1-truncated": (b'{"model_type": "lla', "RLX-C024", DOWNLOAD),
    "C1-array": (b'[{"model_type": "llama"}]', "RLX-C024", DOWNLOAD),
    "C1-null": (b"null", "RLX-C024", DOWNLOAD),
    "C1-number": (b"12", "RLX-C024", DOWNLOAD),
    "C1-string": (b'"llama"', "RLX-C024", DOWNLOAD),
    "C1-trailing-text": (b'{"model_type": "llama"} x', "RLX-C024", DOWNLOAD),
    "C1-not-utf8": (b'{"model_type": "ll\xffma"}', "RLX-C024", DOWNLOAD),
    "C1-utf16": ('{"model_type": "llama"}'.encode("utf-16"), "RLX-C024", DOWNLOAD),
    "C1-key-twice": (b'{"model_type": "llama", "model_type": "qwen2"}', "RLX-C024", DOWNLOAD),
    "C1-nan": (b'{"model_type": "llama", "rms_norm_eps": NaN}', "RLX-C024", DOWNLOAD),
    "C1-infinity": (b'{"model_type": "llama", "rope_theta": -Infinity}', "RLX-C024", DOWNLOAD),
    "C1-overflow": (b'{"model_type": "llama", "rope_theta": 1e400}', "RLX-C024", DOWNLOAD),
    "C1-5000-digits": (b'{"vocab_size": ' + b"9" * 5000 + b"}", "RLX-C024", DOWNLOAD),
    "C1-deep": (f'{{"model_type": {DEEP}}}'.encode(), "RLX-C024", DOWNLOAD),
    "C1-half-a-surrogate": (b'{"model_type": "\\ud800"}', "RLX-C024", DOWNLOAD),
    "C1-too-large": (b" " * (65 << 20) + b"{}", "RLX-C024", "check the download"),
    "C1-html": (b"<!DOCTYPE html><html></html>", "RLX-C024", DOWNLOAD),
    "C1-lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "RLX-C024", DOWNLOAD),
}

FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "C2-missing": (config("llama", model_type=ABSENT), "RLX-C023", "recipe="),
    "C2-null": (config("llama", model_type=None), "RLX-C023", "recipe="),
    "C2-number": (config("llama", model_type=3), "RLX-C023", "recipe="),
    "C2-list": (config("llama", model_type=["llama"]), "RLX-C023", "recipe="),
    "C2-typo": (config("llama", model_type="lama"), "RLX-C001", "did you mean 'llama'?"),
    "C2-case": (config("llama", model_type="Qwen2"), "RLX-C001", "did you mean 'qwen2'?"),
    "C2-unknown": (config("llama", model_type="whisper"), "RLX-C001", "recipes: bert, "),
    "C2-empty": (config("llama", model_type=""), "RLX-C001", "recipes: bert, "),
    "C2-path": (config("llama", model_type="../llama"), "RLX-C001", "did you mean 'llama'?"),
    "C2-module": (config("llama", model_type="os.path"), "RLX-C001", "recipes: "),
    "C2-dunder": (config("llama", model_type="__init__"), "RLX-C001", "recipes: "),
    "C2-nul": (config("llama", model_type="llama\x00"), "RLX-C001", "did you mean"),
    "C3-missing": (config("llama", vocab_size=ABSENT, hidden_size=ABSENT), "RLX-C004", CORRECT),
    "C3-zero": (config("llama", num_attention_heads=0), "RLX-C004", CORRECT),
    "C3-vocab-zero": (config("llama", vocab_size=0), "RLX-C004", CORRECT),
    "C3-negative": (config("llama", hidden_size=-48), "RLX-C004", CORRECT),
    "C3-negative-layers": (config("llama", num_hidden_layers=-1), "RLX-C004", CORRECT),
    "C3-huge": (config("llama", hidden_size=2**62), "RLX-C004", CORRECT),
    "C3-huge-layers": (config("llama", num_hidden_layers=2**40), "RLX-C004", CORRECT),
    "C3-float": (config("llama", hidden_size=48.0), "RLX-C004", CORRECT),
    "C3-string": (config("llama", hidden_size="48"), "RLX-C004", CORRECT),
    "C3-bool": (config("llama", hidden_size=True), "RLX-C004", CORRECT),
    "C3-null": (config("llama", hidden_size=None), "RLX-C004", CORRECT),
    "C3-list": (config("llama", hidden_size=[48]), "RLX-C004", CORRECT),
    "C3-null-is-not-absent": (config("llama", tie_word_embeddings=None), "RLX-C004", CORRECT),
    "C3-null-activation": (config("llama", hidden_act=None), "RLX-C004", CORRECT),
    "C3-int-for-bool": (config("llama", attention_bias=1), "RLX-C004", CORRECT),
    "C3-eps-zero": (config("llama", rms_norm_eps=0.0), "RLX-C004", CORRECT),
    "C3-eps-one": (config("bert", layer_norm_eps=1.0), "RLX-C004", CORRECT),
    "C3-heads-do-not-divide": (config("llama", num_attention_heads=5), "RLX-C010", CORRECT),
    "C3-bert-heads-do-not-divide": (config("bert", num_attention_heads=5), "RLX-C010", CORRECT),
    "C3-kv-heads-do-not-divide": (config("llama", num_key_value_heads=3), "RLX-C010", CORRECT),
    "C3-more-kv-heads": (config("llama", num_key_value_heads=8), "RLX-C010", CORRECT),
    "C3-kv-heads-zero": (config("llama", num_key_value_heads=0), "RLX-C004", CORRECT),
    "C3-head-dim-negative": (config("qwen3", head_dim=-2), "RLX-C004", CORRECT),
    "C3-head-dim-null": (config("qwen3", head_dim=None), "RLX-C004", CORRECT),
    "C3-odd-head-dim": (config("llama", head_dim=7), "RLX-C008", "even"),
    "C3-activation-typo": (config("llama", hidden_act="silu_"), "RLX-C005", "did you mean 'silu'?"),
    "C3-activation": (config("bert", hidden_act="laplace"), "RLX-C005", "supported: gelu"),
    "C3-activation-number": (config("bert", hidden_act=1), "RLX-C004", CORRECT),
    "C4-conflicting-bases": (
        config("llama", rope_theta=500.0, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}),
        "RLX-C009",
        ONE_SPELLING,
    ),
    "C4-conflicting-spellings": (
        config(
            "llama",
            rope_theta=1e3,
            rope_scaling={"type": "linear", "factor": 2.0},
            rope_parameters={"rope_type": "linear", "factor": 4.0},
        ),
        "RLX-C009",
        ONE_SPELLING,
    ),
    "C4-base-in-one-spelling-only": (
        config(
            "llama",
            rope_scaling={"type": "linear", "factor": 2.0},
            rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e3},
        ),
        "RLX-C009",
        ONE_SPELLING,
    ),
    "C4-type-and-rope-type": (
        config("llama", rope_scaling={"type": "linear", "rope_type": "yarn", "factor": 2.0}),
        "RLX-C009",
        ONE_SPELLING,
    ),
    "C4-two-original-contexts": (
        config(
            "llama",
            original_max_position_embeddings=16,
            rope_scaling={"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
        ),
        "RLX-C009",
        ONE_SPELLING,
    ),
    "C4-dynamic-with-another-context": (
        config(
            "llama",
            rope_scaling={"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 32},
        ),
        "RLX-C009",
        ONE_SPELLING,
    ),
    "C4-null-base": (config("llama", rope_theta=None), "RLX-C004", CORRECT),
    "C4-base-zero": (config("llama", rope_theta=0), "RLX-C004", CORRECT),
    "C4-base-string": (config("llama", rope_theta="1e4"), "RLX-C004", CORRECT),
    "C4-base-one-with-yarn": (
        config("llama", rope_theta=1.0, rope_scaling={"type": "yarn", "factor": 2.0}),
        "RLX-C008",
        "rope_theta",
    ),
    "C4-unknown-type": (config("llama", rope_scaling={"type": "su"}), "RLX-C006", "supported: default"),
    "C4-type-typo": (config("llama", rope_scaling={"type": "lineer"}), "RLX-C006", "'linear'"),
    "C4-type-list": (config("llama", rope_scaling={"rope_type": ["yarn"]}), "RLX-C006", "'yarn'"),
    "C4-mrope": (config("qwen2", rope_scaling={"type": "mrope"}), "RLX-C006", "rope"),
    "C4-factor-zero": (config("llama", rope_scaling={"type": "linear", "factor": 0}), "RLX-C008", POSITIVE),
    "C4-factor-negative": (
        config("llama", rope_scaling={"type": "dynamic", "factor": -1.0}),
        "RLX-C008",
        POSITIVE,
    ),
    "C4-factor-string": (
        config("llama", rope_scaling={"type": "linear", "factor": "2"}),
        "RLX-C008",
        POSITIVE,
    ),
    "C4-factor-bool": (
        config("llama", rope_scaling={"type": "linear", "factor": True}),
        "RLX-C008",
        POSITIVE,
    ),
    "C4-factor-missing": (config("llama", rope_scaling={"type": "linear"}), "RLX-C008", "rope_parameters"),
    "C4-llama3-incomplete": (
        config("llama", rope_scaling={"rope_type": "llama3", "factor": 8.0}),
        "RLX-C008",
        "rope_parameters",
    ),
    "C4-longrope-length": (
        config("llama", rope_scaling={"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
        "RLX-C008",
        "short_factor",
    ),
    "C4-longrope-not-numbers": (
        config(
            "llama", rope_scaling={"type": "longrope", "short_factor": ["1"] * 6, "long_factor": [1.0] * 6}
        ),
        "RLX-C008",
        POSITIVE,
    ),
    "C4-longrope-not-a-list": (
        config("llama", rope_scaling={"type": "longrope", "short_factor": 1.0, "long_factor": [1.0] * 6}),
        "RLX-C008",
        "list",
    ),
    "C4-truncate-string": (
        config("llama", rope_scaling={"type": "yarn", "factor": 2.0, "truncate": "no"}),
        "RLX-C008",
        "true or false",
    ),
    "C4-setting-of-another-kind": (
        config("llama", rope_scaling={"type": "linear", "factor": 2.0, "low_freq_factor": 1.0}),
        "RLX-C003",
        MAY_CHANGE,
    ),
    "C4-setting-typo": (
        config("llama", rope_scaling={"type": "yarn", "factor": 2.0, "beta_fasst": 1.0}),
        "RLX-C003",
        "did you mean 'beta_fast'?",
    ),
    "C4-per-layer-type": (
        config("qwen2", rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
        "RLX-C003",
        MAY_CHANGE,
    ),
    "C4-scaling-list": (config("llama", rope_scaling=["linear", 2.0]), "RLX-C004", CORRECT),
    "C4-partial": (config("llama", partial_rotary_factor=0.5), "RLX-C008", "whole heads"),
    "C4-partial-inside": (
        config("qwen3", rope_parameters={"partial_rotary_factor": 0.5}),
        "RLX-C008",
        "whole heads",
    ),
    "C4-partial-odd": (config("llama", partial_rotary_factor=0.25), "RLX-C008", "even"),
    "C4-partial-above-one": (config("llama", partial_rotary_factor=2.0), "RLX-C008", "at most head_dim"),
    "C4-interleaved": (config("llama", rope_interleaved=True), "RLX-C004", CORRECT),
    "C5-unknown": (config("llama", attn_logit_softcapping=50.0), "RLX-C003", MAY_CHANGE),
    "C5-typo": (
        config("llama", num_hidden_layers=ABSENT, num_hidden_layer=2),
        "RLX-C003",
        "did you mean 'num_hidden_layers'?",
    ),
    "C5-of-another-model": (config("bert", rope_theta=1e4), "RLX-C003", MAY_CHANGE),
    "C5-position-type": (config("bert", position_embedding_type="relative_key"), "RLX-C004", CORRECT),
    "C5-bert-decoder": (config("bert", is_decoder=True), "RLX-C004", CORRECT),
    "C5-cross-attention": (config("bert", add_cross_attention=True), "RLX-C004", CORRECT),
    "C5-mrope": (config("qwen2", use_mrope=True), "RLX-C004", CORRECT),
    "C5-qk-norm-on-llama": (config("llama", use_qk_norm=True), "RLX-C003", MAY_CHANGE),
    "C5-experts": (config("llama", num_local_experts=8), "RLX-C003", MAY_CHANGE),
    "C5-control-characters": (config("llama", **{"\x1b[2J": 1}), "RLX-C003", MAY_CHANGE),
    "C5-gpt2-fields": (
        {"model_type": "llama", "n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 64},
        "RLX-C003",
        MAY_CHANGE,
    ),
    "C5-gpt2": (
        {"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 64},
        "RLX-C001",
        "recipes: bert",
    ),
    "C6-needed": (
        config("llama", model_type="my_llama_2024x", auto_map={"AutoModel": "modeling.My"}),
        "RLX-C001",
        "llama",
    ),
    "C7-gptq": (
        config("llama", quantization_config={"quant_method": "gptq", "bits": 4}),
        "RLX-C002",
        "GGUF",
    ),
    "C7-odd": (config("llama", quantization_config="int8"), "RLX-C002", "base checkpoint"),
    "C7-compression": (config("llama", compression_config={"format": "pack"}), "RLX-C011", "one part"),
    "C8-too-few-types": (config("qwen2", layer_types=["full_attention"]), "RLX-C010", CORRECT),
    "C8-too-many-types": (config("qwen3", layer_types=["full_attention"] * 3), "RLX-C010", CORRECT),
    "C8-unknown-type": (config("qwen2", layer_types=["full_attention", "linear"]), "RLX-C004", CORRECT),
    "C8-window-off": (
        config("qwen2", layer_types=["full_attention", "sliding_attention"]),
        "RLX-C010",
        CORRECT,
    ),
    "C8-window-null": (
        config(
            "qwen3",
            use_sliding_window=True,
            sliding_window=None,
            layer_types=["full_attention", "sliding_attention"],
        ),
        "RLX-C010",
        CORRECT,
    ),
    "C8-types-not-a-list": (config("qwen2", layer_types="full_attention"), "RLX-C004", CORRECT),
    "C9-text-config": (
        config("llama", text_config={"model_type": "llama", "hidden_size": 64}),
        "RLX-C011",
        "text model's own",
    ),
    "C9-vision-model": (
        {"model_type": "qwen2_vl", "text_config": config("qwen2"), "vision_config": {"depth": 2}},
        "RLX-C011",
        "text model's own",
    ),
}
