"""Rows of rotary tables for the tokens of a call, looked up by position where they depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlxflow.backends.cpu.ragged import Ragged
from rlxflow.dtypes import Array
from rlxflow.ir.values import Node, Value

BY_LENGTH = ("dynamic", "longrope")  # kinds whose frequencies depend on the length of the sequence
FIRST_ROWS = 256

Found = dict[Value, Array]
# (inputs, rows of the call, positions of its tokens, what has been computed) → the results of a node
Step = Callable[[Mapping[str, Array], Ragged, Array, Found], Any]


def rope_rows(node: Node) -> tuple[Step, tuple[Value, ...]]:
    """How to compute (cos, sin), each [tokens, rotary_dim / 2], and what that reads."""
    positions, lengths = node.inputs
    reference: Any = node.op.reference_fn

    def rows(where: Array, length: int) -> tuple[Array, Array]:
        cos, sin = reference(where[None], np.array([length]), **node.attrs)
        return cos[0], sin[0]

    if dict(node.attrs["scaling"]).get("rope_type") not in BY_LENGTH:
        table = _Table(rows)
        return (lambda inputs, ragged, _, found: table.look_up(found[positions])), (positions,)

    def by_length(inputs: Mapping[str, Array], ragged: Ragged, _: Array, found: Found) -> tuple[Array, Array]:
        parts = []
        for row, length in enumerate(np.broadcast_to(found[lengths], ragged.sequences).tolist()):
            own = slice(int(ragged.offsets[row]), int(ragged.offsets[row + 1]))
            parts.append(rows(found[positions][own], length))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    return by_length, (positions, lengths)


class _Table:
    """cos and sin of the positions from 0 on, computed once and grown by doubling."""

    def __init__(self, rows: Callable[[Array, int], tuple[Array, Array]]) -> None:
        self._rows = rows
        self._cos, self._sin = rows(np.arange(FIRST_ROWS), 1)

    def look_up(self, positions: Array) -> tuple[Array, Array]:
        last = int(np.maximum.reduce(positions))
        if last >= len(self._cos):
            self._cos, self._sin = self._rows(np.arange(max(last + 1, 2 * len(self._cos))), 1)
        return self._cos.take(positions, 0), self._sin.take(positions, 0)
