"""What a chat template may spend: time, steps, and characters made.

A template comes with the model, so it is not trusted. Jinja's sandbox keeps it from Python's internals, not
from `'a' * 10**9` or endless loops.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, MappingView
from types import FrameType, TracebackType
from typing import Any

from jinja2.utils import Namespace

MAX_SECONDS = 2.0
MAX_STEPS = 1_000_000  # lines of the template's code run
MAX_RANGE = 100_000
MAX_OUTPUT = 4 << 20
MAX_MADE = 32 << 20  # characters and items in all values made on the way
MAX_INT_BITS = 1 << 14


class LimitExceeded(BaseException):
    """A limit was reached. Not an `Exception`, so that no filter or test of Jinja can swallow it."""


class Budget:
    """A budget for one rendering; while entered, it watches the thread's running code.

    Loops run in Python, where the watch sees each line; what one line does inside C is bounded by what it
    makes, which is spent beforehand.
    """

    def __init__(self) -> None:
        self._left = MAX_MADE
        self._steps = MAX_STEPS
        self._ends = 0.0
        self._outer: Any = None

    def __enter__(self) -> Budget:
        self._ends = time.perf_counter() + MAX_SECONDS
        self._outer = sys.gettrace()
        sys.settrace(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._outer)

    def spend(self, amount: int) -> None:
        """Take `amount` characters or items; raises `LimitExceeded` where they are not left."""
        self._left -= amount
        if self._left < 0:
            raise LimitExceeded(f"making more than {MAX_MADE:,} characters")

    def size(self, value: object) -> int:
        """Characters and items in nested data, shared parts counted each time; stops when over the budget."""
        total, waiting = 0, [value]
        while waiting and total <= self._left:
            item = waiting.pop()
            if isinstance(item, str):
                total += len(item)
                continue
            total += 1
            if isinstance(item, Mapping):
                waiting.extend(item.keys())
                waiting.extend(item.values())
            elif isinstance(item, list | tuple | MappingView):
                waiting.extend(item)  # type: ignore[arg-type]  # views of dicts can be iterated
            elif isinstance(item, Namespace):
                waiting.append(object.__getattribute__(item, "_Namespace__attrs"))
            elif isinstance(item, int):
                total += item.bit_length() // 3
        return total

    def _watch(self, frame: FrameType, event: str, arg: object) -> Any:
        if time.perf_counter() > self._ends:
            raise LimitExceeded(f"running longer than {MAX_SECONDS:g} s")
        if event == "line" and frame.f_code.co_filename == "<template>":
            self._steps -= 1
            if self._steps < 0:
                raise LimitExceeded(f"running more than {MAX_STEPS:,} steps")
        return self._watch
