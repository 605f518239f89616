"""`load`: from a directory, a GGUF file or a hub id to a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlxflow.errors import ConfigError, WeightsError, printable
from rlxflow.flow.built import build
from rlxflow.flow.config import want_one_part
from rlxflow.flow.recipe import ModelRecipe, expected_places, find_recipe
from rlxflow.flow.vision_config import VisionConfig
from rlxflow.garbage import uncollected
from rlxflow.runtime.compile import compile_graph
from rlxflow.runtime.hub import resolve
from rlxflow.runtime.model import Model
from rlxflow.runtime.model_files import model_files
from rlxflow.runtime.progress import bar

if TYPE_CHECKING:
    from rlxflow.profile.model import CompileProfile


@uncollected()  # what is read stays
def load(
    path: str | os.PathLike[str],
    profile: str | CompileProfile | None = None,
    recipe: str | ModelRecipe | None = None,
    progress: bool | None = None,
) -> Model:
    """A model from a Hugging Face directory, a GGUF file, or a hub id that is in the local cache.

    `profile` names a preset, a *.rlx.toml file or is an object. Without one it is "exact", plain f32 and the
    slowest; "encoder" and "decode" are faster, and `model.profile.trades()` tells what that costs. `recipe`
    overrides the `model_type` of the config; `progress` shows a bar on stderr (None: on a terminal only).
    Headers of weights are checked against the model, and its size against the free memory, before any data
    is read; then all of it is. Raises an `RlxError` that says what is wrong with which file; there is no
    half-loaded model.
    """
    files = model_files(resolve(path))
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
    name = Path(os.fsdecode(path)).name or chosen.model_type
    model = Model(name, built, config, files.tokenizer, files.embedding, files.chat_template, files, images)
    try:
        with bar(built.report.nbytes, "loading", progress, unit="B") as advance:
            # compiles, and reads the weights; nothing before has
            model.__dict__["executable"] = compile_graph(built, on_read=advance)
    except MemoryError as error:
        hint = "use a smaller or more strongly quantised model, or close other programs"
        raise WeightsError(
            "the weights do not fit in memory", code="RLX-W036", where=files.where, hint=hint
        ) from error
    return model


def choose_recipe(raw: Mapping[str, Any], where: str, recipe: str | ModelRecipe | None) -> ModelRecipe:
    """The recipe asked for, or the one of the config's `model_type`. Raises `ConfigError` for none."""
    if recipe is not None:
        return find_recipe(recipe) if isinstance(recipe, str) else recipe
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
