"""Text to token ids and back: a thin, checked wrapper over the `tokenizers` library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from rlxflow.errors import RlxError, TokenizerError, WeightsError, printable
from rlxflow.runtime.special_tokens import SpecialTokens, read_special_tokens
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.json_file import MAX_BYTES, parse_json

if TYPE_CHECKING:
    import tokenizers

MAX_TEXT_CHARS = 16 << 20
_GIVE_TEXT = "give strings of whole Unicode characters"
_MAX_ID = 2**32 - 1
_DAMAGED = "the file is damaged or of a newer format; get tokenizer.json again, or update `tokenizers`"


class Passed(NamedTuple):
    """The digest of a tokenizer.json whose content is right, and the number that its ids are below."""

    digest: str
    ids: int


class Tokenizer:
    """A tokenizer with its special tokens.

    `backend` is a `tokenizers.Tokenizer`; its own truncation and padding are switched off, since lengths
    are the caller's business. Safe to use from several threads: no call changes it. Every id is below `ids`,
    where that is given. `passed` tells of the file it was read from.
    """

    passed: Passed | None = None

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special: SpecialTokens,
        where: str = "",
        ids: int | None = None,
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special = special
        self.where = where
        self._ids = ids

    @classmethod
    def from_file(cls, path: Path | str, passed: Passed | None = None) -> Tokenizer:
        """Read a Hugging Face tokenizer.json, and its special tokens from the JSON files beside it.

        Its content is looked through unless it has `passed` before.

        Raises `TokenizerError`: T001 the file cannot be read, T002 it is malformed or over 64 MiB.
        """
        import tokenizers

        path = Path(path)
        where = printable(path)
        data = _read(path)
        digest = hashlib.blake2b(data, digest_size=24).hexdigest()
        known, content = passed if passed is not None and passed.digest == digest else None, None
        if known is None:
            content = parse_json(data, str(path), what="tokenizer", error=TokenizerError, code="RLX-T002")
        with refusing("the tokenizer cannot be read", code="RLX-T002", where=where, hint=_DAMAGED):
            backend = tokenizers.Tokenizer.from_buffer(data)
        if known is None:
            _check_added_tokens(content, backend, where)
            known = Passed(digest, _ids(content))
        tokenizer = cls(backend, read_special_tokens(path.parent, backend.id_to_token), where, known.ids)
        tokenizer.passed = known
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included. A model may have more rows than that."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    @property
    def bos_id(self) -> int | None:
        return self._special_id(self.special.bos)

    @property
    def eos_id(self) -> int | None:
        return self._special_id(self.special.eos)

    @property
    def pad_id(self) -> int | None:
        return self._special_id(self.special.pad)

    @property
    def unk_id(self) -> int | None:
        return self._special_id(self.special.unk)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids at which generation ends: what the model's files name, else the end-of-text token."""
        if self.special.stop_ids:
            return frozenset(self.special.stop_ids)
        return frozenset() if self.eos_id is None else frozenset((self.eos_id,))

    def token_to_id(self, token: str) -> int | None:
        """The id of a token's exact spelling, or None."""
        _check_text(token, self.where)
        found = self.backend.token_to_id(token)
        return None if found is None else int(found)

    def id_to_token(self, token_id: int) -> str | None:
        """The spelling of an id in the vocabulary, or None."""
        self._check_id(token_id, 0)
        found = self.backend.id_to_token(token_id)
        return None if found is None else str(found)

    def is_special(self, token_id: int) -> bool:
        """True for a token that `decode` leaves out."""
        return token_id in self._special_ids

    def encode(
        self, text: str, *, add_special_tokens: bool = True, max_length: int | None = None
    ) -> list[int]:
        """Token ids of `text`; at most `max_length`, special tokens counted and kept, as HF truncates.

        Raises `TokenizerError` T010 for what is not text (another type, half a surrogate pair, more than
        16 Mi characters) and T011 when `max_length` leaves no room for the special tokens.
        """
        return self.encode_batch([text], add_special_tokens=add_special_tokens, max_length=max_length)[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, max_length: int | None = None
    ) -> list[list[int]]:
        """`encode` of each text, in order, on all cores."""
        return self.encode_within(texts, max_length, add_special_tokens)[0]

    def encode_within(
        self, texts: Sequence[str], max_length: int | None, add_special_tokens: bool = True
    ) -> tuple[list[list[int]], list[int]]:
        """As `encode_batch`, and the numbers of the texts that are cut."""
        if isinstance(texts, str):
            _refuse_text("is one string where a list of strings is expected", self.where)
        for i, text in enumerate(texts):
            _check_text(text, self.where if len(texts) == 1 else f"texts[{i}]")
        keep = self._room(max_length, add_special_tokens)
        with refusing("the text cannot be tokenised", code="RLX-T010", where=self.where, hint=_DAMAGED):
            if keep is None:
                encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
                return [encoding.ids for encoding in encodings], []
            # The library truncates by a setting of the shared object; cutting here keeps calls independent.
            encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
            cut = [i for i, encoding in enumerate(encodings) if len(encoding) > keep]
            for i in cut:
                encodings[i].truncate(keep)
            framed = [self.backend.post_process(e, None, add_special_tokens).ids for e in encodings]
            return framed, cut

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`. An id that has no token adds nothing, as in HF.

        Bytes that are not UTF-8 become U+FFFD. Raises `TokenizerError` T012 for what is not an id.
        """
        checked = [self._check_id(token_id, index) for index, token_id in enumerate(ids)]
        with refusing("the ids cannot be decoded", code="RLX-T012", where=self.where, hint=_DAMAGED):
            return str(self.backend.decode(checked, skip_special_tokens=skip_special_tokens))

    def check_rows(self, num_rows: int) -> None:
        """Raise `TokenizerError` T013 unless every id has one of the model's `num_rows` embedding rows."""
        if self._ids is not None and self._ids <= num_rows:
            return
        vocab = self.backend.get_vocab(with_added_tokens=True)
        beyond = sorted((token_id, token) for token, token_id in vocab.items() if token_id >= num_rows)
        if beyond:
            token_id, token = beyond[-1]
            raise TokenizerError(
                f"{len(beyond)} tokens have ids beyond the model's {num_rows} embedding rows, "
                f"up to {token_id} ({printable(token, 40)!r})",
                code="RLX-T013",
                where=self.where,
                hint="the tokenizer belongs to another model; use the one that came with these weights",
                details={"num_rows": num_rows, "ids": [token_id for token_id, _ in beyond[:100]]},
            )

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self.backend.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    def _special_id(self, token: str | None) -> int | None:
        return None if token is None else self.token_to_id(token)

    def _room(self, max_length: int | None, add_special_tokens: bool) -> int | None:
        """How many of a text's own tokens fit in `max_length`; None for all."""
        if max_length is None:
            return None
        specials = self.backend.num_special_tokens_to_add(False) if add_special_tokens else 0
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < max(specials, 1):
            raise TokenizerError(
                f"max_length is {printable(max_length, 40)}, which leaves no room for text",
                code="RLX-T011",
                where=self.where,
                hint=f"give an integer of at least {specials + 1}",
            )
        return max_length - specials

    def _check_id(self, token_id: object, index: int) -> int:
        # NumPy integers count; booleans and floats do not.
        if (
            not hasattr(token_id, "__index__")
            or isinstance(token_id, bool)
            or not 0 <= int(token_id) <= _MAX_ID
        ):
            raise TokenizerError(
                f"{printable(repr(token_id), 40)} at place {index} is not a token id",
                code="RLX-T012",
                where=self.where,
                hint="give integers from 0 to the vocabulary's size",
            )
        return int(token_id)


@contextmanager
def refusing(what: str, *, code: str, where: str, hint: str) -> Iterator[None]:
    """Turn whatever the `tokenizers` library raises, Rust panics included, into a `TokenizerError`."""
    try:
        yield
    except RlxError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{what}: {printable(error)}", code=code, where=where, hint=hint) from error


def _read(path: Path) -> bytes:
    try:
        file = FileBytes(path)
        if file.size > MAX_BYTES:
            raise TokenizerError(
                f"the tokenizer has {file.size:,} bytes, more than the limit of {MAX_BYTES:,}",
                code="RLX-T002",
                where=printable(path),
                hint="this is not a tokenizer.json; check the download",
            )
        return file.read(0, file.size).tobytes()
    except WeightsError as error:
        hint = "put tokenizer.json beside the weights, or give token ids instead of text"
        raise TokenizerError(error.message, code="RLX-T001", where=error.where, hint=hint) from error


def _ids(content: Any) -> int:
    """The number that every id of a tokenizer.json that the library has read is below."""
    vocab = content["model"]["vocab"]
    largest = max(vocab.values(), default=-1) if isinstance(vocab, Mapping) else len(vocab) - 1
    return 1 + max([largest, *(entry["id"] for entry in content.get("added_tokens") or ())])


def _check_added_tokens(content: Any, backend: tokenizers.Tokenizer, where: str) -> None:
    """The library gives an added token a new id where its own is wrong or taken; that is an error here."""
    seen: dict[int, str] = {}
    added = content.get("added_tokens") if isinstance(content, Mapping) else None
    for entry in added or ():
        token, token_id = entry["content"], entry["id"]
        taken = seen.setdefault(token_id, token)
        got = backend.token_to_id(token)
        if taken != token or got != token_id:
            raise TokenizerError(
                f"added token {printable(token, 40)!r} says id {token_id}, but "
                + (f"so does {printable(taken, 40)!r}" if taken != token else f"its id is {got}"),
                code="RLX-T002",
                where=where,
                hint=_DAMAGED,
            )


def _check_text(text: object, where: str) -> None:
    if isinstance(text, bytes):
        _refuse_text("is of type bytes where a string is expected", where, "decode it: text.decode('utf-8')")
    if not isinstance(text, str):
        _refuse_text(f"is of type {type(text).__name__} where a string is expected", where)
    if len(text) > MAX_TEXT_CHARS:
        _refuse_text(f"has {len(text):,} characters, more than the limit of {MAX_TEXT_CHARS:,}", where)
    if problem := not_unicode(text):
        hint = "convert it to UTF-8 first, as with iconv" if "UTF-8" in problem else _GIVE_TEXT
        _refuse_text(problem, where, hint)


def not_unicode(text: str) -> str:
    """What keeps a string from being Unicode text, or an empty string."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half, place = ord(text[error.start]), f"at character {error.start}"
        if 0xDC80 <= half <= 0xDCFF:  # how Python passes on bytes of files and arguments that do not decode
            return f"is not UTF-8: it holds the byte 0x{half - 0xDC00:02x} {place}"
        return f"holds half of a surrogate pair {place}"
    return ""


def _refuse_text(problem: str, where: str, hint: str = _GIVE_TEXT) -> NoReturn:
    raise TokenizerError(f"the text {problem}", code="RLX-T010", where=where, hint=hint)
