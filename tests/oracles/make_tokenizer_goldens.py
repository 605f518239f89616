"""Make `runtime/data/tokenizer_*.json`: token ids as llama.cpp, SentencePiece and Hugging Face compute them.

Run with transformers, sentencepiece, gguf and llama-cpp-python, and the two model packages:

    python tests/oracles/make_tokenizer_goldens.py DIRECTORY_OF_MINILM SMOLLM2_GGUF

- `minilm`: `transformers`' tokenizer of the MiniLM directory, whole and truncated; llama.cpp on a GGUF made
  from its vocabulary must agree wherever text is ASCII.
- `smollm2`: llama.cpp on the GGUF file, and `transformers`' conversion of the same file, its pre-tokenizer
  (GPT-2's, which GGUF's name `smollm` is not known to) replaced by SmolLM2's: single digits, then GPT-2.
- `bpe`: a small byte-level vocabulary whose merges cross words, digits and punctuation, so that each
  pre-tokenizer shows; llama.cpp under each name, and `transformers` where llama.cpp is known to differ.
- `spm`: a small SentencePiece BPE model; SentencePiece and llama.cpp, which must agree.
"""

from __future__ import annotations

import json
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import sentencepiece
from tokenizer_texts import texts
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, Qwen2Tokenizer
from transformers.integrations.gguf import convert_gguf_tokenizer

DATA = Path(__file__).parents[1] / "runtime" / "data"
# Names of pre-tokenizers, each with the names that mean the same.
PRES: dict[str, list[str]] = {
    "default": [],
    "gpt-2": ["phi-2", "roberta-bpe", "modern-bert"],
    "smollm": ["starcoder", "refact"],
    "llama-bpe": ["llama3", "llama-v3"],
    "qwen2": ["deepseek-r1-qwen"],
    "tekken": [],
    "deepseek-coder": [],
    "deepseek-v3": [],
}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def save(name: str, content: dict[str, Any]) -> None:
    path = DATA / f"tokenizer_{name}.json"
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def llama_ids(path: Path, add_special: bool = False) -> Callable[[str], list[int]]:
    """llama.cpp's tokenizer of a GGUF file; control tokens in the text are recognised."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: list(model.tokenize(text.encode(), add_bos=add_special, special=True))


def write_gguf(path: Path, keys: dict[str, Any]) -> Path:
    """A GGUF file with a vocabulary and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in keys.items():
        key = f"tokenizer.ggml.{key}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def minilm(directory: Path, scratch: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    cases = texts()
    whole = [tokenizer(text)["input_ids"] for text in cases]
    cut = [tokenizer(text, truncation=True, max_length=7)["input_ids"] for text in cases]
    bare = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in cases]
    back = [tokenizer.backend_tokenizer.decode(ids) for ids in whole]
    keys = bert_keys((directory / "vocab.txt").read_text(encoding="utf-8").splitlines())
    llama = llama_ids(write_gguf(scratch / "bert.gguf", keys), add_special=True)
    ascii_only = [
        i for i, text in enumerate(cases) if text.isascii() and text.isprintable() and "[" not in text
    ]
    # llama.cpp has no limit on a word's length; HF gives up at 100 characters.
    wrong = [cases[i] for i in ascii_only if llama(cases[i]) != whole[i]]
    print(f"minilm: llama.cpp differs on {len(wrong)} of {len(ascii_only)} ASCII texts: {wrong[:5]}")
    save("minilm", {"texts": cases, "ids": whole, "cut": cut, "bare": bare, "decoded": back})


def bert_keys(vocabulary: list[str]) -> dict[str, Any]:
    """WordPiece as GGUF has it: `##` dropped, `▁` before words, `[…]` kept."""

    def spell(token: str) -> str:
        if token.startswith("##"):
            return token[2:]
        return token if token.startswith("[") and token.endswith("]") else "▁" + token

    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    return {
        "model": "bert",
        "tokens": [spell(token) for token in vocabulary],
        "token_type": [CONTROL if token in special else NORMAL for token in vocabulary],
        "unknown_token_id": vocabulary.index("[UNK]"),
        "bos_token_id": vocabulary.index("[CLS]"),
        "seperator_token_id": vocabulary.index("[SEP]"),
        "padding_token_id": vocabulary.index("[PAD]"),
    }


def smollm2(path: Path) -> None:
    hf = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    hf.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    llama = llama_ids(path)
    cases = texts()
    ids = [llama(text) for text in cases]
    theirs = [hf(text, add_special_tokens=False)["input_ids"] for text in cases]
    wrong = [(text, a, b) for text, a, b in zip(cases, ids, theirs, strict=True) if a != b]
    print(f"smollm2: llama.cpp and transformers differ on {len(wrong)} of {len(cases)} texts")
    for text, a, b in wrong[:8]:
        print("   ", ascii(text), a, b)
    back = [hf.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in theirs]
    save("smollm2", {"texts": cases, "llama_cpp": ids, "transformers": theirs, "decoded": back})


def bpe(scratch: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    # llama.cpp takes every token that looks like an end of turn for a control token.
    tokenizer.train_from_iterator([text for text in texts() if "<|" not in text], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    # Words that no merge reaches show `ignore_merges`.
    tokens += ["zqzqz", "Ġzqzqz", "<|begin|>", "<|finish|>", "<tool>"]
    assert len(set(tokens)) == len(tokens)
    keys = {
        "model": "gpt2",
        "tokens": tokens,
        "token_type": [NORMAL] * (len(tokens) - 3) + [CONTROL, CONTROL, USER_DEFINED],
        "merges": [" ".join(merge) for merge in model["merges"]],
        "bos_token_id": len(tokens) - 3,
        "eos_token_id": len(tokens) - 2,
    }
    known = [text for text in texts()[:200] if "<|endoftext" not in text]  # special to HF by default
    cases = [*known, "zqzqz zqzqz zqzqz\n", "<tool>x</tool> <tool>", "<|begin|>a<|finish|>"]
    ids: dict[str, list[Any]] = {}
    framed = {}
    for pre, aliases in PRES.items():
        path = write_gguf(scratch / f"{pre}.gguf", keys | {"pre": pre, "add_eos_token": True})
        ids[pre] = [llama_ids(path)(text) for text in cases]
        framed[pre] = llama_ids(path, add_special=True)("one")
        for alias in aliases:
            path = write_gguf(scratch / f"{alias}.gguf", keys | {"pre": alias})
            assert [llama_ids(path)(text) for text in cases] == ids[pre], alias
    for pre in ("qwen2", "tekken"):
        ids[pre] = transformers_bpe(keys | {"pre": pre}, cases, ids[pre])
    # llama.cpp hides U+3000, a space, from the expression for Chinese, whose range holds it: not compared.
    for index, text in enumerate(cases):
        if "\u3000" in text:
            ids["deepseek-coder"][index] = None
    save("bpe", {"keys": keys, "texts": cases, "aliases": PRES, "ids": ids, "framed": framed})


def transformers_bpe(keys: dict[str, Any], cases: list[str], llama: list[list[int]]) -> list[list[int]]:
    """Where llama.cpp is known to differ: it does not bring text to NFC for Qwen 2, and cuts letters with
    marks and letters outside ASCII otherwise than Tekken. `transformers` has both, but not `ignore_merges`.
    """
    pre = keys["pre"]
    if pre == "qwen2":
        vocab = {token: i for i, token in enumerate(keys["tokens"])}
        merges = [tuple(merge.split(" ")) for merge in keys["merges"]]
        roles = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|finish|>")
        hf = Qwen2Tokenizer(vocab=vocab, merges=merges, bos_token="<|begin|>", **roles)
        hf.add_tokens(["<tool>"])
        backend = hf.backend_tokenizer
    else:
        names = {"model": "tokenizer_type", "pre": "pre_tokenizer_type"}
        backend, _ = convert_gguf_tokenizer("llama", {names.get(k, k): v for k, v in keys.items()})
    ids = [backend.encode(text, add_special_tokens=False).ids for text in cases]
    different = 0
    for index, text in enumerate(cases):
        if "zqzqz" in text:
            ids[index] = llama[index]
        elif unicodedata.is_normalized("NFC", text) and ids[index] != llama[index]:
            different += 1
            assert pre == "tekken" and not text.isascii(), text
    print(f"{pre}: transformers and llama.cpp differ on {different} texts that are NFC")
    return ids


def spm(scratch: Path) -> None:
    corpus = scratch / "corpus.txt"
    corpus.write_text(
        "\n".join(t.replace("\n", " ").replace("\x00", "") for t in texts() * 3), encoding="utf-8"
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(scratch / "spm"),
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["<tool>"],
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(str(scratch / "spm.model"))
    count = model.vocab_size()
    keys = {
        "model": "llama",
        "tokens": [model.id_to_piece(i) for i in range(count)],
        "scores": [float(model.get_score(i)) for i in range(count)],
        "token_type": [piece_type(model, i) for i in range(count)],
    }
    cases = [text for text in texts() if "<s>" not in text]
    path = write_gguf(scratch / "spm.gguf", keys)
    theirs = [llama_ids(path)(text) for text in cases]
    ids = [model.encode(text) for text in cases]
    wrong = [(t, a, b) for t, a, b in zip(cases, ids, theirs, strict=True) if a != b]
    print(f"spm: SentencePiece and llama.cpp differ on {len(wrong)} of {len(cases)} texts")
    for text, a, b in wrong[:8]:
        print("   ", ascii(text), a, b)
    no_prefix = llama_ids(write_gguf(scratch / "bare.gguf", keys | {"add_space_prefix": False}))
    framed = llama_ids(write_gguf(scratch / "eos.gguf", keys | {"add_eos_token": True}), add_special=True)
    special = ["<s>a</s> b<unk>c", "<tool>a <tool> b", "a</s>", "<s>"]
    save(
        "spm",
        {
            "keys": keys,
            "texts": cases,
            "sentencepiece": ids,
            "llama_cpp": theirs,
            "no_prefix": [no_prefix(text) for text in cases],
            "framed": framed("one"),
            "special_texts": special,
            "special_ids": [llama_ids(path)(text) for text in special],
            "decoded": [model.decode(row) for row in ids],
        },
    )


def piece_type(model: sentencepiece.SentencePieceProcessor, token_id: int) -> int:
    if model.is_unknown(token_id):
        return UNKNOWN
    if model.is_control(token_id):
        return CONTROL
    if model.is_byte(token_id):
        return BYTE
    return USER_DEFINED if model.id_to_piece(token_id) == "<tool>" else NORMAL


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        minilm(Path(sys.argv[1]), Path(scratch))
        smollm2(Path(sys.argv[2]))
        bpe(Path(scratch))
        spm(Path(scratch))


if __name__ == "__main__":
    main()
