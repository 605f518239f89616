"""The text pipeline over every encoder: sentence-transformers settings, and how long a text may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
import tokenizers
from model_files import write_golden, write_json

import rlxflow

ENCODERS = [t for t in goldens.hf_model_types() if t not in goldens.hf_decoders()]
TEXTS = ["w7 w33 w9", "w5", " ".join(f"w{i % 90 + 5}" for i in range(300)), ""]


def sentence_model(folder: Path, golden: goldens.Golden, pooling: str, normalize: bool) -> Path:
    """A directory as sentence-transformers writes it, with a tokenizer that knows w5 … w94."""
    write_golden(folder, golden)
    vocabulary = {"<s>": 2, "</s>": 3, "<pad>": 1, "<unk>": 4} | {f"w{i}": i for i in range(5, 95)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()  # type: ignore[assignment]
    template = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    tokenizer.post_processor = template  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    kinds = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {f"pooling_mode_{pooling}": True})
    return folder


@pytest.mark.parametrize(("pooling", "normalize"), [("mean_tokens", True), ("cls_token", False)])
@pytest.mark.parametrize("model_type", ENCODERS)
def test_texts_to_vectors(model_type: str, pooling: str, normalize: bool, tmp_path: Path) -> None:
    golden = goldens.hf_case(model_type, "plain")
    model = rlxflow.load(sentence_model(tmp_path / "model", golden, pooling, normalize))
    with pytest.warns(rlxflow.TruncationWarning, match=f"{model.max_positions} tokens: 1 of 4") as cut:
        found = model.embed(TEXTS, batch_size=3, progress=False)
    assert [warning.filename for warning in cut] == [__file__]
    for text, vector in zip(TEXTS, found, strict=True):
        words = [int(word[1:]) for word in text.split()][: (model.max_positions or 0) - 2]
        hidden: Any = model(input_ids=np.array([[2, *words, 3]]))["last_hidden_state"][0]
        expected = hidden.mean(0) if pooling == "mean_tokens" else hidden[0]
        if normalize:
            expected = expected / np.linalg.norm(expected)
        assert np.abs(vector - expected).max() <= 1e-5
    assert len(found) == len(TEXTS)
