"""A model taken apart: every part that can be made from headers, and an error for each that cannot."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlxflow.errors import FlowError, GraphError, RlxError
from rlxflow.flow.built import BuiltModel, build, raise_problems
from rlxflow.flow.config import RecipeConfig
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.recipe import ModelRecipe, expected_places
from rlxflow.flow.vision_config import VisionConfig
from rlxflow.quick_dataclass import dataclass
from rlxflow.runtime.assemble import choose_recipe
from rlxflow.runtime.embedding_settings import EmbeddingSettings
from rlxflow.runtime.hub import resolve
from rlxflow.runtime.image_settings import ImageSettings
from rlxflow.runtime.model_files import ModelFiles, model_files
from rlxflow.weights.source import WeightSource

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile

T = TypeVar("T")


@dataclass
class Examination:
    """The parts of a model: files, config, pooling or images, flow, weights.

    A part that is None is absent, or has its error in `errors`, or needs one that has.
    """

    path: Path
    files: ModelFiles
    errors: dict[str, RlxError] = field(default_factory=dict)
    source: WeightSource | None = None
    raw_config: Mapping[str, Any] | None = None
    recipe: ModelRecipe | None = None
    config: RecipeConfig | None = None
    embedding: EmbeddingSettings | None = None
    images: ImageSettings | None = None
    flow: ModelFlow | None = None
    built: BuiltModel | None = None

    def attempt(self, part: str, make: Callable[[], T]) -> T | None:
        """The value, or None with the error kept under the part's name."""
        try:
            return make()
        except RlxError as error:
            self.errors.setdefault("flow" if isinstance(error, FlowError | GraphError) else part, error)
            return None


def examine(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | ModelRecipe | None = None,
) -> Examination:
    """Examine what `load` would load, without tokenizer; reads headers and settings only.

    Raises `WeightsError` where there is nothing at the path, or one file that cannot be opened.
    """
    local = resolve(path)
    e = Examination(local, model_files(local))
    e.source = e.attempt("files", lambda: e.files.source)
    e.raw_config = e.attempt("config", lambda: e.files.config)
    e.embedding = e.attempt("pooling", lambda: e.files.embedding) if e.raw_config is not None else None
    if e.raw_config is not None:
        _declare(e, e.raw_config, recipe)
    if e.flow is not None and e.source is not None and e.recipe is not None and e.config is not None:
        flow, source, chosen = e.flow, e.source, e.recipe
        expected = expected_places(chosen, e.config)
        e.built = e.attempt(
            "weights",
            lambda: build(flow, source, profile or flow.profile, chosen.prefixes, chosen.unused, expected),
        )
    if e.flow is not None and e.built is None:
        unbuilt = e.flow
        e.attempt("flow", lambda: raise_problems(unbuilt, unbuilt.check()))
    return e


def _for_images(e: Examination, config: VisionConfig) -> VisionConfig:
    """The config for images of the size that the model's settings give them."""
    e.images = images = e.attempt("images", lambda: e.files.images)
    if images is None:
        return config
    return e.attempt("images", lambda: config.with_images(*images.size)) or config


def _declare(e: Examination, raw: Mapping[str, Any], recipe: str | ModelRecipe | None) -> None:
    """Recipe, config and flow."""
    e.recipe = chosen = e.attempt("config", lambda: choose_recipe(raw, e.files.where, recipe))
    if chosen is None:
        return
    e.config = config = e.attempt("config", lambda: chosen.config(raw, e.files.where))
    if config is None:
        return
    if isinstance(config, VisionConfig):
        e.config = config = _for_images(e, config)
    e.flow = e.attempt("config", lambda: chosen.flow(config))
    if e.flow is not None and e.embedding is not None:
        flow, embedding = e.flow, e.embedding
        e.flow = e.attempt("flow", lambda: embedding.add_to(flow))
