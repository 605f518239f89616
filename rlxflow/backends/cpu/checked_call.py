"""Calls in checked mode: the table of buffers is set before, and the first stray access is raised after."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np

from rlxflow.backends.cpu.checked import SPARE_BYTES
from rlxflow.backends.cpu.llvm import LoadedCode
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.dtypes import Array
from rlxflow.errors import BackendError


class CheckedCalls:
    """The controls of a module that was emitted in checked mode."""

    def __init__(self, code: LoadedCode) -> None:
        self._set_bounds = code.function("set_bounds", ctypes.c_void_p)
        self._take_fault = code.function("take_fault", ctypes.c_void_p)
        self._spare = aligned((SPARE_BYTES,), np.uint8)
        self._table = np.zeros(0, np.uint64)

    def begin(self, arrays: Iterable[Array], more: Iterable[tuple[int, int]] = ()) -> None:
        """Allow accesses to these arrays and address ranges only."""
        ranges = [*((address(a), address(a) + a.nbytes) for a in arrays), *more]
        words = [len(ranges), address(self._spare), *(word for pair in ranges for word in pair)]
        self._table = np.array(words, np.uint64)
        self._set_bounds(address(self._table))

    def end(self, labels: list[str]) -> None:
        """Raise `BackendError` for the first access outside the buffers."""
        fault = np.zeros(1, np.int64)
        self._take_fault(address(fault))
        if fault[0]:
            step = int(fault[0]) - 1
            where = labels[step] if step < len(labels) else "outside the steps"
            message = f"generated code left its buffers in step {step}"
            raise BackendError(message, code="RLX-B006", where=where, hint="please report this")
