"""Memory that ends where a page begins that nobody may touch: reading beyond an array kills the process.

`python guarded.py` runs kernels of the table on such arrays, without the checked mode; see
`test_guard_pages.py`.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlxflow.backends.cpu import arena, executable, memory, packing

LINE = 64
_KEPT: list[mmap.mmap] = []  # unmapping is for the end of the process


def guarded(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray[Any, np.dtype[Any]]:
    """Zeros that begin at a cache line and end less than a line before a protected page."""
    kind = np.dtype(dtype)
    size = -(-max(1, math.prod(shape) * kind.itemsize) // LINE) * LINE
    pages = -(-size // mmap.PAGESIZE)
    region = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    _KEPT.append(region)
    raw = np.frombuffer(region, np.uint8)
    end = pages * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    place = ctypes.c_void_p(raw.ctypes.data + end)
    if libc.mprotect(place, ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    count = math.prod(shape) * kind.itemsize
    return raw[end - size : end - size + count].view(kind).reshape(shape)


def copied(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers, the last one right before the protected page."""
    whole = guarded((-(-max(1, array.nbytes) // LINE) * LINE,), np.uint8)
    end = whole[whole.size - array.nbytes :]
    end[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return end.view(array.dtype).reshape(array.shape)


def main() -> None:
    """Every row of the table whose name is given, unchecked; "beyond" reads what it must not."""
    from kernel_table import arrays, cases, rows
    from test_kernel_table import close, program_of

    if sys.argv[1:] == ["beyond"]:
        ctypes.string_at(guarded((LINE,), np.uint8).ctypes.data, LINE + 1)
    for module in (memory, packing, executable, arena):
        if hasattr(module, "aligned"):
            module.aligned = guarded  # type: ignore[attr-defined]
    done = 0
    for row in rows():
        if row.name not in sys.argv[1:]:
            continue
        program = program_of(row)
        run = program.compile(None, checked=False)
        for number, (batch, tokens, kind) in enumerate(cases(row)):
            inputs = {n: copied(a) for n, a in arrays(row, batch, tokens, kind, number).items()}
            close(run(inputs), program.reference(inputs), row.tolerance)
            done += 1
    print(done)


if __name__ == "__main__":
    main()
