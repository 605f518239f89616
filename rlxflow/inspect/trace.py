"""Where the time of calls goes: a program whose steps are timed, and a trace that browsers show.

The file is in the Trace Event Format (JSON; chrome://tracing, ui.perfetto.dev).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.form import find_form
from rlxflow.backends.cpu.kernels.gemm import Gemm
from rlxflow.backends.cpu.limits import measure
from rlxflow.backends.cpu.plan import PlanStep
from rlxflow.backends.cpu.traced import WHOLE, Event
from rlxflow.errors import BackendError
from rlxflow.inspect.bench import peak_of
from rlxflow.runtime.compile import compile_graph
from rlxflow.runtime.model import Model
from rlxflow.runtime.whole_file import whole_file

PROCESS = 1  # the format wants a process number


def traced_model(model: Model) -> Model:
    """The same model, its program compiled with a clock around every step.

    Raises `BackendError` (B009) where the compiled backend is not the one that runs it.
    """
    if not isinstance(model.executable, CpuExecutable):
        raise BackendError(
            "only the compiled CPU backend can be traced",
            code="RLX-B009",
            where=model.name,
            hint='use --set backend.name=cpu, or a profile with backend.name = "cpu"',
        )
    timed = replace(model)
    timed.__dict__["executable"] = compile_graph(model.built, backend=CpuBackend(traced=True))
    return timed


def write_trace(model: Model, path: str | os.PathLike[str]) -> int:
    """Write the calls that a traced model has made; returns how many events there were."""
    program = model.executable
    assert isinstance(program, CpuExecutable) and program.trace is not None
    events = list(_events(program))
    limits = measure(1)
    for event in events:
        _add_shares(event["args"], limits)
    threads = sorted({e["tid"] for e in events})
    names = [
        {"ph": "M", "name": "thread_name", "pid": PROCESS, "tid": t, "args": {"name": f"thread {t}"}}
        for t in threads
    ]
    lost = sum(call.lost for call in program.trace.calls)
    other = {"model": model.name, "limits of one thread": limits, "events that did not fit": lost}
    text = json.dumps({"traceEvents": names + events, "displayTimeUnit": "ms", "otherData": other})
    with whole_file(path) as file:
        file.write(text.encode())
    return len(events)


def _events(program: CpuExecutable) -> Iterator[dict[str, Any]]:
    """One complete event per part of a step, in microseconds from the first call on."""
    assert program.trace is not None
    calls = program.trace.calls
    first = min((int(c.events[:, Event.START].min()) for c in calls if len(c.events)), default=0)
    threads: dict[int, int] = {}
    for number, call in enumerate(calls):
        for row in call.events.tolist():
            step = program.plan.steps[row[Event.STEP]]
            thread = threads.setdefault(row[Event.FRAME], len(threads))
            begin, end = row[Event.START], row[Event.STOP]
            facts = {"call": number, "tokens": row[Event.TOKENS], "share": _share(row)}
            yield {
                "ph": "X",
                "name": program.plan.labels[row[Event.STEP]],
                "cat": type(step.kernel).__name__,
                "pid": PROCESS,
                "tid": thread,
                "ts": (begin - first) / 1e3,
                "dur": max(0, end - begin) / 1e3,
                "args": facts | _rates(step, row, max(1, end - begin)),
            }


def _share(row: list[int]) -> float:
    """Of the step, about."""
    return row[Event.SHARE] / WHOLE


def _rates(step: PlanStep, row: list[int], nanoseconds: int) -> dict[str, float | str]:
    """Form, GFLOP/s and GB/s (weights read once) of a part of a product; other steps have none."""
    kernel = step.kernel
    if not isinstance(kernel, Gemm):
        return {}
    rows = row[Event.TOKENS] if kernel.tail.domain == "token" else row[Event.SEQUENCES]
    weights = 4 * find_form(kernel.form).words(kernel.depth) * kernel.columns * _share(row)
    flops = 2 * rows * kernel.depth * kernel.columns * _share(row)
    return {"form": kernel.form, "GFLOP/s": flops / nanoseconds, "GB/s": weights / nanoseconds}


def _add_shares(facts: dict[str, Any], limits: dict[str, float | None]) -> None:
    if "form" not in facts:
        return
    for rate, limit in (("GFLOP/s", peak_of(facts["form"], limits)), ("GB/s", "DRAM")):
        most = limits[limit]
        if most:
            facts[f"of {limit}"] = round(facts[rate] / most, 3)
        facts[rate] = round(facts[rate], 2)
