"""What lies at a path, each part opened when it is first asked for.

`load` asks for all of them; who only looks builds no tokenizer, and one bad part does not hide the
others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlxflow.errors import ConfigError, UnsupportedFile, printable
from rlxflow.weights.directory import open_directory, open_weights
from rlxflow.weights.file_bytes import FileBytes
from rlxflow.weights.json_file import read_json
from rlxflow.weights.names import ROPE_FACTOR_TENSORS, GgufModel
from rlxflow.weights.source import WeightSource

if TYPE_CHECKING:
    from rlxflow.flow.recipe import ModelRecipe
    from rlxflow.runtime.embedding_settings import EmbeddingSettings
    from rlxflow.runtime.image_settings import ImageSettings
    from rlxflow.runtime.tokenizer import Passed, Tokenizer
    from rlxflow.weights.gguf_config import GgufRecipe


class ModelFiles(Protocol):
    """The parts of a model; reading one may raise an `RlxError`, an absent one is None.

    `source` has the tensors under the names that recipes use, or under the file's own where the
    architecture is not known; `where` is the place of the config.
    """

    path: Path
    where: str

    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def source(self) -> WeightSource: ...
    @property
    def embedding(self) -> EmbeddingSettings | None: ...
    @property
    def images(self) -> ImageSettings | None: ...
    @property
    def tokenizer(self) -> Tokenizer | None: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def tokenizer_note(self) -> str:
        """What the tokenizer is, told without building it; empty where there is none."""
        ...

    def program_facts(self) -> object:
        """What a program follows from, its `repr` telling all of it; None where programs are not kept."""

    def to_recall(self) -> Any:
        """What took long to find out, for JSON; files with the same facts need not, once they `recall` it."""

    def recall(self, known: Any) -> None: ...


def model_files(path: Path) -> ModelFiles:
    """The files at an existing path. Raises as `GgufFile` where it is one that cannot be opened."""
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1 and not os.path.lexists(path / "config.json"):
            return GgufModelFiles(ggufs[0])
        return DirectoryFiles(path)
    return GgufModelFiles(path) if path.suffix == ".gguf" or _is_gguf(path) else WeightsOnly(path)


def _is_gguf(path: Path) -> bool:
    file = FileBytes(path)
    return file.read(0, min(file.size, 4)).tobytes() == b"GGUF"


def read_config(path: Path) -> Mapping[str, Any]:
    """The object in a config.json; raises `ConfigError` (C024)."""
    content = read_json(path, what="config", error=ConfigError, code="RLX-C024")
    if not isinstance(content, dict):
        message, hint = "the config is not an object", "download it again"
        raise ConfigError(message, code="RLX-C024", where=printable(path), hint=hint)
    return content


class DirectoryFiles:
    """A Hugging Face directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = printable(path / "config.json")
        self._passed: Passed | None = None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        path = self.path / "config.json"
        if os.path.lexists(path):
            return read_config(path)
        ggufs = any(self.path.glob("*.gguf"))
        hint = "name one of the .gguf files" if ggufs else "point at the directory that holds config.json"
        where = printable(self.path)
        raise ConfigError("the directory has no config.json", code="RLX-C022", where=where, hint=hint)

    @cached_property
    def source(self) -> WeightSource:
        source = open_directory(self.path)
        try:
            own_code = self.config.get("auto_map")
        except ConfigError:  # reported where the config is asked for
            own_code = None
        if own_code:
            source.notes += ("config.json names Python code of its own (auto_map); rlxflow never runs it",)
        return source

    @cached_property
    def embedding(self) -> EmbeddingSettings | None:
        from rlxflow.runtime.embedding_settings import read_embedding_settings

        return read_embedding_settings(self.path)

    def program_facts(self) -> object:
        infos = map(self.source.info, self.source.keys())
        return self.config, self.embedding, [(i.key, i.dtype.name, i.shape) for i in infos]

    def to_recall(self) -> Any:
        return None if self.tokenizer is None else self.tokenizer.passed

    def recall(self, known: Any) -> None:
        from rlxflow.runtime.tokenizer import Passed

        self._passed = None if known is None else Passed(*known)

    @cached_property
    def images(self) -> ImageSettings | None:
        from rlxflow.runtime.image_settings import read_image_settings

        return read_image_settings(self.path / "preprocessor_config.json")

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        from rlxflow.runtime.tokenizer import Tokenizer

        path = self.path / "tokenizer.json"
        return Tokenizer.from_file(path, self._passed) if os.path.lexists(path) else None

    @cached_property
    def chat_template(self) -> str | None:
        from rlxflow.runtime.chat_template import find_chat_template

        return find_chat_template(self.path)

    @property
    def tokenizer_note(self) -> str:
        return "tokenizer.json" if os.path.lexists(self.path / "tokenizer.json") else ""


class GgufModelFiles:
    """A GGUF file, which holds everything."""

    images = None

    def __init__(self, path: Path) -> None:
        from rlxflow.weights.gguf import GgufFile

        self.file = GgufFile(path)
        self.path = path
        self.where = printable(path)

    @cached_property
    def recipe(self) -> tuple[ModelRecipe, GgufRecipe]:
        """The recipe that knows the file's architecture; raises `ConfigError` (C040) for none."""
        from rlxflow.flow.recipe import find_gguf_recipe
        from rlxflow.weights.gguf_values import gguf_architecture

        try:
            return find_gguf_recipe(gguf_architecture(self.file))
        except ConfigError as error:
            error.where = self.where
            raise

    @cached_property
    def config(self) -> Mapping[str, Any]:
        from rlxflow.weights.gguf_config import gguf_config

        recipe, part = self.recipe
        return gguf_config(self.file, recipe.model_type, part)

    @cached_property
    def source(self) -> WeightSource:
        try:
            config = self.config
        except ConfigError:  # reported where the config is asked for
            return self.file
        heads = config["num_attention_heads"]
        _, part = self.recipe
        return GgufModel(self.file, part.names, heads, config.get("num_key_value_heads", heads))

    @cached_property
    def embedding(self) -> EmbeddingSettings | None:
        from rlxflow.runtime.embedding_settings import EmbeddingSettings
        from rlxflow.weights.gguf_config import gguf_pooling

        _, part = self.recipe
        if not part.embeds:
            return None
        pooling = gguf_pooling(self.file)
        if pooling == "mean":
            return EmbeddingSettings("mean")
        if pooling == "cls":
            return EmbeddingSettings("cls")
        if pooling is None:
            return None
        hint = "supported: mean or cls"
        raise ConfigError(f"pooling {pooling!r}", code="RLX-C021", where=self.where, hint=hint)

    def program_facts(self) -> object:
        file = self.file
        sizes = {
            key: len(value) if isinstance(value, list) and key.startswith("tokenizer.") else value
            for key, value in file.metadata.items()
        }
        infos = list(map(file.info, file.keys()))
        # the only weights that configs, and so programs, follow from
        factors = [file.read(i.key).tobytes() for i in infos if i.key in ROPE_FACTOR_TENSORS]
        return sizes, [(i.key, i.dtype.name, i.shape) for i in infos], factors

    def to_recall(self) -> Any:
        pooling = self.embedding.pooling if self.embedding is not None else None
        return (
            {"pooling": pooling, "source": self.source.as_data()}
            if isinstance(self.source, GgufModel)
            else None
        )

    def recall(self, known: Any) -> None:
        from rlxflow.runtime.embedding_settings import EmbeddingSettings

        embedding = None if known["pooling"] is None else EmbeddingSettings(known["pooling"])
        self.__dict__.update(embedding=embedding, source=GgufModel.from_data(self.file, known["source"]))

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        from rlxflow.runtime.gguf_tokenizer import tokenizer_from_gguf

        return tokenizer_from_gguf(self.file.metadata, self.where) if self.tokenizer_note else None

    @property
    def chat_template(self) -> str | None:
        template = self.file.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def tokenizer_note(self) -> str:
        kind = self.file.metadata.get("tokenizer.ggml.model")
        tokens = self.file.metadata.get("tokenizer.ggml.tokens")
        count = f", {len(tokens):,} tokens" if isinstance(tokens, list) else ""
        return "" if kind is None else f"{printable(kind, 40)} in the GGUF file{count}"


class WeightsOnly:
    """A safetensors file or a shard index by itself: tensors without a model around them."""

    embedding = None
    images = None
    tokenizer = None
    chat_template = None
    tokenizer_note = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = printable(path)

    @cached_property
    def source(self) -> WeightSource:
        return open_weights(self.path)

    def program_facts(self) -> object:
        return None

    def to_recall(self) -> Any:
        return None

    def recall(self, known: Any) -> None:
        pass

    @property
    def config(self) -> Mapping[str, Any]:
        weights = self.path.suffix == ".safetensors"
        raise UnsupportedFile(
            f"{printable(self.path.name)} is not a model by itself",
            code="RLX-W005",
            where=self.where,
            hint="point at the directory with config.json and the weights"
            if weights
            else "give a model directory or a .gguf file",
        )
