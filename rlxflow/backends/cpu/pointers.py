"""The pointer table of a call: weights are entered once, the caller's arrays at every call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.backends.cpu.memory import address
from rlxflow.backends.cpu.plan import Constant, Given
from rlxflow.backends.cpu.ragged import Ragged, mask_rows
from rlxflow.dtypes import Array


class Pointers:
    """Addresses for `Plan.table`. Keeps the weights alive."""

    def __init__(self, table: tuple[Constant | Given, ...], weights: Mapping[Constant, Array]) -> None:
        self.weights = list(weights.values())
        self._given = [(i, item) for i, item in enumerate(table) if isinstance(item, Given)]
        self._template = np.zeros(max(1, len(table)), np.uint64)
        for i, item in enumerate(table):
            if isinstance(item, Constant):
                self._template[i] = address(weights[item])

    def fill(
        self, inputs: Mapping[str, Array], ragged: Ragged, results: Mapping[str, Array]
    ) -> tuple[Array, list[Array]]:
        """The table of a call, and the arrays it points at, which must live as long. No result: null."""
        table, kept = self._template.copy(), []
        for i, item in self._given:
            if item.kind == "mask":
                array = mask_rows(inputs[item.name], ragged)
            elif item.kind == "input":
                array = np.ascontiguousarray(inputs[item.name])
            elif item.name in results:
                array = results[item.name]
            else:
                continue
            table[i] = address(array)
            kept.append(array)
        return table, kept
