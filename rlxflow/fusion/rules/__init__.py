"""The fusion rules, one file each: a fused op (or an op of `rlxflow.ops`) and a `RULE` that finds it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points

from rlxflow.errors import PluginError
from rlxflow.fusion.rule import Rule


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule by name: the files of this package, and the entry points of the group `rlxflow.rules`."""
    found: dict[str, tuple[Rule, str]] = {}
    for module in pkgutil.iter_modules(__path__):
        name = f"{__name__}.{module.name}"
        _enter(found, importlib.import_module(name).RULE, name)
    for point in entry_points(group="rlxflow.rules"):
        try:
            rule = point.load()
        except Exception as error:
            message = f"rule {point.name!r} does not load: {error}"
            raise PluginError(
                message, code="RLX-X006", where=point.value, hint="reinstall its package"
            ) from error
        _enter(found, rule, point.value)
    return tuple(rule for _, (rule, _) in sorted(found.items()))


def checked_rules(rules: Iterable[object]) -> tuple[Rule, ...]:
    """Rules as they are given; raises `PluginError` for what is none (X007), or two of one name (X008)."""
    found: dict[str, tuple[Rule, str]] = {}
    for place, rule in enumerate(rules):
        _enter(found, rule, f"rules[{place}]")
    return tuple(rule for rule, _ in found.values())


def _enter(found: dict[str, tuple[Rule, str]], rule: object, where: str) -> None:
    if not isinstance(rule, Rule):
        raise PluginError(
            f"RULE is {type(rule).__name__}", code="RLX-X007", where=where, hint="make it a Rule"
        )
    if rule.name in found:
        message = f"rule {rule.name!r} is defined in {found[rule.name][1]} and in {where}"
        raise PluginError(message, code="RLX-X008", where=where, hint="rename one of them")
    found[rule.name] = rule, where
