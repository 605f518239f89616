"""Running over the columns of a row, one vector at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlxflow.backends.cpu.code import Code, Index, Value, i64

UNROLL = 4
FEW_VECTORS = 16  # of a row that passes are wholly unrolled over
Window = Callable[[Index, int | None, Value], Value | None]


def column(code: Code, j: Index, behind: int) -> Index:
    """Column j + behind; a number where j is one."""
    return j + behind if isinstance(j, int) else code.add(j, i64(behind))


def few(code: Code, width: int) -> bool:
    """Whether windows over so many columns are at columns that are known here."""
    return width <= FEW_VECTORS * code.lanes


def windows(code: Code, width: int, body: Window, sums: Sequence[Value] = ()) -> list[Value]:
    """`sum = body(j, lanes, sum)` for windows of one vector at column j; `lanes` is None for whole ones.

    There are UNROLL independent sums, and window number n adds to sum n mod UNROLL: a fixed order.
    """
    lanes, block = code.lanes, code.lanes * UNROLL
    whole = 0 if few(code, width) else width // block * block

    def step(j: Index, kept: Sequence[Value], k: int, count: int | None) -> list[Value]:
        new = body(column(code, j, k * lanes), count, kept[k] if kept else None)
        return [new if i == k else v for i, v in enumerate(kept)]

    def unrolled(j: Value, kept: tuple[Value, ...]) -> Sequence[Value]:
        now: Sequence[Value] = kept
        for k in range(UNROLL):
            now = step(j, now, k, None)
        return now

    found: Sequence[Value] = code.loop(0, whole, block, unrolled, sums) if whole else sums
    for j in range(whole, width, lanes):
        k = (j - whole) // lanes % UNROLL
        found = step(j - k * lanes, found, k, None if j + lanes <= width else width - j)
    return list(found)
