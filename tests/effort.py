"""How much work a call does, counted in function calls: the same on every machine, unlike seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


class TooMuchWork(AssertionError):
    """More function calls than the limit: raised inside the call, so that nothing hangs."""


def calls_of(work: Callable[[], object], limit: int = 1 << 62) -> int:
    """The Python and C function calls that `work()` makes; stops it with `TooMuchWork` beyond `limit`."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            if count > limit:
                raise TooMuchWork(f"more than {limit} calls")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
