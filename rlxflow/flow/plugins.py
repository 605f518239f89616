"""Stages by name: the built-in ones, and those that installed packages offer (group `rlxflow.stages`)."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points

from rlxflow.errors import PluginError, nearest, printable
from rlxflow.flow.stage import Stage


def stage_names() -> list[str]:
    """Every stage's name, sorted; nothing of a third party is imported."""
    return sorted({*_built_in(), *_third_party()})


def find_stage(name: str) -> type[Stage]:
    """The stage class of this name.

    Raises `PluginError` for an unknown name, a name that two packages give, a package that does not load,
    and an entry point that is no stage class.
    """
    built_in, points = _built_in(), _third_party().get(name, [])
    givers = ([built_in[name].__module__] if name in built_in else []) + [p.value for p in points]
    if len(givers) > 1:
        message = f"stage {printable(name)!r} is given by {' and by '.join(givers)}"
        raise PluginError(message, code="RLX-X003", hint="uninstall one, or have it renamed")
    if name in built_in:
        return built_in[name]
    if not points:
        hint = nearest(name, stage_names()) or "see `rlxflow list stages`"
        raise PluginError(f"no stage {printable(name)!r}", code="RLX-X009", hint=hint)
    return _loaded(points[0])


def _loaded(point: EntryPoint) -> type[Stage]:
    try:
        found = point.load()
    except Exception as error:
        message = f"stage {point.name!r} does not load: {printable(error)}"
        raise PluginError(
            message, code="RLX-X004", where=point.value, hint="reinstall its package"
        ) from error
    if not isinstance(found, type) or not issubclass(found, Stage):
        raise PluginError(
            f"the entry point of stage {point.name!r} is {type(found).__name__}",
            code="RLX-X005",
            where=point.value,
            hint="give a class with weights() and emit(e, x)",
        )
    return found


def _built_in() -> dict[str, type[Stage]]:
    package = importlib.import_module("rlxflow.stages")
    found: dict[str, type[Stage]] = {}
    for module in pkgutil.iter_modules(package.__path__, "rlxflow.stages."):
        for name, member in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(member) and member.__module__ == module.name
            if own and name == member.__name__ and name.endswith("Stage"):
                found[name] = member
    return found


def _third_party() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group="rlxflow.stages"):
        found.setdefault(point.name, []).append(point)
    return found
