"""RoBERTa and ModernBERT from GGUF files, against Hugging Face and llama.cpp on the same models.

`oracles/gguf_encoders.py` writes the files as llama.cpp's converter does, with gguf-py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import goldens
import pytest

import rlxflow
from rlxflow.profile.load import load_profile

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))
from gguf_encoders import write_case

RECORDS = goldens.gguf_encoder_records()
SEED = goldens._json("gguf_encoders")["seed"]
# llama.cpp takes GELU from a table of half floats, and multiplies Q8_0 by quantised activations
APART = {"f32": 2e-3, "q8_0": 5e-2}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", RECORDS)
def test_agrees_with_hugging_face_and_llama_cpp(name: str, backend: str, tmp_path: Path) -> None:
    record, arrays = RECORDS[name], goldens.gguf_encoder_arrays(name)
    path = write_case(tmp_path / "m.gguf", record, SEED)
    model = rlxflow.load(path, profile=load_profile("exact", [f"backend.name={backend}"]))
    found = model(input_ids=arrays["input_ids"])["last_hidden_state"]
    assert goldens.error(found, arrays["last_hidden_state"]) <= 1e-5
    (tag,) = record["tags"]
    assert goldens.error(found, arrays["llama_cpp"]) <= APART[tag]


@pytest.mark.parametrize("name", RECORDS)
def test_texts_become_the_tokens_of_llama_cpp(name: str, tmp_path: Path) -> None:
    record = RECORDS[name]
    model = rlxflow.load(write_case(tmp_path / "m.gguf", record, SEED))
    assert model.tokenizer is not None and model.embedding is not None
    assert model.embedding.pooling == "mean"
    for text, tokens in zip(record["texts"], record["tokens"], strict=True):
        assert list(model.tokenizer.encode(text)) == tokens, text
