"""Arrays whose addresses go to generated code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlxflow.dtypes import Array

ALIGNMENT = 64


def aligned(shape: Sequence[int], dtype: Any = np.float32) -> Array:
    """A zeroed array whose data begins at a cache line. Memory that is never touched costs nothing."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size].view(kind).reshape(shape)


def address(array: Array) -> int:
    """Where the data begins."""
    place: int = array.__array_interface__["data"][0]
    return place


class Memory:
    """What the calls of one executable share: per thread a frame, scratch and an arena, grown as needed."""

    def __init__(self, frame_words: int) -> None:
        self._frame_words = frame_words
        self._frames: list[Array] = []
        self._scratch: list[Array] = []
        self._arenas: list[Array] = []

    def reserve(self, threads: int, scratch: int, arenas: int, floats: int) -> None:
        """Room for so many threads and arenas, of so many floats each."""
        while len(self._frames) < threads:
            self._frames.append(aligned((self._frame_words,), np.int64))
        _grow(self._scratch, threads, scratch)
        _grow(self._arenas, arenas, floats)

    def places(self, threads: int) -> list[int]:
        """Addresses per thread: frame, scratch, arena (0 where it has none)."""
        found = []
        for i in range(threads):
            arena = address(self._arenas[i]) if i < len(self._arenas) else 0
            found += [address(self._frames[i]), address(self._scratch[i]), arena]
        return found

    def arrays(self) -> list[Array]:
        return [*self._frames, *self._scratch]

    def arenas(self) -> list[Array]:
        return self._arenas


def _grow(arrays: list[Array], count: int, floats: int) -> None:
    for i in range(count):
        if i == len(arrays):
            arrays.append(aligned((floats,)))
        elif arrays[i].size < floats:
            arrays[i] = aligned((floats,))
