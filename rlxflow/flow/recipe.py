"""Recipes: from a configuration to a flow. One file per `model_type` in the package `rlxflow.recipes`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import rlxflow
from rlxflow.errors import ConfigError, FlowError, PluginError, RlxError, nearest, printable, raised_at
from rlxflow.flow.config import RecipeConfig
from rlxflow.flow.flow import ModelFlow
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.gguf_config import GgufRecipe


@runtime_checkable
class ModelRecipe(Protocol):
    """What turns a config.json into a flow.

    `model_type` is the name in config.json; `config` reads and checks the raw dictionary; `flow` declares
    the model. `prefixes` are key prefixes that some checkpoints put before every name, `unused` glob
    patterns of tensors a checkpoint may hold without the model wanting them.
    """

    model_type: str
    prefixes: tuple[str, ...]
    unused: tuple[str, ...]

    def config(self, raw: Mapping[str, Any], where: str) -> RecipeConfig: ...

    def flow(self, config: Any) -> ModelFlow: ...


@dataclass(frozen=True)
class Recipe:
    """The usual `ModelRecipe`: a config class and a function.

    `expected` gives, for a config, how many places each fusion rule should find in the whole graph, by rule
    name (rules left out: none); reports compare with it, and `fusion.assert_clean` demands it. `gguf` says
    how GGUF files hold such models; without it only Hugging Face directories are read.
    """

    model_type: str
    config_class: type[RecipeConfig]
    build_flow: Callable[[Any], ModelFlow]
    prefixes: tuple[str, ...] = ("",)
    unused: tuple[str, ...] = ()
    expected: Callable[[Any], Mapping[str, int]] | None = None
    gguf: GgufRecipe | None = None

    def config(self, raw: Mapping[str, Any], where: str = "config.json") -> RecipeConfig:
        return self.config_class.parse(raw, where)

    def flow(self, config: Any) -> ModelFlow:
        what = f"the function that makes the flow of recipe {self.model_type!r}"
        try:
            flow: object = self.build_flow(config)
        except RlxError:
            raise
        except Exception as error:
            message = f"{what} raised {type(error).__name__}: {printable(error)}"
            raise FlowError(message, code="RLX-F027", where=raised_at(error), hint="mend it there") from error
        if not isinstance(flow, ModelFlow):
            message = f"{what} returned {type(flow).__name__}, not a flow"
            raise FlowError(message, code="RLX-F027", hint="return the flow: every method gives a new one")
        return flow


def expected_places(recipe: ModelRecipe, config: RecipeConfig) -> Mapping[str, int] | None:
    """How many places each fusion rule should find; None for a recipe that does not say."""
    expected: Callable[[Any], Mapping[str, int]] | None = getattr(recipe, "expected", None)
    return None if expected is None else expected(config)


def recipe_names() -> list[str]:
    """Every `model_type` with a recipe, built in or from the entry point group `rlxflow.recipes`; sorted."""
    return sorted({*(_module(name).model_type for name in _built_in()), *_third_party()})


def find_recipe(model_type: str) -> ModelRecipe:
    """The recipe of a `model_type`; raises `ConfigError` for an unknown one."""
    third_party = _third_party()
    module = model_type.replace("-", "_")  # xlm-roberta is in xlm_roberta.py
    if module in _built_in() and _module(module).model_type == model_type:
        if model_type in third_party:
            raise PluginError(
                f"recipe {model_type!r} is built in, and also given by {third_party[model_type].value}",
                code="RLX-X003",
                hint="rename the third-party recipe's model_type",
            )
        return _module(module)
    if model_type in third_party:
        point = third_party[model_type]
        try:
            return _checked(model_type, point.load())
        except PluginError:
            raise
        except Exception as error:
            message = f"recipe {model_type!r} does not load: {error}"
            raise PluginError(
                message, code="RLX-X004", where=point.value, hint="reinstall its package"
            ) from error
    names = recipe_names()
    raise ConfigError(
        f"no recipe for model_type {printable(model_type)!r}",
        code="RLX-C001",
        hint=nearest(model_type, names)
        or f"recipes: {', '.join(names)}; docs/porting.md tells how to write another",
    )


def find_gguf_recipe(architecture: str) -> tuple[ModelRecipe, GgufRecipe]:
    """The recipe for a GGUF file's `general.architecture`, and its part for GGUF.

    The recipe of that name is looked at first, then the built-in ones, then those of other packages, each in
    alphabetical order. Raises `ConfigError` where none knows the architecture.
    """
    known: set[str] = set()
    for name in _by_likelihood(architecture):
        recipe = find_recipe(name)
        part: GgufRecipe | None = getattr(recipe, "gguf", None)
        if part is not None:
            if architecture in part.architectures:
                return recipe, part
            known |= {*part.architectures}
    raise ConfigError(
        f"unknown GGUF architecture {printable(architecture)!r}",
        code="RLX-C040",
        hint=nearest(architecture, known) or f"known architectures: {', '.join(sorted(known))}",
    )


def _by_likelihood(architecture: str) -> Iterator[str]:
    """Names of recipes; where there is one of the architecture's name, no other needs to be imported."""
    third_party = _third_party()
    built_in = architecture in _built_in() and _module(architecture).model_type == architecture
    if built_in or architecture in third_party:
        yield architecture
    others = (name for name in recipe_names() if name != architecture)
    yield from sorted(others, key=lambda name: (name in third_party, name))


def _checked(model_type: str, recipe: object) -> ModelRecipe:
    if not isinstance(recipe, ModelRecipe):
        message = f"the recipe for {model_type!r} is {type(recipe).__name__}"
        hint = "give a rlxflow.Recipe, or an object with its members; a file of recipes/ names it RECIPE"
        raise PluginError(message, code="RLX-X005", hint=hint)
    return recipe


def _built_in() -> set[str]:
    """The modules of built-in recipes."""
    try:
        package = importlib.import_module("rlxflow.recipes")
    except ModuleNotFoundError:  # a source checkout that is on the path but not installed
        rlxflow.__path__.append(str(Path(__file__).parents[2]))
        package = importlib.import_module("rlxflow.recipes")
    return {module.name for module in pkgutil.iter_modules(package.__path__)}


def _module(name: str) -> ModelRecipe:
    """The recipe of a file of `recipes/`; raises `PluginError` for one that is unfinished."""
    try:
        module = importlib.import_module(f"rlxflow.recipes.{name}")
    except Exception as error:
        message = f"recipe {name!r} does not load: {type(error).__name__}: {printable(error)}"
        hint = "mend the file, or move it out of the folder"
        raise PluginError(message, code="RLX-X004", where=raised_at(error), hint=hint) from error
    return _checked(name, getattr(module, "RECIPE", None))


def _third_party() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group="rlxflow.recipes")}
