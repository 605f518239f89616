"""all-MiniLM-L6-v2 from its real directory, against sentence-transformers."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
import real_models

import rlxflow

MAX_ABS = 1e-5
MIN_COSINE = 0.999999


@pytest.fixture(scope="module")
def model() -> rlxflow.Model:
    return rlxflow.load(real_models.minilm())


@pytest.fixture(scope="module")
def golden() -> goldens.MiniLm:
    return goldens.minilm()


@pytest.fixture(scope="module")
def together(model: rlxflow.Model, golden: goldens.MiniLm) -> np.ndarray:
    with pytest.warns(rlxflow.TruncationWarning) as cut:  # once for the call, though it makes two batches
        found = model.embed(golden.texts)
    whole = model.require_tokenizer().encode_batch(golden.texts)
    assert [w.message.texts for w in cut] == [tuple(i for i, ids in enumerate(whole) if len(ids) > 256)]
    return found


def test_settings(model: rlxflow.Model) -> None:
    settings = model.embedding
    assert settings is not None
    assert (settings.pooling, settings.normalize, settings.max_length) == ("mean", True, 256)
    assert (model.max_positions, model.is_decoder) == (512, False)
    assert model.report.ok and not model.report.unexpected


def test_token_ids(model: rlxflow.Model, golden: goldens.MiniLm) -> None:
    ids = model.require_tokenizer().encode_batch(golden.texts, max_length=256)
    assert ids == golden.token_ids


def test_sixty_texts_agree_with_sentence_transformers(golden: goldens.MiniLm, together: np.ndarray) -> None:
    assert together.shape == (60, 384) and together.dtype == np.float32
    assert np.abs(together - golden.embeddings).max() <= MAX_ABS
    norms = np.linalg.norm(together, axis=1) * np.linalg.norm(golden.embeddings, axis=1)
    assert ((together * golden.embeddings).sum(1) / norms).min() >= MIN_COSINE


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_batch_size_changes_no_bit(
    batch_size: int, model: rlxflow.Model, golden: goldens.MiniLm, together: np.ndarray
) -> None:
    chosen = [i for i, ids in enumerate(golden.token_ids) if len(ids) < 60]
    assert len(chosen) > 20
    found = model.embed([golden.texts[i] for i in chosen], batch_size=batch_size)
    assert np.array_equal(found, together[chosen])


def test_order_is_kept(model: rlxflow.Model, golden: goldens.MiniLm, together: np.ndarray) -> None:
    chosen = [5, 0, 27, 12, 5, 3]
    found = model.embed([golden.texts[i] for i in chosen], batch_size=2)
    assert np.array_equal(found, together[chosen])


def test_one_string_and_none(model: rlxflow.Model, golden: goldens.MiniLm, together: np.ndarray) -> None:
    assert np.array_equal(model.embed(golden.texts[7]), together[7:8])
    assert np.array_equal(model.embed(""), together[[golden.texts.index("")]])
    assert model.embed([]).shape == (0, 384)
    assert np.array_equal(model.embed(text for text in golden.texts[5:7]), together[5:7])


def test_normalize(model: rlxflow.Model, golden: goldens.MiniLm, together: np.ndarray) -> None:
    texts = golden.texts[4:10]
    assert np.array_equal(model.embed(texts, normalize=True), together[4:10])
    plain = model.embed(texts, normalize=False)
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.1).all()
    assert np.abs(plain / lengths - together[4:10]).max() <= 1e-6


def test_the_model_is_callable_on_ids(
    model: rlxflow.Model, golden: goldens.MiniLm, together: np.ndarray
) -> None:
    result = model(input_ids=[golden.token_ids[8]])
    assert set(result) == {"last_hidden_state", "embedding"}
    assert result["last_hidden_state"].shape == (1, len(golden.token_ids[8]), 384)
    assert np.array_equal(result["embedding"][0], together[8])


@pytest.mark.parametrize("progress", [None, True])
def test_there_is_no_progress_without_stderr(
    model: rlxflow.Model, progress: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)  # as in a program with windows only
    assert model.embed("a text", progress=progress).shape == (1, 384)


def test_progress_is_drawn_on_stderr_only_when_asked(
    model: rlxflow.Model, capfd: pytest.CaptureFixture
) -> None:
    model.embed(["a", "b"])
    assert capfd.readouterr() == ("", "")
    model.embed(["a", "b"], progress=True)
    out, err = capfd.readouterr()
    assert not out and "embedding" in err and "/2" in err


@pytest.mark.parametrize(
    ("call", "code", "hint"),
    [
        (lambda m: m.embed(["a"], batch_size=0), "RLX-R022", "positive integer"),
        (lambda m: m.embed(["a"], batch_size=True), "RLX-R022", "positive integer"),
        (lambda m: m.embed(["a"], normalize="yes"), "RLX-R022", "True, False or None"),
        (lambda m: m.embed(None), "RLX-R028", "list of strings"),
        (lambda m: m.embed(b"abc"), "RLX-R028", "list of strings"),
        (lambda m: m.new_cache(), "RLX-R020", "embed"),
        (lambda m: m.embed(["a", 5]), "RLX-T010", "string"),
        (lambda m: m.embed([b"a"]), "RLX-T010", "decode it"),
        (lambda m: m.embed({"a": 1}), "RLX-R028", "list of strings"),
        (lambda m: m.embed({"a", "b"}), "RLX-R028", "list of strings"),
        (lambda m: m.embed(["a"], prompt_name="query"), "RLX-R023", "none"),
        (lambda m: m.generate("a"), "RLX-R020", "embed"),
    ],
)
def test_refusals(call, code: str, hint: str, model: rlxflow.Model) -> None:
    with pytest.raises(rlxflow.RlxError) as caught:
        call(model)
    assert caught.value.code == code
    assert hint in caught.value.hint
