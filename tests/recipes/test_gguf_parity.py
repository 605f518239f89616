"""Tiny GGUF files through `rlxflow.load`, against Hugging Face and llama.cpp on the same models."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
from model_files import model_inputs, run, write_golden

import rlxflow

TOLERANCE = 1e-5


def llama_cpp_tolerance(case: goldens.GgufGolden) -> float:
    """llama.cpp rounds activations for quantised weights, and takes BERT's GELU from a table of halves."""
    if set(case.golden.tags) != {"f32"}:
        return 3e-2
    return 1e-3 if case.golden.model_type == "bert" else TOLERANCE


@pytest.mark.parametrize("name", goldens.gguf_names())
def test_agrees_with_hugging_face_and_llama_cpp(name: str) -> None:
    case = goldens.gguf_case(name)
    model = rlxflow.load(case.path)
    actual = run(model, case.golden)
    assert case.golden.error(actual) <= TOLERANCE
    assert goldens.error(actual, case.llama_cpp, case.golden.valid) <= llama_cpp_tolerance(case)
    stored = {value.dtype.name for value in model.graph.params.values()}
    assert stored <= {*case.golden.tags, "f32"} and stored & set(case.golden.tags)  # nothing was widened


@pytest.mark.parametrize(
    "name", [n for n in goldens.gguf_names() if goldens.gguf_case(n).golden.tags == ("f32",)]
)
def test_same_bits_as_the_safetensors_model(name: str, tmp_path) -> None:
    """F32 in both formats. Rope divisors that GGUF stores in float32 may differ in the last bits."""
    case = goldens.gguf_case(name)
    from_gguf = run(rlxflow.load(case.path), case.golden)
    from_directory = run(rlxflow.load(write_golden(tmp_path, case.golden)), case.golden)
    if name == "llama3_rope":
        assert goldens.error(from_gguf, from_directory, case.golden.valid) <= 1e-6
    else:
        assert np.array_equal(from_gguf, from_directory)


def test_bert_pooling_comes_from_the_metadata() -> None:
    case = goldens.gguf_case("bert")
    model = rlxflow.load(case.path)
    assert model.embedding is not None and model.embedding.pooling == "mean"
    result = model(**model_inputs(case.golden))
    hidden, valid = result["last_hidden_state"], case.golden.valid[..., None]
    expected = (hidden * valid).sum(1) / valid.sum(1)
    assert np.abs(result["embedding"] - expected).max() <= 1e-6


def test_a_directory_with_one_gguf_file(tmp_path) -> None:
    case = goldens.gguf_case("qwen3")
    (tmp_path / "model.gguf").write_bytes(case.path.read_bytes())
    assert case.golden.error(run(rlxflow.load(tmp_path), case.golden)) <= TOLERANCE
