"""One prompt being continued: its tokens, its text, and why it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.decoding import Decoding
from rlxflow.runtime.prompt_lookup import PromptLookup
from rlxflow.runtime.request import Request, prompt_ids
from rlxflow.runtime.sampling import Sampler
from rlxflow.runtime.stream import TextStream

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model

FORESEEN = 256  # tokens that caches have room for behind any prompt, where so many may be written
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Generation:
    """What was written: the completion only, its token ids (the end token not among them), and why it ended.

    `finish_reason` is "stop" (an end token or a stop string), "length" or "cancelled". `prompt_tokens` counts
    the prompt, `reused_tokens` how many of them a cache already held. `prefill_seconds` runs from the
    sequence's start to its first token, `decode_seconds` from it to the last. Of `drafted_tokens` guessed by
    speculative decoding, `accepted_tokens` were right.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    reused_tokens: int
    prefill_seconds: float
    decode_seconds: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prefill_tokens_per_second(self) -> float | None:
        """Prompt tokens computed per second until the first token; None where none was written."""
        count = self.prompt_tokens - self.reused_tokens
        return count / self.prefill_seconds if self.prefill_seconds > 0 else None

    @property
    def decode_tokens_per_second(self) -> float | None:
        """Speed after the first token; None where there is no second one."""
        count = len(self.token_ids) - 1
        return count / self.decode_seconds if count > 0 and self.decode_seconds > 0 else None


@dataclass
class Continuation:
    """A checked request under way. `ids` are the prompt and what was written."""

    ids: list[int]
    prompt_tokens: int
    limit: int
    sampler: Sampler
    stream: TextStream
    stop_ids: frozenset[int]
    lookup: PromptLookup | None
    text: str = ""
    finish_reason: FinishReason | None = None
    reused_tokens: int = 0
    started: float = 0.0
    first: float = 0.0  # when the first token came, and the last
    last: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draft: list[int] = field(default_factory=list)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(self.ids[self.prompt_tokens :])

    @property
    def left(self) -> int:
        """How many tokens may still be written."""
        return self.prompt_tokens + self.limit - len(self.ids)

    @property
    def room(self) -> int:
        """Positions to make room for at the start: those of what may be written, up to as many as the prompt
        has, since nobody knows where it ends."""
        return self.prompt_tokens + min(self.limit, max(self.prompt_tokens, FORESEEN))

    def start(self, decoding: Decoding, slot: int) -> list[int]:
        """Take a slot; the prompt's tokens that it does not hold."""
        self.started = time.perf_counter()
        self.reused_tokens = decoding.reuse(slot, self.ids)
        return self.ids[self.reused_tokens :]

    def next_tokens(self) -> list[int]:
        """What to feed next: the last token, and guesses of what follows it."""
        if self.lookup is not None:
            self.draft = self.lookup.draft(self.ids, self.left - 1)
        return [self.ids[-1], *self.draft]

    def accept(self, logits: Array) -> Iterator[str]:
        """Choose tokens from logits [n, V] after the last token and after each guess, as far as those are
        right; the new pieces of text."""
        draft, self.draft = self.draft, []
        right = 0
        for row, guess in zip(logits, [*draft, None], strict=True):
            token = self.sampler.next(row, self.ids)
            if token in self.stop_ids:
                yield from self._finish("stop")
                break
            self.ids.append(token)
            self.last = time.perf_counter()
            self.first = self.first or self.last
            right += token == guess
            yield from self._say(self.stream.push(token))
            if self.stream.stopped:
                self.finish_reason = "stop"
            elif self.left <= 0:
                yield from self._finish("length")
            if self.finish_reason is not None or token != guess:
                break
        if self.lookup is not None and draft:
            self.lookup.learn(right)
            self.drafted_tokens += len(draft)
            self.accepted_tokens += right

    def generation(self) -> Generation:
        """What has been written so far."""
        return Generation(
            text=self.text,
            token_ids=self.token_ids,
            finish_reason=self.finish_reason or "cancelled",
            prompt_tokens=self.prompt_tokens,
            reused_tokens=self.reused_tokens,
            prefill_seconds=self.first - self.started if self.first else 0.0,
            decode_seconds=self.last - self.first,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
        )

    def _finish(self, reason: FinishReason) -> Iterator[str]:
        """End, with the text that was held back; a stop string may be complete only now."""
        self.finish_reason = reason
        yield from self._say(self.stream.finish())
        if self.stream.stopped:
            self.finish_reason = "stop"

    def _say(self, piece: str) -> Iterator[str]:
        if piece:
            self.text += piece
            yield piece


def begin(model: Model, request: Request, speculate: bool) -> Continuation:
    """Check a request and tokenise its prompt; nothing is computed yet. Raises as `Request`'s methods."""
    stops, sampler = request.stops(), request.sampler()
    request.limit(model, 0)
    tokenizer = model.require_tokenizer()
    ids = prompt_ids(model, tokenizer, request.prompt)
    limit = request.limit(model, len(ids))
    stream = TextStream(tokenizer, stops)
    lookup = PromptLookup() if speculate else None
    made = Continuation(ids, len(ids), limit, sampler, stream, tokenizer.stop_ids, lookup)
    if limit == 0:
        made.finish_reason = "length"
    return made
