"""Arrays whose addresses go to generated code."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from rlxflow.dtypes import Array

ALIGNMENT = 64
LARGE = 4 << 20  # bytes; a large page has 2 MiB
ROOM = 64 << 20  # bytes that a room asks the system for at most, where an array does not need more


def aligned(shape: Sequence[int], dtype: Any = np.float32) -> Array:
    """A zeroed array whose data begins at a cache line. Memory that is never touched costs nothing."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    raw = _zeros(size + ALIGNMENT)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size].view(kind).reshape(shape)


def _zeros(size: int) -> Array:
    """Zeroed bytes; large ones in large pages, where the system has them, which are read faster."""
    if size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(size, np.uint8)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a system may be built without large pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def address(array: Array) -> int:
    """Where the data begins."""
    place: int = array.__array_interface__["data"][0]
    return place


class Room:
    """Arrays that live and die together, one behind the other, so that small ones lie in large pages too.

    Several threads may ask for them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._left = np.zeros(0, np.uint8)
        self._taken = 0

    def aligned(self, shape: Sequence[int], dtype: Any = np.float32) -> Array:
        """A zeroed array whose data begins at a cache line."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        room = -(-size // ALIGNMENT) * ALIGNMENT
        with self._lock:  # a new room is about as large as what was taken so far
            if room > self._left.size:
                self._left = aligned((max(room, min(self._taken, ROOM)),), np.uint8)
            array, self._left = self._left[:size], self._left[room:]
            self._taken += room
        return array.view(kind).reshape(shape)


class Memory:
    """What the calls of one executable share: per thread a frame, scratch and an arena, grown as needed."""

    def __init__(self, frame_words: int) -> None:
        self._frame_words = frame_words
        self._frames: list[Array] = []
        self._scratch: list[Array] = []
        self._arenas: list[Array] = []
        self._counters: list[Array] = []
        self.counters = np.zeros(0, np.int64)
        self._places = np.zeros(0, np.uint64)
        self._reserved = (0, 0, 0, 0)

    def reserve(self, threads: int, scratch: int, arenas: int, floats: int) -> int:
        """Room for so many threads and arenas, of so many floats each.

        Returns where three addresses per thread lie: its frame, its scratch, its arena (0 where it has none).
        """
        wanted = (threads, scratch, arenas, floats)
        if wanted != self._reserved:
            self._reserved = wanted
            while len(self._frames) < threads:
                self._frames.append(aligned((self._frame_words,), np.int64))
            _grow(self._scratch, threads, scratch)
            _grow(self._arenas, arenas, floats)
            arena = [address(a) for a in self._arenas] + [0] * threads
            own = [(address(self._frames[i]), address(self._scratch[i]), arena[i]) for i in range(threads)]
            self._places = np.array(own, np.uint64).ravel()
        return address(self._places)

    def reserve_counters(self, words: int) -> int:
        """Room for so many counters, which are zeroed before they are used; where they lie."""
        _grow(self._counters, 1, 2 * words)
        self.counters = self._counters[0].view(np.int64)[:words]
        return address(self.counters) if words else 0

    def arrays(self) -> list[Array]:
        return [*self._frames, *self._scratch, self._places]

    def arenas(self) -> list[Array]:
        return self._arenas


def _grow(arrays: list[Array], count: int, floats: int) -> None:
    """Make the first `count` arrays at least so long."""
    for i in range(count):
        if i >= len(arrays) or arrays[i].size < floats:
            arrays[i : i + 1] = [aligned((floats,))]
