"""Running over the columns of a row, one vector at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlxflow.backends.cpu.code import Code, Index, Value, i64

UNROLL = 4
Window = Callable[[Index, int | None, Value], Value | None]


def windows(code: Code, width: int, body: Window, sums: Sequence[Value] = ()) -> list[Value]:
    """`sum = body(j, lanes, sum)` for windows of one vector at column j; `lanes` is None for whole ones.

    There are UNROLL independent sums, and window number n adds to sum n mod UNROLL: a fixed order.
    """
    lanes, block = code.lanes, code.lanes * UNROLL
    whole = width // block * block if width // block > 1 else 0

    def step(j: Index, kept: Sequence[Value], k: int, count: int | None) -> list[Value]:
        new = body(code.add(j, i64(k * lanes)) if not isinstance(j, int) else j + k * lanes, count,
                   kept[k] if kept else None)  # fmt: skip
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
