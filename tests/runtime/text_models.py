"""Real tokenizers and stored answers for the tests of the text side."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import real_models

DATA = Path(__file__).parent / "data"


@cache
def stored(name: str) -> dict[str, Any]:
    """A file that `oracles/make_tokenizer_goldens.py` or `make_text_goldens.py` made."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


@cache
def smollm2_metadata() -> dict[str, Any]:
    """The GGUF file's metadata, read by gguf-py."""
    import gguf

    return {key: field.contents() for key, field in gguf.GGUFReader(real_models.smollm2()).fields.items()}


def gguf_keys(keys: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Metadata from short names; a change to None removes the key."""
    keys = {**keys, **changed}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items() if value is not None}
