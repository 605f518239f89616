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


def rope_rows(node: Node) -> Callable[[Mapping[str, Array], Ragged, Found], tuple[Array, Array]]:
    """The function (inputs, call, known values) → (cos, sin), each [tokens, rotary_dim / 2]."""
    positions, lengths = node.inputs
    reference: Any = node.op.reference_fn

    def rows(where: Array, length: int) -> tuple[Array, Array]:
        cos, sin = reference(where[None], np.array([length]), **node.attrs)
        return cos[0], sin[0]

    if dict(node.attrs["scaling"]).get("rope_type") not in BY_LENGTH:
        table = _Table(rows)
        return lambda inputs, call, found: table.look_up(found[positions])

    def by_length(inputs: Mapping[str, Array], call: Ragged, found: Found) -> tuple[Array, Array]:
        parts = []
        for row, length in enumerate(found[lengths].tolist()):
            own = slice(int(call.offsets[row]), int(call.offsets[row + 1]))
            parts.append(rows(found[positions][own], length))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    return by_length


class _Table:
    """cos and sin of the positions from 0 on, computed once and grown by doubling."""

    def __init__(self, rows: Callable[[Array, int], tuple[Array, Array]]) -> None:
        self._rows = rows
        self._cos, self._sin = rows(np.arange(FIRST_ROWS), 1)

    def look_up(self, positions: Array) -> tuple[Array, Array]:
        last = int(positions.max(initial=0))
        if last >= len(self._cos):
            self._cos, self._sin = self._rows(np.arange(max(last + 1, 2 * len(self._cos))), 1)
        return self._cos[positions], self._sin[positions]
