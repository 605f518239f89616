"""From the files of a model to a model that has not been compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlxflow.errors import ConfigError, printable
from rlxflow.flow.built import build
from rlxflow.flow.config import want_one_part
from rlxflow.flow.recipe import ModelRecipe, expected_places, find_recipe
from rlxflow.flow.vision_config import VisionConfig
from rlxflow.runtime.model import Model
from rlxflow.runtime.model_files import ModelFiles

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


def assemble(
    name: str,
    files: ModelFiles,
    profile: str | CompileProfile | None = None,
    recipe: str | ModelRecipe | None = None,
) -> Model:
    """The model of these files; see `load`. No weight is read."""
    chosen = choose_recipe(files.config, files.where, recipe)
    config = chosen.config(files.config, files.where)
    images = files.images if isinstance(config, VisionConfig) else None
    if images is not None and isinstance(config, VisionConfig):
        config = config.with_images(*images.size)
    flow = chosen.flow(config)
    if files.embedding is not None:
        flow = files.embedding.add_to(flow)
    expected = expected_places(chosen, config)
    built = build(
        flow,
        files.source,
        flow.profile if profile is None else profile,
        chosen.prefixes,
        chosen.unused,
        expected,
    )
    if files.tokenizer is not None:
        files.tokenizer.check_rows(getattr(config, "vocab_size", 2**32))
    name = name or chosen.model_type
    return Model(name, built, config, files.tokenizer, files.embedding, files.chat_template, files, images)


def choose_recipe(raw: Mapping[str, Any], where: str, recipe: object) -> ModelRecipe:
    """The recipe asked for, or the one of the config's `model_type`. Raises `ConfigError` for none."""
    if isinstance(recipe, ModelRecipe):
        return recipe
    if isinstance(recipe, str):
        return find_recipe(recipe)
    if recipe is not None:
        message = f"recipe= is of type {type(recipe).__name__}"
        hint = "give a name such as 'llama', or a rlxflow.Recipe"
        raise ConfigError(message, code="RLX-C001", where="recipe=", hint=hint)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        what = "no model_type" if model_type is None else f"model_type {printable(model_type, 40)}"
        raise ConfigError(f"the config has {what}", code="RLX-C023", where=where, hint="pass recipe=…")
    try:
        return find_recipe(model_type)
    except ConfigError as error:
        want_one_part(raw, where)
        error.where = where
        raise
