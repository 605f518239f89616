"""Tokenizers from GGUF metadata, token for token against llama.cpp, SentencePiece and transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from real_models import minilm
from text_models import gguf_keys, smollm2_metadata, stored

from rlxflow.errors import TokenizerError
from rlxflow.runtime.gguf_pre_tokenizers import PRE_TOKENIZERS
from rlxflow.runtime.gguf_tokenizer import tokenizer_from_gguf
from rlxflow.runtime.tokenizer import Tokenizer

BPE, SPM = stored("tokenizer_bpe"), stored("tokenizer_spm")
NAMES = {alias: name for name, aliases in BPE["aliases"].items() for alias in (name, *aliases)}


def bare(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


# --- byte-level BPE ---------------------------------------------------------------------------------


def test_smollm2_equals_llama_cpp_and_transformers() -> None:
    golden = stored("tokenizer_smollm2")
    tokenizer = tokenizer_from_gguf(smollm2_metadata())
    assert len(golden["texts"]) > 300
    for text, ids, theirs in zip(golden["texts"], golden["llama_cpp"], golden["transformers"], strict=True):
        assert bare(tokenizer, text) == ids == theirs, text
    for ids, text in zip(golden["transformers"], golden["decoded"], strict=True):
        assert tokenizer.decode(ids) == text


def test_smollm2_special_tokens() -> None:
    tokenizer = tokenizer_from_gguf(smollm2_metadata())
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id) == (1, 2, 0, 2)
    assert tokenizer.special.bos == "<|im_start|>"
    assert tokenizer.stop_ids == {2}
    assert tokenizer.vocab_size == 49152
    assert tokenizer.encode("hi") == bare(tokenizer, "hi")  # the file says: no BOS
    tokenizer.check_rows(49152)


@pytest.mark.parametrize("pre", NAMES)
def test_each_pre_tokenizer(pre: str) -> None:
    tokenizer = tokenizer_from_gguf(gguf_keys(BPE["keys"], pre=pre, add_eos_token=True))
    for text, ids in zip(BPE["texts"], BPE["ids"][NAMES[pre]], strict=True):
        assert ids is None or bare(tokenizer, text) == ids, text
    assert tokenizer.encode("one") == BPE["framed"][NAMES[pre]]


def test_every_supported_name_is_compared() -> None:
    assert set(NAMES) == set(PRE_TOKENIZERS)


def test_add_bos_is_the_files_word_first() -> None:
    def first(pre: str, add_bos: bool | None) -> bool:
        tokenizer = tokenizer_from_gguf(gguf_keys(BPE["keys"], pre=pre, add_bos_token=add_bos))
        return tokenizer.encode("one")[0] == tokenizer.bos_id

    assert [first("gpt-2", flag) for flag in (None, True, False)] == [False, True, False]
    assert [first("llama-bpe", flag) for flag in (None, True, False)] == [True, True, False]


def test_user_defined_tokens_stay_in_decoded_text_and_control_tokens_do_not() -> None:
    tokenizer = tokenizer_from_gguf(gguf_keys(BPE["keys"], pre="gpt-2"))
    ids = bare(tokenizer, "<|begin|>a<tool>b<|finish|>")
    assert tokenizer.decode(ids) == "a<tool>b"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|begin|>a<tool>b<|finish|>"


# --- SentencePiece ----------------------------------------------------------------------------------


def test_spm_equals_sentencepiece_and_llama_cpp() -> None:
    tokenizer = tokenizer_from_gguf(gguf_keys(SPM["keys"]))
    assert len(SPM["texts"]) > 300
    for text, ids, theirs in zip(SPM["texts"], SPM["sentencepiece"], SPM["llama_cpp"], strict=True):
        assert bare(tokenizer, text) == ids == theirs, text
    for ids, text in zip(SPM["sentencepiece"], SPM["decoded"], strict=True):
        assert tokenizer.decode(ids) == text


def test_spm_special_tokens_in_text() -> None:
    tokenizer = tokenizer_from_gguf(gguf_keys(SPM["keys"]))
    for text, ids in zip(SPM["special_texts"], SPM["special_ids"], strict=True):
        assert bare(tokenizer, text) == ids, text


def test_spm_without_space_prefix() -> None:
    tokenizer = tokenizer_from_gguf(gguf_keys(SPM["keys"], add_space_prefix=False))
    for text, ids in zip(SPM["texts"], SPM["no_prefix"], strict=True):
        assert bare(tokenizer, text) == ids, text


def test_spm_bos_and_eos_flags() -> None:
    assert tokenizer_from_gguf(gguf_keys(SPM["keys"], add_eos_token=True)).encode("one") == SPM["framed"]
    plain = tokenizer_from_gguf(gguf_keys(SPM["keys"]))
    assert plain.encode("") == [1]  # BOS unless the file says otherwise
    assert (plain.bos_id, plain.eos_id, plain.unk_id, plain.stop_ids) == (1, 2, 0, {2})
    assert tokenizer_from_gguf(gguf_keys(SPM["keys"], add_bos_token=False)).encode("") == []


# --- WordPiece --------------------------------------------------------------------------------------


def bert_keys(vocabulary: list[str]) -> dict[str, Any]:
    """WordPiece as ggml's converter writes it: `##` dropped, `▁` before words, `[…]` kept."""

    def spell(token: str) -> str:
        if token.startswith("##"):
            return token[2:]
        return token if token.startswith("[") and token.endswith("]") else "▁" + token

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return {
        "model": "bert",
        "tokens": [spell(token) for token in vocabulary],
        "token_type": [3 if token in special else 1 for token in vocabulary],
        "unknown_token_id": vocabulary.index("[UNK]"),
        "bos_token_id": vocabulary.index("[CLS]"),
        "seperator_token_id": vocabulary.index("[SEP]"),
        "padding_token_id": vocabulary.index("[PAD]"),
    }


def test_bert_equals_the_tokenizer_it_came_from() -> None:
    golden = stored("tokenizer_minilm")
    vocabulary = (minilm() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = tokenizer_from_gguf(gguf_keys(bert_keys(vocabulary)))
    for text, ids in zip(golden["texts"], golden["ids"], strict=True):
        assert tokenizer.encode(text) == ids, text
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.special.cls) == (0, 100, "[CLS]")


CASED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the", "cat", "##s", "é"]


def test_a_vocabulary_with_capitals_keeps_case_and_accents() -> None:
    cased = tokenizer_from_gguf(gguf_keys(bert_keys(CASED)))
    assert cased.encode("The the cats é") == [2, 5, 6, 7, 8, 9, 3]
    uncased = tokenizer_from_gguf(gguf_keys(bert_keys([t for t in CASED if t != "The"])))
    assert uncased.encode("The é") == [2, 5, 1, 3]


# --- what must be refused ---------------------------------------------------------------------------

TINY = {
    "model": "gpt2",
    "pre": "gpt-2",
    "tokens": ["a", "b", "ab", "<s>"],
    "token_type": [1, 1, 1, 3],
    "merges": ["a b"],
    "bos_token_id": 3,
}
TINY_SPM = {"model": "llama", "tokens": ["<unk>", "<s>", "</s>", "a"], "scores": [0.0, 0.0, 0.0, -1.0]}

METADATA: dict[str, tuple[dict[str, Any], str, str]] = {
    "K1-model-t5": ({**TINY, "model": "t5"}, "T020", "supported: bert, gpt2, llama"),
    "K1-model-rwkv": ({**TINY, "model": "rwkv"}, "T020", "supported: bert, gpt2, llama"),
    "K1-model-typo": ({**TINY, "model": "gpt-2"}, "T020", "did you mean 'gpt2'?"),
    "K1-pre-unknown": ({**TINY, "pre": "kimi-k2"}, "T020", "supported: deepseek-coder, deepseek-r1-qwen"),
    "K1-pre-typo": ({**TINY, "pre": "smolm"}, "T020", "did you mean 'smollm'?"),
    "K1-pre-missing": ({**TINY, "pre": None}, "T021", "put the model's tokenizer.json beside"),
    "K1-no-model": ({**TINY, "model": None}, "T021", "convert the model to GGUF again"),
    "K1-model-a-number": ({**TINY, "model": 2}, "T021", "convert the model to GGUF again"),
    "K1-no-tokens": ({**TINY, "tokens": None}, "T021", "convert the model to GGUF again"),
    "K1-empty-tokens": ({**TINY, "tokens": []}, "T021", "convert the model to GGUF again"),
    "K1-tokens-a-string": ({**TINY, "tokens": "abc"}, "T021", "convert the model to GGUF again"),
    "K1-tokens-of-numbers": ({**TINY, "tokens": [1, 2, 3, 4]}, "T021", "convert the model to GGUF again"),
    "K1-token-twice": ({**TINY, "tokens": ["a", "b", "ab", "a"]}, "T021", "convert the model to GGUF again"),
    "K1-token-not-utf8": (
        {**TINY, "tokens": ["a", "b", "ab", "\udcff"]},
        "T021",
        "convert the model to GGUF again",
    ),
    "K1-types-short": ({**TINY, "token_type": [1, 1]}, "T021", "convert the model to GGUF again"),
    "K1-types-float": ({**TINY, "token_type": [1.0, 1.0, 1.0, 3.0]}, "T021", "convert the model to GGUF"),
    "K1-no-merges": ({**TINY, "merges": None}, "T021", "convert the model to GGUF again"),
    "K1-merge-of-one": ({**TINY, "merges": ["ab"]}, "T021", "convert the model to GGUF again"),
    "K1-merge-outside": ({**TINY, "merges": ["a z"]}, "T021", "convert the model to GGUF again"),
    "K1-merge-result-outside": ({**TINY, "merges": ["b a"]}, "T021", "convert the model to GGUF again"),
    "K1-bos-beyond": ({**TINY, "bos_token_id": 4}, "T021", "convert the model to GGUF again"),
    "K1-bos-negative": ({**TINY, "bos_token_id": -1}, "T021", "convert the model to GGUF again"),
    "K1-bos-wanted-not-named": (
        {**TINY, "bos_token_id": None, "add_bos_token": True},
        "T021",
        "convert the model to GGUF again",
    ),
    "K1-flag-a-number": ({**TINY, "add_bos_token": 1}, "T021", "convert the model to GGUF again"),
    "K1-spm-no-scores": ({**TINY_SPM, "scores": None}, "T021", "convert the model to GGUF again"),
    "K1-spm-scores-short": ({**TINY_SPM, "scores": [0.0]}, "T021", "convert the model to GGUF again"),
    "K1-spm-score-nan": (
        {**TINY_SPM, "scores": [0.0, 0.0, 0.0, float("nan")]},
        "T021",
        "convert the model to GGUF again",
    ),
    "K1-bert-no-cls": ({"model": "bert", "tokens": ["▁a", "b"]}, "T021", "convert the model to GGUF again"),
    "K1-bert-equal": (
        {"model": "bert", "tokens": ["[UNK]", "[CLS]", "[SEP]", "b", "▁##b"]},
        "T021",
        "convert the model to GGUF again",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_malformed_metadata(case: str) -> None:
    keys, code, hint = METADATA[case]
    with pytest.raises(TokenizerError) as caught:
        tokenizer_from_gguf(gguf_keys(keys), where="model.gguf")
    assert caught.value.code == f"RLX-{code}"
    assert hint in caught.value.hint
    assert caught.value.where == "model.gguf"


def test_the_tiny_metadata_is_right_before_it_is_damaged() -> None:
    assert tokenizer_from_gguf(gguf_keys(TINY)).encode("abab") == [2, 2]
    assert tokenizer_from_gguf(gguf_keys(TINY_SPM)).encode("a") == [1, 0, 3]


def test_numpy_arrays_and_empty_tokens_are_read() -> None:
    keys = {**TINY, "tokens": ["a", "b", "ab", "<s>", ""], "token_type": np.array([1, 1, 1, 3, 1], np.int32)}
    keys["bos_token_id"] = np.uint32(3)
    tokenizer = tokenizer_from_gguf(gguf_keys(keys, add_bos_token=np.bool_(True)))
    assert tokenizer.encode("ab") == [3, 2]
    assert tokenizer.id_to_token(4) == "[EMPTY_4]"
