"""Weights that several programs read, and who wants to be told of it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from weakref import WeakValueDictionary

from rlxflow.dtypes import Array
from rlxflow.weights.source import Weights


class SharedWeights:
    """Weights that several programs read: while one of them holds an array, the others get the same.

    `on_read` is told the bytes of every array that is read, by one thread at a time.
    """

    def __init__(self, weights: Weights, on_read: Callable[[int], object] | None = None) -> None:
        self._weights, self._on_read = weights, on_read
        self._alive: WeakValueDictionary[str, Array] = WeakValueDictionary()
        self._telling = Lock()

    def read(self, key: str) -> Array:
        array = self._alive.get(key)
        if array is None:
            array = self._alive[key] = self._weights.read(key)
            if self._on_read is not None:
                with self._telling:
                    self._on_read(array.nbytes)
        return array
