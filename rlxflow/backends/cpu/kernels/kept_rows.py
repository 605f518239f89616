"""Rows of values that several passes look at."""

from __future__ import annotations

from rlxflow.backends.cpu.code import Code, Index, Value


class KeptRow:
    """Vectors by their first column: in memory from `start` on; without it in registers, for few vectors.

    Passes over few vectors are unrolled, so that their columns are numbers; see `windows`.
    """

    def __init__(self, code: Code, start: Value | None) -> None:
        self._code, self._start = code, start
        self._vectors: dict[int, Value] = {}

    def get(self, j: Index, lanes: int | None) -> Value:
        """The vector at column j; lanes beyond `lanes` hold anything."""
        if self._start is None:
            return self._vectors[j]
        return self._code.get_vector(self._start, j, lanes)

    def put(self, value: Value, j: Index, lanes: int | None) -> None:
        if self._start is None:
            self._vectors[j] = value
        else:
            self._code.put_vector(value, self._start, j, lanes)
