"""A `Tokenizer` from GGUF metadata: byte-level BPE (gpt2), SentencePiece BPE (llama), WordPiece (bert)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from rlxflow.errors import TokenizerError, nearest, printable
from rlxflow.runtime.gguf_pre_tokenizers import PRE_TOKENIZERS
from rlxflow.runtime.gguf_vocab import BYTE, CONTROL, UNKNOWN, USER_DEFINED, GgufVocab, read_vocab
from rlxflow.runtime.special_tokens import SpecialTokens
from rlxflow.runtime.tokenizer import Tokenizer, refusing

if TYPE_CHECKING:
    import tokenizers

_SPACE = "▁"
_DAMAGED = "convert the model to GGUF again, or put the model's tokenizer.json beside the file"


def tokenizer_from_gguf(metadata: Mapping[str, Any], where: str = "GGUF metadata") -> Tokenizer:
    """Build the tokenizer that a GGUF file's `tokenizer.ggml.*` keys describe.

    Control tokens become special tokens, user-defined ones plain added tokens; `add_bos_token`,
    `add_eos_token` and (SentencePiece only, as in llama.cpp) `add_space_prefix` are honoured. Raises
    `TokenizerError`: T020 a model or `pre` that is not supported, T021 missing or contradictory metadata.
    """
    vocab = read_vocab(metadata, where)
    if vocab.model not in _BUILDERS:
        _unsupported("tokenizer model", vocab.model, _BUILDERS, where)
    with refusing("the GGUF vocabulary makes no tokenizer", code="RLX-T021", where=where, hint=_DAMAGED):
        backend, special = _BUILDERS[vocab.model](vocab)
        _add_tokens(backend, vocab)
    return Tokenizer(backend, special, where, len(vocab.tokens))


def _byte_level_bpe(vocab: GgufVocab) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """GPT-2's scheme: bytes written as printable characters, words cut by the family's expressions."""
    from tokenizers import Regex, Tokenizer as Backend, decoders, models, normalizers, pre_tokenizers

    if vocab.pre is None:
        vocab.refuse("names no pre-tokenizer (tokenizer.ggml.pre), so words cannot be cut as in training")
    if vocab.pre not in PRE_TOKENIZERS:
        _unsupported("pre-tokenizer", vocab.pre, PRE_TOKENIZERS, vocab.where)
    if vocab.merges is None:
        vocab.refuse("has no tokenizer.ggml.merges")
    pre = PRE_TOKENIZERS[vocab.pre]
    merges = _merges(vocab, vocab.merges)
    backend = Backend(models.BPE(vocab.ids, merges, ignore_merges=pre.ignore_merges))
    if pre.nfc:
        backend.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(split), "isolated") for split in pre.splits]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    backend.decoder = decoders.ByteLevel()
    add_bos = pre.add_bos if vocab.add_bos is None else vocab.add_bos
    _frame(backend, vocab, "bos" if add_bos else None, "eos" if vocab.add_eos else None)
    return backend, _special(vocab)


def _sentencepiece_bpe(vocab: GgufVocab) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """SentencePiece's BPE: no words, `▁` for a space, characters outside the vocabulary as bytes.

    SentencePiece merges the pair whose joined piece has the best score; `tokenizers` merges by rank, so
    the merges are every split of every piece into two pieces, best score first.
    """
    from tokenizers import Tokenizer as Backend, decoders, models, normalizers

    if vocab.scores is None:
        vocab.refuse("has no tokenizer.ggml.scores")
    defaults = {"unk": 0, "bos": 1, "eos": 2}
    special_ids = {**{k: v for k, v in defaults.items() if v < len(vocab.tokens)}, **vocab.special_ids}
    add_prefix = vocab.add_space_prefix is not False
    backend = Backend(
        models.BPE(
            vocab.ids,
            _merges_by_score(vocab, vocab.scores),
            unk_token=vocab.tokens[special_ids["unk"]],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    # The prefix is added to every stretch between special tokens, even before a space (unlike Metaspace).
    prefix = [normalizers.Prepend(_SPACE)] if add_prefix else []
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if add_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    add_bos = vocab.add_bos is not False
    _frame(backend, vocab, "bos" if add_bos else None, "eos" if vocab.add_eos else None, special_ids)
    return backend, _special(vocab, special_ids)


def _word_piece(vocab: GgufVocab) -> tuple[tokenizers.Tokenizer, SpecialTokens]:
    """BERT's WordPiece. GGUF writes `▁word` and `suffix` for `word` and `##suffix`; `[…]` stays.

    Nothing says whether text is lower-cased; it is when no ordinary token has an upper-case letter.
    """
    from tokenizers import Tokenizer as Backend, decoders, models, normalizers, pre_tokenizers

    tokens = tuple(_bert_spelling(vocab, token_id) for token_id in range(len(vocab.tokens)))
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens):
        vocab.refuse("has tokens that are equal once ▁ and ## are restored")
    by_name = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
    special_ids = {role: ids[token] for role, token in by_name.items() if token in ids}
    special_ids |= vocab.special_ids
    special_ids["cls"] = vocab.special_ids.get(
        "cls", vocab.special_ids.get("bos", special_ids.get("cls", -1))
    )
    for role in ("cls", "sep", "unk"):
        if special_ids.get(role, -1) < 0:
            vocab.refuse(f"names no {role} token, which BERT needs")
    lowercase = not any(
        token != token.lower() for token_id, token in enumerate(tokens) if _is_word(vocab, token_id)
    )
    backend = Backend(
        models.WordPiece(ids, unk_token=tokens[special_ids["unk"]], max_input_chars_per_word=100)
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    _frame(backend, vocab, "cls", "sep", special_ids)
    return backend, _special(vocab, special_ids)


_BUILDERS: dict[str, Callable[[GgufVocab], tuple[Any, SpecialTokens]]] = {
    "gpt2": _byte_level_bpe,
    "llama": _sentencepiece_bpe,
    "bert": _word_piece,
}


def _merges(vocab: GgufVocab, merges: tuple[str, ...]) -> list[tuple[str, str]]:
    """A merge is two tokens with a space between; the first may itself start with a space."""
    found = [(first, second) for first, _, second in [merge.partition(" ") for merge in merges]]
    if not all(first and second for first, second in found):
        found = [_merge(vocab, merge) for merge in merges]
    return found


def _merge(vocab: GgufVocab, merge: str) -> tuple[str, str]:
    cut = merge.find(" ", 1)
    if cut < 0:
        vocab.refuse(f"has a merge without two parts: {printable(merge, 40)!r}")
    return merge[:cut], merge[cut + 1 :]


def _merges_by_score(vocab: GgufVocab, scores: tuple[float, ...]) -> list[tuple[str, str]]:
    if any(score != score for score in scores):
        vocab.refuse("has a score that is not a number")
    pieces = {
        token: scores[token_id]
        for token_id, token in enumerate(vocab.tokens)
        if vocab.type_of(token_id) not in (UNKNOWN, CONTROL, BYTE)
    }
    found = [
        (score, cut, piece)
        for piece, score in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    # Equal scores: the longer left half first, as HF's converter has it.
    found.sort(key=lambda item: item[:2], reverse=True)
    return [(piece[:cut], piece[cut:]) for _, cut, piece in found]


def _bert_spelling(vocab: GgufVocab, token_id: int) -> str:
    token = vocab.tokens[token_id]
    if token.startswith(_SPACE):
        return token[len(_SPACE) :]
    return "##" + token if _is_word(vocab, token_id) else token


def _is_word(vocab: GgufVocab, token_id: int) -> bool:
    token = vocab.tokens[token_id]
    marked = vocab.type_of(token_id) in (UNKNOWN, CONTROL, USER_DEFINED)
    return not marked and not (token.startswith("[") and token.endswith("]"))


def _frame(
    backend: tokenizers.Tokenizer,
    vocab: GgufVocab,
    first: str | None,
    last: str | None,
    special_ids: Mapping[str, int] | None = None,
) -> None:
    """Put the special tokens of these roles around every text."""
    from tokenizers.processors import TemplateProcessing

    special_ids = vocab.special_ids if special_ids is None else special_ids
    for role in (first, last):
        if role is not None and role not in special_ids:
            vocab.refuse(f"asks for a {role} token around every text but names none")
    ids = {vocab.tokens[special_ids[role]]: special_ids[role] for role in (first, last) if role is not None}
    if not ids:
        return
    before = [vocab.tokens[special_ids[first]]] if first else []
    after = [vocab.tokens[special_ids[last]]] if last else []
    backend.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, "$B:1", *(f"{token}:1" for token in after)],
        special_tokens=list(ids.items()),
    )


def _add_tokens(backend: tokenizers.Tokenizer, vocab: GgufVocab) -> None:
    """Tokens that are matched whole, before the text is normalised or cut."""
    from tokenizers import AddedToken

    kinds = {UNKNOWN, CONTROL, USER_DEFINED}
    added = [
        AddedToken(vocab.tokens[token_id], normalized=False, special=kind != USER_DEFINED)
        for token_id, kind in enumerate(vocab.types or ())
        if kind in kinds
    ]
    backend.add_special_tokens([token for token in added if token.special])
    backend.add_tokens([token for token in added if not token.special])


def _special(vocab: GgufVocab, special_ids: Mapping[str, int] | None = None) -> SpecialTokens:
    special_ids = vocab.special_ids if special_ids is None else special_ids
    roles = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    spelled = {role: vocab.tokens[special_ids[role]] for role in roles if role in special_ids}
    stops = tuple(special_ids[role] for role in ("eos", "eot", "eom") if role in special_ids)
    return SpecialTokens(**spelled, stop_ids=stops)


def _unsupported(kind: str, name: str, known: Mapping[str, Any], where: str) -> NoReturn:
    hint = f"put the model's tokenizer.json beside the file; supported: {', '.join(sorted(known))}"
    close = nearest(name, known)
    raise TokenizerError(
        f"the GGUF {kind} {printable(name, 60)!r} is not supported",
        code="RLX-T020",
        where=where,
        hint=f"{close}; or {hint}" if close else hint,
    )
