"""Nomic BERT from a GGUF file, against Hugging Face and llama.cpp on the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from model_files import write_model
from tiny_weights import tiny_weights

import rlxflow
from rlxflow.profile.load import load_profile

FILE = goldens.FOLDER / "gguf" / "nomic_bert.gguf"
RECORD: Any = json.loads((goldens.FOLDER / "gguf_nomic.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def arrays() -> Any:
    with np.load(goldens.FOLDER / "gguf_nomic.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file)
        return dict(file)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_agrees_with_hugging_face_and_llama_cpp(backend: str, arrays: Any) -> None:
    model = rlxflow.load(FILE, profile=load_profile("exact", [f"backend.name={backend}"]))
    found = model(input_ids=arrays["input_ids"])["last_hidden_state"]
    assert goldens.error(found, arrays["last_hidden_state"]) <= 1e-5
    assert goldens.error(found, arrays["llama_cpp"]) <= 1e-5


def test_same_bits_as_the_safetensors_model(arrays: Any, tmp_path: Path) -> None:
    weights = tiny_weights(RECORD["shapes"], RECORD["seed"])
    other = rlxflow.load(write_model(tmp_path, RECORD["config"], weights))
    ids = arrays["input_ids"]
    outputs = [m(input_ids=ids)["last_hidden_state"] for m in (rlxflow.load(FILE), other)]
    assert np.array_equal(*outputs)


def test_texts_are_pooled_as_the_file_says() -> None:
    model = rlxflow.load(FILE)
    assert model.embedding is not None and model.embedding.pooling == "mean"
    assert model.embed(["the cat sat", "hello"], progress=False).shape == (2, 32)
