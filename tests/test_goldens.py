"""The goldens themselves: that they load, are sound, and that weights come out as they did when made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import goldens
import numpy as np
import pytest
from tiny_weights import tiny_tensor


def test_tiny_tensors_have_the_bits_that_the_goldens_were_made_with() -> None:
    digest = hashlib.sha256()
    for key in ("embed_tokens.weight", "q_proj.weight", "q_proj.bias", "LayerNorm.weight"):
        digest.update(tiny_tensor(key, (5, 7), seed=3).astype("<f4").tobytes())
    assert digest.hexdigest() == "4c72d8a1b3c3365e1b0a24feb107f6987b193583e550d96490c56ed1f6b6a8f7"


def test_tiny_tensors_by_role() -> None:
    linear = tiny_tensor("a.weight", (400, 100))
    assert linear.dtype == np.float32
    assert abs(linear.std() * 10 - 1.5) < 0.02 and abs(linear.mean()) < 0.01
    norm = tiny_tensor("input_layernorm.weight", (500,))
    assert np.abs(norm - 1).min() > 0.049 and np.abs(norm - 1).max() < 0.301
    assert np.abs(tiny_tensor("LayerNorm.bias", (500,))).max() <= 0.5
    assert abs(tiny_tensor("embed_tokens.weight", (100, 50)).std() - 1) < 0.02


def test_tiny_tensors_depend_on_key_shape_and_seed() -> None:
    first = tiny_tensor("a.weight", (4, 6))
    assert np.array_equal(first, tiny_tensor("a.weight", (4, 6)))
    assert not np.array_equal(first, tiny_tensor("b.weight", (4, 6)))
    assert not np.array_equal(first, tiny_tensor("a.weight", (4, 6), seed=1))
    assert not np.allclose(first.ravel(), tiny_tensor("a.weight", (6, 4)).ravel() * np.sqrt(4 / 6))


def test_error_is_relative_to_the_largest_expected_value() -> None:
    expected = np.array([[2.0, -4.0], [8.0, 100.0]])
    assert goldens.error(expected + 1, expected) == pytest.approx(0.01)
    assert goldens.error(expected + 1, expected, np.array([True, False])) == pytest.approx(0.25)
    assert goldens.error(np.array([0.5]), np.array([0.1])) == pytest.approx(0.4)


def test_error_is_infinite_where_nothing_can_be_compared() -> None:
    assert goldens.error(np.zeros((2, 3)), np.zeros((3, 2))) == float("inf")
    assert goldens.error(np.array([np.nan, 0.0]), np.zeros(2)) == float("inf")
    with pytest.raises(AssertionError):
        goldens.error(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2, bool))


# whose configs mean a tied head where they say nothing
TIED = ("gemma", "gemma2", "gemma3_text", "smollm3", "starcoder2", "cohere2")


@pytest.mark.parametrize("model_type", goldens.hf_model_types())
def test_cases_are_sound(model_type: str) -> None:
    cases = list(goldens.hf_cases(model_type))
    assert len(cases) >= 6 and cases[0].name == "plain" and len({case.name for case in cases}) == len(cases)
    for case in cases:
        (expected,) = case.expected.values()
        ids, valid = case.inputs["input_ids"], case.valid
        assert expected.shape[:2] == ids.shape == valid.shape and expected.dtype == np.float32
        assert (
            np.isfinite(expected).all() and not expected[~valid].any() and expected[valid].any(axis=-1).all()
        )
        assert ids.max() < case.config["vocab_size"]
        for row, positions in zip(valid, case.inputs["position_ids"], strict=True):
            assert positions[row].tolist() == list(range(row.sum()))
        assert {key: value.shape for key, value in case.weights.items()} == case.shapes
        tied = case.config.get("tie_word_embeddings", model_type in TIED) or "logits" not in case.expected
        assert ("lm_head.weight" in case.shapes) is not tied


@pytest.mark.parametrize("name", goldens.gguf_names())
def test_gguf_cases_are_sound(name: str) -> None:
    case = goldens.gguf_case(name)
    assert case.path.read_bytes()[:4] == b"GGUF"
    quantised = set(case.golden.tags) != {"f32"}
    limit = 3e-2 if quantised else 1e-3 if name == "bert" else 1e-5
    assert 0 < case.golden.error(case.llama_cpp) <= limit
    assert [text for text, _ in case.tokens if text == ""]


def test_minilm_is_sound() -> None:
    golden = goldens.minilm()
    assert len(golden.texts) == len(golden.token_ids) == len(golden.embeddings) == 60
    assert np.allclose(np.linalg.norm(golden.embeddings, axis=1), 1, atol=1e-6)
    assert {ids[0] for ids in golden.token_ids} == {101} and {ids[-1] for ids in golden.token_ids} == {102}
    assert {len(ids) for ids in golden.token_ids} >= {2, 128, 129, 256}


def test_smollm2_is_sound() -> None:
    prompts = goldens.smollm2_prompts()
    assert [len(prompt.greedy) for prompt in prompts[:8]] == [64] * 8
    for prompt in prompts:
        steps = slice(len(prompt.ids) - 1, None)
        assert prompt.top_ids[steps, 0].tolist() == prompt.greedy
        lead = prompt.top_logits[steps, 0] - prompt.top_logits[steps, 1]
        assert np.abs(lead - prompt.gaps).max() < 1e-3 and prompt.gaps.min() > 0
        if prompt.logits is not None:
            best = np.argsort(-prompt.logits)[:32]
            assert best.tolist() == prompt.top_ids[len(prompt.ids) - 1].tolist()
    assert sum(prompt.logits is not None for prompt in prompts) == 2
    assert len(goldens.smollm2_tokens()) > 60


def test_all_test_files_stay_under_ten_megabytes() -> None:
    files = (path for path in Path(__file__).parent.rglob("*") if "__pycache__" not in path.parts)
    assert sum(path.stat().st_size for path in files if path.is_file()) < 10_000_000
