"""Nothing else runs while a benchmark times: one lock for all of them, and a look at who disturbed it."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / "rlxflow-timing.lock"


@contextmanager
def timing_lock() -> Iterator[None]:
    """Hold the lock of all benchmarks; wait for it as long as another one times."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another benchmark ({LOCK})", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Disturbance:
    """CPU seconds that others took from the machine since this object was made (Linux; elsewhere unknown)."""

    def __init__(self, processes: tuple[int, ...] = ()) -> None:
        self._processes = (os.getpid(), *processes)
        self._start = self._read()

    def _read(self) -> tuple[float, float, float] | None:
        """Wall clock, CPU seconds of the whole machine (stolen ones included), CPU seconds of ours."""
        try:
            fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
            ours = 0
            for pid in self._processes:
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ours += sum(map(int, stat[11:15]))  # with children that have ended
        except OSError:
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        busy = sum(fields[:8]) - fields[3] - fields[4]
        return time.monotonic(), busy / ticks, ours / ticks

    def __str__(self) -> str:
        now = self._read()
        if self._start is None or now is None:
            return "what else ran meanwhile is not known on this system"
        wall, busy, ours = (b - a for a, b in zip(self._start, now, strict=True))
        share = max(0.0, busy - ours) / (wall * (os.cpu_count() or 1))
        verdict = "quiet" if share < 0.03 else "DISTURBED: measure again"
        return f"others used {share:.0%} of the machine's CPU time during {wall:.0f} s: {verdict}"
