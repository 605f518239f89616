"""Tiny random models from a directory on disk, through `rlxflow.load`, against Hugging Face in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goldens
import ml_dtypes
import numpy as np
import pytest
from model_files import model_inputs, run, write_golden, write_model

import rlxflow

TOLERANCE = 1e-5
CASES = [
    (model_type, name) for model_type in goldens.hf_model_types() for name in goldens.hf_names(model_type)
]


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_agrees_with_hugging_face(model_type: str, name: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden))
    actual = run(model, golden)
    assert golden.error(actual) <= TOLERANCE
    assert not actual[~golden.valid].any()
    assert model.report.params == sum(array.size for array in golden.weights.values())


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_padding_side_does_not_matter(model_type: str, name: str, tmp_path: Path) -> None:
    """Moving the padding to the other side moves the same bits."""
    golden = goldens.hf_case(model_type, name)
    model = rlxflow.load(write_golden(tmp_path, golden))
    actual = run(model, golden)
    (output,) = golden.expected
    lengths = golden.valid.sum(1)
    width = golden.valid.shape[1]
    left = bool((~golden.valid[:, 0]).any())

    def moved(array: np.ndarray) -> np.ndarray:
        shift = lengths - width if left else width - lengths
        return np.stack([np.roll(row, by, axis=0) for row, by in zip(array, shift, strict=True)])

    other = model(**{key: moved(value) for key, value in model_inputs(golden).items()})[output]
    assert np.array_equal(other, moved(actual))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize(
    ("model_type", "name"),
    [("bert", "plain"), ("llama", "all_biases"), ("qwen2", "mqa_tied"), ("qwen3", "attention_bias")],
)
def test_half_precision_checkpoints_are_their_rounded_values(
    model_type: str, name: str, dtype: Any, tmp_path: Path
) -> None:
    golden = goldens.hf_case(model_type, name)
    halves = {key: value.astype(dtype) for key, value in golden.weights.items()}
    rounded = {key: value.astype(np.float32) for key, value in halves.items()}
    stored = run(rlxflow.load(write_model(tmp_path / "half", golden.config, halves)), golden)
    widened = run(rlxflow.load(write_model(tmp_path / "full", golden.config, rounded)), golden)
    assert np.array_equal(stored, widened)
    assert golden.error(stored) > 1e-4  # rounding shows, so the half values were read


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_shards(model_type: str, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, "plain")
    model = rlxflow.load(write_model(tmp_path, golden.config, golden.weights, shards=3))
    assert golden.error(run(model, golden)) <= TOLERANCE


def _tied(name: str) -> tuple[goldens.Golden, dict[str, np.ndarray]]:
    golden = goldens.hf_case("llama", name)
    return golden, golden.weights


@pytest.mark.parametrize("stored", ["embedding", "both", "head"])
def test_tied_head_however_it_is_stored(stored: str, tmp_path: Path) -> None:
    golden, weights = _tied("gqa_tied")
    table = weights["model.embed_tokens.weight"]
    if stored != "embedding":
        weights["lm_head.weight"] = table.copy()
    if stored == "head":
        del weights["model.embed_tokens.weight"]
    model = rlxflow.load(write_model(tmp_path, golden.config, weights))
    assert golden.error(run(model, golden)) <= TOLERANCE
    assert len(model.graph.params) == len(golden.weights)  # one table, not two


def test_tied_head_stored_with_other_values_is_refused(tmp_path: Path) -> None:
    golden, weights = _tied("gqa_tied")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + np.float32(1e-3)
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.load(write_model(tmp_path, golden.config, weights))
    assert caught.value.code == "RLX-W037"
    assert "tie_word_embeddings" in caught.value.hint


def test_untied_head_that_is_missing_is_refused(tmp_path: Path) -> None:
    golden, weights = _tied("plain")
    del weights["lm_head.weight"]
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.load(write_model(tmp_path, golden.config, weights))
    assert caught.value.code == "RLX-W033"
    assert "lm_head.weight" in caught.value.message


def test_bert_with_prefix_and_old_norm_names(tmp_path: Path) -> None:
    """Task checkpoints put `bert.` before every name; ones from TensorFlow say gamma and beta."""
    golden = goldens.hf_case("bert", "plain")
    old = {
        "bert."
        + key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for key, value in golden.weights.items()
    }
    assert sum("gamma" in key for key in old) == 5
    extra = {
        "bert.embeddings.position_ids": np.arange(40, dtype=np.int64)[None],
        "bert.pooler.dense.weight": np.ones((48, 48), np.float32),
        "cls.predictions.bias": np.ones(101, np.float32),
    }
    model = rlxflow.load(write_model(tmp_path, golden.config, old | extra))
    assert golden.error(run(model, golden)) <= TOLERANCE
    assert model.report.prefix == "bert."
    assert set(model.report.ignored) == set(extra) and not model.report.unexpected


def test_a_base_checkpoint_without_prefix_model(tmp_path: Path) -> None:
    """Decoder weights saved without `model.` (a bare base model) still need their head."""
    golden, weights = _tied("gqa_tied")
    bare = {key.removeprefix("model."): value for key, value in weights.items()}
    with pytest.raises(rlxflow.RlxError) as caught:
        rlxflow.load(write_model(tmp_path, golden.config, bare))
    assert caught.value.code == "RLX-W033" and caught.value.hint


def test_old_checkpoints_with_rotary_buffers(tmp_path: Path) -> None:
    golden, weights = _tied("plain")
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(6, np.float32)}
    model = rlxflow.load(write_model(tmp_path, golden.config, weights | buffer))
    assert golden.error(run(model, golden)) <= TOLERANCE
    assert model.report.ignored == tuple(buffer)
