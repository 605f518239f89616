"""Make `goldens/gguf_decoders.*`: what Hugging Face and llama.cpp compute for tiny decoders as GGUF files.

Run with torch, transformers, gguf and llama-cpp-python:

    python tests/oracles/make_gguf_decoder_goldens.py

The files themselves are not stored: `gguf_decoders.py` writes them, here and in the tests. The script fails
where the two programs are further apart than `APART`: llama.cpp takes GELU from a table of half floats.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

import gguf_decoders
from cases.cohere2 import cohere2
from cases.gemma import gemma
from cases.gemma2 import gemma2
from cases.gemma3_text import gemma3
from cases.granite import granite
from cases.mistral import mistral
from cases.olmo2 import olmo2
from cases.phi3 import phi3
from cases.smollm3 import smollm3
from golden_files import write_goldens
from goldens import error
from hf_cases import ABSENT, longrope
from make_gguf_goldens import llama_cpp_output
from make_hf_goldens import SEED, Arrays, build, run

TOKENS = 9
APART, APART_GELU = 1e-5, 2e-3

SMALL = {"vocab_size": len(gguf_decoders.VOCAB), "hidden_size": 32, "intermediate_size": 64}
LINEAR = {"rope_type": "linear", "factor": 2.5}
LONG = longrope(4, rope_type="longrope")
CASES = {
    "mistral": mistral(**SMALL),
    "granite": granite(**SMALL),
    "granite_biases_tied": granite(**SMALL, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "gemma": gemma(**SMALL),
    "gemma_wide_mha": gemma(**SMALL, head_dim=24, num_key_value_heads=4, rope_theta=ABSENT),
    "gemma2": gemma2(**SMALL, query_pre_attn_scalar=16),
    "gemma2_more_layers": gemma2(
        **SMALL, num_hidden_layers=3, query_pre_attn_scalar=16, sliding_window=3, attn_logit_softcapping=30.0
    ),
    # llama.cpp knows no other pattern than five local layers for each full one, and no other local base
    "gemma3": gemma3(
        **SMALL,
        num_hidden_layers=6,
        sliding_window_pattern=6,
        query_pre_attn_scalar=16,
        rope_local_base_freq=1e4,
    ),
    "gemma3_linear": gemma3(
        **SMALL,
        num_hidden_layers=7,
        sliding_window_pattern=6,
        query_pre_attn_scalar=16,
        rope_local_base_freq=1e4,
        rope_scaling=LINEAR,
    ),
    # llama.cpp does not use the window of this architecture
    "phi3": phi3(**SMALL, sliding_window=40, original_max_position_embeddings=64),
    "phi3_partial_tied": phi3(
        **{**SMALL, "hidden_size": 64},
        partial_rotary_factor=0.75,
        tie_word_embeddings=True,
        original_max_position_embeddings=64,
    ),
    "phi3_longrope": phi3(**SMALL, original_max_position_embeddings=8, rope_scaling=LONG),
    "olmo2": olmo2(**SMALL),
    "olmo2_mqa": olmo2(**SMALL, num_key_value_heads=1),
    "smollm3": smollm3(**SMALL, num_hidden_layers=4, no_rope_layer_interval=4),
    "smollm3_untied": smollm3(
        **SMALL, num_hidden_layers=5, no_rope_layer_interval=4, tie_word_embeddings=False
    ),
    # llama.cpp knows no other pattern than three windows for each full layer
    "cohere2": cohere2(**SMALL, num_hidden_layers=4, sliding_window_pattern=4),
    "cohere2_wide": cohere2(**{**SMALL, "hidden_size": 64}, num_hidden_layers=5, sliding_window_pattern=4),
}


def make(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """The record of a case, and its arrays: input_ids, logits, llama_cpp."""
    config = CASES[name]
    model, shapes = build(config)
    record = {"name": name, "tags": ["f32"], "config": config, "shapes": shapes}
    path = gguf_decoders.write_case(folder / f"{name}.gguf", record, SEED)
    ids = np.random.default_rng(len(name)).integers(0, config["vocab_size"], (1, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(TOKENS)[None]}
    expected = run(model, inputs)
    theirs = llama_cpp_output(path, ids[0].tolist(), encoder=False)
    apart = error(theirs, expected)
    limit = APART_GELU if "gemma" in name else APART
    print(f"{name:22} llama.cpp is {apart:.1e} from Hugging Face{'' if apart <= limit else '  FAILS'}")
    return record | {"apart": apart}, {**inputs, "logits": expected, "llama_cpp": theirs}


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arrays: Arrays = {}
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            record, values = make(name, Path(folder))
            records.append(record)
            arrays |= {f"{name}/{key}": value for key, value in values.items()}
    far = [r["name"] for r in records if r.pop("apart") > (APART_GELU if "gemma" in r["name"] else APART)]
    write_goldens("gguf_decoders", records, arrays, SEED, ("gguf", "llama-cpp-python", "transformers"))
    if far:
        raise SystemExit(f"too far apart: {', '.join(far)}")


if __name__ == "__main__":
    main()
