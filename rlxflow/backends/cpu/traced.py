"""The traced mode: every part of a step writes down who did it, and from when to when.

The log is global to the module: one call at a time. An event has EVENT_WORDS words; what does not fit is
counted only.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from enum import IntEnum, auto
from typing import Any

import numpy as np

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.llvm import LoadedCode
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.dtypes import Array
from rlxflow.quick_dataclass import dataclass

MOST_EVENTS = 1 << 18  # of one call
WHOLE = 1 << 20
LOG_HEAD = 2  # words before the events: how many there were, and for how many there is room


class Event(IntEnum):
    """The words of an event."""

    STEP = 0
    FRAME = auto()  # whose address names the thread
    SHARE = auto()  # of the step, in units of 1 / WHOLE
    TOKENS = auto()  # token rows of the chunk
    SEQUENCES = auto()
    START = auto()  # ticks
    STOP = auto()


EVENT_WORDS = len(Event)


def traced(code: Code, frame: Value, step: int, run: Callable[[], object]) -> None:
    """`run()`, and in traced mode an event of it."""
    if not code.owner.traced:
        run()
        return
    start = _ticks(code)
    run()
    code.call(_note(code.owner), [frame, i64(step), start, _ticks(code)])


def emit_trace_controls(module: Module) -> None:
    """`set_log(log)` and `read_ticks(result)`, exported; only in traced mode."""
    if not module.traced:
        return

    def set_log(code: Code, log: Value) -> None:
        code.store(log, module.variable("log", PTR))

    def read_ticks(code: Code, result: Value) -> None:
        code.store(_ticks(code), result)

    module.function("set_log", [PTR], set_log, export="set_log")
    module.function("read_ticks", [PTR], read_ticks, export="read_ticks")


def _ticks(code: Code) -> Value:
    # user programs may read the cycle counter on x86 only
    x86 = "x86" in code.owner.target.triple
    name = "llvm.readcyclecounter" if x86 else "llvm.readsteadycounter"
    return code.call(code.owner.intrinsic(name, I64, []), [])


def _note(module: Module) -> Any:
    """The function (frame, step, start, stop) that appends an event."""

    def body(code: Code, frame: Value, step: Value, start: Value, stop: Value) -> None:
        log = code.load(module.variable("log", PTR), typ=PTR)
        number = code.atomic_rmw("add", log, i64(1), "acq_rel")
        room = code.load(code.at(log, 1, I64), typ=I64)
        with code.if_then(code.icmp_signed("<", number, room)):
            low, high = share(code, frame, i64(WHOLE))
            words = {
                Event.STEP: step,
                Event.FRAME: code.ptrtoint(frame, I64),
                Event.SHARE: code.sub(high, low),
                Event.TOKENS: read(code, frame, Frame.TOKENS),
                Event.SEQUENCES: read(code, frame, Frame.SEQUENCES),
                Event.START: start,
                Event.STOP: stop,
            }
            place = code.add(code.mul(number, i64(EVENT_WORDS)), i64(LOG_HEAD))
            for word, value in words.items():
                code.store(value, code.at(log, code.add(place, i64(int(word))), I64))

    return module.function("note", [PTR, I64, I64, I64], body)


@dataclass(frozen=True)
class TracedCall:
    """The events of one call [n, EVENT_WORDS], with times in nanoseconds of `time.perf_counter_ns`, and how
    many more there were."""

    events: Array
    lost: int


class TracedCalls:
    """The controls of a module that was emitted in traced mode, and the calls it has seen."""

    def __init__(self, code: LoadedCode) -> None:
        self._set_log = code.function("set_log", ctypes.c_void_p)
        self._read_ticks = code.function("read_ticks", ctypes.c_void_p)
        self._log = aligned((LOG_HEAD + MOST_EVENTS * EVENT_WORDS,), np.int64)
        self.calls: list[TracedCall] = []

    def begin(self) -> None:
        self._log[:LOG_HEAD] = (0, MOST_EVENTS)
        self._set_log(address(self._log))
        self._began = self._now()

    def end(self) -> None:
        """Keep the events since `begin`."""
        (ticks, start), (last, stop) = self._began, self._now()
        count = int(self._log[0])
        kept = min(count, MOST_EVENTS)
        events = self._log[LOG_HEAD : LOG_HEAD + kept * EVENT_WORDS].reshape(kept, EVENT_WORDS).copy()
        scale = (stop - start) / max(1, last - ticks)
        times = [int(Event.START), int(Event.STOP)]
        events[:, times] = start + (events[:, times] - ticks) * scale
        self.calls.append(TracedCall(events, count - kept))

    def _now(self) -> tuple[int, int]:
        result = np.zeros(1, np.int64)
        self._read_ticks(address(result))
        return int(result[0]), time.perf_counter_ns()
