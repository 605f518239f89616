"""Flows and graphs without weights: from a config alone, or from a recipe with example sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlxflow.dtypes import DTYPES
from rlxflow.errors import ConfigError
from rlxflow.flow.built import raise_problems
from rlxflow.flow.flow import ModelFlow
from rlxflow.flow.lowering import lower
from rlxflow.flow.recipe import ModelRecipe, Recipe, find_recipe
from rlxflow.ir.graph import Graph
from rlxflow.profile.load import load_profile
from rlxflow.profile.model import CompileProfile
from rlxflow.runtime.assemble import choose_recipe

# Sizes that show a model's form; a field is used where the recipe's config has it.
_EXAMPLE = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "layer_norm_eps": 1e-12,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


def example_config(model_type: str) -> dict[str, Any]:
    """A small config of a recipe. Raises `ConfigError` (C060) for a recipe that does not tell its fields."""
    recipe = find_recipe(model_type)
    if not isinstance(recipe, Recipe):
        raise ConfigError(
            f"recipe {model_type!r} does not tell its fields",
            code="RLX-C060",
            where=type(recipe).__name__,
            hint="give a config.json instead of the recipe's name",
        )
    fields = recipe.config_class.model_fields
    return {"model_type": model_type, **{name: v for name, v in _EXAMPLE.items() if name in fields}}


def declared_flow(raw: Mapping[str, Any], where: str, recipe: str | ModelRecipe | None) -> ModelFlow:
    """The flow of a raw config. Raises `ConfigError`, or what the recipe raises."""
    chosen = choose_recipe(raw, where, recipe)
    return chosen.flow(chosen.config(raw, where))


def declared_graph(flow: ModelFlow, profile: CompileProfile | None) -> Graph:
    """The graph of a flow whose weights are all f32. Raises `FlowError` with every wiring problem."""
    settings = load_profile(flow.profile if profile is None else profile)
    fusable, kv_dtype = settings.fusion.policy.value == "fusable", DTYPES[settings.precision.kv_cache.value]
    lowered = lower(flow, fusable=fusable, kv_dtype=kv_dtype)
    raise_problems(flow, lowered.problems)
    assert lowered.graph is not None  # no problems means there is a graph
    return lowered.graph
