"""Sentence-transformers settings: what each file means, what is refused, and damage to every byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from model_files import model_inputs, write_golden, write_json

import rlxflow
from rlxflow.errors import ConfigError
from rlxflow.runtime.embedding_settings import EmbeddingSettings, read_embedding_settings

TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
MEAN = {"word_embedding_dimension": 48, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
CLS = {"word_embedding_dimension": 48, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
BERT, TEXTS = "sentence_bert_config.json", "config_sentence_transformers.json"


def write_settings(folder: Path, files: dict[str, Any]) -> Path:
    """The usual files of a model that pools by the mean, with some of them replaced (None: left out)."""
    usual = {"modules.json": [TRANSFORMER, POOLING], "1_Pooling/config.json": MEAN}
    for name, content in {**usual, **files}.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder / name, content)
    return folder


MEANINGS: dict[str, tuple[dict[str, Any], EmbeddingSettings | None]] = {
    "mean": ({}, EmbeddingSettings("mean")),
    "cls": ({"1_Pooling/config.json": CLS}, EmbeddingSettings("cls")),
    "new-spelling": ({"1_Pooling/config.json": {"pooling_mode": "cls"}}, EmbeddingSettings("cls")),
    "one-in-a-list": ({"1_Pooling/config.json": {"pooling_mode": ["mean"]}}, EmbeddingSettings("mean")),
    "normalize": ({"modules.json": [TRANSFORMER, POOLING, NORMALIZE]}, EmbeddingSettings("mean", True)),
    "new-module-paths": (
        {
            "modules.json": [
                {**TRANSFORMER, "type": "sentence_transformers.base.modules.transformer.Transformer"},
                {**POOLING, "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
            ]
        },
        EmbeddingSettings("mean"),
    ),
    "length": ({BERT: {"max_seq_length": 128}}, EmbeddingSettings("mean", max_length=128)),
    "length-null": ({BERT: {"max_seq_length": None}}, EmbeddingSettings("mean")),
    "length-of-the-tokenizer": (
        {BERT: {}, "tokenizer_config.json": {"model_max_length": 64}},
        EmbeddingSettings("mean", max_length=64),
    ),
    "length-none": ({"tokenizer_config.json": {"model_max_length": 10**30}}, EmbeddingSettings("mean")),
    "lower-case": ({BERT: {"do_lower_case": True}}, EmbeddingSettings("mean", lower_case=True)),
    "prompts": (
        {TEXTS: {"prompts": {"query": "query: ", "passage": ""}, "default_prompt_name": "query"}},
        EmbeddingSettings("mean", prompts={"query": "query: ", "passage": ""}, default_prompt="query"),
    ),
    "prompts-null": ({TEXTS: {"prompts": None, "default_prompt_name": None}}, EmbeddingSettings("mean")),
    "prompt-in-no-use": (
        {"1_Pooling/config.json": {**MEAN, "include_prompt": False}, TEXTS: {"prompts": {"document": ""}}},
        EmbeddingSettings("mean", prompts={"document": ""}),
    ),
    "no-modules": ({"modules.json": None}, None),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case: str, tmp_path: Path) -> None:
    files, expected = MEANINGS[case]
    assert read_embedding_settings(write_settings(tmp_path, files)) == expected


def modules(*entries: Any) -> dict[str, Any]:
    return {"modules.json": list(entries)}


def pooling(config: Any) -> dict[str, Any]:
    return {"1_Pooling/config.json": config}


DOWNLOAD, SUPPORTED, FOLDER = "download", "supported: mean or cls", "a folder of the model"
LINE, NOT_SUPPORTED = "supported: Transformer, Pooling", "not supported"

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "modules-object": ({"modules.json": {"0": TRANSFORMER}}, "RLX-C021", DOWNLOAD),
    "modules-of-strings": (modules("Transformer", "Pooling"), "RLX-C021", DOWNLOAD),
    "no-module": (modules(), "RLX-C021", LINE),
    "no-pooling": (modules(TRANSFORMER), "RLX-C021", LINE),
    "two-poolings": (modules(TRANSFORMER, POOLING, POOLING), "RLX-C021", LINE),
    "wrong-order": (modules(TRANSFORMER, NORMALIZE, POOLING), "RLX-C021", LINE),
    "dense": (
        modules(TRANSFORMER, POOLING, {**POOLING, "type": "sentence_transformers.models.Dense"}),
        "RLX-C021",
        LINE,
    ),
    "foreign-module": (modules({**TRANSFORMER, "type": "my.Transformer"}, POOLING), "RLX-C021", LINE),
    "no-type": (modules({"path": ""}, POOLING), "RLX-C021", LINE),
    "transformer-in-a-folder": (
        modules({**TRANSFORMER, "path": "0_Transformer"}, POOLING),
        "RLX-C021",
        "the directory itself",
    ),
    "path-up": (modules(TRANSFORMER, {**POOLING, "path": "../1_Pooling"}), "RLX-C021", FOLDER),
    "path-absolute": (modules(TRANSFORMER, {**POOLING, "path": "/etc"}), "RLX-C021", FOLDER),
    "path-dots": (modules(TRANSFORMER, {**POOLING, "path": ".."}), "RLX-C021", FOLDER),
    "path-backslash": (modules(TRANSFORMER, {**POOLING, "path": "a\\..\\b"}), "RLX-C021", FOLDER),
    "path-nul": (modules(TRANSFORMER, {**POOLING, "path": "1_Pooling\0"}), "RLX-C021", FOLDER),
    "path-newline": (modules(TRANSFORMER, {**POOLING, "path": "1_Pooling\n"}), "RLX-C021", FOLDER),
    "path-empty": (modules(TRANSFORMER, {**POOLING, "path": ""}), "RLX-C021", FOLDER),
    "path-number": (modules(TRANSFORMER, {**POOLING, "path": 1}), "RLX-C021", FOLDER),
    "path-missing": (modules(TRANSFORMER, {**POOLING, "path": "2_Pooling"}), "RLX-C020", "check the path"),
    "pooling-list": (pooling([MEAN]), "RLX-C021", DOWNLOAD),
    "pooling-nothing": (pooling({}), "RLX-C021", SUPPORTED),
    "pooling-two": (pooling({**MEAN, "pooling_mode_cls_token": True}), "RLX-C021", SUPPORTED),
    "pooling-max": (pooling({"pooling_mode_max_tokens": True}), "RLX-C021", SUPPORTED),
    "pooling-last": (pooling({"pooling_mode_lasttoken": True}), "RLX-C021", SUPPORTED),
    "pooling-by-name": (pooling({"pooling_mode": "lasttoken"}), "RLX-C021", SUPPORTED),
    "pooling-nested-list": (pooling({"pooling_mode": [["mean"]]}), "RLX-C021", SUPPORTED),
    "pooling-both": (pooling({"pooling_mode": ["mean", "cls"]}), "RLX-C021", SUPPORTED),
    "pooling-number": (pooling({"pooling_mode": 1}), "RLX-C021", SUPPORTED),
    "length-zero": ({BERT: {"max_seq_length": 0}}, "RLX-C021", "number of tokens"),
    "length-two": ({BERT: {"max_seq_length": 2}}, "RLX-C021", "number of tokens"),
    "length-negative": ({BERT: {"max_seq_length": -1}}, "RLX-C021", "number of tokens"),
    "length-float": ({BERT: {"max_seq_length": 256.0}}, "RLX-C021", "number of tokens"),
    "length-string": ({BERT: {"max_seq_length": "256"}}, "RLX-C021", "number of tokens"),
    "length-bool": ({BERT: {"max_seq_length": True}}, "RLX-C021", "number of tokens"),
    "tokenizer-length-string": (
        {"tokenizer_config.json": {"model_max_length": "64"}},
        "RLX-C021",
        "number of tokens",
    ),
    "lower-case-string": ({BERT: {"do_lower_case": "yes"}}, "RLX-C021", "true or false"),
    "bert-config-list": ({BERT: [256]}, "RLX-C021", DOWNLOAD),
    "task": ({BERT: {"transformer_task": "text-generation"}}, "RLX-C021", NOT_SUPPORTED),
    "processing": ({BERT: {"processing_kwargs": {"text": {"padding": True}}}}, "RLX-C021", NOT_SUPPORTED),
    "truncate-dim": ({TEXTS: {"truncate_dim": 32}}, "RLX-C021", NOT_SUPPORTED),
    "prompts-list": ({TEXTS: {"prompts": ["query: "]}}, "RLX-C021", DOWNLOAD),
    "prompts-numbers": ({TEXTS: {"prompts": {"query": 1}}}, "RLX-C021", DOWNLOAD),
    "default-prompt": (
        {TEXTS: {"prompts": {"query": "q: "}, "default_prompt_name": "qery"}},
        "RLX-C021",
        "did you mean 'query'?",
    ),
    "default-prompt-number": ({TEXTS: {"default_prompt_name": 3}}, "RLX-C021", "one of the prompts"),
    "prompt-not-pooled": (
        {TEXTS: {"prompts": {"query": "q: "}}, **pooling({**MEAN, "include_prompt": False})},
        "RLX-C021",
        NOT_SUPPORTED,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    files, code, hint = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        read_embedding_settings(write_settings(tmp_path, files))
    error = caught.value
    assert error.code == code and hint in error.hint, error
    assert error.where.startswith(str(tmp_path)) and error.message.isprintable()


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", BERT, TEXTS])
def test_files_that_are_not_json(name: str, tmp_path: Path) -> None:
    folder = write_settings(tmp_path, {BERT: {}, TEXTS: {}})
    for content in (b"", b"{", b"\xff", b"NaN", b"[" * 10_000):
        (folder / name).write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_embedding_settings(folder)
        assert caught.value.code == "RLX-C020" and caught.value.hint


def test_damage_to_every_byte(tmp_path: Path) -> None:
    """Every prefix of each file, and every byte replaced: settings, or a `ConfigError`."""
    files = {
        "modules.json": [TRANSFORMER, POOLING, NORMALIZE],
        "1_Pooling/config.json": MEAN,
        BERT: {"max_seq_length": 128, "do_lower_case": False},
    }
    folder = write_settings(tmp_path, files)
    for name, content in files.items():
        data = json.dumps(content, separators=(",", ":")).encode()
        variants = [data[:end] for end in range(len(data))]
        for at, byte in enumerate(data):
            variants += [data[:at] + bytes([b]) + data[at + 1 :] for b in (0, byte ^ 1, byte ^ 128)]
        for variant in variants:
            (folder / name).write_bytes(variant)
            try:
                assert read_embedding_settings(folder) is not None
            except ConfigError as error:
                assert error.code in ("RLX-C020", "RLX-C021") and error.hint
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_pooled_outputs(mode: str, normalize: bool, tmp_path: Path) -> None:
    """Against NumPy on the golden hidden states; padding on the left."""
    golden = goldens.hf_case("bert", "left_padding")
    folder = write_golden(tmp_path, golden)
    pipeline = [TRANSFORMER, POOLING, NORMALIZE] if normalize else [TRANSFORMER, POOLING]
    write_settings(folder, {"modules.json": pipeline, **pooling(MEAN if mode == "mean" else CLS)})
    model = rlxflow.load(folder)
    found = model(**model_inputs(golden))
    assert set(found) == {"last_hidden_state", "embedding"}
    hidden, valid = golden.expected["last_hidden_state"].astype(np.float64), golden.valid
    if mode == "mean":
        expected = (hidden * valid[..., None]).sum(1) / valid.sum(1, keepdims=True)
    else:
        expected = hidden[np.arange(len(valid)), valid.argmax(1)]
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert goldens.error(found["embedding"], expected) <= 1e-5
