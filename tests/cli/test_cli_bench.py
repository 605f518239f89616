"""`rlxflow bench`: what is printed, as text and as JSON; never how fast it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cli_models import Result

from rlxflow.backends.cpu import limits

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"fma": 100.0, "int8": 400.0, "L2": 50.0, "L3": 40.0, "DRAM": 10.0}
    monkeypatch.setattr(limits, "measure", lambda threads: figures)


def test_an_encoder(cli: Cli, bert: str) -> None:
    shown = cli("bench", bert, "1x3", "2x5", "--seconds", "0", "--set", "backend.name=cpu")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].split()[:4] == ["case", "ms", "p10", "p90"]
    assert lines[1].startswith("encode 1×3 ") and lines[2].startswith("encode 2×5 ")
    assert "compile " in lines[-1] and "fma 100" in shown.out and "peak is fma" in shown.out


def test_a_decoder_as_json(cli: Cli, llama: str) -> None:
    data = cli("bench", llama, "2x3", "--seconds", "0", "--json", "--no-compile").data
    prefill, decode = data["cases"]
    assert decode["case"] == "decode 2 at 3" and decode["runs"] == 32
    assert prefill["case"] == "prefill 2×3" and prefill["runs"] == 5
    assert prefill["gflops"] > 0 and prefill["milliseconds"] >= prefill["p10"]
    assert data["compile_seconds"] is None and data["peak_memory"] > 1e7
    assert (prefill["peak"], prefill["peak_share"]) == ("fma", pytest.approx(prefill["gflops"] / 100))


@pytest.mark.parametrize(("int8", "peak"), [(400.0, "int8"), (None, "fma")])
def test_products_in_int8_are_held_against_int8(
    cli: Cli, bert: str, monkeypatch: pytest.MonkeyPatch, int8: float | None, peak: str
) -> None:
    monkeypatch.setattr(limits, "measure", lambda threads: {"fma": 100.0, "int8": int8, "DRAM": 10.0})
    argv = ("bench", bert, "2x5", "--seconds", "0", "--no-compile", "--json", "--set", "backend.name=cpu")
    (case,) = cli(*argv, "--profile", "encoder_int8").data["cases"]
    assert (case["peak"], case["peak_share"]) == (peak, pytest.approx(case["gflops"] / (int8 or 100)))


@pytest.mark.parametrize("size", ["8", "x8", "1x", "0x8", "1x0", "1X8", "-1x8"])
def test_a_wrong_size(cli: Cli, bert: str, size: str) -> None:
    shown = cli("bench", bert, size, "--no-compile")
    assert shown.code == 2 and "RLX-R0" in shown.err
