"""The pointer table of a call: weights are entered once, the caller's arrays at every call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlxflow.backends.cpu.layout import Layout
from rlxflow.backends.cpu.memory import address
from rlxflow.backends.cpu.plan import Constant, Given, Made
from rlxflow.dtypes import Array
from rlxflow.ir.values import Value


class Pointers:
    """Addresses for `Plan.table`, one call at a time. Keeps the weights alive."""

    def __init__(self, table: tuple[Constant | Given | Made, ...], weights: Mapping[Constant, Array]) -> None:
        self.weights = list(weights.values())
        self._made = [(i, item.value) for i, item in enumerate(table) if isinstance(item, Made)]
        given = [(i, item) for i, item in enumerate(table) if isinstance(item, Given)]
        self._caches = [(i, item.name) for i, item in given if item.kind == "state"]
        self._given = [(i, item) for i, item in given if item.kind != "state"]
        self._entered: Mapping[str, int] = {}  # the caches that are in the table
        self.table = np.zeros(max(1, len(table)), np.uint64)
        for i, item in enumerate(table):
            if isinstance(item, Constant):
                self.table[i] = address(weights[item])
        self.address = address(self.table)

    def fill(
        self,
        inputs: Mapping[str, Array],
        layout: Layout,
        results: Mapping[str, Array],
        made: Mapping[Value, Array],
        caches: Mapping[str, int],
    ) -> list[Array]:
        """Enter a call's arrays; returns them, for they must live as long. No result: null.

        `caches` are addresses already; the layout keeps its masks.
        """
        kept = []
        if caches is not self._entered:
            self._entered = caches
            for i, name in self._caches:
                self.table[i] = caches[name]
        for i, value in self._made:
            self.table[i] = address(made[value])
            kept.append(made[value])
        for i, item in self._given:
            if item.kind == "mask":
                self.table[i] = layout.mask_addresses[item.name]
                continue
            if item.kind == "input":
                array = inputs[item.name]
                if not array.flags.c_contiguous:
                    array = np.ascontiguousarray(array)
            elif item.name in results:
                array = results[item.name]
            else:
                self.table[i] = 0
                continue
            self.table[i] = address(array)
            kept.append(array)
        return kept
