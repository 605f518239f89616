"""How fast a model runs here, beside what the machine can do at most."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from rlxflow.backends.base import CacheState
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.form import find_form
from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.inspect.cost import cost
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.compile import compile_graph
from rlxflow.runtime.inputs import complete
from rlxflow.runtime.model import Model
from rlxflow.runtime.plans import TokenPlans

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

FEWEST_RUNS = 5
DECODE_TOKENS = 32  # timed one by one behind each prompt


@dataclass(frozen=True)
class Case:
    """One kind of call: tokens per call, seconds of every run, FLOPs, bytes that must be read, and the names
    of the forms in which weights are multiplied."""

    what: str
    tokens: int
    seconds: tuple[float, ...]
    flops: int
    read_bytes: int
    forms: tuple[str, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def as_dict(self, limits: dict[str, float | None]) -> dict[str, Any]:
        """Figures for people and programs; shares are of the limits measured in the same run."""
        low, high = np.percentile(self.seconds, (10, 90))
        flops, read = self.flops / self.median / 1e9, self.read_bytes / self.median / 1e9
        peak = "int8" if any(peak_of(form, limits) == "int8" for form in self.forms) else "fma"
        return {
            "case": self.what,
            "runs": len(self.seconds),
            "milliseconds": self.median * 1e3,
            "p10": float(low) * 1e3,
            "p90": float(high) * 1e3,
            "tokens_per_second": self.tokens / self.median,
            "gflops": flops,
            "peak": peak,
            "peak_share": flops / (limits[peak] or np.inf),
            "gb_per_second": read,
            "dram_share": read / (limits["DRAM"] or np.inf),
        }


def peak_of(form: str, limits: dict[str, float | None]) -> str:
    """Which limit bounds products with weights in a form: int8 where their activations are, else fma.

    The rate of fma is not the end for f32 in pairs, which work on units for sums too, nor for bf16.
    """
    x = find_form(form).x
    return "int8" if x is not None and x.mixed == "int8" and limits["int8"] else "fma"


def bench(
    model: Model,
    sizes: Iterable[tuple[int, int]],
    seconds: float = 1.0,
    on_case: Callable[[Case], None] = lambda case: None,
) -> list[Case]:
    """Time calls of batch × tokens on random ids: encoding, or for decoders prefill and then single tokens.

    Each case runs for about `seconds`, at least five times, after one call that does not count. Raises
    `InputError`, before any is run: R070 for sizes below 1, R016 for more tokens than the model takes.
    """
    found = []
    sizes = list(sizes)
    for batch, tokens in sizes:
        _want_size(model, batch, tokens)
    for batch, tokens in sizes:
        for case in _decoder_cases(model, batch, tokens, seconds) if model.is_decoder else [
            _encoder_case(model, batch, tokens, seconds)
        ]:  # fmt: skip
            on_case(case)
            found.append(case)
    return found


def _want_size(model: Model, batch: int, tokens: int) -> None:
    case = f"the case {batch}×{tokens}"
    if batch < 1 or tokens < 1:
        hint = "give 1 or more of each"
        raise InputError(f"{case} is empty", code="RLX-R070", where=model.name, hint=hint)
    total = tokens + (DECODE_TOKENS if model.is_decoder else 0)
    if model.max_positions is not None and total > model.max_positions:
        message = f"{case} comes to {total} tokens of a sequence, the model takes {model.max_positions}"
        raise InputError(message, code="RLX-R016", where=model.name, hint="give fewer tokens")


def compile_seconds(model: Model, profile: str | CompileProfile | None = None) -> tuple[float, float]:
    """Seconds to compile and to pack the weights: with compiled code on disk, and without."""
    times = []
    for keep in (False, True):
        with _object_cache(keep):
            start = time.perf_counter()
            compile_graph(model.built, profile)
            times.append(time.perf_counter() - start)
    return times[1], times[0]


def peak_memory() -> int:
    """The most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def _object_cache(keep: bool) -> Iterator[None]:
    before = os.environ.get("RLXFLOW_CACHE")
    if not keep:
        os.environ["RLXFLOW_CACHE"] = ""
    try:
        yield
    finally:
        if not keep and before is None:
            del os.environ["RLXFLOW_CACHE"]
        elif not keep:
            os.environ["RLXFLOW_CACHE"] = before or ""


def _weight_bytes(model: Model) -> int:
    """Of the weights as the program holds them."""
    held: int | None = getattr(model.executable, "weight_bytes", None)
    return cost(model.graph, {"B": 1, "S": 1, "C": 1}).weight_bytes if held is None else held


def _forms(model: Model) -> tuple[str, ...]:
    program = model.executable
    if isinstance(program, TokenPlans):  # which all have the same weights
        program = program.plans[0][1]
    return program.plan.forms if isinstance(program, CpuExecutable) else ()


def _timed(call: Callable[[], object], seconds: float) -> tuple[float, ...]:
    call()
    runs: list[float] = []
    while len(runs) < FEWEST_RUNS or sum(runs) < seconds:
        start = time.perf_counter()
        call()
        runs.append(time.perf_counter() - start)
    return tuple(runs)


def _ids(model: Model, batch: int, tokens: int) -> Array:
    high = min(getattr(model.config, "vocab_size", 1000), 1000)
    return np.random.default_rng(0).integers(1, max(2, high), (batch, tokens))


def _encoder_case(model: Model, batch: int, tokens: int, seconds: float) -> Case:
    inputs = complete(model.flow.inputs, {"input_ids": _ids(model, batch, tokens)})
    run = model.executable
    wanted = tuple(run.graph.outputs)[-1:]
    flops = cost(model.graph, {"B": batch, "S": tokens}).flops
    times = _timed(lambda: run(inputs, outputs=wanted), seconds)
    return Case(f"encode {batch}×{tokens}", batch * tokens, times, flops, _weight_bytes(model), _forms(model))


def _decoder_cases(model: Model, batch: int, tokens: int, seconds: float) -> Iterator[Case]:
    """Prefill of the prompts, and single tokens behind them."""
    capacity = tokens + DECODE_TOKENS + 1
    state = model.executable.new_state(batch, capacity)
    ids = _ids(model, batch, capacity)
    graph = model.graph.select(["last_logits"])

    def feed(past: int, count: int) -> None:
        _feed(model, state, ids[:, past : past + count], past)

    weights, forms = _weight_bytes(model), _forms(model)
    times = _timed(lambda: feed(0, tokens), seconds)
    flops = cost(graph, {"B": batch, "S": tokens, "C": tokens}).flops
    yield Case(f"prefill {batch}×{tokens}", batch * tokens, times, flops, weights, forms)
    runs: list[float] = []
    while not runs or sum(runs) < seconds:
        for i in range(DECODE_TOKENS):
            start = time.perf_counter()
            feed(tokens + i, 1)
            runs.append(time.perf_counter() - start)
    read = weights + sum(a.nbytes for a in state.arrays.values()) * (tokens + DECODE_TOKENS // 2) // capacity
    flops = cost(graph, {"B": batch, "S": 1, "C": tokens}).flops
    yield Case(f"decode {batch} at {tokens}", batch, tuple(runs), flops, read, forms)


def _feed(model: Model, state: CacheState, ids: Array, past: int) -> None:
    batch, count = ids.shape
    lengths = {"past_len": np.full(batch, past, np.int32), "new_len": np.full(batch, count, np.int32)}
    model.executable({"input_ids": ids, **lengths}, state, ("last_logits",))
