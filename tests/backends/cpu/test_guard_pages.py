"""Kernels outside the checked mode, on memory whose end is followed by a protected page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_table import cases, rows

FOLDER = Path(__file__).parent
NAMES = ("gelu", "add", "layer_norm", "rms_norm per head", "softmax", "concat", "mean_pool", "gather by i64",
         "linear to 33", "linear, bias, gelu", "attention 4/2, masked", "attention 1/1")  # fmt: skip
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="wants mmap and mprotect")


def run(*names: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parent.parent), *sys.path])
    return subprocess.run(
        [sys.executable, str(FOLDER / "guarded.py"), *names],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_nothing_beyond_an_array_is_touched() -> None:
    ended = run(*NAMES)
    assert ended.returncode == 0, ended.stderr[-2000:]
    expected = sum(len(list(cases(row))) for row in rows() if row.name in NAMES)
    assert int(ended.stdout) == expected > 150


def test_the_page_is_protected() -> None:
    assert run("beyond").returncode < 0
