"""What rlxflow knows: (name, one line) of every recipe, stage, op, preset and backend."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

Rows = list[tuple[str, str]]


def recipes() -> Rows:
    from rlxflow.flow.recipe import find_recipe, recipe_names

    rows = []
    for name in recipe_names():
        recipe = find_recipe(name)
        config = getattr(recipe, "config_class", type(recipe))
        rows.append((name, _first_line(import_module(config.__module__))))
    return rows


def stages() -> Rows:
    import rlxflow

    found = {name: getattr(rlxflow, name) for name in dir(rlxflow) if name.endswith("Stage")}
    rows = [(name, _first_line(s)) for name, s in found.items() if not getattr(s, "_is_protocol", False)]
    return rows + [(point.name, point.value) for point in entry_points(group="rlxflow.stages")]


def ops() -> Rows:
    from rlxflow.flow.plugins import find_stage, stage_names
    from rlxflow.fusion.rules import all_rules
    from rlxflow.ir.op import OPS

    all_rules()  # fills the table, as the stages of others do
    for name in stage_names():
        find_stage(name)
    return [(name, f"{op.level}: {_first_line(op)}") for name, op in sorted(OPS.items())]


def presets() -> Rows:
    from rlxflow.profile import preset_names, preset_summary

    return [(name, preset_summary(name)) for name in preset_names()]


def backends() -> Rows:
    from rlxflow.backends.find import BUILT_IN

    rows = [(name, _first_line(import_module(module))) for name, (module, _) in BUILT_IN.items()]
    return rows + [(point.name, point.value) for point in entry_points(group="rlxflow.backends")]


CATALOG: dict[str, Callable[[], Rows]] = {
    "recipes": recipes,
    "stages": stages,
    "ops": ops,
    "presets": presets,
    "backends": backends,
}


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]
