"""--trace: a file of timed steps that browsers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from cli_models import Result

Cli = Callable[..., Result]
CPU = ("--set", "backend.name=cpu")


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_steps_of_an_encoder(cli: Cli, bert: str, tmp_path: Path, threads: str) -> None:
    path = tmp_path / "trace.json"
    shown = cli(
        "embed", bert, "a b", "b", "--trace", str(path), *CPU, "--set", f"backend.cpu.threads={threads}"
    )
    assert shown.code == 0 and f"events in {path}" in shown.err
    data = json.loads(path.read_text())
    events = [e for e in data["traceEvents"] if e["ph"] == "X"]
    assert len({e["name"] for e in events}) > 10
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in events)
    assert {e["tid"] for e in events} <= set(range(int(threads)))
    products = [e for e in events if e["cat"] == "Gemm"]
    assert products and all(e["args"]["GFLOP/s"] > 0 and e["args"]["of fma"] >= 0 for e in products)
    assert data["otherData"]["events that did not fit"] == 0
    for thread in {e["tid"] for e in events}:  # one after the other
        own = sorted((e["ts"], e["dur"]) for e in events if e["tid"] == thread)
        assert all(a + d <= b + 0.002 for (a, d), (b, _) in pairwise(own))


def test_traced_results_are_the_same(cli: Cli, bert: str, tmp_path: Path) -> None:
    plain = cli("embed", bert, "a b", *CPU).out
    assert cli("embed", bert, "a b", "--trace", str(tmp_path / "t.json"), *CPU).out == plain


def test_only_compiled_programs_are_traced(cli: Cli, bert: str, tmp_path: Path) -> None:
    shown = cli("embed", bert, "a", "--trace", str(tmp_path / "t.json"), "--set", "backend.name=reference")
    assert shown.code != 0 and "RLX-B009" in shown.err and "backend.name=cpu" in shown.err


def test_a_file_that_cannot_be_written(cli: Cli, bert: str, tmp_path: Path) -> None:
    shown = cli("embed", bert, "a", "--trace", str(tmp_path / "no" / "t.json"), *CPU)
    assert shown.code != 0 and "RLX-R061" in shown.err
