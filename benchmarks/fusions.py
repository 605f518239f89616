"""What each fusion of the CPU backend is worth: a model with all, with none, and without one at a time.

    .venv/bin/python benchmarks/fusions.py [--cases 1x8 mixed decode] [--threads 1 2] [--rounds 7]

Cases are batches of MiniLM, and one token behind 32: `decode` of SmolLM2, `decode-0.6b` of Q8_0 in the shape
of Qwen3-0.6B, with random weights.

The fusions are those of `rlxflow/backends/cpu/regions.py`. `tails` and `rows` take whole families: they have
residual sums, `rows` has what is quantised or appended where it is made. Attention has no kernels for its
parts and is always one. A program that is the whole fusion's is left out. The others take turns; printed are
steps, the median and the quartiles of all calls, and the median over that of the whole fusion.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from alone import Disturbance, timing_lock
from decoder_models import cache_dir, qwen3_gguf, smollm2
from encoder import case_inputs, text_ids
from engines import minilm

import rlxflow
from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.regions import FUSIONS
from rlxflow.fusion.pipeline import facts_for, optimize
from rlxflow.profile import load_profile

PLANS = {"all": (), **{f"no {name}": (name,) for name in FUSIONS}, "none": FUSIONS}
DECODERS = {"decode": smollm2, "decode-0.6b": lambda: qwen3_gguf(cache_dir(), "q8_0")}
CASES = ["1x8", "1x32", "1x128", "8x128", "mixed", *DECODERS]
TURN_SECONDS = 0.1
PAST = 32
Call = Callable[[], object]


def programs(path: Path, preset: str, output: str, threads: int) -> dict[str, CpuExecutable]:
    """The model's program for every plan."""
    profile = load_profile(preset, ["backend.name=cpu", f"backend.cpu.threads={threads}"])
    built = rlxflow.load(path, profile=profile).built
    found: dict[str, CpuExecutable] = {}
    for name, apart in PLANS.items():
        backend = CpuBackend(apart=apart)
        graph = built.graph.select([output])
        optimized = optimize(graph, profile, facts_for(profile, None), backend.claims)
        program = backend.compile(optimized.graph, optimized.weights(built.weights), profile)
        if not found or program.plan.text != found["all"].plan.text:
            found[name] = program
    return found


def encoder_calls(plans: dict[str, CpuExecutable], ids: np.ndarray, mask: np.ndarray) -> dict[str, Call]:
    named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: partial(run, named) for name, run in plans.items()}


def decoder_calls(plans: dict[str, CpuExecutable]) -> dict[str, Call]:
    """One token behind others, again and again at the same place."""
    ids = np.arange(1, PAST + 2)[None]
    lengths = {"past_len": np.array([PAST], np.int32), "new_len": np.array([1], np.int32)}
    calls: dict[str, Call] = {}
    for name, run in plans.items():
        state = run.new_state(1, PAST + 1)
        before = {"past_len": np.array([0], np.int32), "new_len": np.array([PAST], np.int32)}
        run({"input_ids": ids[:, :PAST], **before}, state)
        calls[name] = partial(run, {"input_ids": ids[:, PAST:], **lengths}, state)
    return calls


def time_plans(plans: dict[str, CpuExecutable], calls: dict[str, Call], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):  # the first round is not counted
        for name, run in calls.items():
            end = time.perf_counter() + TURN_SECONDS
            run()
            times[name].append(0.0)
            while times[name][-1] == 0 or time.perf_counter() < end:
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    whole = 0.0
    for name, values in times.items():
        low, median, high = np.percentile([v for v in values if v], (25, 50, 75)) * 1e3
        whole = whole or median
        steps = len(plans[name].steps)
        print(f"  {name:17}{steps:5}{median:9.3f} [{low:8.3f} {high:8.3f}] {median / whole:6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder = minilm()
    text = text_ids(folder)
    with timing_lock():
        for threads in options.threads:
            print(f"\n{threads} thread{'s' * (threads > 1)}: steps, ms, quartiles, times all")
            encoder = programs(folder, "encoder", "last_hidden_state", threads)
            for case in options.cases:
                disturbance = Disturbance()
                print(case)
                if case in DECODERS:
                    plans = programs(DECODERS[case](), "decode", "last_logits", threads)
                    time_plans(plans, decoder_calls(plans), options.rounds)
                else:
                    time_plans(encoder, encoder_calls(encoder, *case_inputs(case, text)), options.rounds)
                print(f"  {disturbance}", flush=True)


if __name__ == "__main__":
    main()
