"""Make `goldens/gguf/nomic_bert.gguf` and what it computes, `goldens/gguf_nomic.{json,npz}`.

Run with torch, transformers, gguf and llama-cpp-python:

    python tests/oracles/make_nomic_gguf_golden.py

As `make_gguf_goldens.py`, for the one encoder with rotary positions: written with gguf-py under the names of
Nomic's checkpoints; computed by Hugging Face from the weights, and by llama.cpp from the file.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import gguf
import llama_cpp
import numpy as np
import transformers
from encoder_cases import nomic_bert
from gguf_writing import WORDPIECES, begin, finish, tensor_name, wordpieces
from golden_files import GOLDENS
from make_encoder_goldens import SEED, build, error, run, tiny_weights
from make_gguf_goldens import llama_cpp_output

CONFIG = nomic_bert(
    vocab_size=len(WORDPIECES),
    hidden_size=32,
    intermediate_size=64,
    layer_norm_eps=0.01,
    rope_parameters={"rope_theta": 500.0, "rope_type": "default"},
)


def main() -> None:
    model, shapes = build(CONFIG)
    path = GOLDENS / "gguf" / "nomic_bert.gguf"
    writer = begin(path, "nomic-bert", CONFIG, name=path.stem)
    writer.add_layer_norm_eps(CONFIG["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_rope_freq_base(CONFIG["rope_parameters"]["rope_theta"])
    writer.add_token_type_count(CONFIG["type_vocab_size"])
    wordpieces(writer)
    name = tensor_name("nomic-bert", CONFIG["num_hidden_layers"])
    finish(writer, [(name(key), value) for key, value in tiny_weights(shapes, SEED).items()])

    ids = np.random.default_rng(1).integers(0, CONFIG["vocab_size"], (1, 27))
    ones = np.ones_like(ids)
    expected = run(model, {"input_ids": ids, "attention_mask": ones, "position_ids": np.arange(27)[None]})
    theirs = llama_cpp_output(path, ids[0].tolist(), encoder=True)
    apart = error(theirs, expected["last_hidden_state"])
    print(f"llama.cpp is {apart:.1e} from Hugging Face")
    assert apart <= 1e-5
    made = {name: version(name) for name in ("gguf", "llama_cpp_python", "transformers")} | {
        "transformers": transformers.__version__,
        "llama_cpp": llama_cpp.__version__,
    }
    record = {"made_with": made, "seed": SEED, "config": CONFIG, "shapes": shapes}
    (GOLDENS / "gguf_nomic.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    np.savez_compressed(GOLDENS / "gguf_nomic.npz", input_ids=ids, llama_cpp=theirs, **expected)


if __name__ == "__main__":
    main()
