"""The public names: one list, every name importable, and nothing imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rlxflow


@pytest.mark.parametrize("name", rlxflow.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(rlxflow, name) is not None
    assert name in dir(rlxflow)


def test_star_import_gives_the_public_names() -> None:
    scope: dict[str, object] = {}
    exec("from rlxflow import *", scope)
    assert set(rlxflow.__all__) <= set(scope)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(AttributeError, match="ModelFlow"):
        rlxflow.ModelFlw  # type: ignore[attr-defined]


def test_import_loads_nothing_heavy() -> None:
    program = "import rlxflow, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    heavy = {"numpy", "pydantic", "tokenizers", "llvmlite", "safetensors", "gguf", "jinja2", "ml_dtypes"}
    assert not heavy & set(loaded.split())
