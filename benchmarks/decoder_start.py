"""From the start of a process to the first token of a prompt, and its peak memory.

    .venv-peers/bin/python benchmarks/decoder_start.py [--weights q8_0] [--threads 2] [--rounds 5]
    .venv-peers/bin/python benchmarks/decoder_start.py --case 8192+32 --more 64 --rounds 0      a long context

Each process starts an interpreter, imports one library, loads the weights, reads the prompt and chooses a
token; rlxflow and llama.cpp take turns. A first round is not counted: after it, files are in the page cache,
and rlxflow's machine code on disk. Peak memory is the largest resident set; pages of a mapped file count.

With a case PROMPT+WRITTEN the processes go on to write, timed by their own clocks; with `--more` tokens a
second turn follows, whose prompt is all of that and so many more. What rlxflow plans is what
`rlxflow inspect` tells: weights, activations of a call and the caches. With `--rounds 0` the first round is
the only one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from alone import Disturbance, timing_lock
from decoder import FIRST_ID, LAST_ID, PEERS, parse_case, weights_path
from decoder_engines import engine
from decoder_models import cache_dir


def work(name: str, path: Path, threads: int, case: str, more: int) -> None:
    """What a process does; prints its seconds as JSON."""
    prompt, count = parse_case(case)
    ids = np.random.default_rng(0).integers(FIRST_ID, LAST_ID, prompt + more).tolist()
    turn: Any = engine(name)(path, threads)
    read, wrote = turn(ids[:prompt], count)
    print(json.dumps({"read": read, "wrote": wrote, "more": turn.go_on(ids[prompt:]) if more else 0.0}))
    sys.stdout.flush()
    os._exit(0)  # the time of a clean end is not asked for


def run(name: str, path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, and MB of memory, of a process of its own."""
    command = [sys.executable, __file__, "--run", name, str(path), "--threads", str(options.threads)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--case", options.case, "--more", str(options.more)],
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} ended with {os.waitstatus_to_exitcode(status)}")
    return {"all": time.perf_counter() - start, "MB": usage.ru_maxrss / 1e3, **json.loads(told)}


def planned(path: Path, tokens: int) -> str:
    """What `rlxflow inspect` says that a context takes, in MB."""
    from rlxflow.inspect.inspection import inspect_model

    plan = inspect_model(path, "decode", context=tokens).memory
    if plan is None or plan.activations is None or plan.cache_at_context is None:
        return "not known"
    parts = plan.weights, plan.activations, plan.cache_at_context
    return f"{sum(parts) / 1e6:.0f} MB (" + " + ".join(f"{part / 1e6:.0f}" for part in parts) + ")"


def print_result(name: str, results: list[dict[str, float]], options: argparse.Namespace) -> None:
    def middle(key: str) -> float:
        return float(np.median([r[key] for r in results]))

    prompt, count = parse_case(options.case)
    low, high = np.percentile([r["all"] for r in results], (25, 75))
    peak = max(r["MB"] for r in results)
    line = f"{options.weights:8}{name:16}{middle('all'):7.3f} s [{low:6.3f} {high:6.3f}]{peak:9.0f} MB"
    if count:
        line += f", reads {prompt / middle('read'):6.1f} and writes {count / middle('wrote'):5.1f} tokens/s"
    if options.more:
        line += f", {options.more} more {middle('more'):5.2f} s"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", choices=PEERS, default="q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", default="128+0", help="PROMPT+WRITTEN tokens")
    parser.add_argument("--more", type=int, default=0, help="tokens of a second turn's prompt")
    parser.add_argument("--engines", nargs="+", default=["rlxflow", "llama.cpp"])
    parser.add_argument("--cache", type=Path, help="where made models are kept; see decoder_models.py")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, path = options.run
        work(name, Path(path), options.threads, options.case, options.more)
    cache = cache_dir(options.cache)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in options.engines}
    with timing_lock():
        disturbance = Disturbance()
        for number in range(options.rounds + 1):
            for name, results in found.items():
                measured = run(name, weights_path(cache, options.weights, name), options)
                results += [measured] if number or not options.rounds else []
        for name, results in found.items():
            print_result(name, results, options)
        tokens = sum(parse_case(options.case)) + options.more
        print(f"rlxflow plans {planned(weights_path(cache, options.weights, 'rlxflow'), tokens)}")
        print(disturbance)


if __name__ == "__main__":
    main()
