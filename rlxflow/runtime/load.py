"""`load`: from a directory, a GGUF file or a hub id to a model."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlxflow.errors import ConfigError, UnsupportedFile, WeightsError, printable
from rlxflow.flow.built import build
from rlxflow.flow.config import want_one_part
from rlxflow.flow.recipe import ModelRecipe, find_recipe, recipe_names
from rlxflow.ir.graph import Graph
from rlxflow.runtime.embedding_settings import EmbeddingSettings, read_embedding_settings
from rlxflow.runtime.hub import resolve
from rlxflow.runtime.model import Model
from rlxflow.weights.directory import open_directory
from rlxflow.weights.json_file import read_json
from rlxflow.weights.memory import check_memory

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile
    from rlxflow.runtime.tokenizer import Tokenizer
    from rlxflow.weights.source import WeightSource


@dataclass(frozen=True)
class Found:
    """What lies at a path: raw config, weights, and the text side."""

    config: Mapping[str, Any]
    where: str
    source: WeightSource
    tokenizer: Tokenizer | None
    embedding: EmbeddingSettings | None
    chat_template: str | None


def load(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | ModelRecipe | None = None,
) -> Model:
    """A model from a Hugging Face directory, a GGUF file, or a hub id that is in the local cache.

    `profile` names a preset, a *.rlx.toml file or is an object (default: "exact"); `recipe` overrides the
    `model_type` of the config. Headers of weights are checked against the model, and its size against the
    free memory, before any data is read; then all of it is. Raises an `RlxError` that says what is wrong with
    which file; there is no half-loaded model.
    """
    local = resolve(path)
    found = find(local)
    chosen = choose_recipe(found, recipe)
    config = chosen.config(found.config, found.where)
    flow = chosen.flow(config)
    if found.embedding is not None:
        flow = found.embedding.add_to(flow)
    built = build(flow, found.source, profile or flow.profile, chosen.prefixes, chosen.unused)
    if found.tokenizer is not None:
        found.tokenizer.check_rows(getattr(config, "vocab_size", 2**32))
    check_memory(resident_bytes(built.graph))
    name = Path(os.fsdecode(path)).name or chosen.model_type
    model = Model(name, built, config, found.tokenizer, found.embedding, found.chat_template)
    try:
        _ = model.executable  # reads the weights; nothing before has
    except MemoryError as error:
        hint = "use a smaller or more strongly quantised model, or close other programs"
        raise WeightsError(
            "the weights do not fit in memory", code="RLX-W036", where=found.where, hint=hint
        ) from error
    return model


def resident_bytes(graph: Graph) -> int:
    """What the reference backend holds: floats widened to f32, and beside them the largest as stored."""
    held = stored = 0
    for value in graph.params.values():
        count = math.prod(size for size in value.shape if isinstance(size, int))
        held += 4 * count if value.dtype.is_float else value.dtype.nbytes((count,))
        stored = max(stored, value.dtype.nbytes((count,)))
    return held + stored


def find(local: Path) -> Found:
    """Open what lies at a path; reads headers and settings only."""
    if local.is_dir():
        if os.path.lexists(local / "config.json"):
            return _directory(local)
        ggufs = sorted(local.glob("*.gguf"))
        if len(ggufs) == 1:
            return _gguf(ggufs[0])
        hint = "name one of the .gguf files" if ggufs else "point at the directory that holds config.json"
        raise ConfigError(
            "the directory has no config.json", code="RLX-C022", where=printable(local), hint=hint
        )
    if local.suffix == ".gguf" or _magic(local) == b"GGUF":
        return _gguf(local)
    hint = "point at the directory with config.json and the weights" if local.suffix == ".safetensors" else ""
    raise UnsupportedFile(
        f"{printable(local.name)} is not a model by itself",
        code="RLX-W005",
        where=printable(local),
        hint=hint or "give a model directory or a .gguf file",
    )


def choose_recipe(found: Found, recipe: str | ModelRecipe | None) -> ModelRecipe:
    """The recipe asked for, or the one of the config's `model_type`."""
    if recipe is not None:
        return find_recipe(recipe) if isinstance(recipe, str) else recipe
    model_type = found.config.get("model_type")
    if not isinstance(model_type, str):
        what = "no model_type" if model_type is None else f"model_type {printable(model_type, 40)}"
        raise ConfigError(f"the config has {what}", code="RLX-C023", where=found.where, hint="pass recipe=…")
    if model_type not in recipe_names():
        want_one_part(found.config, found.where)
    try:
        return find_recipe(model_type)
    except ConfigError as error:
        error.where = found.where
        raise


def _directory(local: Path) -> Found:
    from rlxflow.runtime.chat_template import find_chat_template
    from rlxflow.runtime.tokenizer import Tokenizer

    path = local / "config.json"
    config = read_json(path, what="config", error=ConfigError, code="RLX-C024")
    if not isinstance(config, dict):
        raise ConfigError(
            "config.json is not an object", code="RLX-C024", where=printable(path), hint="download it again"
        )
    source = open_directory(local)
    if config.get("auto_map"):
        source.notes += ("config.json names Python code of its own (auto_map); rlxflow never runs it",)
    tokenizer_path = local / "tokenizer.json"
    return Found(
        config,
        printable(path),
        source,
        Tokenizer.from_file(tokenizer_path) if os.path.lexists(tokenizer_path) else None,
        read_embedding_settings(local),
        find_chat_template(local),
    )


def _gguf(path: Path) -> Found:
    from rlxflow.runtime.gguf_tokenizer import tokenizer_from_gguf
    from rlxflow.weights.gguf import GgufFile
    from rlxflow.weights.gguf_config import gguf_config, gguf_pooling
    from rlxflow.weights.names import GGUF_NAMES, GgufModel

    file = GgufFile(path)
    config = gguf_config(file)
    heads = config["num_attention_heads"]
    names = GGUF_NAMES[config["model_type"]]
    source = GgufModel(file, names, heads, config.get("num_key_value_heads", heads))
    pooling = gguf_pooling(file) if config["model_type"] == "bert" else None
    if pooling not in (None, "mean", "cls"):
        raise ConfigError(
            f"pooling {pooling!r}", code="RLX-C021", where=printable(path), hint="supported: mean or cls"
        )
    has_tokenizer = "tokenizer.ggml.model" in file.metadata
    template = file.metadata.get("tokenizer.chat_template")
    return Found(
        config,
        printable(path),
        source,
        tokenizer_from_gguf(file.metadata, printable(path)) if has_tokenizer else None,
        None if pooling is None else EmbeddingSettings("mean" if pooling == "mean" else "cls"),
        template if isinstance(template, str) else None,
    )


def _magic(path: Path) -> bytes:
    from rlxflow.weights.file_bytes import FileBytes

    file = FileBytes(path)
    return file.read(0, 4).tobytes() if file.size >= 4 else b""
