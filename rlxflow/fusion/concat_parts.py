"""Slices that cut a concatenation where its parts meet."""

from __future__ import annotations

from collections.abc import Sequence

from rlxflow.ir.values import Value


def parts_between(parts: Sequence[Value], axis: int, start: int, stop: int) -> tuple[Value, ...] | None:
    """The parts of `concat(*parts, axis=axis)` that fill start … stop − 1 exactly; None where none do.

    None also where a size on the way is symbolic.
    """
    at, found = 0, []
    for part in parts:
        size = part.dim(axis)
        if not isinstance(size, int):
            return None
        if start <= at and at + size <= stop:
            found.append(part)
        elif at < stop and start < at + size:
            return None  # the cut goes through this part
        at += size
    return tuple(found) or None
