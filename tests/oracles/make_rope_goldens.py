"""Writes tests/goldens/rope.json: inverse frequencies of every rope kind, from transformers.

    python tests/oracles/make_rope_goldens.py      (needs torch and transformers)

Every case is a tiny `LlamaConfig` and a length. transformers computes frequencies with the function of
`ROPE_INIT_FUNCTIONS` at that length, as its models do when they meet it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

ORIGINAL = "original_max_position_embeddings"
SHORT = [1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 2.5]
LONG = [1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0]
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, ORIGINAL: 8192}
YARN = {"factor": 4.0, ORIGINAL: 2048}
WIDE = {"head_dim": 32}
LONGROPE = {"short_factor": SHORT, "long_factor": LONG, ORIGINAL: 64}

# name: (rope_type, settings, length, config changes)
CASES: dict[str, tuple[str, dict[str, Any], int, dict[str, Any]]] = {
    "default": ("default", {}, 1, {}),
    "default-theta": ("default", {"rope_theta": 500000.0}, 1, {}),
    "default-wide": ("default", {}, 1, {"head_dim": 128}),
    "linear": ("linear", {"factor": 4.0}, 1, {}),
    "linear-fraction": ("linear", {"factor": 2.5, "rope_theta": 1e6}, 99, {}),
    "dynamic-below": ("dynamic", {"factor": 2.0}, 10, {"max_position_embeddings": 64}),
    "dynamic-at": ("dynamic", {"factor": 2.0}, 64, {"max_position_embeddings": 64}),
    "dynamic-beyond": ("dynamic", {"factor": 2.0}, 65, {"max_position_embeddings": 64}),
    "dynamic-far": ("dynamic", {"factor": 4.0}, 1000, {"max_position_embeddings": 64}),
    "llama3": ("llama3", {**LLAMA3, "rope_theta": 500000.0}, 1, {"head_dim": 64}),
    "llama3-short": ("llama3", {**LLAMA3, ORIGINAL: 64, "factor": 32.0}, 1, {}),
    "yarn": ("yarn", YARN, 1, {}),
    "yarn-attention-factor": ("yarn", {**YARN, "attention_factor": 1.3}, 1, {}),
    "yarn-betas": ("yarn", {**YARN, "beta_fast": 16, "beta_slow": 2}, 1, {"head_dim": 64}),
    "yarn-mscale": ("yarn", {**YARN, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0}, 1, {}),
    "yarn-mscale-alone": ("yarn", {**YARN, "mscale": 0.707}, 1, {}),
    "yarn-not-truncated": ("yarn", {**YARN, "truncate": False, "rope_theta": 150000.0}, 1, {"head_dim": 64}),
    "yarn-truncated": ("yarn", {**YARN, "truncate": True, "rope_theta": 150000.0}, 1, {"head_dim": 64}),
    "yarn-small-factor": ("yarn", {**YARN, "factor": 1.0}, 1, {}),
    "yarn-small-theta": ("yarn", {**YARN, "rope_theta": 100.0, ORIGINAL: 16}, 1, {"head_dim": 32}),
    "yarn-clamped": ("yarn", {**YARN, "rope_theta": 10.0, "beta_fast": 999, ORIGINAL: 4096}, 1, WIDE),
    "longrope-short": ("longrope", LONGROPE, 64, {"max_position_embeddings": 256}),
    "longrope-long": ("longrope", LONGROPE, 65, {"max_position_embeddings": 256}),
    "longrope-factor": ("longrope", {**LONGROPE, "factor": 8.0}, 1, {"max_position_embeddings": 256}),
    "longrope-attention": ("longrope", {**LONGROPE, "attention_factor": 1.19}, 65, {}),
    "longrope-same-context": ("longrope", LONGROPE, 1, {"max_position_embeddings": 64}),
}  # fmt: skip


def one(kind: str, settings: dict[str, Any], length: int, changes: dict[str, Any]) -> dict[str, Any]:
    parameters = {"rope_type": kind, "rope_theta": 10000.0, **settings}
    config = LlamaConfig(
        **{
            "hidden_size": 32,
            "num_attention_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 8192,
            **changes,
        },
        rope_parameters=parameters,
    )
    if kind == "default":
        frequencies, factor = LlamaRotaryEmbedding(config).inv_freq, 1.0
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
    return {
        "rotary_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_parameters": parameters,
        "length": length,
        "frequencies": [float(f) for f in frequencies],
        "attention_factor": float(factor),
    }


def main() -> None:
    cases = {name: one(*case) for name, case in CASES.items()}
    target = Path(__file__).parent.parent / "goldens" / "rope.json"
    text = json.dumps({"transformers": transformers.__version__, "cases": cases}, indent=1)
    target.write_text(text + "\n", "utf-8")
    print(f"{len(cases)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
