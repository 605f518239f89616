"""`check --accuracy`: what a profile trades is measured, and a guarantee that is not kept is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_models import Result

from rlxflow.inspect.accuracy import TEXTS, compare

Cli = Callable[..., Result]
CPU = ("--set", "backend.name=cpu")


def test_exact_keeps_what_it_states(cli: Cli, bert: str) -> None:
    (part,) = [
        p for p in cli("check", bert, "--accuracy", "--json", *CPU).data["parts"] if p["part"] == "accuracy"
    ]
    assert part["status"] == "ok" and part["note"].startswith("cosine 1.000000")
    assert part["note"].endswith(f"the worst of {len(TEXTS)} texts")
    assert "accuracy" not in cli("check", bert, *CPU).out


def test_int8_is_farther_away_and_told_so(cli: Cli, bert: str) -> None:
    int8 = (*CPU, "--set", "precision.mixed=int8")
    shown = cli("check", bert, "--accuracy", *int8, "--set", "precision.min_cosine=0.9")
    assert shown.code == 0 and "cosine 0.99" in shown.out
    strict = cli("check", bert, "--accuracy", *int8, "--set", "precision.min_cosine=0.9999999")
    assert strict.code != 0 and "RLX-B010" in strict.err and "guarantees 0.9999999" in strict.err
    assert "failed  accuracy" in strict.out


def test_a_decoder_is_compared_token_by_token(cli: Cli, llama: str) -> None:
    shown = cli("check", llama, "--accuracy", "--profile", "exact", *CPU)
    assert shown.code == 0 and shown.out.splitlines()[-1].endswith("tokens")


def test_a_model_without_tokenizer_is_not_measured(cli: Cli, damaged: Path) -> None:
    (damaged / "tokenizer.json").unlink()
    assert cli("check", str(damaged), "--accuracy").out.splitlines()[-1].split() == ["absent", "accuracy"]


def test_a_damaged_model_is_not_run(cli: Cli, damaged: Path) -> None:
    (damaged / "config.json").write_text("{")
    assert cli("check", str(damaged), "--accuracy").out.splitlines()[-1].split() == ["skipped", "accuracy"]


def test_cosines_and_errors() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    same = compare("rows", rows, rows)
    assert (same.count, same.cosine, same.error) == (2, 1.0, 0.0)
    turned = compare("rows", rows, np.array([[4.0, 3.0], [0.0, 0.0]], np.float32))
    assert turned.cosine == pytest.approx(24 / 25) and turned.error == pytest.approx(1 / 4)
    broken = compare("rows", rows, np.array([[np.nan, 3.0], [0.0, 0.0]], np.float32))
    assert np.isnan(broken.cosine)
