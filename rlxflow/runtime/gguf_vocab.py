"""The vocabulary in a GGUF file's metadata, checked, before any tokenizer is built from it.

Keys: ggml's docs/gguf.md, section "Tokenizer" (`tokenizer.ggml.*`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

from rlxflow.errors import TokenizerError, printable
from rlxflow.quick_dataclass import dataclass

# Token types of the format. 0 (undefined) and 5 (unused) are treated like normal ones, as llama.cpp does.
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6

_PREFIX = "tokenizer.ggml."
# The misspelt key is the one in use; later files may have it right.
_SPECIAL_KEYS = {
    "bos": ("bos_token_id",),
    "eos": ("eos_token_id",),
    "unk": ("unknown_token_id",),
    "sep": ("seperator_token_id", "separator_token_id"),
    "pad": ("padding_token_id",),
    "cls": ("cls_token_id",),
    "mask": ("mask_token_id",),
    "eot": ("eot_token_id",),
    "eom": ("eom_token_id",),
}


@dataclass(frozen=True)
class GgufVocab:
    """What the metadata says. `special_ids` has a role (bos, eos, …) for each id that is given."""

    model: str
    pre: str | None
    ids: dict[str, int]
    types: tuple[int, ...] | None
    scores: tuple[float, ...] | None
    merges: tuple[str, ...] | None
    special_ids: Mapping[str, int]
    add_bos: bool | None
    add_eos: bool | None
    add_space_prefix: bool | None
    where: str

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The tokens in the order of their ids."""
        return tuple(self.ids)

    def type_of(self, token_id: int) -> int:
        return 1 if self.types is None else self.types[token_id]

    def special(self, role: str) -> str | None:
        """The spelling of the token in a role, or None."""
        token_id = self.special_ids.get(role)
        return None if token_id is None else self.tokens[token_id]

    def refuse(self, problem: str) -> NoReturn:
        refuse(problem, self.where)


def read_vocab(metadata: Mapping[str, Any], where: str) -> GgufVocab:
    """Check and collect `tokenizer.ggml.*`; raises `TokenizerError` T021 where that is not possible."""
    model = _value(metadata, "model", str, where)
    if model is None:
        refuse("has no tokenizer.ggml.model", where)
    ids = _ids(metadata, where)
    types = _list(metadata, "token_type", int, where, len(ids))
    scores = _list(metadata, "scores", float, where, len(ids))
    merges = _list(metadata, "merges", str, where)
    special_ids = {}
    for role, keys in _SPECIAL_KEYS.items():
        token_id = next((i for key in keys if (i := _value(metadata, key, int, where)) is not None), None)
        if token_id is not None and not 0 <= token_id < len(ids):
            refuse(f"has {keys[0]} = {token_id}, beyond its {len(ids)} tokens", where)
        if token_id is not None:
            special_ids[role] = token_id
    return GgufVocab(
        model=model,
        pre=_value(metadata, "pre", str, where),
        ids=ids,
        types=None if types is None else tuple(types),
        scores=None if scores is None else tuple(scores),
        merges=None if merges is None else tuple(merges),
        special_ids=special_ids,
        add_bos=_value(metadata, "add_bos_token", bool, where),
        add_eos=_value(metadata, "add_eos_token", bool, where),
        add_space_prefix=_value(metadata, "add_space_prefix", bool, where),
        where=where,
    )


def refuse(problem: str, where: str) -> NoReturn:
    raise TokenizerError(
        f"the GGUF metadata {problem}",
        code="RLX-T021",
        where=where,
        hint="convert the model to GGUF again, or put the model's tokenizer.json beside the file",
    )


def _ids(metadata: Mapping[str, Any], where: str) -> dict[str, int]:
    """The id of every token."""
    tokens = _list(metadata, "tokens", str, where)
    if not tokens:
        refuse("has no tokenizer.ggml.tokens", where)
    if "" in tokens:
        # An empty token can never be matched; the name llama.cpp gives it keeps its id taken.
        tokens = [token or f"[EMPTY_{token_id}]" for token_id, token in enumerate(tokens)]
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) < len(tokens):
        first: dict[str, int] = {}
        token, token_id = next((t, i) for i, t in enumerate(tokens) if first.setdefault(t, i) != i)
        refuse(f"has token {printable(token, 40)!r} twice, as {first[token]} and {token_id}", where)
    return ids


def _value(metadata: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value: Any = metadata.get(_PREFIX + key)
    if hasattr(value, "item"):  # NumPy scalars
        value = value.item()
    if value is not None and type(value) is not kind:
        refuse(f"has {_PREFIX}{key} of type {type(value).__name__}, not {kind.__name__}", where)
    if isinstance(value, str) and not _is_utf8(value):
        refuse(f"has {_PREFIX}{key} that is not UTF-8", where)
    return value


def _list(
    metadata: Mapping[str, Any], key: str, kind: type, where: str, length: int | None = None
) -> list[Any] | None:
    values: Any = metadata.get(_PREFIX + key)
    if values is None:
        return None
    if hasattr(values, "tolist"):  # NumPy arrays
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        refuse(f"has {_PREFIX}{key} that is not an array", where)
    if length is not None and len(values) != length:
        refuse(f"has {len(values)} entries in {_PREFIX}{key} for {length} tokens", where)
    if not set(map(type, values)) <= {kind}:
        index, value = next((i, v) for i, v in enumerate(values) if type(v) is not kind)
        refuse(f"has {_PREFIX}{key}[{index}] of type {type(value).__name__}, not {kind.__name__}", where)
    if kind is str and not _is_utf8("".join(values)):
        index = next(i for i, v in enumerate(values) if not _is_utf8(v))
        refuse(f"has {_PREFIX}{key}[{index}] that is not UTF-8", where)
    return list(values)


def _is_utf8(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
