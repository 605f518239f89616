"""Keys and values kept between calls, so that a prompt that goes on from the last one costs only its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rlxflow.errors import InputError
from rlxflow.runtime.decoding import Decoding

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model


class PromptCache:
    """The caches of one sequence: `model.generate(prompt, cache=cache)` computes only what they do not hold.

    The text may differ from the last call's at any token; what both begin with is reused. Results are those
    without a cache, up to the order of sums (logits within 1e-5 under `exact`). It holds one sequence, so
    at most the model's last position; `clear` frees it. Give each conversation, and each thread, its own: a
    cache in use by another call is an `InputError` (R032).
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._decoding = Decoding(model)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens whose keys and values are held."""
        return tuple(self._decoding.tokens[0])

    @property
    def nbytes(self) -> int:
        """Bytes of memory taken."""
        return self._decoding.nbytes

    def clear(self) -> None:
        """Forget the sequence and free its memory."""
        with self.lease(self._model) as decoding:
            decoding.clear()

    @contextmanager
    def lease(self, model: Model) -> Iterator[Decoding]:
        """The caches for one call of `model`."""
        if model is not self._model:
            message = f"the cache belongs to {self._model.name}, not to this {model.name}"
            raise InputError(message, code="RLX-R032", hint="make one with model.new_cache()")
        if not self._lock.acquire(blocking=False):
            hint = "give each conversation and each thread a cache of its own"
            raise InputError("the cache is in use by another call", code="RLX-R032", hint=hint)
        try:
            yield self._decoding
        finally:
            self._lock.release()
