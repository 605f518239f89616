"""Make `goldens/gguf_encoders.*`: what Hugging Face and llama.cpp compute for tiny encoders as GGUF files.

Run with torch, transformers, gguf and llama-cpp-python:

    python tests/oracles/make_gguf_encoder_goldens.py

As `make_gguf_decoder_goldens.py`. llama.cpp takes GELU from a table of half floats, and multiplies Q8_0 by
activations that it has quantised too: it is that far from Hugging Face, which has the weights as stored.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

import gguf_encoders
from encoder_cases import modernbert, roberta
from golden_files import write_goldens
from goldens import error
from make_encoder_goldens import SEED, Arrays, build, run, tiny_weights
from make_gguf_goldens import llama_cpp_output

TOKENS = 19
APART = {"f32": 2e-3, "q8_0": 5e-2}
TEXTS = ["", "it's 12 things", "  two  spaces", "a<mask>b"]

SMALL = {"vocab_size": len(gguf_encoders.TOKENS), "hidden_size": 32, "intermediate_size": 64}
ROBERTA = roberta(**SMALL)
MODERNBERT = modernbert(**SMALL)
CASES = {
    "roberta": (ROBERTA, "f32"),
    "roberta_two_types_q8_0": (roberta(**SMALL, type_vocab_size=2, pad_token_id=4), "q8_0"),
    "modernbert": (MODERNBERT, "f32"),
    "modernbert_odd_window": ({**MODERNBERT, "local_attention": 5, "global_attn_every_n_layers": 2}, "f32"),
    "modernbert_q8_0": (MODERNBERT, "q8_0"),
}


def make(name: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """The record of a case, and its arrays."""
    config, tag = CASES[name]
    model, shapes = build(config)
    record: dict[str, Any] = {"name": name, "tags": [tag], "config": config, "shapes": shapes}
    weights = gguf_encoders.as_stored(record, tiny_weights(shapes, SEED))
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=False)
    path = gguf_encoders.write_case(folder / f"{name}.gguf", record, SEED)
    ids = np.random.default_rng(len(name)).integers(5, config["vocab_size"] - 4, (1, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(TOKENS)[None]}
    expected = run(model, inputs)
    theirs = llama_cpp_output(path, ids[0].tolist(), encoder=True)
    apart = error(theirs, expected["last_hidden_state"])
    print(f"{name:24} llama.cpp is {apart:.1e} from Hugging Face")
    assert apart <= APART[tag], name
    vocab = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    record["tokens"] = [vocab.tokenize(text.encode(), add_bos=True, special=True) for text in TEXTS]
    return record | {"texts": TEXTS}, {**inputs, **expected, "llama_cpp": theirs}


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
    write_goldens("gguf_encoders", records, arrays, SEED, ("gguf", "llama-cpp-python", "transformers"))


if __name__ == "__main__":
    main()
