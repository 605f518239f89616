"""Goldens: what independent programs computed, for tests to compare with. See `goldens/README.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tiny_weights import tiny_weights

FOLDER = Path(__file__).parent / "goldens"

Array = np.ndarray[Any, np.dtype[Any]]


def error(actual: Array, expected: Array, valid: Array | None = None) -> float:
    """max|actual − expected| / max(1, max|expected|), over the rows where `valid` is true.

    `valid` is a bool array of the leading axes (an attention mask); without it every element counts. Infinite
    when shapes differ or `actual` is not finite; an AssertionError when nothing is compared.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        return float("inf")
    if valid is not None:
        mask = np.asarray(valid, bool)
        actual, expected = actual[mask], expected[mask]
    assert expected.size, "nothing to compare"
    if not np.isfinite(actual).all():
        return float("inf")
    return float(np.abs(actual - expected).max() / max(1.0, np.abs(expected).max()))


@dataclass(frozen=True)
class Golden:
    """One model, one batch, and what the oracle computed.

    - `inputs`, int64 [B, S]: `input_ids`, `attention_mask`, `position_ids` (0 at each sequence's first valid
      token, whatever the padding side) and, for most BERT models, `token_type_ids`;
    - `expected`, float32, zero at padded positions: `logits` [B, S, vocab] of language models,
      `last_hidden_state` [B, S, hidden] of encoders;
    - `weights`: the checkpoint by Hugging Face name; a tied `lm_head.weight` is not in it;
    - `tags`: `usual_eps`, `long_rope`, explained in `oracles/hf_cases.py`.
    """

    name: str
    model_type: str
    config: dict[str, Any]
    inputs: dict[str, Array]
    expected: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    seed: int
    tags: tuple[str, ...]

    @property
    def weights(self) -> dict[str, Array]:
        return dict(tiny_weights(self.shapes, self.seed))

    @property
    def valid(self) -> Array:
        """The attention mask as bool [B, S]."""
        return self.inputs["attention_mask"].astype(bool)

    def error(self, actual: Array) -> float:
        """`error` of the one expected output, over valid positions."""
        (expected,) = self.expected.values()
        return error(actual, expected, self.valid)


def hf_names(model_type: str) -> list[str]:
    """Names of the cases of `bert`, `llama`, `qwen2` or `qwen3`, for parametrised tests."""
    return [record["name"] for record in _json(f"hf_{model_type}")["cases"]]


def hf_case(model_type: str, name: str) -> Golden:
    """The case `name` as Hugging Face computes it."""
    file = _json(f"hf_{model_type}")
    (record,) = (record for record in file["cases"] if record["name"] == name)
    prefix = f"{name}/"
    arrays = {
        key.removeprefix(prefix): a
        for key, a in _arrays(f"hf_{model_type}").items()
        if key.startswith(prefix)
    }
    output = "logits" if "logits" in arrays else "last_hidden_state"
    expected = {output: arrays.pop(output)}
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    tags = tuple(record["tags"])
    config = json.loads(json.dumps(record["config"]))
    return Golden(name, model_type, config, arrays, expected, shapes, file["seed"], tags)


def hf_cases(model_type: str) -> Iterator[Golden]:
    """All cases of one architecture."""
    return (hf_case(model_type, name) for name in hf_names(model_type))


@cache
def _json(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@cache
def _arrays(name: str) -> dict[str, Array]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file, no pickles)
        return {key: file[key] for key in file.files}
