"""Measure a model's speed on random ids, beside what this machine can do at most.

Encoders are timed per call; decoders on a prompt, and then token by token behind it. Times are medians.
Shares are of limits measured in the same run: arithmetic of the rate of int8 products where linear layers are
int8, else of f32 FMA instructions; bytes (weights and caches, read once per call) of the rate of main memory.
Above 100 % of peak: f32 products in pairs (precision.paired_products) work on the units for sums too, and
products of bf16 do more at a time. Above 100 % of DRAM: weights stay in the caches.
"""

from __future__ import annotations

import argparse
import re
import time
from typing import TYPE_CHECKING, Any

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK
from rlxflow.cli.options import add_model, add_trace, load_model, save_trace
from rlxflow.errors import InputError

if TYPE_CHECKING:
    from rlxflow.inspect.bench import Case

HEAD = ("case", "ms", "p10", "p90", "tokens/s", "GFLOP/s", "of peak", "GB/s", "of DRAM")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "sizes",
        metavar="BATCHxTOKENS",
        nargs="*",
        default=[],
        help="default: 1x8 1x32 1x128 8x128; decoders: 1x128",
    )
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="per case (default: 1)")
    add_trace(parser)
    parser.add_argument("--no-compile", action="store_true", help="do not time the compilation")


def run(args: argparse.Namespace) -> int:
    from rlxflow.backends.cpu.limits import measure
    from rlxflow.backends.cpu.team import thread_count
    from rlxflow.inspect.bench import bench, compile_seconds, peak_memory

    sizes = [_size(text) for text in args.sizes]
    start = time.perf_counter()
    model = load_model(args)
    loaded = time.perf_counter() - start
    threads = thread_count(model.profile.backend.cpu.threads)
    limits = measure(threads)
    sizes = sizes or ([(1, 128)] if model.is_decoder else [(1, 8), (1, 32), (1, 128), (8, 128)])
    cases: list[Case] = []

    def on_case(case: Case) -> None:
        if not args.json:
            _show(case, limits, head=not cases)
        cases.append(case)

    bench(model, sizes, args.seconds, on_case)
    save_trace(args, model)
    compiled = None if args.no_compile else compile_seconds(model)
    facts = {
        "model": model.name,
        "profile": model.profile.source or "overrides",
        "threads": threads,
        "limits": limits,
        "load_seconds": loaded,
        "compile_seconds": compiled and {"warm": compiled[0], "cold": compiled[1]},
        "peak_memory": peak_memory(),
        "cases": [case.as_dict(limits) for case in cases],
    }
    if args.json:
        console.print_json(facts)
    else:
        print(_footer(facts))
    return OK


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})[x×]([0-9]{1,9})", text)
    if not found:
        hint = "write the batch size, an x, and the tokens per sequence: 8x128"
        raise InputError(f"{text!r} is not BATCHxTOKENS", code="RLX-R060", where="rlxflow bench", hint=hint)
    return int(found[1]), int(found[2])


def _row(cells: tuple[str, ...]) -> str:
    return f"{cells[0]:<18}" + "".join(f"{cell:>10}" for cell in cells[1:])


def _show(case: Case, limits: dict[str, float | None], head: bool) -> None:
    if head:
        print(_row(HEAD))
    d = case.as_dict(limits)
    times = (f"{d[name]:.3f}" for name in ("milliseconds", "p10", "p90"))
    rates = (f"{d['tokens_per_second']:.0f}", f"{d['gflops']:.1f}", f"{d['peak_share']:.0%}")
    print(_row((case.what, *times, *rates, f"{d['gb_per_second']:.1f}", f"{d['dram_share']:.0%}")))
    console.flush()


def _footer(facts: dict[str, Any]) -> str:
    limits = " · ".join(f"{name} {value:.0f}" for name, value in facts["limits"].items() if value)
    lines = [
        f"profile {facts['profile']} · {facts['threads']} threads · loaded in {facts['load_seconds']:.2f} s"
        f" · peak memory {facts['peak_memory'] / 1e6:.0f} MB",
        f"limits  {limits}  (GFLOP/s, GOP/s, GB/s); peak is {facts['cases'][0]['peak']}",
    ]
    if facts["compile_seconds"]:
        times = facts["compile_seconds"]
        lines.append(
            f"compile {times['warm']:.2f} s with compiled code on disk, {times['cold']:.2f} s without"
        )
    return "\n".join(lines)
