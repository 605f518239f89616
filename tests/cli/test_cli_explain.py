"""explain: the report, JSON, one rule, diffs, verification, blame, and wrong arguments."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_models import Result

Cli = Callable[..., Result]


def test_explain_prints_one_screen(cli: Cli, bert: str) -> None:
    shown = cli("explain", bert, "--batch", "2", "--seq", "8", "--profile", "encoder")
    assert (shown.code, shown.err) == (0, "")
    assert "batch 2 · seq 8 = 16 tokens" in shown.out and "fuse-transformer-layer" in shown.out
    assert len(shown.out.splitlines()) <= 40


def test_the_threshold_is_named(cli: Cli, bert: str) -> None:
    shown = cli("explain", bert, "--seq", "65", "--set", "fusion.attention_threshold=40")
    words = " ".join(shown.out.split())
    assert "refused: batch·seq = 65 > 40 (fusion.attention_threshold, --set" in words


def test_explain_reads_headers_only(cli: Cli, llama: str, tmp_path: Path) -> None:
    """The data of a checkpoint may be missing altogether."""
    folder = Path(shutil.copytree(llama, tmp_path / "m"))
    file = folder / "model.safetensors"
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    with file.open("r+b") as f:  # a hole of the same size reads as zeros
        f.truncate(header)
        f.truncate(len(data))
    assert cli("explain", str(folder)).out == cli("explain", llama).out


def test_json(cli: Cli, llama: str) -> None:
    data = cli("explain", llama, "--seq", "512", "--json").data
    assert data["clean"] is True and data["tokens"] == 512
    rules = {r["rule"]: r for r in data["rules"]}
    block = rules["fuse-attention-block"]
    assert block["matched"] == 0 and block["refused"][0]["count"] == block["expected"] == 2
    assert data["costs"]["fused"]["nodes"] < data["costs"]["expanded"]["nodes"]
    assert data["attention_threshold"] == {"value": 64, "origin": "fusion.attention_threshold, default"}


def test_one_rule(cli: Cli, llama: str) -> None:
    shown = cli("explain", llama, "--rule", "fuse-swiglu")
    assert "fuse-swiglu" in shown.out and "fuse-residual-rms-norm" not in shown.out
    wrong = cli("explain", llama, "--rule", "fuse-swiglo")
    assert wrong.code == 2 and "RLX-R071" in wrong.err and "fuse-swiglu" in wrong.err


def test_diff(cli: Cli, llama: str) -> None:
    shown = cli("explain", llama, "--diff")
    assert "--- before fuse" in shown.out and "+++ after fuse" in shown.out
    assert any(line.startswith("+") and "gated_mlp(" in line for line in shown.out.splitlines())
    limited = cli("explain", llama, "--diff", "--fuse-limit", "0")
    assert "--- before fuse" not in limited.out
    assert cli("explain", llama, "--diff", "--json").data["diffs"]


def test_verify(cli: Cli, llama: str) -> None:
    shown = cli("explain", llama, "--verify")
    assert shown.code == 0 and "every rewrite agrees in float64" in shown.out
    data = cli("explain", llama, "--verify", "--json", "--rule", "fuse-swiglu").data
    assert data["ok"] and [r["rule"] for r in data["rules"]] == ["fuse-swiglu"]


def test_nothing_to_verify_is_not_told_as_agreement(cli: Cli, llama: str) -> None:
    for without in (("--fuse-limit", "0"), ("--rule", "fuse-residual-ln")):
        shown = cli("explain", llama, "--verify", *without)
        assert (shown.code, shown.out) == (0, "no rewrite was made, so there is nothing to verify\n")


def test_bisect(cli: Cli, bert: str) -> None:
    assert cli("explain", bert, "--bisect", "--seq", "4").out == "no rewrite changes the numbers\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seq", "0"),
        ("--batch", "-1"),
        ("--fuse-limit", "-1"),
        ("--diff", "--verify"),
        ("--diff", "--rule", "fuse-swiglu"),
        ("--bisect", "--rule", "fuse-swiglu"),
        ("--bisect", "--output", "embedding"),
        ("--bisect", "--fuse-limit", "1"),
    ],
)
def test_wrong_arguments(cli: Cli, bert: str, arguments: tuple[str, ...]) -> None:
    wrong = cli("explain", bert, *arguments)
    assert wrong.code == 2 and wrong.err.startswith("RLX-R0")


def test_an_output_that_does_not_exist(cli: Cli, bert: str) -> None:
    wrong = cli("explain", bert, "--output", "nothing")
    assert wrong.code == 2 and "RLX-R005" in wrong.err
