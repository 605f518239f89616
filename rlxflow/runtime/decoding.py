"""Sequences in progress on an executable: the caches, and which tokens are in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from rlxflow.backends.base import CacheState, more_room, recurrent_states
from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.ir.dims import bind_shape
from rlxflow.ir.graph import Graph
from rlxflow.weights.memory import available_memory

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model

CHUNK = 512  # tokens per call: bounds what a long prompt takes in memory, and an interrupt is served soon
FIRST_ROOM = 128  # positions of the smallest caches
MOST_SPARE = 256 << 20  # bytes of caches that wait for the next generation; larger ones are freed
_UNCHECKED = 64 << 20  # caches below this are not compared with the free memory


class Decoding:
    """Up to `slots` sequences, each in a row of the caches; `tokens[slot]` are those that are in it.

    A call that fails or is interrupted leaves the tokens as they were, so the sequence can go on. Used by
    one thread at a time.
    """

    def __init__(self, model: Model, slots: int = 1) -> None:
        self._model = model
        self._state: CacheState | None = None  # made at the first call, when its size is known
        self.tokens: list[list[int]] = [[] for _ in range(slots)]

    @property
    def nbytes(self) -> int:
        """Bytes of the caches."""
        return 0 if self._state is None else sum(array.nbytes for array in self._state.arrays.values())

    def reuse(self, slot: int, ids: Sequence[int]) -> int:
        """Keep of a slot what `ids` begins with, but not all of them; returns how many tokens that is.

        A model with a recurrent state keeps all that the slot holds, or nothing.
        """
        old = self.tokens[slot]
        most = min(len(old), len(ids) - 1)
        kept = next((i for i in range(most) if old[i] != ids[i]), most)
        if kept < len(old) and recurrent_states(self._model.signature):
            kept = 0
        self.cut(slot, kept)
        return kept

    def cut(self, slot: int, length: int) -> None:
        """Keep at most `length` tokens of a slot; with a recurrent state, all or none."""
        if length >= len(self.tokens[slot]) or self._state is None:
            return
        counts = np.array([len(tokens) for tokens in self.tokens], np.int32)
        self._state.lengths = counts.copy()
        counts[slot] = length
        self._state.truncate(counts)
        del self.tokens[slot][length:]

    def reserve(self, positions: int) -> None:
        """Make room for so many tokens of a sequence at once: caches that grow on the way are copied.

        Raises `InputError` R018 where they would not fit in memory.
        """
        self._room(positions)

    def feed(self, parts: Mapping[int, Sequence[int]], every: bool = False) -> dict[int, Array]:
        """Append tokens to slots, in one call: the logits after the last one [1, V], or after each [n, V].

        Raises `InputError` R018 where the caches would not fit in memory.
        """
        slots, width = len(self.tokens), max(map(len, parts.values()))
        ids = np.zeros((slots, width), np.int64)
        new = np.zeros(slots, np.int32)
        for slot, part in parts.items():
            ids[slot, : len(part)] = part
            new[slot] = len(part)
        past = np.array([len(tokens) for tokens in self.tokens], np.int32)
        state = self._room(int((past + new).max()))
        output = "logits" if every else "last_logits"
        inputs: dict[str, Array] = {"input_ids": ids, "past_len": past, "new_len": new}
        logits = self._model.executable(inputs, state, (output,))[output]
        for slot, part in parts.items():
            self.tokens[slot] += part
        if every:
            return {slot: logits[slot, : len(part)] for slot, part in parts.items()}
        return {slot: logits[slot : slot + 1] for slot in parts}

    def clear(self) -> None:
        """Forget everything and free the caches."""
        self._state = None
        for tokens in self.tokens:
            tokens.clear()

    def leave(self) -> None:
        """Forget everything, and leave the caches to the model's next generation: memory that was never
        touched is slow, by 5 % of a prompt."""
        state, kept = self._state, self.nbytes <= MOST_SPARE
        self.clear()
        if state is not None and kept:
            state.truncate(np.zeros_like(state.lengths))
            self._model.spare_caches.append(state)

    def _room(self, needed: int) -> CacheState:
        """The caches with room for `needed` positions; they grow by a quarter, up to the model's last one.

        Spare ones are taken if they have it, and else are freed before others are made.
        """
        state = self._state
        if state is not None and needed <= state.capacity:
            return state
        with suppress(IndexError):  # where there are none, or another thread was first
            spare = self._model.spare_caches.pop()
            if state is None and needed <= spare.capacity and len(spare.lengths) == len(self.tokens):
                self._state = spare
                return spare
            del spare
        more, last = FIRST_ROOM if state is None else more_room(state.capacity), self._model.max_positions
        capacity = max(needed, more if last is None else min(more, last))
        check_cache_room(self._model.signature, len(self.tokens), capacity, self.nbytes)
        if state is None:
            self._state = state = self._model.executable.new_state(len(self.tokens), capacity)
        else:
            state.grow(capacity)
        return state


def chunks(parts: Mapping[int, Sequence[int]]) -> Iterator[dict[int, Sequence[int]]]:
    """The tokens to append, in calls of at most `CHUNK`.

    A sequence is always cut at the same places: its numbers do not depend on what runs beside it.
    """
    pieces = [
        (slot, ids[first : first + CHUNK])
        for slot, ids in parts.items()
        for first in range(0, len(ids), CHUNK)
    ]
    call: dict[int, Sequence[int]] = {}
    for slot, piece in pieces:
        if call and (slot in call or len(piece) + sum(map(len, call.values())) > CHUNK):
            yield call
            call = {}
        call[slot] = piece
    if call:
        yield call


def cache_bytes(graph: Graph, sequences: int, capacity: int) -> int:
    """Bytes of all states, for so many sequences of up to `capacity` tokens."""
    sizes = {"B": sequences, "C": capacity}
    values = [state.before for state in graph.states]
    return sum(v.dtype.nbytes(tuple(map(int, bind_shape(v.shape, sizes)))) for v in values)


def check_cache_room(graph: Graph, sequences: int, capacity: int, held: int) -> None:
    """Raise `InputError` (R018) where caches of this size, in place of `held` bytes, do not fit in memory."""
    more = cache_bytes(graph, sequences, capacity) - held
    available = available_memory() if more > _UNCHECKED else None
    if available is not None and more > available:
        message = f"the caches need {more >> 20} MiB more, {available >> 20} MiB are free"
        hint = "shorten the prompt, ask for fewer tokens or fewer sequences, or use precision.kv_cache = f16"
        raise InputError(message, code="RLX-R018", hint=hint)
