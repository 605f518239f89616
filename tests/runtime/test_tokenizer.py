"""tokenizer.json through the wrapper: ids against transformers, and how a file or a text can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_models import minilm
from text_models import stored

from rlxflow.errors import TokenizerError
from rlxflow.runtime.tokenizer import MAX_TEXT_CHARS, Tokenizer

GOLDEN = stored("tokenizer_minilm")


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    return Tokenizer.from_file(minilm() / "tokenizer.json")


def small() -> dict[str, Any]:
    """A tokenizer.json of eight words, as plain data."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##d"]
    added = [
        {"id": i, "content": words[i], "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i in range(4)
    ]
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 12},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "BertProcessing",
            "sep": ["[SEP]", 3],
            "cls": ["[CLS]", 2],
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(words)},
        },
    }


def write(directory: Path, content: Any = None, **beside: Any) -> Path:
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(small() if content is None else content))
    for name, value in beside.items():
        (directory / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# --- against transformers ---------------------------------------------------------------------------


def test_ids_equal_transformers(bert: Tokenizer) -> None:
    for text, ids in zip(GOLDEN["texts"], GOLDEN["ids"], strict=True):
        assert bert.encode(text) == ids, text


def test_ids_without_special_tokens_equal_transformers(bert: Tokenizer) -> None:
    assert bert.encode_batch(GOLDEN["texts"], add_special_tokens=False) == GOLDEN["bare"]


def test_truncated_ids_equal_transformers(bert: Tokenizer) -> None:
    assert bert.encode_batch(GOLDEN["texts"], max_length=7) == GOLDEN["cut"]
    longer = [i for i, ids in enumerate(bert.encode_batch(GOLDEN["texts"])) if len(ids) > 7]
    assert bert.encode_within(GOLDEN["texts"], 7) == (GOLDEN["cut"], longer)
    for text, ids in zip(GOLDEN["texts"], GOLDEN["cut"], strict=True):
        assert bert.encode(text, max_length=7) == ids, text


def test_decoded_text_equals_transformers(bert: Tokenizer) -> None:
    for ids, text in zip(GOLDEN["ids"], GOLDEN["decoded"], strict=True):
        assert bert.decode(ids) == text


# --- the wrapper ------------------------------------------------------------------------------------


def test_empty_text_is_its_special_tokens(bert: Tokenizer) -> None:
    assert bert.encode("") == [101, 102]
    assert bert.encode("", add_special_tokens=False) == []
    assert bert.encode_batch([]) == []


def test_the_files_own_truncation_and_padding_are_off(bert: Tokenizer, tmp_path: Path) -> None:
    assert len(bert.encode("word " * 300)) == 302
    tokenizer = Tokenizer.from_file(write(tmp_path))
    assert tokenizer.encode("a b c") == [2, 4, 5, 6, 3]


def test_truncation_to_the_special_tokens_alone(bert: Tokenizer) -> None:
    assert bert.encode("hello", max_length=2) == [101, 102]
    assert bert.encode("hello world", max_length=1, add_special_tokens=False) == [7592]


def test_special_tokens_are_read_from_the_files_beside(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        tokenizer_config={"pad_token": {"content": "[PAD]"}, "bos_token": None},
        special_tokens_map={"bos_token": "[CLS]", "pad_token": "a"},
        generation_config={"eos_token_id": [3, 5]},
        config={"eos_token_id": 6, "unk_token_id": 1},
    )
    tokenizer = Tokenizer.from_file(path)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 2, 3, 1)
    assert tokenizer.special.bos == "[CLS]"
    assert tokenizer.stop_ids == {3, 5}


def test_stop_ids_fall_back_to_the_config_then_to_the_end_token(tmp_path: Path) -> None:
    assert Tokenizer.from_file(write(tmp_path)).stop_ids == frozenset()
    assert Tokenizer.from_file(write(tmp_path, tokenizer_config={"eos_token": "[SEP]"})).stop_ids == {3}
    assert Tokenizer.from_file(write(tmp_path, config={"eos_token_id": 6})).stop_ids == {6}


def test_a_special_token_outside_the_vocabulary_has_no_id(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(write(tmp_path, tokenizer_config={"pad_token": "<nowhere>"}))
    assert (tokenizer.special.pad, tokenizer.pad_id) == ("<nowhere>", None)


def test_vocabulary_lookups(bert: Tokenizer) -> None:
    assert bert.vocab_size == 30522
    assert bert.token_to_id("[MASK]") == 103
    assert bert.token_to_id("no such token") is None
    assert bert.id_to_token(7592) == "hello"
    assert bert.id_to_token(30522) is None
    bert.check_rows(30522)


def test_numpy_ids_are_ids_and_unknown_ids_add_nothing(bert: Tokenizer) -> None:
    assert bert.decode(np.array([101, 7592, 4_000_000, 102])) == "hello"  # type: ignore[arg-type]
    assert bert.decode([101, 7592], skip_special_tokens=False) == "[CLS] hello"


# --- what must be refused ---------------------------------------------------------------------------


def edited(*path: Any, to: Any) -> dict[str, Any]:
    content = small()
    inner: Any = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return content


FILES = {
    "K1-truncated": (json.dumps(small())[:-100], "T002", "download it again"),
    "K1-empty": ("", "T002", "get it again"),
    "K1-not-json": ("<!DOCTYPE html>", "T002", "download it again"),
    "K1-a-list": ("[]", "T002", "get tokenizer.json again"),
    "K1-a-number": ("3", "T002", "get tokenizer.json again"),
    "K1-null": ("null", "T002", "get tokenizer.json again"),
    "K1-duplicate-key": ('{"version": "1.0", "version": "1.0"}', "T002", "download it again"),
    "K1-nan": ('{"version": NaN}', "T002", "download it again"),
    "K1-deep": ("[" * 100_000, "T002", "download it again"),
    "K1-no-model": (edited("model", to=None), "T002", "get tokenizer.json again"),
    "K1-unknown-model": (edited("model", "type", to="Telepathy"), "T002", "get tokenizer.json again"),
    "K1-unknown-normalizer": (edited("normalizer", to={"type": "Nope"}), "T002", "get tokenizer.json again"),
    "K1-id-not-a-number": (edited("model", "vocab", "a", to="four"), "T002", "get tokenizer.json again"),
    "K1-id-negative": (edited("model", "vocab", "a", to=-1), "T002", "get tokenizer.json again"),
    "K1-id-over-u32": (edited("model", "vocab", "a", to=2**40), "T002", "get tokenizer.json again"),
    "K1-added-token-twice": (
        edited("added_tokens", to=[*small()["added_tokens"], {**small()["added_tokens"][0], "id": 5}]),
        "T002",
        "get tokenizer.json again",
    ),
    "K1-added-id-twice": (
        edited("added_tokens", to=[*small()["added_tokens"], {**small()["added_tokens"][0], "content": "x"}]),
        "T002",
        "get tokenizer.json again",
    ),
    "K1-added-id-far-beyond": (
        edited("added_tokens", 0, "id", to=99_999_999),
        "T002",
        "get tokenizer.json again",
    ),
    "K1-bad-charsmap": (
        edited("normalizer", to={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "T002",
        "get tokenizer.json again",
    ),
    "K1-bad-expression": (
        edited(
            "pre_tokenizer",
            to={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
        ),
        "T002",
        "get tokenizer.json again",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_malformed_tokenizer_file(case: str, tmp_path: Path) -> None:
    content, code, hint = FILES[case]
    path = tmp_path / "tokenizer.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_file(path)
    assert caught.value.code == f"RLX-{code}"
    assert hint in caught.value.hint
    assert "tokenizer.json" in caught.value.where
    assert "\n" not in caught.value.message


def test_missing_directory_and_huge_files(tmp_path: Path) -> None:
    for name in ("nothing.json", "."):
        with pytest.raises(TokenizerError) as caught:
            Tokenizer.from_file(tmp_path / name)
        assert caught.value.code == "RLX-T001"
        assert "put tokenizer.json beside the weights" in caught.value.hint
    huge = tmp_path / "tokenizer.json"
    with huge.open("wb") as file:
        file.truncate(65 << 20)  # sparse
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_file(huge)
    assert caught.value.code == "RLX-T002"
    assert "check the download" in caught.value.hint


BESIDE = {
    "K1-config-not-json": ("tokenizer_config", "{"),
    "K1-config-a-list": ("tokenizer_config", "[]"),
    "K1-token-a-number": ("tokenizer_config", '{"eos_token": 3}'),
    "K1-token-content-missing": ("special_tokens_map", '{"pad_token": {"content": 1}}'),
    "K1-stop-id-a-string": ("generation_config", '{"eos_token_id": "2"}'),
    "K1-stop-id-negative": ("generation_config", '{"eos_token_id": [2, -5]}'),
    "K1-stop-id-a-bool": ("config", '{"eos_token_id": true}'),
    "K1-stop-id-huge": ("config", '{"bos_token_id": 4294967296}'),
}


@pytest.mark.parametrize("case", BESIDE)
def test_malformed_settings_beside(case: str, tmp_path: Path) -> None:
    name, text = BESIDE[case]
    path = write(tmp_path, **{name: text})
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_file(path)
    assert caught.value.code == "RLX-T003"
    assert "download it again" in caught.value.hint
    assert f"{name}.json" in caught.value.where


@pytest.mark.parametrize("length", [1000, *range(0, 900, 13)])
def test_every_truncation_is_refused(length: int, tmp_path: Path) -> None:
    data = json.dumps(small()).encode()
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data[: min(length, len(data) - 1)])
    with pytest.raises(TokenizerError):
        Tokenizer.from_file(path)


def test_flipped_bytes_load_or_are_refused(tmp_path: Path) -> None:
    data = json.dumps(small()).encode()
    path = tmp_path / "tokenizer.json"
    refused = 0
    for at in range(len(data)):
        for value in (0x00, 0xFF, data[at] ^ 1, data[at] ^ 0x80):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            try:
                Tokenizer.from_file(path).encode("a b x")
            except TokenizerError:
                refused += 1
    assert refused > len(data) * 3


TEXTS = {
    "K3-bytes": (b"abc", "of type bytes where a string is expected", "decode it"),
    "K3-none": (None, "of type NoneType where a string is expected", "strings"),
    "K3-number": (3, "of type int where a string is expected", "strings"),
    "K3-lone-surrogate": ("ok\ud800", "half of a surrogate pair at character 2", "whole Unicode characters"),
    "K3-not-utf-8": ("caf\udce9", "not UTF-8: it holds the byte 0xe9 at character 3", "iconv"),
    "K3-too-long": ("x" * (MAX_TEXT_CHARS + 1), "more than the limit of 16,777,216", "strings"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_cannot_be_tokenised(case: str, bert: Tokenizer) -> None:
    text, words, hint = TEXTS[case]
    calls = {
        "tokenizer.json": lambda: bert.encode(text),
        "texts[1]": lambda: bert.encode_batch(["fine", text]),
    }
    for where, attempt in calls.items():
        with pytest.raises(TokenizerError) as caught:
            attempt()
        assert caught.value.code == "RLX-T010"
        assert words in caught.value.message and hint in caught.value.hint
        assert caught.value.where.endswith(where)


def test_one_string_is_not_a_batch(bert: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="one string") as caught:
        bert.encode_batch("abc")
    assert caught.value.code == "RLX-T010"


def test_ten_megabytes_are_fine(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(write(tmp_path))
    assert tokenizer.encode("x" * 10_000_000 + " b") == [2, 1, 5, 3]


@pytest.mark.parametrize("length", [1, 0, -1, True, 2.0, "8"])
def test_max_length_without_room(length: Any, bert: Tokenizer) -> None:
    with pytest.raises(TokenizerError) as caught:
        bert.encode("hello", max_length=length)
    assert caught.value.code == "RLX-T011"
    assert "at least 3" in caught.value.hint


@pytest.mark.parametrize("token_id", [-1, 2**32, 1.0, "1", None, True])
def test_what_is_not_an_id(token_id: Any, bert: Tokenizer) -> None:
    with pytest.raises(TokenizerError) as caught:
        bert.decode([101, token_id])
    assert caught.value.code == "RLX-T012"
    assert "integers from 0" in caught.value.hint


def test_ids_beyond_the_models_rows(bert: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="2 tokens have ids beyond the model's 30520") as caught:
        bert.check_rows(30520)
    assert caught.value.code == "RLX-T013"
    assert "belongs to another model" in caught.value.hint
    assert caught.value.details["ids"] == [30520, 30521]
