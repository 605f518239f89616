"""Writing text: prompts are read in chunks, then all sequences take a step at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from rlxflow.backends.base import recurrent_states
from rlxflow.dtypes import Array
from rlxflow.errors import InputError, nearest, printable
from rlxflow.runtime.continuation import Generation, begin
from rlxflow.runtime.decoding import Decoding, chunks
from rlxflow.runtime.prompt_cache import PromptCache
from rlxflow.runtime.request import Request

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model

MAX_SLOTS = 16  # sequences at a time; further ones wait for a free place
T = TypeVar("T")


class Run:
    """Requests that are checked and tokenised; `pieces` computes, once."""

    def __init__(
        self, model: Model, requests: Sequence[Request], cache: PromptCache | None, speculate: str | None
    ) -> None:
        model.require_decoder()
        if speculate not in (None, "prompt-lookup"):
            hint = nearest(str(speculate), ["prompt-lookup"]) or "prompt-lookup, or None"
            shown = printable(repr(speculate), 40)
            raise InputError(f"speculate is {shown}", code="RLX-R033", where="speculate=", hint=hint)
        if speculate is not None and recurrent_states(model.signature):
            hint = "leave speculate out"
            message = "a model with a recurrent state cannot take wrong guesses back"
            raise InputError(message, code="RLX-R033", where=model.name, hint=hint)
        if cache is not None and not hasattr(cache, "lease"):
            message = f"a cache is of type {type(cache).__name__}"
            raise InputError(message, code="RLX-R032", where="cache=", hint="make one with model.new_cache()")
        if cache is not None and len(requests) != 1:
            hint = "give each prompt its own call, or leave the cache out"
            raise InputError("a cache takes one prompt at a time", code="RLX-R032", where="cache=", hint=hint)
        self._model, self._cache = model, cache
        self._speculating = speculate is not None
        self._cancelled = False
        self.continuations = [begin(model, request, self._speculating) for request in requests]

    def cancel(self) -> None:
        """Stop before the next call of the model; may be called from any thread."""
        self._cancelled = True

    def generations(self) -> list[Generation]:
        """What has been written so far, in the order of the requests."""
        return [c.generation() for c in self.continuations]

    def finish(self) -> list[Generation]:
        """Run to the end."""
        for _ in self.pieces():
            pass
        return self.generations()

    def pieces(self) -> Generator[tuple[int, str]]:
        """Request number and text as it comes, in pieces of whole characters."""
        waiting = deque(i for i, c in enumerate(self.continuations) if c.finish_reason is None)
        active: dict[int, int] = {}  # slot to request number
        with ExitStack() as stack:
            decoding = self._decoding(stack, len(waiting))
            while (waiting or active) and not self._cancelled:
                free = (slot for slot in range(len(decoding.tokens)) if slot not in active)
                fresh = {slot: waiting.popleft() for slot in free if waiting}
                prompts = {slot: self.continuations[i].start(decoding, slot) for slot, i in fresh.items()}
                decoding.reserve(max((self.continuations[i].room for i in fresh.values()), default=0))
                yield from self._step(decoding, fresh, prompts, every=False)
                active = self._unfinished(active | fresh)
                parts = {slot: self.continuations[i].next_tokens() for slot, i in active.items()}
                yield from self._step(decoding, active, parts, every=self._speculating)
                active = self._unfinished(active)

    def _step(
        self, decoding: Decoding, numbers: Mapping[int, int], parts: Mapping[int, Sequence[int]], every: bool
    ) -> Generator[tuple[int, str]]:
        """Feed the parts to their slots; what then is written."""
        logits: dict[int, Array] = {}
        for call in chunks(parts):
            if self._cancelled:
                return
            logits |= decoding.feed(call, every)
        for slot, rows in logits.items():
            continuation = self.continuations[numbers[slot]]
            for piece in continuation.accept(rows):
                yield numbers[slot], piece
            if every:  # wrong guesses are in the cache
                decoding.cut(slot, len(continuation.ids) - 1)

    def _unfinished(self, numbers: Mapping[int, int]) -> dict[int, int]:
        return {slot: i for slot, i in numbers.items() if self.continuations[i].finish_reason is None}

    def _decoding(self, stack: ExitStack, wanted: int) -> Decoding:
        if self._cache is not None:
            return stack.enter_context(self._cache.lease(self._model))
        decoding = Decoding(self._model, min(max(wanted, 1), MAX_SLOTS))
        stack.callback(decoding.leave)
        return decoding


class Stream(Generic[T]):
    """Pieces of text as they come; see `Model.generate`. Nothing is computed before the first is asked for.

    `close` cancels, from any thread. `generations` tells what has been written so far, with timings.
    """

    def __init__(self, run: Run, pieces: Generator[T]) -> None:
        self._run, self._pieces = run, pieces

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        return next(self._pieces)

    def close(self) -> None:
        """Stop: before the next call of the model where another thread is waiting for a piece."""
        self._run.cancel()
        with suppress(ValueError):  # the generator runs in another thread, and ends by itself
            self._pieces.close()

    @property
    def generations(self) -> list[Generation]:
        return self._run.generations()


def texts(run: Run) -> Generator[str]:
    """The pieces of a run of one request."""
    for _, piece in run.pieces():
        yield piece
