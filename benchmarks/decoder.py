"""Writing text with a 0.6B and a 135M model: rlxflow against whatever peers are installed, in one run.

    make peers                                              the environment with all peers, once
    .venv-peers/bin/python benchmarks/decoder.py            everything, an hour
    .venv-peers/bin/python benchmarks/decoder.py --weights q8_0 --threads 2 --cases 16+128 512+0

Weights: `q8_0`, `q4_k_m` and `bf16` are random, of Qwen3-0.6B's shape (decoder_models.py makes them);
`smollm2` is SmolLM2-135M's real GGUF file. A case is the prompt's tokens and how many are then written:
16+128 decodes at positions 16 to 144. Each engine has a process of its own; one runs at a time, in turns
(A B C, A B C, ...), each on a prompt of its own.

Printed per case and engine: median and interquartile range of prefill tokens/s (prompt to first token) and of
decode tokens/s (after it). "of DRAM" is (bytes of the weights as the engine keeps them + bytes of the cache
read) per second over the DRAM read rate measured between the rounds; of peers the file's size is taken, and
a cache in 16 bits. Then rlxflow's median over each peer's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import machine
import numpy as np
from alone import Disturbance, timing_lock
from decoder_engines import engine
from decoder_models import cache_dir, make_all, qwen3_directory, qwen3_gguf, qwen3_onnx, smollm2
from encoder import rest

CASES = ["16+128", "128+0", "512+0", "2048+32"]
PEERS = {
    "q8_0": ["llama.cpp", "openvino"],
    "q4_k_m": ["llama.cpp", "openvino", "onnxruntime-int4"],
    "bf16": ["llama.cpp", "torch"],
    "smollm2": ["llama.cpp", "openvino"],
}
CACHE_ROWS = {"smollm2": 30 * 3 * 64}  # layers x KV heads x width of a head
QWEN3_CACHE_ROW = 28 * 8 * 128
FIRST_ID, LAST_ID = 100, 49_000


def weights_path(cache: Path, weights: str, name: str) -> Path:
    """What an engine reads."""
    if weights == "smollm2":
        return smollm2()
    if name == "torch":
        return qwen3_directory(cache)
    return qwen3_onnx(cache) if name.startswith("onnxruntime") else qwen3_gguf(cache, weights)


def nbytes(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*")) if path.is_dir() else path.stat().st_size


def worker(pipe: Connection, name: str, path: Path, threads: int) -> None:
    """Send the bytes of the weights, then answer (ids, count) with a turn's seconds. A string is an error."""
    try:
        turn = engine(name)(path, threads)
        pipe.send(getattr(turn, "weight_bytes", None) or nbytes(path))
        while (request := pipe.recv()) is not None:
            seconds = turn(*request)
            rest()
            pipe.send(seconds)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}")


class Engine:
    """A worker process. `error` says why it is of no use any more."""

    def __init__(self, name: str, path: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.error = name, ""
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, name, path, threads)
        self.process = context.Process(target=worker, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.weight_bytes = self._answer() or 0

    def turn(self, ids: list[int], count: int) -> tuple[float, float] | None:
        self._pipe.send((ids, count))
        return self._answer()

    def _answer(self) -> object:
        try:
            answer = self._pipe.recv()
        except EOFError:
            answer = "the process died"
        if isinstance(answer, str):
            self.error = answer
            print(f"  left out: {self.name}: {answer}", flush=True)
            return None
        return answer

    def close(self) -> None:
        if self.process.is_alive() and not self.error:
            self._pipe.send(None)
        self.process.join(5)
        self.process.kill()


@dataclass
class Result:
    """Seconds of one engine in one case."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)


def quartiles(tokens: int, seconds: list[float]) -> tuple[float, float, float]:
    """Tokens/s: median, and the bounds of the interquartile range."""
    slow, median, fast = (tokens / s for s in np.percentile(seconds, (75, 50, 25)))
    return median, slow, fast


def parse_case(case: str) -> tuple[int, int]:
    prompt, _, count = case.partition("+")
    return int(prompt), int(count)


def time_case(engines: list[Engine], case: str, rounds: int, threads: int) -> tuple[dict[str, Result], float]:
    """Results by engine, and the median DRAM rate in GB/s before the rounds. One more round warms up.

    Every round another engine is first: behind the measurement of the rate, and behind any rest of the
    processors, a turn is slower.
    """
    prompt, count = parse_case(case)
    rng = np.random.default_rng(prompt)
    results = {e.name: Result() for e in engines if not e.error}
    rates, size = [], 8 * machine.cache_sizes()[1]
    for number in range(rounds + 1):
        if number:
            rates.append(machine.read_rate(size, threads, repeat=1))
        first = number % len(engines)
        for e in engines[first:] + engines[:first]:
            if e.error:
                continue
            ids = rng.integers(FIRST_ID, LAST_ID, prompt).tolist()
            seconds = e.turn(ids, count if number else min(count, 4))
            if seconds is None:
                del results[e.name]
            elif number:
                results[e.name].prefill.append(seconds[0])
                results[e.name].decode.append(seconds[1])
    return results, float(np.median(rates))


def bandwidth(e: Engine, weights: str, case: str, speed: float, memory: float) -> float:
    """The share of the DRAM rate that `speed` tokens/s need."""
    prompt, count = parse_case(case)
    elements = 2 * CACHE_ROWS.get(weights, QWEN3_CACHE_ROW) * (prompt + count / 2)
    width = 4 if e.name == "rlxflow-exact" or "kv_cache=f32" in e.name else 2
    return (e.weight_bytes + elements * width) * speed / (memory * 1e9)


def print_case(
    weights: str, case: str, engines: list[Engine], results: dict[str, Result], memory: float
) -> dict[str, tuple[float, float]]:
    """One line per engine; the medians (prefill, decode)."""
    prompt, count = parse_case(case)
    medians = {}
    for e in engines:
        if e.name not in results:
            continue
        read, slow, fast = quartiles(prompt, results[e.name].prefill)
        line = f"{weights:8}{case:9}{e.name:20}{read:8.1f} [{slow:7.1f} {fast:7.1f}]"
        wrote = 0.0
        if count:
            wrote, slow, fast = quartiles(count, results[e.name].decode)
            share = bandwidth(e, weights, case, wrote, memory)
            line += f"{wrote:9.2f} [{slow:6.2f} {fast:6.2f}] {share:6.1%}"
        print(line)
        medians[e.name] = (read, wrote)
    if count:
        print(f"  DRAM {memory:.1f} GB/s")
    return medians


def print_ratios(case: str, medians: dict[str, tuple[float, float]]) -> None:
    for name in (n for n in medians if n.startswith("rlxflow")):
        for peer in (p for p in medians if not p.startswith("rlxflow")):
            (read, wrote), (their_read, their_wrote) = medians[name], medians[peer]
            decode = f", decode {wrote / their_wrote:5.2f}" if their_wrote else ""
            print(f"  {case}: {name} / {peer}: prefill {read / their_read:5.2f}{decode}")


def run(weights: str, threads: int, names: list[str], options: argparse.Namespace, cache: Path) -> None:
    """All cases of one set of weights with one number of threads."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)  # for the workers, which inherit it
    print(f"\n{weights}, {threads} thread{'s' * (threads > 1)}, profile decode", flush=True)
    engines = [Engine(name, weights_path(cache, weights, name), threads) for name in names]
    read, wrote = f"{'prefill':>8} [{'q1':>7} {'q3':>7}]", f"{'decode':>9} [{'q1':>6} {'q3':>6}]"
    print(f"{'':37}{read}{wrote} of DRAM")
    try:
        for case in options.cases:
            running = [e for e in engines if not e.error]
            disturbance = Disturbance(tuple(e.process.pid or 0 for e in running))
            results, memory = time_case(engines, case, options.rounds, threads)
            print_ratios(case, print_case(weights, case, engines, results, memory))
            print(f"  {disturbance}\n", flush=True)
    finally:
        for e in engines:
            e.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--cases", nargs="+", default=CASES, help="PROMPT+WRITTEN tokens")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--engines", nargs="+", help="in place of rlxflow and all peers; see decoder_engines.py"
    )
    parser.add_argument("--cache", type=Path, help="keep made models here (default ~/.cache/rlxflow-bench)")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in options.engines or ():
        engine(name)  # a wrong name ends the program here
    cache = cache_dir(options.cache)
    make = multiprocessing.get_context("spawn").Process(target=make_all, args=(cache,))
    make.start()
    make.join()
    with timing_lock():
        machine.print_table({t: machine.measure(t) for t in options.threads})
        for weights in options.weights:
            for threads in options.threads:
                run(weights, threads, options.engines or ["rlxflow", *PEERS[weights]], options, cache)


if __name__ == "__main__":
    main()
