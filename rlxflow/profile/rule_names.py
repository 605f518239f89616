"""Which fusion rules there are: asked only when a profile names one that its sections do not list."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache

from rlxflow.errors import nearest
from rlxflow.profile.problems import Problem, profile_error


@cache
def registered_rules() -> frozenset[str]:
    """The public name of every rule, those of installed packages included."""
    # Profiles know nothing of graphs; the list of rules is looked up by its place.
    return frozenset(rule.name for rule in importlib.import_module("rlxflow.fusion.rules").all_rules())


def refuse_unknown_rule(section: str, name: str, declared: Iterable[str]) -> None:
    """Raise ProfileError RLX-P003 unless a fusion rule has that name."""
    known = registered_rules()
    if name not in known:
        key = f"{section}.{name}"
        hint = nearest(name, sorted({*known, *declared})) or "`rlxflow explain` lists the rules"
        raise profile_error([Problem("RLX-P003", key, f"unknown key {name!r} in [{section}]", hint)])
