"""The threads of a call: started at first use, asleep between calls, begun anew after a fork."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from functools import cache, lru_cache

from rlxflow.backends.cpu.kernels.team_code import Shared, emit_team
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.backends.cpu.object_cache import cached_code
from rlxflow.errors import BackendError

THREADS_VARIABLE = "RLXFLOW_THREADS"
MOST_THREADS = 1024


def thread_count(wanted: int) -> int:
    """Threads to use: the variable RLXFLOW_THREADS, else `wanted`, else (0) as many as this process may."""
    text = os.environ.get(THREADS_VARIABLE, "")
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
            message = f"{THREADS_VARIABLE} is {text!r}"
            hint = f"give a number from 1 to {MOST_THREADS}, or unset it"
            raise BackendError(message, code="RLX-B008", hint=hint)
        return int(text)
    if wanted:
        return wanted
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


class Team:
    """`size` threads, the caller being number 0. With one thread nothing is started and nothing waits.

    One job runs at a time: callers hold `lock`, which also guards what belongs to a job.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._make_shared()
        _TEAMS.add(self)

    def _make_shared(self) -> None:
        self._shared = aligned((Shared.SIZE,), "i8")
        self._place = address(self._shared)

    def run(self, function: int, job: int) -> None:
        """Call function(job, thread) on every thread; `function` and `job` are addresses."""
        if self.size == 1:
            _entry(function)(job, 0)
            return
        if not self._threads:
            self._start()
        _native().lead(self._place, function, job, self.size - 1)

    def rouse(self) -> None:
        """Wake the threads, for a job that comes in less than a tenth of a millisecond."""
        if self._threads:
            _native().rouse(self._place)

    def _start(self) -> None:
        self._shared[:] = 0
        work, place = _native().work, self._place
        try:
            for i in range(1, self.size):
                thread = threading.Thread(target=work, args=(place, i, 0), daemon=True, name=f"rlxflow-{i}")
                thread.start()
                self._threads.append(thread)
        except RuntimeError as error:
            self.stop()
            message = f"the system does not start {self.size - 1} threads"
            raise BackendError(message, code="RLX-B008", hint="set backend.cpu.threads = 1") from error

    def stop(self) -> None:
        """End the threads; the next job starts them again."""
        threads, self._threads = self._threads, []
        if threads:
            _native().stop(self._place)
            for thread in threads:
                thread.join()

    def forget(self) -> None:
        """In a forked child, which has none of the threads and may have inherited a taken lock."""
        self.lock = threading.Lock()
        self._threads = []
        self._make_shared()


class _Native:
    """The functions of `kernels/team_code.py`."""

    def __init__(self) -> None:
        target = host_target()
        code = cached_code("team", target, "threads", lambda: compile_text(emit_team(target), target))
        self._code = LoadedCode(code, target)
        pointer, word = ctypes.c_void_p, ctypes.c_int64
        self.work: Callable[..., None] = self._code.function("work", pointer, word, word)
        self.lead: Callable[..., None] = self._code.function("lead", pointer, pointer, pointer, word)
        self.rouse: Callable[..., None] = self._code.function("rouse", pointer)
        self.stop: Callable[..., None] = self._code.function("stop", pointer)


@lru_cache(64)
def _entry(function: int) -> Callable[[int, int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(function)


_TEAMS: weakref.WeakSet[Team] = weakref.WeakSet()
_native = cache(_Native)


@cache
def _shared_team(size: int) -> Team:
    return Team(size)


def team_of(size: int) -> Team:
    """The team of this size: all executables share one, but callers of one thread stay apart."""
    return Team(1) if size == 1 else _shared_team(size)


def _after_fork() -> None:
    for team in list(_TEAMS):
        team.forget()


def _at_exit() -> None:
    for team in list(_TEAMS):
        team.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
