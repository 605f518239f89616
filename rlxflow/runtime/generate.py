"""Writing text: prefill in chunks, then one token at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rlxflow.backends.base import CacheState
from rlxflow.dtypes import Array
from rlxflow.errors import InputError, printable
from rlxflow.runtime.chat_template import render_chat
from rlxflow.runtime.sampling import Sampler
from rlxflow.runtime.stream import TextStream

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model
    from rlxflow.runtime.tokenizer import Tokenizer

CHUNK = 512  # prompt tokens per call, so that an interrupt is served soon
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Generation:
    """What was written: the completion only, its token ids (the end token not among them), and why it ended.

    `prompt_tokens` counts the prompt; `prefill_seconds` runs to the first token, `decode_seconds` from it on.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float


class Decoding:
    """One sequence in progress: a cache and the lengths in it."""

    def __init__(self, model: Model, capacity: int) -> None:
        self._executable = model.executable
        self._state: CacheState = self._executable.new_state(1, capacity)
        self.length = 0

    def feed(self, ids: Sequence[int]) -> Array:
        """Append tokens; the logits [V] after the last one."""
        logits = np.empty(0, np.float32)
        for first in range(0, len(ids), CHUNK):
            part = np.asarray([ids[first : first + CHUNK]], np.int64)
            count = part.shape[1]
            self._state.grow(self.length + count)
            lengths = {"past_len": np.array([self.length], np.int32), "new_len": np.array([count], np.int32)}
            results = self._executable({"input_ids": part, **lengths}, self._state, ("last_logits",))
            logits = results["last_logits"][0]
            self.length += count
        return logits


@dataclass(slots=True)
class Run:
    """A generation that is under way; use `pieces` or `finish`, once."""

    model: Model
    tokenizer: Tokenizer
    prompt_ids: list[int]
    limit: int
    sampler: Sampler
    stop: tuple[str, ...]
    token_ids: list[int]
    finish_reason: FinishReason = "length"
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    def pieces(self) -> Iterator[str]:
        """The text as it comes, in pieces of whole characters."""
        stream = TextStream(self.tokenizer, self.stop)
        for token in self._tokens():
            piece = stream.push(token)
            if piece:
                yield piece
            if stream.stopped:
                self.finish_reason = "stop"
                return
        rest = stream.finish()
        if stream.stopped:
            self.finish_reason = "stop"
        if rest:
            yield rest

    def finish(self) -> Generation:
        """Run to the end."""
        text = "".join(self.pieces())
        seconds = (self.prefill_seconds, self.decode_seconds)
        return Generation(text, tuple(self.token_ids), self.finish_reason, len(self.prompt_ids), *seconds)

    def _tokens(self) -> Iterator[int]:
        began = time.perf_counter()
        if self.limit <= 0:
            return
        decoding = Decoding(self.model, len(self.prompt_ids) + min(self.limit, CHUNK))
        logits = decoding.feed(self.prompt_ids)
        self.prefill_seconds = time.perf_counter() - began
        while True:
            token = self.sampler.next(logits, [*self.prompt_ids, *self.token_ids])
            if token in self.tokenizer.stop_ids:
                self.finish_reason = "stop"
                return
            self.token_ids.append(token)
            self.decode_seconds = time.perf_counter() - began - self.prefill_seconds
            yield token
            if len(self.token_ids) >= self.limit:
                return
            logits = decoding.feed([token])


def start(
    model: Model,
    prompt: str | Sequence[Mapping[str, Any]],
    max_new_tokens: int,
    sampler: Sampler,
    stop: str | Iterable[str],
) -> Run:
    """Check the request and tokenise it; nothing is computed yet."""
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 0:
        hint = "give an integer of 0 or more"
        shown = printable(repr(max_new_tokens), 40)
        raise InputError(f"max_new_tokens is {shown}", code="RLX-R024", hint=hint)
    stops = _stop_strings(stop)
    tokenizer = model.require_tokenizer()
    ids = prompt_ids(model, tokenizer, prompt)
    limit = max_new_tokens
    if model.max_positions is not None:
        if len(ids) > model.max_positions:
            message = f"the prompt has {len(ids)} tokens, the model takes {model.max_positions}"
            raise InputError(message, code="RLX-R026", where=model.name, hint="shorten the prompt")
        limit = min(limit, model.max_positions - len(ids))
    return Run(model, tokenizer, ids, limit, sampler, stops, [])


def _stop_strings(stop: str | Iterable[str]) -> tuple[str, ...]:
    texts = (stop,) if isinstance(stop, str) or not isinstance(stop, Iterable) else tuple(stop)
    for text in texts:
        if not isinstance(text, str) or not text:
            shown = printable(repr(text), 40)
            raise InputError(f"a stop string is {shown}", code="RLX-R025", hint="give non-empty strings")
    return texts


def prompt_ids(model: Model, tokenizer: Tokenizer, prompt: str | Sequence[Mapping[str, Any]]) -> list[int]:
    """A text as it stands, or messages through the chat template (which writes its own special tokens)."""
    if isinstance(prompt, str):
        ids = tokenizer.encode(prompt)
    else:
        special = tokenizer.special
        text = render_chat(
            model.chat_template, prompt, bos_token=special.bos or "", eos_token=special.eos or ""
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise InputError("the prompt has no tokens", code="RLX-R027", hint="give some text")
    return ids
