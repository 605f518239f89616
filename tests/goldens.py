"""Goldens: what independent programs computed, for tests to compare with. See `goldens/README.md`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tiny_weights import tiny_images, tiny_weights

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


@dataclass(frozen=True)
class GgufGolden:
    """A GGUF file, what Hugging Face computes for the same model, and what llama.cpp computes from the file.

    - `golden.expected`: by Hugging Face, with the weights as the types in the file hold them;
    - `golden.weights`: the weights before quantisation; `golden.tags`: the types in the file;
    - `llama_cpp`: shaped as the expected output; within 1e-5 of it for float32 files, but 1e-3 for BERT (GELU
      from a table of half floats), and 3e-2 for quantised ones (activations rounded);
    - `tokens`: (text, ids) by llama.cpp; special tokens parsed, begin and end tokens as the file wants them.
    """

    path: Path
    golden: Golden
    llama_cpp: Array
    tokens: tuple[tuple[str, list[int]], ...]


@dataclass(frozen=True)
class MiniLm:
    """Texts, their token ids ([CLS] … [SEP], cut at 256) and embeddings float32 [n, 384], by
    sentence-transformers, one text at a time."""

    texts: list[str]
    token_ids: list[list[int]]
    embeddings: Array


@dataclass(frozen=True)
class SmolLm2Prompt:
    """One prompt and its greedy continuation by Hugging Face, float32.

    - `messages`: None for a plain prompt; `text`: what was tokenised to `ids`;
    - `greedy`: 64 tokens, or fewer with the end token last; `gaps` [steps]: the lead of the best logit;
    - `top_ids`, `top_logits` [positions, 32]: the largest logits at every position of `ids + greedy[:-1]`,
      best first; `logits` [vocab]: all of them at the last position of the prompt, for two of the prompts.
    """

    messages: list[dict[str, str]] | None
    text: str
    ids: list[int]
    greedy: list[int]
    completion: str
    gaps: Array
    top_ids: Array
    top_logits: Array
    logits: Array | None


def hf_model_types() -> list[str]:
    """Every `model_type` with goldens, for parametrised tests."""
    files = FOLDER.glob("hf_*.json")
    return sorted(_json(path.stem)["cases"][0]["config"]["model_type"] for path in files)


def hf_decoders() -> list[str]:
    """Those that are language models over a key/value cache."""
    return [name for name in hf_model_types() if "logits" in hf_case(name, hf_names(name)[0]).expected]


def hf_names(model_type: str) -> list[str]:
    """Names of the cases of one architecture, for parametrised tests; the first one is `plain`."""
    return [record["name"] for record in _json(_hf_file(model_type))["cases"]]


def hf_case(model_type: str, name: str) -> Golden:
    """The case `name` as Hugging Face computes it."""
    return _golden(_hf_file(model_type), name)[0]


def _hf_file(model_type: str) -> str:
    return f"hf_{model_type.replace('-', '_')}"


def hf_cases(model_type: str) -> Iterator[Golden]:
    """All cases of one architecture."""
    return (hf_case(model_type, name) for name in hf_names(model_type))


def default_configs() -> dict[str, dict[str, Any]]:
    """`model_type` → the config.json that Hugging Face writes, all at its defaults."""
    return copy.deepcopy(_json("configs"))  # type: ignore[no-any-return]


def vision_names(model_type: str) -> list[str]:
    """Names of the cases of a vision encoder."""
    return [record["name"] for record in _json(f"vision_{model_type}")["cases"]]


def vision_case(model_type: str, name: str) -> Golden:
    """A vision encoder as Hugging Face computes it: `pixel_values` float32 [B, C, height, width] to
    `last_hidden_state` [B, N, hidden] and, where there is one, `pooler_output` [B, hidden]."""
    golden, record = _golden(f"vision_{model_type}", name)
    golden.inputs["pixel_values"] = tiny_images(name, record["images"])
    return golden


def flux_names() -> list[str]:
    """Names of the cases of FLUX's double-stream blocks."""
    return [record["name"] for record in _json("flux")["cases"]]


def flux_case(name: str) -> Golden:
    """Double-stream blocks as diffusers computes them: five inputs to the streams `img` and `txt`."""
    (record,) = (record for record in _json("flux")["cases"] if record["name"] == name)
    arrays = _arrays("flux")
    inputs = {key: arrays[f"{name}/{key}"] for key in ("img", "txt", "temb", "img_ids", "txt_ids")}
    expected = {stream: arrays[f"{name}/out_{stream}"] for stream in ("img", "txt")}
    config, seed = copy.deepcopy(record["config"]), _json("flux")["seed"]
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    return Golden(name, "flux_double_stream", config, inputs, expected, shapes, seed, ())


def gguf_names() -> list[str]:
    """Names of the GGUF files, without the ending."""
    return [record["name"] for record in _json("gguf")["cases"]]


def gguf_case(name: str) -> GgufGolden:
    """The GGUF file `name` and what two programs compute from its model."""
    golden, record = _golden("gguf", name)
    tokens = tuple(zip(_json("gguf")["texts"], record["token_ids"], strict=True))
    return GgufGolden(FOLDER / "gguf" / f"{name}.gguf", golden, _arrays("gguf")[f"{name}/llama_cpp"], tokens)


def gguf_decoder_names() -> list[str]:
    """Names of the decoders whose GGUF files tests write themselves."""
    return [record["name"] for record in _json("gguf_decoders")["cases"]]


def gguf_decoder_case(name: str) -> tuple[Golden, Array]:
    """A decoder, what Hugging Face computes, and what llama.cpp computes from its GGUF file."""
    return _golden("gguf_decoders", name)[0], _arrays("gguf_decoders")[f"{name}/llama_cpp"]


def gguf_encoder_records() -> dict[str, dict[str, Any]]:
    """The encoders whose GGUF files tests write themselves, by name."""
    return {record["name"]: record for record in _json("gguf_encoders")["cases"]}


def gguf_encoder_arrays(name: str) -> dict[str, Array]:
    """Ids, what Hugging Face computes from the weights as stored, and llama.cpp from the file."""
    arrays = _arrays("gguf_encoders")
    return {key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(f"{name}/")}


def minilm() -> MiniLm:
    """60 texts embedded with all-MiniLM-L6-v2."""
    record = _json("minilm")
    return MiniLm(record["texts"], record["token_ids"], _arrays("minilm")["embeddings"])


def smollm2_prompts() -> list[SmolLm2Prompt]:
    """Nine prompts to SmolLM2-135M-Instruct (Q4_1 GGUF); the last one's text ends by itself."""
    arrays = _arrays("smollm2")
    return [
        SmolLm2Prompt(
            **prompt,
            gaps=arrays[f"{i}/gaps"],
            top_ids=arrays[f"{i}/top_ids"],
            top_logits=arrays[f"{i}/top_logits"],
            logits=arrays.get(f"{i}/logits"),
        )
        for i, prompt in enumerate(_json("smollm2")["prompts"])
    ]


def smollm2_tokens() -> list[tuple[str, list[int]]]:
    """(text, ids) pairs by llama.cpp with SmolLM2's vocabulary; special tokens parsed, none added."""
    return [(sample["text"], sample["ids"]) for sample in _json("smollm2")["tokens"]]


def _golden(file: str, name: str) -> tuple[Golden, dict[str, Any]]:
    """The case `name` of a pair of files, and its JSON record."""
    content = _json(file)
    (record,) = (record for record in content["cases"] if record["name"] == name)
    arrays = {
        key.removeprefix(f"{name}/"): array
        for key, array in _arrays(file).items()
        if key.startswith(f"{name}/") and not key.endswith("/llama_cpp")
    }
    outputs = ("logits", "last_hidden_state", "pooler_output")
    expected = {name: arrays.pop(name) for name in outputs if name in arrays}
    config = copy.deepcopy(record["config"])
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    tags = tuple(record["tags"])
    golden = Golden(name, config["model_type"], config, arrays, expected, shapes, content["seed"], tags)
    return golden, record


@cache
def _json(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@cache
def _arrays(name: str) -> dict[str, Array]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file, no pickles)
        return {key: file[key] for key in file.files}
