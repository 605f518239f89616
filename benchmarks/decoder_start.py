"""From the start of a process to the first token of a 128-token prompt, and its peak memory.

    .venv-peers/bin/python benchmarks/decoder_start.py [--weights q8_0] [--threads 2] [--rounds 5]

Each process starts an interpreter, imports one library, loads the weights, reads the prompt and chooses a
token; rlxflow and llama.cpp take turns. A first round is not counted: after it, files are in the page cache,
and rlxflow's machine code on disk. Peak memory is the largest resident set; pages of a mapped file count.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from alone import Disturbance, timing_lock
from decoder import PEERS, weights_path
from decoder_engines import engine
from decoder_models import cache_dir

IDS = np.random.default_rng(0).integers(100, 49_000, 128).tolist()


def run(name: str, path: Path, threads: int) -> tuple[float, float]:
    """Seconds and MB of a process that reads the prompt."""
    command = [sys.executable, __file__, "--run", name, str(path), "--threads", str(threads)]
    start = time.perf_counter()
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{name} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", choices=PEERS, default="q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=["rlxflow", "llama.cpp"])
    parser.add_argument("--cache", type=Path, help="where made models are kept; see decoder_models.py")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, path = options.run
        engine(name)(Path(path), options.threads)(IDS, 0)
        os._exit(0)  # the time of a clean end is not asked for
    cache = cache_dir(options.cache)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in options.engines}
    with timing_lock():
        disturbance = Disturbance()
        for number in range(options.rounds + 1):
            for name, results in found.items():
                measured = run(name, weights_path(cache, options.weights, name), options.threads)
                results += [measured] if number else []
        for name, results in found.items():
            seconds = [s for s, _ in results]
            low, median, high = np.percentile(seconds, (25, 50, 75))
            peak = max(m for _, m in results)
            print(f"{options.weights:8}{name:16}{median:7.3f} s [{low:6.3f} {high:6.3f}]{peak:9.0f} MB")
        print(disturbance)


if __name__ == "__main__":
    main()
