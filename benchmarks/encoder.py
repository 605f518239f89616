"""MiniLM from ids to hidden states: rlxflow against whatever peers are installed, in one run.

    make peers                                              the environment with all peers, once
    .venv-peers/bin/python benchmarks/encoder.py            everything, several minutes
    .venv-peers/bin/python benchmarks/encoder.py --cases 1x8 1x128 mixed --threads 2 --rounds 3

Each engine has a process of its own. Only one runs at a time: engines take turns within a round (A B C,
A B C, ...), and a turn ends when the threads of its engine rest. A turn is one call that is not counted
(where calls are short) and some that are. All get the same ids (of the licence's text), mask and weights.

Printed per case and engine: the median and the interquartile range of all counted calls; the largest
1 - cosine to torch's f32 (without torch: to the reference backend), of a token's hidden state and of a
sentence's mean; useful GFLOP/s (padding counts nothing) as a share of the f32 FMA peak measured between the
rounds of the same case; the number of counted calls. Then the fastest f32 peer against rlxflow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from math import exp, log
from multiprocessing.connection import Connection
from pathlib import Path

import machine
import numpy as np
from alone import Disturbance, timing_lock
from engines import Files, engine, minilm_files

CASES = ["1x8", "1x16", "1x32", "1x64", "1x128", "1x256", "8x32", "8x128", "32x64", "32x128", "mixed"]
DEFAULT = ["rlxflow", "reference", "torch", "torch-compiled", "onnxruntime", "onnxruntime-fused", "openvino",
           "ctranslate2", "llama.cpp"]  # fmt: skip
HIDDEN, FFN, LAYERS = 384, 1536, 6
TURN_SECONDS = 0.1
CLS, SEP = 101, 102


def text_ids(model: Path) -> np.ndarray:
    """The token ids of an English text: this repository's licence."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = (Path(__file__).parent.parent / "LICENSE").read_text("utf-8")
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)


def case_inputs(case: str, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of "BxS", or of "mixed": 32 sentences of 8 to 160 tokens, 84 on average, shuffled."""
    if case == "mixed":
        lengths = np.random.default_rng(0).permutation(np.linspace(8, 160, 32).astype(np.int64))
    else:
        batch, seq = map(int, case.split("x"))
        lengths = np.full(batch, seq)
    columns = np.arange(lengths.max())
    mask = (columns < lengths[:, None]).astype(np.int64)
    ids = text[(61 * np.arange(len(lengths))[:, None] + columns) % len(text)] * mask
    ids[:, 0] = CLS
    ids[np.arange(len(ids)), lengths - 1] = SEP
    return ids, mask


def useful_flops(mask: np.ndarray) -> float:
    """Multiplications and additions of linear layers and attention over the tokens that are not padding."""
    lengths = mask.sum(1)
    linear = 2 * (4 * HIDDEN**2 + 2 * HIDDEN * FFN) * lengths.sum()
    attention = 4 * HIDDEN * (lengths**2).sum()
    return float(LAYERS * (linear + attention))


def rest(limit: float = 2.0) -> None:
    """Return when no thread of this process takes CPU time: thread pools spin for a while after a call."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(0.005)
        if time.process_time() - before < 0.0005:
            return


def worker(pipe: Connection, name: str, files: Files, threads: int) -> None:
    """Answer ("case", ids, mask) with (hidden states, seconds of a second call), ("turn", n) with n times.

    A string is an error, and the end.
    """
    try:
        run = engine(name)(files, threads)
        pipe.send("ready")
        while (request := pipe.recv()) is not None:
            if request[0] == "case":
                _, ids, mask = request
                hidden = run(ids, mask)
                calls = 1
            else:
                calls = request[1]
            times = []
            for _ in range(calls):
                start = time.perf_counter()
                run(ids, mask)
                times.append(time.perf_counter() - start)
            rest()
            pipe.send((hidden, min(times)) if request[0] == "case" else times)
    except Exception as error:
        first = (str(error) or "?").splitlines()[0]
        pipe.send(f"{type(error).__name__}: {first}")


class Engine:
    """A worker process and its pipe. `error` says why it is of no use any more."""

    def __init__(self, name: str, files: Files, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=worker, args=(theirs, name, files, threads), daemon=True)
        self.process.start()
        theirs.close()
        answer = self._answer()
        self.error = None if answer == "ready" else answer

    def _answer(self) -> object:
        try:
            return self._pipe.recv()
        except EOFError:
            return "the process died"

    def ask(self, *request: object) -> object:
        """The worker's answer; None, and `error` set, if it failed."""
        self._pipe.send(request)
        answer = self._answer()
        if isinstance(answer, str):
            self.error = answer
            print(f"  {self.name}: {answer}", flush=True)
            return None
        return answer

    def close(self) -> None:
        if self.process.is_alive() and self.error is None:
            self._pipe.send(None)
        self.process.join(5)
        self.process.kill()


@dataclass
class Result:
    """What one engine did in one case."""

    hidden: np.ndarray
    calls: int
    times: list[float] = field(default_factory=list)

    def quartiles(self) -> tuple[float, float, float]:
        """Milliseconds."""
        low, median, high = np.percentile(self.times, (25, 50, 75)) * 1e3
        return low, median, high


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest 1 - cosine of two rows."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    # 1 - a.b = |a - b|^2 / 2 for unit vectors, and does not cancel
    return float(((a - b) ** 2).sum(1).max() / 2)


def accuracy(hidden: np.ndarray, baseline: np.ndarray, mask: np.ndarray) -> str:
    """Cosine distances of tokens and of the sentences' means, in f64; padding is left out."""
    a, b = hidden.astype(np.float64), baseline.astype(np.float64)
    tokens = cosine_distance(a[mask > 0], b[mask > 0])
    a, b = (np.where(mask[..., None] > 0, x, 0).sum(1) for x in (a, b))
    return f"{tokens:8.0e}{cosine_distance(a, b):8.0e}"


def time_case(
    engines: list[Engine], ids: np.ndarray, mask: np.ndarray, rounds: int, threads: int
) -> tuple[dict[str, Result], float]:
    """Results by engine, and the FMA peak in GFLOP/s measured between the rounds."""
    results: dict[str, Result] = {}
    for e in engines:
        if e.error is None and (answer := e.ask("case", ids, mask)) is not None:
            hidden, seconds = answer
            results[e.name] = Result(hidden, int(np.clip(TURN_SECONDS / seconds, 1, 30)))
    peak = 0.0
    for _ in range(rounds):
        peak = max(peak, machine.fma_peak(threads, repeat=2))
        for e in engines:
            if e.error is None:
                result = results[e.name]
                warm = int(result.calls > 1)
                if (times := e.ask("turn", result.calls + warm)) is None:
                    del results[e.name]
                else:
                    result.times += times[warm:]
    return results, peak


def print_case(case: str, mask: np.ndarray, results: dict[str, Result], peak: float, width: int) -> None:
    baseline = results.get("torch") or results.get("reference")
    for name, result in results.items():
        low, median, high = result.quartiles()
        distances = accuracy(result.hidden, baseline.hidden, mask) if baseline else ""
        share = useful_flops(mask) / (median * 1e6) / peak
        spread = f"[{low:8.3f} {high:8.3f}]"
        print(f"{case:7}{name:{width}}{median:9.3f} {spread}{distances:16} {share:7.1%}{len(result.times):5}")


def is_f32_peer(name: str) -> bool:
    return not name.startswith(("rlxflow", "reference")) and not name.endswith("int8")


def speedup(results: dict[str, Result]) -> tuple[str, float, bool] | None:
    """The fastest f32 peer, its median over rlxflow's, and whether the interquartile ranges are apart."""
    peers = {n: r.quartiles() for n, r in results.items() if is_f32_peer(n)}
    if "rlxflow" not in results or not peers:
        return None
    name = min(peers, key=lambda n: peers[n][1])
    low, median, high = results["rlxflow"].quartiles()
    return name, peers[name][1] / median, high < peers[name][0] or peers[name][2] < low


def print_speedups(speedups: dict[str, tuple[str, float, bool]]) -> None:
    if not speedups:
        return
    print("the fastest f32 peer's median over rlxflow's (~: their interquartile ranges meet)")
    for case, (name, ratio, apart) in speedups.items():
        print(f"  {case:7}{ratio:6.2f} {' ' if apart else '~'} {name}")
    mean = exp(sum(log(ratio) for _, ratio, _ in speedups.values()) / len(speedups))
    print(f"  geometric mean {mean:.2f}\n", flush=True)


def run_threads(threads: int, names: list[str], cases: list[str], rounds: int, files: Files) -> None:
    """All cases with one number of threads."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)  # for the workers, which inherit it
    engines = [Engine(name, files, threads) for name in names]
    for e in engines:
        if e.error is not None:
            print(f"left out: {e.name}: {e.error}")
    print(f"\n{threads} thread{'s' * (threads > 1)}")
    width = max(map(len, names)) + 1
    spread = f"[{'q1':>8} {'q3':>8}]"
    print(f"{'case':7}{'engine':{width}}{'ms':>9} {spread}{'1-cos':>8}{'mean':>8} {'of peak':>7}{'n':>5}")
    text = text_ids(files.model)
    speedups = {}
    try:
        for case in cases:
            ids, mask = case_inputs(case, text)
            disturbance = Disturbance(tuple(e.process.pid for e in engines if e.error is None))
            results, peak = time_case(engines, ids, mask, rounds, threads)
            print_case(case, mask, results, peak, width)
            print(f"  {disturbance}\n", flush=True)
            if (found := speedup(results)) is not None:
                speedups[case] = found
        print_speedups(speedups)
    finally:
        for e in engines:
            e.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cases", nargs="+", default=CASES, help="BATCHxSEQ or mixed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engines", nargs="+", default=DEFAULT, help="see engines.py")
    parser.add_argument("--made", type=Path, help="keep the peers' converted models here")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in options.engines:
        engine(name)  # a wrong name ends the program here
    with timing_lock(), minilm_files(options.made) as files:
        machine.print_table({t: machine.measure(t) for t in options.threads})
        for threads in options.threads:
            run_threads(threads, options.engines, options.cases, options.rounds, files)


if __name__ == "__main__":
    main()
