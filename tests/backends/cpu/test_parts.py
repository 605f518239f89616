"""The parts of a step: each is done once, by the thread whose run it is in unless that one is late."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import numpy as np
import pytest

from rlxflow.backends.cpu.code import I64, PTR, Code, Module, Value, i64
from rlxflow.backends.cpu.frame import Frame, read, share
from rlxflow.backends.cpu.job import COUNTER_WORDS
from rlxflow.backends.cpu.kernels.sync import in_parts
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.dtypes import Array


@pytest.fixture(scope="module")
def notes() -> Callable[[Array, Array], None]:
    """(frame, log): writes the parts that this thread does behind log[0], which counts them."""
    target = host_target()
    module = Module(target)

    def body(code: Code, frame: Value, log: Value) -> None:
        def note() -> None:
            count = code.add(code.get(log, 0, I64), i64(1))
            code.put(count, log)
            code.put(read(code, frame, Frame.PART), code.at(log, count, I64))

        in_parts(code, frame, 1, note)

    module.function("notes", [PTR, PTR], body, export="notes")
    code = LoadedCode(compile_text(str(module.ir), target), target)
    function = code.function("notes", ctypes.c_void_p, ctypes.c_void_p)

    def call(frame: Array, log: Array) -> None:
        assert code is not None  # keeps it loaded
        function(address(frame), address(log))

    return call


def frame(thread: int, threads: int, parts: int, counters: Array) -> Array:
    words = aligned((Frame.SIZE,), np.int64)
    words[:] = 0
    words[Frame.THREAD], words[Frame.THREADS], words[Frame.PARTS] = thread, threads, parts
    words[Frame.COUNTERS] = address(counters)
    return words


def zeros(threads: int) -> Array:
    counters = aligned((2 * (threads + 1) * COUNTER_WORDS,), np.int64)  # of two steps
    counters[:] = 0
    return counters


def done(log: Array) -> list[int]:
    return [int(part) for part in log[1 : 1 + log[0]]]


def test_own_parts_come_first(notes: Callable[[Array, Array], None]) -> None:
    log = np.zeros(9, np.int64)
    notes(frame(1, 3, 6, zeros(3)), log)
    assert done(log) == [2, 3, 4, 5, 0, 1]


def test_what_others_have_taken_is_left_to_them(notes: Callable[[Array, Array], None]) -> None:
    counters, log = zeros(2), np.zeros(9, np.int64)
    step = counters[len(counters) // 2 :].reshape(3, COUNTER_WORDS)
    step[0, 0] = step[2, 0] = 3  # thread 0 has taken and finished three of its four parts
    notes(frame(1, 2, 8, counters), log)
    assert done(log) == [4, 5, 6, 7, 3]


def test_a_lone_thread_does_one_part(notes: Callable[[Array, Array], None]) -> None:
    log = np.zeros(9, np.int64)
    notes(frame(0, 1, 1, zeros(1)), log)
    assert done(log) == [0]


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_every_part_is_done_once(notes: Callable[[Array, Array], None], threads: int) -> None:
    parts = 40 * threads
    counters = zeros(threads)
    logs = [np.zeros(parts + 1, np.int64) for _ in range(threads)]
    frames = [frame(t, threads, parts, counters) for t in range(threads)]
    workers = [threading.Thread(target=notes, args=a, daemon=True) for a in zip(frames, logs, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(part for log in logs for part in done(log)) == list(range(parts))


@pytest.mark.parametrize(
    ("threads", "parts", "count"), [(1, 1, 7), (2, 2, 5), (2, 16, 1000), (3, 24, 10), (2, 8, 0)]
)
def test_parts_of_a_run_become_smaller(threads: int, parts: int, count: int) -> None:
    target = host_target()
    module = Module(target)

    def body(code: Code, words: Value, out: Value) -> None:
        for i, value in enumerate(share(code, words, code.get(out, 0, I64))):
            code.put(value, code.at(out, i, I64))

    module.function("range", [PTR, PTR], body, export="range")
    code = LoadedCode(compile_text(str(module.ir), target), target)
    function = code.function("range", ctypes.c_void_p, ctypes.c_void_p)
    ranges = np.zeros((parts, 2), np.int64)
    for part in range(parts):
        words = frame(0, threads, parts, zeros(threads))
        words[Frame.PART], ranges[part, 0] = part, count
        function(address(words), address(ranges[part]))
    assert ranges[0, 0] == 0 and ranges[-1, 1] == count
    assert (ranges[1:, 0] == ranges[:-1, 1]).all()
    sizes = np.diff(ranges)[:, 0].reshape(threads, -1)
    size = parts // threads
    wanted = count / threads * (2 * np.arange(size, 0, -1) - 1) / size**2
    assert (abs(sizes - wanted) <= 1).all()
