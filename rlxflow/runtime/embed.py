"""Texts to vectors: tokenise, sort by length, run in batches, put back in order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError, TruncationWarning, nearest, printable
from rlxflow.runtime.inputs import want_batch_size
from rlxflow.runtime.progress import bar

if TYPE_CHECKING:
    from rlxflow.runtime.embedding_settings import EmbeddingSettings
    from rlxflow.runtime.model import Model


def _warn(cut: TruncationWarning) -> None:
    warnings.warn(cut, stacklevel=4)  # at the caller of `Model.embed`


def embed(
    model: Model,
    texts: Sequence[str] | str,
    batch_size: int,
    normalize: bool | None,
    progress: bool | None,
    prompt_name: str | None,
    on_cut: Callable[[TruncationWarning], None] = _warn,
) -> Array:
    """See `Model.embed`; `on_cut` is told once if texts were cut."""
    settings = model.embedding
    if settings is None:
        other = "use .generate(prompt)" if model.is_decoder else "pool model(…)['last_hidden_state']"
        hint = f"load a sentence-transformers directory (modules.json), or {other}"
        raise InputError("this model has no pooling settings", code="RLX-R021", where=model.name, hint=hint)
    want_batch_size(batch_size)
    wanted = [texts] if isinstance(texts, str) else _as_list(texts)
    if normalize is not None and not isinstance(normalize, bool):
        raise InputError(
            f"normalize is {printable(normalize, 40)}",
            code="RLX-R022",
            where="normalize=",
            hint="True, False or None",
        )
    output = {None: "embedding", True: "normalized", False: "pooled"}[normalize]
    rows, cut = _tokenize(model, wanted, settings, prompt_name)
    if cut is not None:
        on_cut(cut)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    width = model.signature.outputs[output].dim(1)
    result = np.zeros((len(rows), width if isinstance(width, int) else 0), np.float32)
    with bar(len(rows), "embedding", progress) as advance:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            ids, mask = _pad([rows[i] for i in chosen])
            result[chosen] = model(input_ids=ids, attention_mask=mask, outputs=[output])[output]
            advance(len(chosen))
    return result


def _as_list(texts: object) -> list[str]:
    if isinstance(texts, bytes | Mapping | Set) or not isinstance(texts, Iterable):
        message = f"texts is of type {type(texts).__name__}"
        hint = "give a string or a list of strings"
        raise InputError(message, code="RLX-R028", where="texts=", hint=hint)
    return list(texts)


def _tokenize(
    model: Model, texts: Sequence[str], settings: EmbeddingSettings, prompt_name: str | None
) -> tuple[list[list[int]], TruncationWarning | None]:
    """Token ids per text, prompt in front, cut at the model's length; and what was cut."""
    tokenizer = model.require_tokenizer()
    name = prompt_name if prompt_name is not None else settings.default_prompt
    if name is not None and name not in settings.prompts:
        hint = nearest(name, settings.prompts) or f"prompts: {', '.join(settings.prompts) or 'none'}"
        raise InputError(f"no prompt {printable(name, 60)!r}", code="RLX-R023", where=model.name, hint=hint)
    prompt = settings.prompts[name] if name is not None else ""
    if prompt:
        texts = [prompt + text if isinstance(text, str) else text for text in texts]
    if settings.lower_case:
        texts = [text.lower() if isinstance(text, str) else text for text in texts]
    limits = [n for n in (settings.max_length, model.max_positions) if n is not None]
    limit = min(limits, default=None)
    rows, cut = tokenizer.encode_within(texts, limit)
    return rows, TruncationWarning(cut, len(texts), limit) if limit is not None and cut else None


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Rows of different lengths as (ids, mask), int64 [B, S], padded on the right with zeros."""
    ids = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
